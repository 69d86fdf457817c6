// Headers towards a host: what stands in front of payload that nobody touches again.
#include "tun/checksum.hh"
#include "tun/frame.hh"

namespace burin::tun {
namespace {

// The virtio header alone is in the machine's own byte order.
void store_native_u16(std::byte* at, std::size_t value) noexcept {
    const auto narrow = static_cast<std::uint16_t>(value);
    __builtin_memcpy(at, &narrow, sizeof narrow);
}

// In front of a segment whose checksum, `checksum_at` bytes into it, holds the pseudo-header sum.
void write_virtio_header(std::byte* at, const flow_key& flow, std::uint8_t gso_type,
                         std::size_t transport_header, std::uint16_t gso_size,
                         std::size_t checksum_at) noexcept {
    const std::size_t start = ip_header_bytes(flow);
    store_u8(at, virtio_needs_csum);
    store_u8(at + 1, gso_type);
    store_native_u16(at + 2, start + transport_header);  // hdr_len
    store_native_u16(at + 4, gso_size);
    store_native_u16(at + 6, start);        // csum_start
    store_native_u16(at + 8, checksum_at);  // csum_offset
}

// Returns the end of what was written.
std::byte* write_options(std::byte* at, const tcp_fields& fields) noexcept {
    if (fields.mss != 0) {
        store_u8(at, tcp_option_mss);
        store_u8(at + 1, 4);
        store_u16(at + 2, fields.mss);
        at += 4;
    }
    if (fields.sack_permitted) {
        store_u8(at, tcp_option_nop);
        store_u8(at + 1, tcp_option_nop);
        store_u8(at + 2, tcp_option_sack_permitted);
        store_u8(at + 3, 2);
        at += 4;
    }
    if (fields.window_shift >= 0) {
        store_u8(at, tcp_option_nop);
        store_u8(at + 1, tcp_option_window_scale);
        store_u8(at + 2, 3);
        store_u8(at + 3, static_cast<unsigned>(fields.window_shift));
        at += 4;
    }
    return write_sack(at, fields.sack);
}

}  // namespace

void write_plain_virtio_header(std::byte* at) noexcept {
    __builtin_memset(at, 0, virtio_header_bytes);
}

void write_tcp_header(header_buffer& out, const flow_key& flow, const tcp_fields& fields,
                      std::uint32_t payload_bytes, std::uint16_t gso_size) noexcept {
    std::byte* virtio = out.data();
    std::byte* ip = virtio + virtio_header_bytes;
    std::byte* tcp = ip + ip_header_bytes(flow);
    const std::byte* end = write_options(tcp + tcp_header_bytes, fields);
    const auto header = static_cast<std::size_t>(end - tcp);
    const std::size_t segment = header + payload_bytes;

    const bool superframe = gso_size != 0 && payload_bytes > gso_size;
    const std::uint8_t gso_type = flow.source.is_v4() ? virtio_gso_tcp_v4 : virtio_gso_tcp_v6;
    write_virtio_header(virtio, flow, superframe ? gso_type : virtio_gso_none, header,
                        superframe ? gso_size : std::uint16_t{0}, 16);
    write_ip_header(ip, flow, ip_protocol::tcp, segment, fields.ecn);

    store_u16(tcp, flow.destination_port);
    store_u16(tcp + 2, flow.source_port);
    store_u32(tcp + 4, fields.seq.value());
    store_u32(tcp + 8, fields.ack.value());
    store_u8(tcp + 12, static_cast<unsigned>(header / 4 << 4));
    store_u8(tcp + 13, fields.flags);
    store_u16(tcp + 14, fields.window);
    store_u16(tcp + 16, checksum_fold(pseudo_header_sum(flow, ip_protocol::tcp, segment)));
    store_u16(tcp + 18, 0);
    out.resize(static_cast<std::size_t>(end - virtio));
}

void write_udp_header(header_buffer& out, const flow_key& flow, std::uint32_t payload_bytes,
                      std::uint16_t gso_size) noexcept {
    std::byte* virtio = out.data();
    std::byte* ip = virtio + virtio_header_bytes;
    std::byte* udp = ip + ip_header_bytes(flow);
    const std::size_t datagram = udp_header_bytes + payload_bytes;

    const bool superframe = gso_size != 0 && payload_bytes > gso_size;
    write_virtio_header(virtio, flow, superframe ? virtio_gso_udp_l4 : virtio_gso_none,
                        udp_header_bytes, superframe ? gso_size : std::uint16_t{0}, 6);
    write_ip_header(ip, flow, ip_protocol::udp, datagram);

    store_u16(udp, flow.destination_port);
    store_u16(udp + 2, flow.source_port);
    store_u16(udp + 4, static_cast<std::uint16_t>(datagram));
    store_u16(udp + 6, checksum_fold(pseudo_header_sum(flow, ip_protocol::udp, datagram)));
    out.resize(static_cast<std::size_t>(udp + udp_header_bytes - virtio));
}

bool write_reset(header_buffer& out, const parsed_frame& cause) noexcept {
    if (cause.has(tcp_rst)) return false;
    tcp_fields fields;
    if (cause.has(tcp_ack)) {
        fields.seq = cause.ack;
        fields.flags = tcp_rst;
    } else {
        fields.ack = cause.seq + cause.length();
        fields.flags = tcp_rst | tcp_ack;
    }
    write_tcp_header(out, cause.key, fields, 0, 0);
    return true;
}

}  // namespace burin::tun
