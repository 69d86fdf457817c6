// What a link knows of the path of its connection, for the windows of its channels and the buffers
// of its socket.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "core/engine/link.hh"
#include "core/engine/session_buffers.hh"

namespace burin::engine {

namespace {
// A path changes seldom, and a window that grows is asked about once in a round trip.
constexpr ring::microseconds_t look_interval = 250 * ring::millisecond;
// A ping that went through with more than this beside it waited for some of it.
constexpr std::uint64_t quiet_bytes = 64 * 1024;
// How often the kernel is told how much may wait unsent, but for what someone waits for.
constexpr ring::microseconds_t unsent_interval = 250 * ring::millisecond;
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
    if (_socket_round_trip >= spaced_round_trip) space_sends(_descriptor);
}

void link::note_latency() noexcept {
    if (moved_bytes() - _ping_moved > quiet_bytes) return;
    _quiet_latency = _quiet_latency == 0 ? _last_latency : std::min(_quiet_latency, _last_latency);
}

// How much the next send may hold, and how it is shared out.
void link::fit_sends() noexcept {
    const ring::microseconds_t now = _worker.now();
    _payload_bytes = _pace.seal_bytes(now);
    // What is not payload is never held back.
    _arena_bytes = std::max(_payload_bytes, send_pace::least_seal_bytes);
    if (_connection == nullptr) return;
    _connection->set_turn_bytes(_pace.turn_bytes(now));
    _connection->set_packet_bytes(
        static_cast<std::uint32_t>(std::min<std::size_t>(_payload_bytes, ssh::max_payload_bytes)));
}

// What lies unread in our socket is in front of everything that comes later, as the peer's unsent
// queue is: somebody who waits, waits for both.
void link::fit_unread(ring::microseconds_t now) noexcept {
    const bool bound = _pace.quick(now);
    if (bound == (_receive_bound != 0)) return;
    if (!bound) {
        free_receive_queue(_descriptor, std::exchange(_receive_bound, 0));
    } else if (_socket_round_trip > 0 && _socket_round_trip < near_round_trip &&
               now - _unread_tried >= unsent_interval && _worker.may_look()) {
        _unread_tried = now;
        _receive_bound = bound_receive_queue(_descriptor);
    }
}

// The kernel's unsent queue is in front of everything that comes later. Told seldom: it is a system
// call beside the ring's.
void link::fit_unsent() noexcept {
    const ring::microseconds_t now = _worker.now();
    _pace.look(_connection->counters().quick_packets, std::max(_socket_round_trip, _quiet_latency),
               now);
    fit_unread(now);
    const std::uint32_t wanted = _pace.unsent_bytes(now);
    if (wanted == _unsent) return;
    const bool hurried = _pace.quick(now) && wanted < _unsent;
    if (!hurried && now - _unsent_set < unsent_interval) return;
    _unsent_set = now;
    _unsent = wanted;
    const int value = static_cast<int>(wanted);
    setsockopt(_descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &value, sizeof value);
}

}  // namespace burin::engine
