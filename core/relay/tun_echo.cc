#include "core/relay/tun_echo.hh"

#include <fmt/format.h>

#include "core/relay/tun_queue.hh"

namespace burin::relay {

namespace {

using kind = echo_message::kind;

tun::icmp_error error_of(kind what) noexcept {
    if (what == kind::prohibited) return tun::icmp_error::prohibited;
    if (what == kind::hops_exceeded) return tun::icmp_error::hops_exceeded;
    return tun::icmp_error::host_unreachable;
}

}  // namespace

tun_echo::tun_echo(context& c, tun_uplink& uplink, tun_icmp& icmp, const tun_echo_settings& s)
    : _context(c),
      _uplink(uplink),
      _icmp(icmp),
      _settings(s),
      _table(s.most_waiting),
      _limit(s.per_second, s.burst) {}

void tun_echo::stop() noexcept {
    _channel.close();
    drop_all();
}

void tun_echo::session_ready() noexcept {
    _asked = _not_offered = false;
}

// ---- host to server ----

bool tun_echo::open() noexcept {
    if (_channel.exists()) return true;
    ssh::connection* session = _uplink.session();
    if (session == nullptr) return false;
    if (_asked && _context.now - _asked_at < _settings.retry_time) return false;
    _asked = true;
    _asked_at = _context.now;
    return _channel.open(*session);
}

bool tun_echo::take(const tun::parsed_frame& request) noexcept {
    if (_not_offered || !_uplink.carries_echo()) return false;
    const bytes_view data = request.payload.subspan(tun::icmp_header_bytes);
    if (data.size() > most_echo_bytes) {
        ++_counters.too_long;
        return true;
    }
    if (!_limit.take(_context.now)) {
        ++_counters.limited;
        return true;
    }
    if (!open()) {
        ++_counters.no_channel;
        return true;
    }
    if (_waiting.size() >= _settings.most_waiting) {
        _table.remove(_waiting, _table.oldest(_waiting));
        ++_counters.evicted;
    }
    const auto number = _table.add(_waiting, _context.now, tun::echo_stub(request));
    if (!number) {
        ++_counters.evicted;
        return true;
    }
    echo_message message;
    message.what = kind::request;
    message.number = *number;
    message.to = request.key.destination;
    message.data = data;
    if (_channel.send(message)) {
        ++_counters.carried;
    } else {
        ++_counters.no_window;
        _table.remove(_waiting, *number);
    }
    if (!_late.armed()) rearm();
    return true;
}

// ---- server to host ----

void tun_echo::on_echo(const echo_message& m, const ring::buffer& holder) noexcept {
    if (m.what == kind::request) return;  // a server asks nothing
    const tun::echo_stub* kept = _table.find(m.number);
    if (kept == nullptr) {
        ++_counters.late;
        return;
    }
    if (m.what == kind::answered) {
        ++_counters.answered;
        _icmp.pass_echo(*kept, m.data, holder);
    } else {
        ++_counters.refused;
        _icmp.tell(kept->cause(), error_of(m.what), 0, {}, _context.now);
    }
    _table.remove(_waiting, m.number);
    if (_waiting.empty()) _late.disarm();
}

void tun_echo::on_echo_channel_gone(ending how) noexcept {
    if (how == ending::not_offered) _not_offered = true;
    drop_all();
}

// ---- time ----

void tun_echo::drop_all() noexcept {
    _counters.lost += _waiting.size();
    while (!_waiting.empty()) _table.remove(_waiting, _table.oldest(_waiting));
    _late.disarm();
}

void tun_echo::rearm() noexcept {
    if (_waiting.empty()) return _late.disarm();
    _context.timers.arm(_late, _table.oldest_since(_waiting) + _settings.timeout);
}

void tun_echo::on_late(ring::microseconds_t now) noexcept {
    while (!_waiting.empty() && _table.oldest_since(_waiting) + _settings.timeout <= now) {
        _table.remove(_waiting, _table.oldest(_waiting));
        ++_counters.timed_out;
    }
    rearm();
}

void tun_echo::report(std::string& into, std::string_view name) const {
    const tun_echo_counters& c = _counters;
    into += fmt::format(
        "{}: echo: carried={} answered={} refused={} timed-out={} waiting={} limited={} "
        "too-long={} no-channel={} no-window={} evicted={} lost={} late={} unknown={}\n",
        name, c.carried, c.answered, c.refused, c.timed_out, _waiting.size(), c.limited, c.too_long,
        c.no_channel, c.no_window, c.evicted, c.lost, c.late, _channel.unknown());
}

}  // namespace burin::relay
