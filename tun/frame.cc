#include "tun/frame.hh"

#include <algorithm>

#include "tun/checksum.hh"

namespace burin::tun {
namespace {

std::uint8_t load_u8(const std::byte* at) noexcept {
    return static_cast<std::uint8_t>(*at);
}
void store_u8(std::byte* at, unsigned value) noexcept {
    *at = static_cast<std::byte>(value);
}

// The virtio header alone is in the machine's own byte order.
std::uint16_t load_native_u16(const std::byte* at) noexcept {
    std::uint16_t value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
}
void store_native_u16(std::byte* at, std::uint16_t value) noexcept {
    __builtin_memcpy(at, &value, sizeof value);
}

constexpr std::uint8_t option_end = 0;
constexpr std::uint8_t option_nop = 1;
constexpr std::uint8_t option_mss = 2;
constexpr std::uint8_t option_window_scale = 3;
constexpr std::uint8_t option_sack_permitted = 4;
constexpr std::uint8_t option_timestamps = 8;

// RFC 9293 section 3.1. False: a length runs past the header. Unknown options and known ones of a
// wrong length are passed over (MUST-6).
bool parse_options(bytes_view bytes, tcp_options& out) noexcept {
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    while (left > 0) {
        const std::uint8_t kind = load_u8(at);
        if (kind == option_end) return true;
        if (kind == option_nop) {
            ++at;
            --left;
            continue;
        }
        if (left < 2) return false;
        const std::size_t length = load_u8(at + 1);
        if (length < 2 || length > left) return false;
        if (kind == option_mss && length == 4) {
            out.mss = load_u16(at + 2);
        } else if (kind == option_window_scale && length == 3) {
            out.window_shift = static_cast<std::int8_t>(std::min<unsigned>(load_u8(at + 2), 14));
        } else if (kind == option_sack_permitted && length == 2) {
            out.sack_permitted = true;
        } else if (kind == option_sack && length >= 10 && length % 8 == 2) {
            out.sack = at + 2;
            out.sack_bytes = static_cast<std::uint8_t>(length - 2);
        } else if (kind == option_timestamps && length == 10) {
            out.has_timestamps = true;
            out.timestamp = load_u32(at + 2);
            out.timestamp_echo = load_u32(at + 6);
        }
        at += length;
        left -= length;
    }
    return true;
}

// Addresses, protocol and TCP or UDP length: the part of the checksum that is not in the segment.
std::uint64_t pseudo_header_sum(const std::byte* addresses, std::uint8_t protocol,
                                std::size_t length) noexcept {
    return checksum_add({addresses, 8}) + protocol + length;
}

frame_kind parse_tcp(const std::byte* ip, bytes_view segment, parsed_frame& out) noexcept {
    if (segment.size() < tcp_header_bytes) return frame_kind::truncated;
    const std::byte* tcp = segment.data();
    const std::size_t header = std::size_t{load_u8(tcp + 12)} / 16 * 4;
    if (header < tcp_header_bytes || header > segment.size()) return frame_kind::bad_tcp_header;
    if ((out.virtio_flags & (virtio_needs_csum | virtio_data_valid)) == 0) {
        const std::uint64_t pseudo =
            pseudo_header_sum(ip + 12, static_cast<std::uint8_t>(ip_protocol::tcp), segment.size());
        if (checksum_finish(checksum_add(segment, pseudo)) != 0) {
            return frame_kind::bad_tcp_checksum;
        }
    }
    out.key.source_port = load_u16(tcp);
    out.key.destination_port = load_u16(tcp + 2);
    if (out.key.source_port == 0 || out.key.destination_port == 0) {
        return frame_kind::bad_tcp_header;
    }
    out.seq = sequence(load_u32(tcp + 4));
    out.ack = sequence(load_u32(tcp + 8));
    out.flags = load_u8(tcp + 13);
    out.window = load_u16(tcp + 14);
    if (header > tcp_header_bytes &&
        !parse_options(segment.subspan(tcp_header_bytes, header - tcp_header_bytes), out.options)) {
        return frame_kind::bad_tcp_header;
    }
    out.payload = segment.subspan(header);
    return frame_kind::tcp;
}

// A source that no answer can reach (RFC 1122 section 3.2.1.3).
bool is_unanswerable(std::uint32_t source) noexcept {
    return source >= 0xe0000000 || source >> 24 == 0;
}

frame_kind parse_ipv4(bytes_view packet, parsed_frame& out) noexcept {
    if (packet.size() < ipv4_header_bytes) return frame_kind::truncated;
    const std::byte* ip = packet.data();
    const std::size_t header = std::size_t{load_u8(ip) & 0x0fu} * 4;
    const std::size_t total = load_u16(ip + 2);
    if (header < ipv4_header_bytes || total < header) return frame_kind::bad_ip_header;
    if (total > packet.size()) return frame_kind::truncated;
    if (checksum_finish(checksum_add(packet.first(header))) != 0) {
        return frame_kind::bad_ip_checksum;
    }
    const std::uint32_t source = load_u32(ip + 12);
    const std::uint32_t destination = load_u32(ip + 16);
    out.traffic_class = load_u8(ip + 1);
    out.key.source = flow_address::v4(source);
    out.key.destination = flow_address::v4(destination);
    if (is_unanswerable(source)) return frame_kind::bad_address;
    if (destination >= 0xe0000000) return frame_kind::multicast;

    const std::uint8_t protocol = load_u8(ip + 9);
    out.key.protocol = static_cast<ip_protocol>(protocol);
    bytes_view segment = packet.subspan(header, total - header);
    out.payload = segment;
    // More fragments, or an offset: only the first would even have a TCP header.
    if ((load_u16(ip + 6) & 0x3fff) != 0) return frame_kind::fragment;
    switch (out.key.protocol) {
        case ip_protocol::tcp: return parse_tcp(ip, segment, out);
        case ip_protocol::udp: return frame_kind::udp;
        case ip_protocol::icmp: return frame_kind::icmp;
        default: return frame_kind::other_protocol;
    }
}

}  // namespace

std::string_view to_text(frame_kind kind) noexcept {
    switch (kind) {
        case frame_kind::tcp: return "tcp";
        case frame_kind::ipv6: return "ipv6";
        case frame_kind::udp: return "udp";
        case frame_kind::icmp: return "icmp";
        case frame_kind::fragment: return "fragment";
        case frame_kind::other_protocol: return "other protocol";
        case frame_kind::multicast: return "multicast";
        case frame_kind::truncated: return "truncated";
        case frame_kind::bad_ip_header: return "bad IP header";
        case frame_kind::bad_ip_checksum: return "bad IP checksum";
        case frame_kind::bad_address: return "bad source address";
        case frame_kind::bad_tcp_header: return "bad TCP header";
        case frame_kind::bad_tcp_checksum: return "bad TCP checksum";
        case frame_kind::kinds: break;
    }
    return "unknown";
}

frame_kind parse_frame(bytes_view frame, parsed_frame& out) noexcept {
    out = {};
    if (frame.size() <= virtio_header_bytes) return frame_kind::truncated;
    const std::byte* virtio = frame.data();
    out.virtio_flags = load_u8(virtio);
    out.gso_type = load_u8(virtio + 1);
    out.gso_size = load_native_u16(virtio + 4);
    const bytes_view packet = frame.subspan(virtio_header_bytes);
    out.ip_version = load_u8(packet.data()) >> 4;
    if (out.ip_version == 4) return parse_ipv4(packet, out);
    return out.ip_version == 6 ? frame_kind::ipv6 : frame_kind::bad_ip_header;
}

void write_tcp_header(header_buffer& out, const flow_key& flow, const tcp_fields& fields,
                      std::uint32_t payload_bytes, std::uint16_t gso_size) noexcept {
    std::byte* virtio = out.data();
    std::byte* ip = virtio + virtio_header_bytes;
    std::byte* tcp = ip + ipv4_header_bytes;

    std::byte* option = tcp + tcp_header_bytes;
    if (fields.mss != 0) {
        store_u8(option, option_mss);
        store_u8(option + 1, 4);
        store_u16(option + 2, fields.mss);
        option += 4;
    }
    if (fields.sack_permitted) {
        store_u8(option, option_nop);
        store_u8(option + 1, option_nop);
        store_u8(option + 2, option_sack_permitted);
        store_u8(option + 3, 2);
        option += 4;
    }
    if (fields.window_shift >= 0) {
        store_u8(option, option_nop);
        store_u8(option + 1, option_window_scale);
        store_u8(option + 2, 3);
        store_u8(option + 3, static_cast<unsigned>(fields.window_shift));
        option += 4;
    }
    option = write_sack(option, fields.sack);
    const auto tcp_size = static_cast<std::uint16_t>(option - tcp);
    const auto headers = static_cast<std::uint16_t>(ipv4_header_bytes + tcp_size);
    const std::uint32_t segment = tcp_size + payload_bytes;

    const bool superframe = gso_size != 0 && payload_bytes > gso_size;
    store_u8(virtio, virtio_needs_csum);
    store_u8(virtio + 1, superframe ? virtio_gso_tcp_v4 : virtio_gso_none);
    store_native_u16(virtio + 2, headers);
    store_native_u16(virtio + 4, superframe ? gso_size : std::uint16_t{0});
    store_native_u16(virtio + 6, ipv4_header_bytes);  // csum_start
    store_native_u16(virtio + 8, 16);                 // csum_offset: TCP's checksum field

    store_u8(ip, 0x45);
    store_u8(ip + 1, fields.ecn);
    store_u16(ip + 2, static_cast<std::uint16_t>(headers + payload_bytes));
    store_u16(ip + 4, 0);       // identification: means nothing under DF (RFC 6864 section 4.1)
    store_u16(ip + 6, 0x4000);  // don't fragment
    store_u8(ip + 8, 64);
    store_u8(ip + 9, static_cast<unsigned>(ip_protocol::tcp));
    store_u16(ip + 10, 0);
    store_u32(ip + 12, flow.destination.to_v4());
    store_u32(ip + 16, flow.source.to_v4());
    store_u16(ip + 10, checksum_finish(checksum_add({ip, ipv4_header_bytes})));

    store_u16(tcp, flow.destination_port);
    store_u16(tcp + 2, flow.source_port);
    store_u32(tcp + 4, fields.seq.value());
    store_u32(tcp + 8, fields.ack.value());
    store_u8(tcp + 12, tcp_size / 4u << 4);
    store_u8(tcp + 13, fields.flags);
    store_u16(tcp + 14, fields.window);
    store_u16(tcp + 16, checksum_fold(pseudo_header_sum(
                            ip + 12, static_cast<std::uint8_t>(ip_protocol::tcp), segment)));
    store_u16(tcp + 18, 0);
    out.resize(static_cast<std::size_t>(option - virtio));
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
