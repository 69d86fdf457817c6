#include "core/relay/echo_wire.hh"

#include <algorithm>
#include <cstring>
#include <utility>

#include "tun/ip_header.hh"

namespace burin::relay {

namespace {

using kind = echo_message::kind;

// First byte of a message, behind its length.
constexpr std::uint8_t wire_request_v4 = 4, wire_request_v6 = 6;
constexpr std::uint8_t wire_answered = 128, wire_unreachable = 129, wire_prohibited = 130;
constexpr std::uint8_t wire_hops_exceeded = 131;

constexpr std::size_t length_bytes = 2, head_bytes = 5;  // kind and number

std::size_t address_bytes(const echo_message& m) noexcept {
    if (m.what != kind::request) return 0;
    return m.to.is_v4() ? 4 : 16;
}

std::uint8_t wire_kind(const echo_message& m) noexcept {
    switch (m.what) {
        case kind::request: return m.to.is_v4() ? wire_request_v4 : wire_request_v6;
        case kind::answered: return wire_answered;
        case kind::prohibited: return wire_prohibited;
        case kind::hops_exceeded: return wire_hops_exceeded;
        default: return wire_unreachable;
    }
}

// A message without its length; at least head_bytes.
echo_message parse(bytes_view body) noexcept {
    echo_message m;
    const std::uint8_t first = tun::load_u8(body.data());
    m.number = load_u32(body.data() + 1);
    m.data = body.subspan(head_bytes);
    switch (first) {
        case wire_request_v4:
            if (m.data.size() < 4) return m;
            m.to = tun::flow_address::v4(load_u32(m.data.data()));
            m.data = m.data.subspan(4);
            m.what = kind::request;
            break;
        case wire_request_v6:
            if (m.data.size() < 16) return m;
            std::memcpy(m.to.bytes.data(), m.data.data(), 16);
            if (m.to.is_v4()) return m;  // IPv4 in IPv6's clothes
            m.data = m.data.subspan(16);
            m.what = kind::request;
            break;
        case wire_answered: m.what = kind::answered; break;
        case wire_unreachable: m.what = kind::unreachable; break;
        case wire_prohibited: m.what = kind::prohibited; break;
        case wire_hops_exceeded: m.what = kind::hops_exceeded; break;
        default: m.what = kind::unknown; return m;
    }
    if (m.data.size() > most_echo_bytes) m.what = kind::malformed;
    return m;
}

}  // namespace

std::size_t echo_message_bytes(const echo_message& m) noexcept {
    return length_bytes + head_bytes + address_bytes(m) + m.data.size();
}

void write_echo(std::byte* at, const echo_message& m) noexcept {
    tun::store_u16(at, static_cast<std::uint16_t>(echo_message_bytes(m) - length_bytes));
    tun::store_u8(at + 2, wire_kind(m));
    store_u32(at + 3, m.number);
    at += length_bytes + head_bytes;
    const std::size_t address = address_bytes(m);
    std::memcpy(at, m.to.bytes.data() + (16 - address), address);
    if (!m.data.empty()) std::memcpy(at + address, m.data.data(), m.data.size());
}

bool echo_reader::take(std::size_t wanted, bytes_view& left) noexcept {
    if (_part.size() >= wanted) return true;
    const std::size_t more = std::min(wanted - _part.size(), left.size());
    const std::size_t before = _part.size();
    _part.resize(before + more);
    if (more > 0) std::memcpy(_part.data() + before, left.data(), more);
    left = left.subspan(more);
    return _part.size() == wanted;
}

bool echo_reader::next(bytes_view& left, echo_message& out) noexcept {
    if (std::exchange(_whole, false)) _part.clear();
    out = {};
    const auto fits = [](std::size_t body) {
        return body >= head_bytes && body <= most_echo_message_bytes - length_bytes;
    };
    if (_part.empty() && left.size() >= length_bytes) {
        const std::size_t body = tun::load_u16(left.data());
        if (!fits(body)) return true;
        if (left.size() >= length_bytes + body) {
            out = parse(left.subspan(length_bytes, body));
            left = left.subspan(length_bytes + body);
            return true;
        }
    }
    if (!take(length_bytes, left)) return false;
    const std::size_t body = tun::load_u16(_part.data());
    if (!fits(body)) return true;
    if (!take(length_bytes + body, left)) return false;
    _whole = true;
    out = parse(bytes_view(_part).subspan(length_bytes));
    return true;
}

}  // namespace burin::relay
