// The kernel's buffers of a session's own TCP socket. The kernel fits them to the path as long as
// nobody sets them, but only up to net.ipv4.tcp_rmem and tcp_wmem, and what it may show as receive
// window is decided with the SYN, from the same limits: Debian's 4 to 6 MB carry some 200 Mbit/s
// over 200 ms. With CAP_NET_ADMIN they can be forced to more. So where the limits are too low and
// the capability is there:
//
//   * a client's socket is given large ones before it connects (a listening socket would hand them
//   to every stranger: a server's are the kernel's);
//   * once the session is logged in the path is known: over a long one they stay, and what is not
//   sent yet is bounded instead; on a near one the kernel fits them again, as if nothing had been.
//
// Nobody gets them before login: a stranger's connection is the kernel's to fit. No session is
// refused because anything of this is.
#pragma once

#include <cstdint>

#include "ring/clock.hh"

namespace burin::engine {

// Least round trip that the kernel has measured of late (tcp_info); 0: none yet, or no socket. A
// system call.
ring::microseconds_t least_round_trip(int descriptor) noexcept;

// What the kernel grants a TCP socket at most when nobody forces it, in bytes; 0: cannot be read.
struct buffer_limits {
    std::uint64_t receive_bytes = 0;  // tcp_rmem
    std::uint64_t send_bytes = 0;     // tcp_wmem
    std::uint64_t shown_bytes = 0;    // what the window scale of a SYN can express

    static buffer_limits read();
    // A socket may have so many bytes under way each way. Half of a buffer is what is left for them
    // when packets are small.
    bool hold(std::uint64_t under_way_bytes) const noexcept;
};

// Forces both buffers to hold so many bytes under way, before connect(). False: the thread may not
// (errno).
bool force_buffers(int descriptor, std::uint64_t under_way_bytes) noexcept;
// A receive buffer that was forced: the kernel fits it from now on.
void fit_receive_buffer(int descriptor) noexcept;
// The session is logged in. Does nothing to a socket that was not forced.
void fit_buffers(int descriptor, ring::microseconds_t round_trip) noexcept;

// Bounds what may lie in the socket unread: everything that comes waits for all of it. Returns what
// the receive buffer was, in bytes as the kernel counts them, for free_receive_queue(); 0: it is
// no larger anyway, or somebody else's, or the kernel refused, and nothing has changed. What is
// under way and finds no room is lost once, and sent again. A few system calls, each.
int bound_receive_queue(int descriptor) noexcept;
// The kernel fits the buffer again, beginning with what it was. Never with less than it is: a
// window that shrinks below the segments that the peer has learned to send stalls it.
void free_receive_queue(int descriptor, int before) noexcept;

// Has the kernel space out what the socket sends, over the round trip that its window lasts (its
// own pacing, of any congestion control). Else a window smaller than the path leaves as fast as the
// line, a train a round trip: it overruns short queues on the way, and what comes behind it waits
// for the next one. Costs a timer for each millisecond of a train; nothing where the kernel
// refuses.
void space_sends(int descriptor) noexcept;

// So far that a train and the gap behind it are longer than anybody's turn here.
inline constexpr ring::microseconds_t spaced_round_trip = 5 * ring::millisecond;

// So near that the bound above costs no speed: 256 KiB in 1 ms are 2 Gbit/s at least, and as much
// more as it is nearer.
inline constexpr ring::microseconds_t near_round_trip = ring::millisecond;

// A path that is worth it: over 10 ms, the 4 MB that Linux allows to be sent are 3 Gbit/s.
inline constexpr ring::microseconds_t long_round_trip = 10 * ring::millisecond;

}  // namespace burin::engine
