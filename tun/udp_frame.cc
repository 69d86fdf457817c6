#include "tun/udp_frame.hh"

#include <algorithm>

#include "tun/checksum.hh"

namespace burin::tun {

namespace {
constexpr unsigned next_is_fragment = 44;
constexpr std::uint16_t more_fragments = 1;
}  // namespace

void write_large_udp_header(header_buffer& out, const flow_key& flow, std::uint32_t payload_bytes,
                            std::uint16_t id) noexcept {
    write_udp_header(out, flow, payload_bytes, 0);
    std::byte* ip = out.data() + virtio_header_bytes;
    store_u16(ip + 4, id);
    store_u16(ip + 6, 0);
    repair_ipv4_checksum(ip);
}

std::uint32_t write_udp_fragment(header_buffer& out, const flow_key& flow, bytes_view payload,
                                 std::uint32_t offset, std::uint32_t id,
                                 std::uint16_t mtu) noexcept {
    std::byte* ip = out.data() + virtio_header_bytes;
    std::byte* part = ip + ipv6_header_bytes;
    std::byte* end = part + fragment_header_bytes;
    const auto size = static_cast<std::uint32_t>(payload.size());
    // Offsets count in units of eight from the UDP header on, and every part but the last is whole
    // units.
    const std::uint32_t header = offset == 0 ? udp_header_bytes : 0;
    const std::uint32_t room =
        static_cast<std::uint32_t>(mtu - ipv6_header_bytes - fragment_header_bytes) / 8 * 8;
    const std::uint32_t bytes = std::min(room - header, size - offset);
    const bool last = offset + bytes == size;
    const std::uint32_t at = offset == 0 ? 0 : offset + std::uint32_t{udp_header_bytes};

    write_plain_virtio_header(out.data());
    write_ip_header(ip, flow, ip_protocol::udp, fragment_header_bytes + header + bytes);
    store_u8(ip + 6, next_is_fragment);
    store_u8(part, static_cast<unsigned>(ip_protocol::udp));
    store_u8(part + 1, 0);
    store_u16(part + 2, static_cast<std::uint16_t>(at | (last ? 0 : more_fragments)));
    store_u32(part + 4, id);
    if (header != 0) {
        const std::size_t datagram = udp_header_bytes + payload.size();
        store_u16(end, flow.destination_port);
        store_u16(end + 2, flow.source_port);
        store_u16(end + 4, static_cast<std::uint16_t>(datagram));
        store_u16(end + 6, 0);
        std::uint64_t sum = pseudo_header_sum(flow, ip_protocol::udp, datagram);
        sum = checksum_add({end, udp_header_bytes}, sum);
        const std::uint16_t checksum = checksum_finish(checksum_add(payload, sum));
        store_u16(end + 6, checksum == 0 ? std::uint16_t{0xffff} : checksum);
        end += udp_header_bytes;
    }
    out.resize(static_cast<std::size_t>(end - out.data()));
    return bytes;
}

}  // namespace burin::tun
