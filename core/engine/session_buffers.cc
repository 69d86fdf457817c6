#include "core/engine/session_buffers.hh"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <fstream>
#include <limits>

namespace burin::engine {

namespace {

// Linux 5.15: which buffers the kernel leaves alone; not in Debian 12's headers of libc.
constexpr int so_buf_lock = 72;
constexpr int send_locked = 1, receive_locked = 2;
// What a fresh socket has, as setsockopt wants it: the kernel doubles it.
constexpr int fresh_bytes = 64 * 1024;
// What may wait in a forced socket without having been sent: 8 ms at 1 Gbit/s. Without forcing it
// is what tcp_wmem leaves, four times as much.
constexpr int most_unsent_bytes = 1 << 20;
// While somebody waits for what comes: doubled as well.
constexpr int bounded_bytes = 256 * 1024;
// A window is 16 bits wide, its scale 14 at most.
constexpr std::uint64_t least_shown = 65535;

bool set(int descriptor, int level, int name, int value) noexcept {
    return setsockopt(descriptor, level, name, &value, sizeof value) == 0;
}

int get(int descriptor, int level, int name) noexcept {
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(descriptor, level, name, &value, &size) == 0 ? value : 0;
}

// The last of the numbers in a file of /proc/sys.
std::uint64_t last_number(const char* file) {
    std::ifstream in(file);
    std::uint64_t value = 0, last = 0;
    while (in >> value) last = value;
    return last;
}

}  // namespace

ring::microseconds_t least_round_trip(int descriptor) noexcept {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return 0;
    if (size < offsetof(tcp_info, tcpi_min_rtt) + sizeof info.tcpi_min_rtt) return 0;
    const bool measured = info.tcpi_min_rtt != std::numeric_limits<std::uint32_t>::max();
    return measured ? info.tcpi_min_rtt : 0;
}

buffer_limits buffer_limits::read() {
    buffer_limits limits;
    limits.receive_bytes = last_number("/proc/sys/net/ipv4/tcp_rmem");
    limits.send_bytes = last_number("/proc/sys/net/ipv4/tcp_wmem");
    // As tcp_select_initial_window() does it.
    const std::uint64_t most =
        std::max(limits.receive_bytes, last_number("/proc/sys/net/core/rmem_max"));
    if (most > 0)
        limits.shown_bytes = least_shown
                             << std::clamp(static_cast<int>(std::bit_width(most)) - 16, 0, 14);
    return limits;
}

bool buffer_limits::hold(std::uint64_t under_way_bytes) const noexcept {
    return receive_bytes / 2 >= under_way_bytes && send_bytes / 2 >= under_way_bytes &&
           shown_bytes >= under_way_bytes;
}

bool force_buffers(int descriptor, std::uint64_t under_way_bytes) noexcept {
    // Doubled by the kernel, which counts what surrounds the bytes as well.
    const int bytes = static_cast<int>(std::min<std::uint64_t>(under_way_bytes, 1u << 30));
    return set(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, bytes) &&
           set(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, bytes);
}

void fit_receive_buffer(int descriptor) noexcept {
    const int locked = get(descriptor, SOL_SOCKET, so_buf_lock);
    if ((locked & receive_locked) == 0) return;
    set(descriptor, SOL_SOCKET, SO_RCVBUF, fresh_bytes);
    set(descriptor, SOL_SOCKET, so_buf_lock, locked & ~receive_locked);
}

int bound_receive_queue(int descriptor) noexcept {
    const int locked = get(descriptor, SOL_SOCKET, so_buf_lock);
    const int before = get(descriptor, SOL_SOCKET, SO_RCVBUF);
    if ((locked & receive_locked) != 0 || before <= 2 * bounded_bytes) return 0;
    return set(descriptor, SOL_SOCKET, SO_RCVBUF, bounded_bytes) ? before : 0;
}

// net.core.rmem_max may be less than what the kernel had granted on its own, and from a small
// buffer it would not come back to that: it asks whether more came in a round trip than ever
// before. SO_RCVLOWAT makes room for what it names, up to tcp_rmem; how much that is depends on how
// well packets are filled, so what the first try gave corrects the second.
void free_receive_queue(int descriptor, int before) noexcept {
    const int locked = get(descriptor, SOL_SOCKET, so_buf_lock);
    set(descriptor, SOL_SOCKET, SO_RCVBUF, before / 2);
    set(descriptor, SOL_SOCKET, so_buf_lock, locked & ~receive_locked);
    std::int64_t wanted = before / 2;
    for (int i = 0; i < 2; ++i) {
        const int granted = get(descriptor, SOL_SOCKET, SO_RCVBUF);
        if (granted <= 0 || granted >= before) break;
        if (i > 0) wanted = wanted * before / granted;
        set(descriptor, SOL_SOCKET, SO_RCVLOWAT,
            static_cast<int>(std::min<std::int64_t>(wanted, before)));
    }
    set(descriptor, SOL_SOCKET, SO_RCVLOWAT, 1);
}

void space_sends(int descriptor) noexcept {
    // Any rate but "none" switches it on; this one bounds nothing.
    const std::uint64_t rate = std::numeric_limits<std::uint64_t>::max() - 1;
    setsockopt(descriptor, SOL_SOCKET, SO_MAX_PACING_RATE, &rate, sizeof rate);
}

void fit_buffers(int descriptor, ring::microseconds_t round_trip) noexcept {
    const int locked = get(descriptor, SOL_SOCKET, so_buf_lock);
    if ((locked & send_locked) == 0) return;
    if (round_trip < long_round_trip) {
        fit_receive_buffer(descriptor);
        set(descriptor, SOL_SOCKET, SO_SNDBUF, fresh_bytes);
        set(descriptor, SOL_SOCKET, so_buf_lock, 0);
    } else if (const int unsent = get(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT);
               unsent <= 0 || unsent > most_unsent_bytes) {
        set(descriptor, IPPROTO_TCP, TCP_NOTSENT_LOWAT, most_unsent_bytes);
    }
}

}  // namespace burin::engine
