#include "tun/frame.hh"

#include <algorithm>
#include <bit>

#include "tun/checksum.hh"

namespace burin::tun {
namespace {

// The virtio header alone is in the machine's own byte order.
std::uint16_t load_native_u16(const std::byte* at) noexcept {
    std::uint16_t value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
}
// RFC 9293 section 3.1. False: a length runs past the header. Unknown options and known ones of a
// wrong length are passed over (MUST-6).
bool parse_options(bytes_view bytes, tcp_options& out) noexcept {
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    while (left > 0) {
        const std::uint8_t kind = load_u8(at);
        if (kind == tcp_option_end) return true;
        if (kind == tcp_option_nop) {
            ++at;
            --left;
            continue;
        }
        if (left < 2) return false;
        const std::size_t length = load_u8(at + 1);
        if (length < 2 || length > left) return false;
        if (kind == tcp_option_mss && length == 4) {
            out.mss = load_u16(at + 2);
        } else if (kind == tcp_option_window_scale && length == 3) {
            out.window_shift = static_cast<std::int8_t>(std::min<unsigned>(load_u8(at + 2), 14));
        } else if (kind == tcp_option_sack_permitted && length == 2) {
            out.sack_permitted = true;
        } else if (kind == option_sack && length >= 10 && length % 8 == 2) {
            out.sack = at + 2;
            out.sack_bytes = static_cast<std::uint8_t>(length - 2);
        } else if (kind == tcp_option_timestamps && length == 10) {
            out.has_timestamps = true;
            out.timestamp = load_u32(at + 2);
            out.timestamp_echo = load_u32(at + 6);
        }
        at += length;
        left -= length;
    }
    return true;
}

// Whether a segment's own checksum holds, where nobody vouches for it.
bool is_intact(const parsed_frame& frame, bytes_view segment) noexcept {
    if ((frame.virtio_flags & (virtio_needs_csum | virtio_data_valid)) != 0) return true;
    const std::uint64_t pseudo = pseudo_header_sum(frame.key, frame.key.protocol, segment.size());
    return checksum_finish(checksum_add(segment, pseudo)) == 0;
}

bool take_ports(const std::byte* at, flow_key& key) noexcept {
    key.source_port = load_u16(at);
    key.destination_port = load_u16(at + 2);
    return key.source_port != 0 && key.destination_port != 0;
}

frame_kind parse_tcp(bytes_view segment, parsed_frame& out) noexcept {
    if (segment.size() < tcp_header_bytes) return frame_kind::truncated;
    const std::byte* tcp = segment.data();
    const std::size_t header = std::size_t{load_u8(tcp + 12)} / 16 * 4;
    if (header < tcp_header_bytes || header > segment.size()) return frame_kind::bad_tcp_header;
    if (!is_intact(out, segment)) return frame_kind::bad_tcp_checksum;
    if (!take_ports(tcp, out.key)) return frame_kind::bad_tcp_header;
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

frame_kind parse_udp(bytes_view segment, parsed_frame& out) noexcept {
    if (segment.size() < udp_header_bytes) return frame_kind::truncated;
    const std::byte* udp = segment.data();
    const std::size_t length = load_u16(udp + 4);
    if (length < udp_header_bytes) return frame_kind::bad_udp_header;
    if (length > segment.size()) return frame_kind::truncated;
    segment = segment.first(length);
    if (load_u16(udp + 6) != 0) {
        if (!is_intact(out, segment)) return frame_kind::bad_udp_checksum;
    } else if (out.ip_version == 6) {
        return frame_kind::bad_udp_checksum;
    }
    if (!take_ports(udp, out.key)) return frame_kind::bad_udp_header;
    if ((out.gso_type & ~virtio_gso_ecn) != virtio_gso_udp_l4) out.gso_size = 0;
    out.payload = segment.subspan(udp_header_bytes);
    return frame_kind::udp;
}

// ICMP has no pseudo header, ICMPv6 has (RFC 4443 section 2.3).
frame_kind parse_icmp(bytes_view segment, parsed_frame& out) noexcept {
    if (segment.size() < icmp_header_bytes) return frame_kind::truncated;
    const bool intact =
        out.ip_version == 6 ? is_intact(out, segment) : checksum_finish(checksum_add(segment)) == 0;
    return intact ? frame_kind::icmp : frame_kind::bad_icmp_checksum;
}

frame_kind parse_upper(bytes_view segment, parsed_frame& out) noexcept {
    out.payload = segment;
    switch (out.key.protocol) {
        case ip_protocol::tcp: return parse_tcp(segment, out);
        case ip_protocol::udp: return parse_udp(segment, out);
        case ip_protocol::icmp:
            if (out.ip_version == 4) return parse_icmp(segment, out);
            break;
        case ip_protocol::icmp_v6:
            if (out.ip_version == 6) return parse_icmp(segment, out);
            break;
        default: break;
    }
    return frame_kind::other_protocol;
}

// A source that no answer can reach (RFC 1122 section 3.2.1.3).
bool is_unanswerable(std::uint32_t source) noexcept {
    return source >= 0xe0000000 || source >> 24 == 0 || source >> 24 == 127;
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
    out.packet = packet.first(total);
    out.traffic_class = load_u8(ip + 1);
    out.key.source = flow_address::v4(source);
    out.key.destination = flow_address::v4(destination);
    out.key.protocol = static_cast<ip_protocol>(load_u8(ip + 9));
    out.protocol_at = 9;
    if (is_unanswerable(source)) return frame_kind::bad_address;
    if (destination >= 0xe0000000) return frame_kind::multicast;
    if (is_unanswerable(destination)) return frame_kind::bad_address;

    const bytes_view segment = out.packet.subspan(header);
    const std::uint16_t place = load_u16(ip + 6);
    // More fragments, or an offset: only the first would even have a TCP header.
    if ((place & 0x3fff) != 0) {
        out.fragment = {load_u16(ip + 4), static_cast<std::uint16_t>((place & 0x1fff) * 8),
                        (place & 0x2000) != 0};
        out.payload = segment;
        return frame_kind::fragment;
    }
    return parse_upper(segment, out);
}

// Enough for every header that RFC 8200 section 4.1 lists, with one to spare.
constexpr unsigned most_extension_headers = 8;

// What stands between IPv6's header and the upper layer (RFC 8200 section 4).
frame_kind walk_extensions(bytes_view rest, parsed_frame& out) noexcept {
    for (unsigned count = 0;; ++count) {
        const ip_protocol protocol = out.key.protocol;
        if (protocol != ip_protocol::hop_by_hop && protocol != ip_protocol::routing &&
            protocol != ip_protocol::fragment && protocol != ip_protocol::destination_options) {
            return parse_upper(rest, out);
        }
        if (count == most_extension_headers) return frame_kind::bad_ip_header;
        if (rest.size() < 8) return frame_kind::truncated;
        const std::byte* header = rest.data();
        std::size_t size = 8 * (std::size_t{load_u8(header + 1)} + 1);
        if (protocol == ip_protocol::fragment) size = fragment_header_bytes;
        if (size > rest.size()) return frame_kind::truncated;
        if (protocol == ip_protocol::hop_by_hop && count != 0) return frame_kind::bad_ip_header;
        if (protocol == ip_protocol::routing && load_u8(header + 3) != 0) {
            return frame_kind::source_routed;
        }
        out.protocol_at = static_cast<std::uint16_t>(header - out.packet.data());
        out.key.protocol = static_cast<ip_protocol>(load_u8(header));
        rest = rest.subspan(size);
        if (protocol != ip_protocol::fragment) continue;
        const std::uint16_t place = load_u16(header + 2);
        if ((place & 0xfff9) == 0) continue;  // all of it (RFC 6946)
        out.fragment = {load_u32(header + 4), static_cast<std::uint16_t>(place & 0xfff8),
                        (place & 1) != 0};
        out.payload = rest;
        return frame_kind::fragment;
    }
}

bool is_multicast(const flow_address& a) noexcept {
    return a.bytes[0] == 0xff;
}
bool is_link_local(const flow_address& a) noexcept {
    return a.bytes[0] == 0xfe && (a.bytes[1] & 0xc0) == 0x80;
}
// ::/64 holds what is no host's address on a wire: unspecified, loopback, IPv4 in either form (RFC
// 4291 sections 2.5.2 to 2.5.5). A mapped one would be taken for a real IPv4 flow.
bool is_reserved(const flow_address& a) noexcept {
    return std::bit_cast<std::array<std::uint64_t, 2>>(a.bytes)[0] == 0;
}

frame_kind parse_ipv6(bytes_view packet, parsed_frame& out) noexcept {
    if (packet.size() < ipv6_header_bytes) return frame_kind::truncated;
    const std::byte* ip = packet.data();
    const std::size_t total = ipv6_header_bytes + load_u16(ip + 4);
    if (total > packet.size()) return frame_kind::truncated;
    out.packet = packet.first(total);
    out.traffic_class = static_cast<std::uint8_t>(load_u16(ip) >> 4);
    out.key.protocol = static_cast<ip_protocol>(load_u8(ip + 6));
    out.protocol_at = 6;
    flow_address& source = out.key.source;
    flow_address& destination = out.key.destination;
    __builtin_memcpy(source.bytes.data(), ip + 8, 16);
    __builtin_memcpy(destination.bytes.data(), ip + 24, 16);
    if (is_multicast(destination)) return frame_kind::multicast;
    if (is_reserved(source) || is_reserved(destination) || is_multicast(source)) {
        return frame_kind::bad_address;
    }
    if (is_link_local(source) || is_link_local(destination)) return frame_kind::link_local;
    return walk_extensions(out.packet.subspan(ipv6_header_bytes), out);
}

}  // namespace

std::string_view to_text(frame_kind kind) noexcept {
    switch (kind) {
        case frame_kind::tcp: return "tcp";
        case frame_kind::udp: return "udp";
        case frame_kind::icmp: return "icmp";
        case frame_kind::other_protocol: return "other protocol";
        case frame_kind::fragment: return "fragment";
        case frame_kind::multicast: return "multicast";
        case frame_kind::link_local: return "link-local";
        case frame_kind::truncated: return "truncated";
        case frame_kind::bad_ip_header: return "bad IP header";
        case frame_kind::bad_ip_checksum: return "bad IP checksum";
        case frame_kind::bad_address: return "bad address";
        case frame_kind::source_routed: return "source-routed";
        case frame_kind::bad_tcp_header: return "bad TCP header";
        case frame_kind::bad_tcp_checksum: return "bad TCP checksum";
        case frame_kind::bad_udp_header: return "bad UDP header";
        case frame_kind::bad_udp_checksum: return "bad UDP checksum";
        case frame_kind::bad_icmp_checksum: return "bad ICMP checksum";
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
    return out.ip_version == 6 ? parse_ipv6(packet, out) : frame_kind::bad_ip_header;
}

}  // namespace burin::tun
