#include "core/relay/echo_exit.hh"

namespace burin::relay {

namespace {

using kind = echo_message::kind;

// To one host, as far as an address tells: no group, nobody in particular, no link without a name
// (RFC 1122 section 3.2.1.3, RFC 4291 sections 2.5.2, 2.5.6 and 2.7).
bool is_a_host(const tun::flow_address& to) noexcept {
    if (to.is_v4()) {
        const std::uint32_t first = to.to_v4() >> 24;
        return first != 0 && first < 224;
    }
    const bool link_local = to.bytes[0] == 0xfe && (to.bytes[1] & 0xc0) == 0x80;
    return to.bytes[0] != 0xff && !link_local && !(to == tun::flow_address{});
}

}  // namespace

echo_exit::echo_exit(context& c, echo_pinger& pinger, ssh::connection& connection,
                     ssh::channel& channel, const echo_exit_settings& s)
    : _context(c), _pinger(pinger), _settings(s), _limit(s.per_second, s.burst) {
    _channel.accept(connection, channel);
}

echo_exit::~echo_exit() {
    forget_all();
}

void echo_exit::forget_all() noexcept {
    while (!_waiting.empty())
        _pinger.waiting().remove(_waiting, _pinger.waiting().oldest(_waiting));
    _late.disarm();
}

void echo_exit::on_echo(const echo_message& m, const ring::buffer& holder) noexcept {
    if (m.what != kind::request) return;  // a client answers nothing
    echo_pinger_counters& count = _pinger.count();
    ++count.requests;
    if (!_limit.take(_context.now)) {
        ++count.limited;
        return;
    }
    if (!is_a_host(m.to)) {
        ++count.not_allowed;
        return;
    }
    echo_socket* socket = _pinger.socket_for(m.to);
    if (socket == nullptr) {  // a family that this machine does not speak
        ++count.refused;
        return say(m.number, kind::unreachable, {});
    }
    echo_pinger::table& table = _pinger.waiting();
    if (_waiting.size() >= _settings.most_waiting) {
        ++count.evicted;
        table.remove(_waiting, table.oldest(_waiting));
    }
    const auto sequence = table.add(_waiting, _context.now, {this, m.number, m.to});
    if (!sequence) {
        ++count.too_many;
        return;
    }
    socket->send(static_cast<std::uint16_t>(*sequence), m.to, m.data, holder);
    if (!_late.armed()) _context.timers.arm(_late, _context.now + _settings.timeout);
}

void echo_exit::say(std::uint32_t number, kind what, bytes_view data) noexcept {
    echo_message m;
    m.what = what;
    m.number = number;
    m.data = data;
    if (!_channel.send(m)) ++_pinger.count().no_window;
}

void echo_exit::tell(std::uint32_t sequence, echo_pinger::request r, kind what,
                     bytes_view data) noexcept {
    ++(what == kind::answered ? _pinger.count().answered : _pinger.count().refused);
    _pinger.waiting().remove(_waiting, sequence);
    if (_waiting.empty()) _late.disarm();
    say(r.number, what, data);
}

void echo_exit::on_late(ring::microseconds_t now) noexcept {
    echo_pinger::table& table = _pinger.waiting();
    while (!_waiting.empty()) {
        const ring::microseconds_t due = table.oldest_since(_waiting) + _settings.timeout;
        if (due > now) return _context.timers.arm(_late, due);
        table.remove(_waiting, table.oldest(_waiting));
        ++_pinger.count().timed_out;
    }
}

}  // namespace burin::relay
