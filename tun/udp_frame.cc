#include "tun/udp_frame.hh"

#include "tun/checksum.hh"

namespace burin::tun {

void write_whole_udp_header(header_buffer& out, const flow_key& flow, bytes_view payload) noexcept {
    write_udp_header(out, flow, static_cast<std::uint32_t>(payload.size()), 0);
    write_plain_virtio_header(out.data());
    std::byte* udp = out.data() + virtio_header_bytes + ip_header_bytes(flow);
    store_u16(udp + 6, 0);
    const std::size_t datagram = udp_header_bytes + payload.size();
    std::uint64_t sum = pseudo_header_sum(flow, ip_protocol::udp, datagram);
    sum = checksum_add({udp, udp_header_bytes}, sum);
    const std::uint16_t checksum = checksum_finish(checksum_add(payload, sum));
    store_u16(udp + 6, checksum == 0 ? std::uint16_t{0xffff} : checksum);  // RFC 768: 0 means none
}

}  // namespace burin::tun
