// What the peer may send us: credit, given back as bytes are really taken, and windows that follow
// the path (docs/wire.md section 8.2).
//
// A window that holds a flow back is used up once a round trip. So half of it within a round trip
// is the sign that it may be too small, and it doubles: as fast as the slow start of the sender
// does, until it is two to four times what a round trip brings (the bandwidth-delay product). One
// that is many times that gives back. Credit once told cannot be taken back; credit that is not
// given back when bytes were taken is how a window shrinks (RFC 4254 section 5.2 asks nobody to
// give it).
#include <algorithm>
#include <utility>

#include "core/ssh/connection.hh"

namespace burin::ssh {

namespace {
// What every flow may have that moves, whatever its path: between near ends it is the size of
// receives and sends that decides, and the time that turns take (docs/performance.md). A flow earns
// it with half a window's worth in so many milliseconds; one whose window lasts for a second keeps
// what it has.
inline constexpr std::uint32_t near_window = 4u << 20;
inline constexpr std::uint32_t growth_ms = 500;
// Half a window in more round trips than this: it is more than eight times what the path needs.
inline constexpr std::uint32_t idle_round_trips = 4;
// Where the budget is short, a flow whose window lasts for more than a second makes do with what it
// brought a second, and with no less than this.
inline constexpr std::uint32_t resting_window = 64u << 10;
}  // namespace

void connection::consumed(channel& c, std::uint32_t bytes) noexcept {
    c.consumed += bytes;
    if (_adjust.holds(c) || c.consumed == 0) return;
    // A quarter of the window at a time, as little as one packet when it is small.
    if (c.consumed < std::max<std::uint32_t>(c.window / 4, 1)) return;
    _adjust.push(c);
    _events.on_pending();
}

void connection::widen(channel& c, std::uint32_t bytes) noexcept {
    if (c.window >= _limits.window_max) return;
    bytes = std::min(bytes, _limits.window_max - c.window);
    c.unbudgeted += bytes;
    c.window += bytes;
    consumed(c, bytes);
}

void connection::fit_window(channel& c) noexcept {
    const std::uint32_t now = now_ms(), took = now - c.growth_since_ms;
    const bool scarce = _budget.scarce();
    if (c.since_growth < c.window / 2 && !(scarce && took > growth_ms)) return;
    const std::uint64_t brought = std::exchange(c.since_growth, 0);
    c.growth_since_ms = now;
    if (scarce && took > growth_ms)
        return shrink(c, std::max<std::uint64_t>(resting_window, brought * 1000 / took));
    std::uint32_t most = std::min(near_window, _limits.window_max);
    if (c.window >= most) {
        // A turn may be all that a near path's round trip is: no time is shorter than the clock's
        // step.
        const ring::microseconds_t took_us = std::max<std::uint32_t>(took, 1) * ring::millisecond;
        const ring::microseconds_t round_trip = _events.round_trip();
        if (took_us > idle_round_trips * round_trip) return shrink(c, std::max(most, c.window / 2));
        if (took_us > round_trip) return;
        most = _limits.window_max;
    }
    if (c.window >= most) return;
    // What was delivered and not taken: an end that does not keep up gets no more to keep.
    const std::uint32_t held = c.window - c.receive_left - c.consumed;
    if (took > growth_ms || c.end == nullptr || c.end->waiting(held) > c.window / 2) return;
    const std::uint32_t more = _budget.grow(std::min(c.window, most - c.window));
    if (more > 0) ++_counters.windows_grown;
    c.window += more;
    c.consumed += more;
}

// As far as what was taken goes: the rest of it is the peer's already.
void connection::shrink(channel& c, std::uint64_t to) noexcept {
    to = std::max(to, c.unbudgeted + ring::budget::base_bytes);
    if (c.window <= to) return;
    const std::uint32_t less = std::min(c.window - static_cast<std::uint32_t>(to), c.consumed);
    if (less > 0) ++_counters.windows_shrunk;
    c.window -= less;
    c.consumed -= less;
    _budget.shrink(less);
}

void connection::flush_adjusts() noexcept {
    // Between old and new keys credit gathers on its channels, one message each when they are
    // there.
    if (!_transport.data_allowed()) return;
    while (!_adjust.empty()) {
        channel* c = _adjust.first();
        _adjust.remove(*c);
        if (c->state == channel_state::open && !c->eof_received && c->consumed > 0) {
            fit_window(*c);
            if (c->consumed == 0) continue;
            channel_window_adjust message{c->remote, c->consumed};
            c->receive_left += c->consumed;
            c->consumed = 0;
            _scratch.clear();
            build(_scratch, message);
            ++_counters.adjusts_sent;
            if (!queue()) return;
        }
    }
}

}  // namespace burin::ssh
