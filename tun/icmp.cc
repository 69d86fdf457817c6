#include "tun/icmp.hh"

#include <algorithm>
#include <utility>

#include "tun/checksum.hh"

namespace burin::tun {
namespace {

// RFC 792.
constexpr std::uint8_t v4_echo_reply = 0, v4_unreachable = 3, v4_echo_request = 8;
constexpr std::uint8_t v4_time_exceeded = 11, v4_parameter_problem = 12;
// RFC 4443.
constexpr std::uint8_t v6_unreachable = 1, v6_too_big = 2, v6_time_exceeded = 3;
constexpr std::uint8_t v6_parameter_problem = 4, v6_echo_request = 128, v6_echo_reply = 129;
constexpr std::uint8_t v6_redirect = 137;

constexpr std::size_t most_error_bytes_v4 = 576;
constexpr std::size_t most_error_bytes_v6 = 1280;
// An IPv4 link takes 68 bytes, an IPv6 one 1280 (RFC 791, RFC 8200 section 5): less is a lie.
constexpr std::uint32_t least_mtu_v4 = 68;
constexpr std::uint32_t least_mtu_v6 = 1280;
// What a router from before RFC 1191 means, which tells no MTU.
constexpr std::uint32_t old_mtu_v4 = 576;
// Routers send their messages as internetwork control (RFC 1812 section 4.3.2.5).
constexpr std::uint8_t control_class_v4 = 0xc0;

struct type_and_code {
    std::uint8_t type, code;
};

type_and_code wire_v4(icmp_error what) noexcept {
    switch (what) {
        case icmp_error::protocol_unreachable: return {v4_unreachable, 2};
        case icmp_error::port_unreachable: return {v4_unreachable, 3};
        case icmp_error::too_big: return {v4_unreachable, 4};
        case icmp_error::network_unreachable: return {v4_unreachable, 0};
        case icmp_error::host_unreachable: return {v4_unreachable, 1};
        case icmp_error::prohibited: return {v4_unreachable, 13};
        case icmp_error::hops_exceeded: return {v4_time_exceeded, 0};
        case icmp_error::reassembly_exceeded: return {v4_time_exceeded, 1};
    }
    return {v4_unreachable, 0};
}

type_and_code wire_v6(icmp_error what) noexcept {
    switch (what) {
        case icmp_error::protocol_unreachable: return {v6_parameter_problem, 1};
        case icmp_error::port_unreachable: return {v6_unreachable, 4};
        case icmp_error::too_big: return {v6_too_big, 0};
        case icmp_error::network_unreachable: return {v6_unreachable, 0};
        case icmp_error::host_unreachable: return {v6_unreachable, 3};
        case icmp_error::prohibited: return {v6_unreachable, 1};
        case icmp_error::hops_exceeded: return {v6_time_exceeded, 0};
        case icmp_error::reassembly_exceeded: return {v6_time_exceeded, 1};
    }
    return {v6_unreachable, 0};
}

void write_message(icmp_message& out, const flow_key& flow, type_and_code what,
                   std::uint32_t second_word, std::uint8_t traffic_class) noexcept {
    const bool v4 = flow.source.is_v4();
    const ip_protocol protocol = v4 ? ip_protocol::icmp : ip_protocol::icmp_v6;
    const std::size_t bytes = icmp_header_bytes + out.rest.size();
    std::byte* ip = out.header.data() + virtio_header_bytes;
    std::byte* icmp = ip + ip_header_bytes(flow);
    write_plain_virtio_header(out.header.data());
    write_ip_header(ip, flow, protocol, bytes, traffic_class);
    store_u8(icmp, what.type);
    store_u8(icmp + 1, what.code);
    store_u16(icmp + 2, 0);
    store_u32(icmp + 4, second_word);
    std::uint64_t sum = v4 ? 0 : pseudo_header_sum(flow, protocol, bytes);
    sum = checksum_add({icmp, icmp_header_bytes}, sum);
    store_u16(icmp + 2, checksum_finish(checksum_add(out.rest, sum)));
    out.header.resize(virtio_header_bytes + ip_header_bytes(flow) + icmp_header_bytes);
}

// Identifier and number as they came; the class too (RFC 1122 section 3.2.2.6), without what the
// way here wrote into it.
void write_reply(icmp_message& out, const flow_key& flow, std::uint32_t id_and_number,
                 std::uint8_t traffic_class, bytes_view data) noexcept {
    out.rest = data;
    write_message(out, flow, {flow.source.is_v4() ? v4_echo_reply : v6_echo_reply, 0},
                  id_and_number, traffic_class & 0xfc);
}

// The flow of a quoted packet, which went from a destination to a host.
bool read_quote(bytes_view quote, bool v4, icmp_report& out) noexcept {
    const std::byte* ip = quote.data();
    std::size_t header = ipv6_header_bytes;
    flow_address from, to;
    if (v4) {
        if (quote.size() < ipv4_header_bytes || load_u8(ip) >> 4 != 4) return false;
        header = std::size_t{load_u8(ip) & 0x0fu} * 4;
        if (header < ipv4_header_bytes || (load_u16(ip + 6) & 0x1fff) != 0) return false;
        from = flow_address::v4(load_u32(ip + 12));
        to = flow_address::v4(load_u32(ip + 16));
        out.key.protocol = static_cast<ip_protocol>(load_u8(ip + 9));
    } else {
        if (quote.size() < ipv6_header_bytes || load_u8(ip) >> 4 != 6) return false;
        __builtin_memcpy(from.bytes.data(), ip + 8, 16);
        __builtin_memcpy(to.bytes.data(), ip + 24, 16);
        if (from.is_v4() || to.is_v4()) return false;
        out.key.protocol = static_cast<ip_protocol>(load_u8(ip + 6));
    }
    out.key.source = to;
    out.key.destination = from;
    if (out.key.protocol != ip_protocol::tcp && out.key.protocol != ip_protocol::udp) return false;
    if (quote.size() < header + 8) return false;  // what every error quotes at least
    const std::byte* transport = ip + header;
    out.key.source_port = load_u16(transport + 2);
    out.key.destination_port = load_u16(transport);
    out.has_seq = out.key.protocol == ip_protocol::tcp;
    if (out.has_seq) out.seq = sequence(load_u32(transport + 4));
    return true;
}

// What an error means for the flow it quotes. False: not an error for a flow.
bool classify(bool v4, type_and_code what, std::uint32_t second_word, icmp_report& out) noexcept {
    using kind = icmp_report::kind;
    out.what = kind::soft;
    if (v4) {
        switch (what.type) {
            case v4_unreachable:
                if (what.code == 2 || what.code == 3) out.what = kind::hard;
                if (what.code != 4) return true;
                out.what = kind::too_big;
                out.mtu = second_word & 0xffff;
                if (out.mtu == 0) out.mtu = old_mtu_v4;
                return out.mtu >= least_mtu_v4;
            case v4_time_exceeded:
            case v4_parameter_problem: return true;
            default: return false;  // source quench among them (RFC 6633)
        }
    }
    switch (what.type) {
        case v6_unreachable:
            if (what.code == 4) out.what = kind::hard;
            return true;
        case v6_too_big:
            out.what = kind::too_big;
            out.mtu = second_word;
            return out.mtu >= least_mtu_v6;
        case v6_parameter_problem:
            if (what.code == 1) out.what = kind::hard;  // the protocol is unknown there
            return true;
        case v6_time_exceeded: return true;
        default: return false;
    }
}

}  // namespace

bool is_echo_request(const parsed_frame& message) noexcept {
    if (message.payload.size() < icmp_header_bytes) return false;
    const std::uint8_t wanted = message.ip_version == 4 ? v4_echo_request : v6_echo_request;
    return load_u8(message.payload.data()) == wanted && load_u8(message.payload.data() + 1) == 0;
}

bool is_trace_probe(const parsed_frame& datagram) noexcept {
    return load_u8(datagram.packet.data() + (datagram.ip_version == 4 ? 8 : 7)) <= 1;
}

bool may_be_answered(const parsed_frame& cause) noexcept {
    if (cause.fragment.offset != 0) return false;
    const bool v4 = cause.ip_version == 4;
    if (cause.key.protocol != (v4 ? ip_protocol::icmp : ip_protocol::icmp_v6)) return true;
    if (cause.payload.empty()) return false;
    const std::uint8_t type = load_u8(cause.payload.data());
    // An unknown type may be an error: of IPv4's only what is known to be none is answered.
    if (v4) return type == v4_echo_reply || type == v4_echo_request || (type >= 13 && type <= 18);
    return type >= 128 && type != v6_redirect;
}

bool write_icmp_error(icmp_message& out, const parsed_frame& cause, icmp_error what,
                      std::uint32_t mtu) noexcept {
    const bool v4 = cause.key.source.is_v4();
    // "Nothing follows" is no unknown protocol (RFC 8200 section 4.7).
    const bool nothing = !v4 && cause.key.protocol == ip_protocol::none;
    if (!may_be_answered(cause) || (nothing && what == icmp_error::protocol_unreachable)) {
        return false;
    }
    const std::size_t most = (v4 ? most_error_bytes_v4 : most_error_bytes_v6) -
                             ip_header_bytes(cause.key) - icmp_header_bytes;
    out.rest = cause.packet.first(std::min(most, cause.packet.size()));
    std::uint32_t second_word = 0;
    if (what == icmp_error::too_big) second_word = v4 ? std::min(mtu, 0xffffu) : mtu;
    if (what == icmp_error::protocol_unreachable && !v4) second_word = cause.protocol_at;
    write_message(out, cause.key, v4 ? wire_v4(what) : wire_v6(what), second_word,
                  v4 ? control_class_v4 : std::uint8_t{0});
    return true;
}

bool write_echo_reply(icmp_message& out, const parsed_frame& request) noexcept {
    if (!is_echo_request(request)) return false;
    write_reply(out, request.key, load_u32(request.payload.data() + 4), request.traffic_class,
                request.payload.subspan(icmp_header_bytes));
    return true;
}

echo_stub::echo_stub(const parsed_frame& request) noexcept
    : _key(request.key),
      _id_and_number(load_u32(request.payload.data() + 4)),
      _traffic_class(request.traffic_class) {
    const auto before = static_cast<std::size_t>(request.payload.data() - request.packet.data());
    if (before + icmp_header_bytes > most_quoted) return;
    _icmp_at = static_cast<std::uint8_t>(before);
    _quoted_bytes = static_cast<std::uint8_t>(before + icmp_header_bytes);
    __builtin_memcpy(_quoted.data(), request.packet.data(), _quoted_bytes);
}

void echo_stub::write_reply(icmp_message& out, bytes_view data) const noexcept {
    burin::tun::write_reply(out, _key, _id_and_number, _traffic_class, data);
}

parsed_frame echo_stub::cause() const noexcept {
    parsed_frame frame;
    frame.key = _key;
    frame.ip_version = _key.source.is_v4() ? 4 : 6;
    frame.packet = bytes_view(_quoted).first(_quoted_bytes);
    frame.payload = frame.packet.subspan(_icmp_at);
    return frame;
}

quoted_packet::quoted_packet(const flow_key& flow, ip_protocol protocol,
                             std::size_t transport_bytes) noexcept
    : _key(flow), _size(static_cast<std::uint8_t>(ip_header_bytes(flow) + transport_bytes)) {
    flow_key back = flow;  // headers are written towards a flow's source
    std::swap(back.source, back.destination);
    std::swap(back.source_port, back.destination_port);
    write_ip_header(_bytes.data(), back, protocol, transport_bytes);
    store_u16(transport(), flow.source_port);
    store_u16(transport() + 2, flow.destination_port);
}

quoted_packet quoted_packet::of_syn(const flow_key& flow, sequence first) noexcept {
    quoted_packet out(flow, ip_protocol::tcp, tcp_header_bytes);
    store_u32(out.transport() + 4, first.value());
    store_u8(out.transport() + 12, tcp_header_bytes / 4 << 4);
    store_u8(out.transport() + 13, tcp_syn);
    return out;
}

quoted_packet quoted_packet::of_datagram(const flow_key& flow) noexcept {
    quoted_packet out(flow, ip_protocol::udp, udp_header_bytes);
    store_u16(out.transport() + 4, udp_header_bytes);
    return out;
}

parsed_frame quoted_packet::cause() const noexcept {
    parsed_frame frame;
    frame.key = _key;
    frame.ip_version = _key.source.is_v4() ? 4 : 6;
    frame.packet = bytes_view(_bytes).first(_size);
    frame.payload = frame.packet.subspan(ip_header_bytes(_key));
    return frame;
}

bool read_icmp_error(const parsed_frame& message, icmp_report& out) noexcept {
    out = {};
    if (message.payload.size() < icmp_header_bytes) return false;
    const bool v4 = message.ip_version == 4;
    const std::byte* icmp = message.payload.data();
    const type_and_code what{load_u8(icmp), load_u8(icmp + 1)};
    return classify(v4, what, load_u32(icmp + 4), out) &&
           read_quote(message.payload.subspan(icmp_header_bytes), v4, out);
}

bool token_bucket::take(time_us now) noexcept {
    if (now > _filled_at) {
        // What fills an empty bucket is enough; more could not be multiplied.
        const time_us passed = std::min(now - _filled_at, _most / _per_second + 1);
        _level = std::min(_most, _level + passed * _per_second);
        _filled_at = now;
    }
    if (_level < token) return false;
    _level -= token;
    return true;
}

bool icmp_responder::error(icmp_message& out, const parsed_frame& cause, icmp_error what,
                           std::uint32_t mtu, time_us now) noexcept {
    if (!write_icmp_error(out, cause, what, mtu)) {
        ++_counters.unanswerable;
        return false;
    }
    if (!_errors.take(now)) {
        ++_counters.limited;
        return false;
    }
    ++_counters.errors;
    return true;
}

bool icmp_responder::echo_reply(icmp_message& out, const parsed_frame& request,
                                time_us now) noexcept {
    if (!is_echo_request(request)) return false;
    if (!_echoes.take(now)) {
        ++_counters.limited;
        return false;
    }
    ++_counters.echo_replies;
    return write_echo_reply(out, request);
}

}  // namespace burin::tun
