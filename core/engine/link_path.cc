// What a link knows of the path of its connection, for the windows of its channels and the buffers
// of its socket.
#include <algorithm>

#include "core/engine/link.hh"
#include "core/engine/session_buffers.hh"

namespace burin::engine {

namespace {
// A path changes seldom, and a window that grows is asked about once in a round trip.
constexpr ring::microseconds_t look_interval = 250 * ring::millisecond;
// A ping that went through with more than this beside it waited for some of it.
constexpr std::uint64_t quiet_bytes = 64 * 1024;
}  // namespace

// The socket's round trip ends at whatever took the connection: behind a proxy that is not the
// peer. A ping goes all the way, but waits for whatever is in front of it.
ring::microseconds_t link::round_trip() noexcept {
    if (_worker.now() >= _look_due && _worker.may_look()) look_at_path();
    return std::max(_socket_round_trip, _quiet_latency);
}

void link::look_at_path() noexcept {
    _look_due = _worker.now() + look_interval;
    _socket_round_trip = least_round_trip(_descriptor);
}

void link::fit_to_path() noexcept {
    look_at_path();
    fit_buffers(_descriptor, _socket_round_trip);
}

void link::note_latency() noexcept {
    if (moved_bytes() - _ping_moved > quiet_bytes) return;
    _quiet_latency = _quiet_latency == 0 ? _last_latency : std::min(_quiet_latency, _last_latency);
}

}  // namespace burin::engine
