// What the peer may send us: credit, given back as bytes are really taken, and windows that grow
// for flows which they hold back (docs/wire.md section 8.2).
#include <algorithm>

#include "core/ssh/connection.hh"

namespace burin::ssh {

namespace {
// A flow earns a larger window with half a window's worth of bytes in so many milliseconds: one
// that its window holds back carries twice that in a round trip, so it grows as fast as slow start
// does, and round trips of up to half a second are filled; a flow whose window lasts for a second
// keeps what it has.
inline constexpr std::uint32_t growth_ms = 500;
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

void connection::maybe_grow(channel& c) noexcept {
    if (c.window >= _limits.window_max) return;
    if (c.since_growth < c.window / 2) return;
    const std::uint32_t now = now_ms(), took = now - c.growth_since_ms;
    c.since_growth = 0;
    c.growth_since_ms = now;
    // What was delivered and not taken: an end that does not keep up gets no more to keep.
    const std::uint32_t held = c.window - c.receive_left - c.consumed;
    if (took > growth_ms || c.end == nullptr || c.end->waiting(held) > c.window / 2) return;
    std::uint32_t more = _budget.grow(std::min(c.window, _limits.window_max - c.window));
    c.window += more;
    c.consumed += more;
}

void connection::flush_adjusts() noexcept {
    // Between old and new keys credit gathers on its channels, one message each when they are
    // there.
    if (!_transport.data_allowed()) return;
    while (!_adjust.empty()) {
        channel* c = _adjust.first();
        _adjust.remove(*c);
        if (c->state == channel_state::open && !c->eof_received && c->consumed > 0) {
            maybe_grow(*c);
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
