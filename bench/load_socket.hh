// Addresses, sockets and epoll: how the load generator opens a stream and which events a flow waits
// for. What fails throws trouble, unless it says otherwise.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>

#include <cmath>
#include <cstdint>

#include "bench/load_flow.hh"
#include "bench/load_options.hh"

namespace load {

struct address {
    sockaddr_storage storage{};
    socklen_t size = 0;
};

inline address resolve(const options& set) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(set.host.c_str(), set.port.c_str(), &hints, &found))
        die("%s port %s: %s", set.host.c_str(), set.port.c_str(), ::gai_strerror(error));
    address result;
    std::memcpy(&result.storage, found->ai_addr, found->ai_addrlen);
    result.size = found->ai_addrlen;
    ::freeaddrinfo(found);
    return result;
}

inline void raise_descriptors() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

inline int new_socket(const options& set, const address& where) {
    const int fd = ::socket(where.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %s", std::strerror(errno));
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (!set.congestion.empty() &&
        ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, set.congestion.data(),
                     static_cast<socklen_t>(set.congestion.size())) != 0) {
        const int error = errno;
        ::close(fd);
        die("congestion control %s: %s (in a fresh network namespace only what "
            "net.ipv4.tcp_allowed_congestion_control of the first one names is granted)",
            set.congestion.c_str(), std::strerror(error));
    }
    return fd;
}

inline const sockaddr* as_sockaddr(const address& where) {
    return reinterpret_cast<const sockaddr*>(&where.storage);
}

// A blocking socket that gives up after --timeout; -1 with errno set when refused.
inline int connect_to(const options& set, const address& where) {
    const int fd = new_socket(set, where);
    timeval limit{static_cast<time_t>(set.timeout),
                  static_cast<suseconds_t>(std::fmod(set.timeout, 1) * 1e6)};
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (::connect(fd, as_sockaddr(where), where.size) == 0) return fd;
    const int error = errno;
    ::close(fd);
    errno = error;
    return -1;
}

inline bool read_whole(int fd, void* into, std::size_t size) {
    auto* at = static_cast<char*>(into);
    while (size > 0) {
        const ssize_t got = ::recv(fd, at, size, 0);
        if (got <= 0) {
            if (got == 0) errno = ECONNRESET;
            return false;
        }
        at += got;
        size -= static_cast<std::size_t>(got);
    }
    return true;
}

inline bool write_whole(int fd, const void* from, std::size_t size) {
    return ::send(fd, from, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

// What errno says of a socket with a time limit, whose end is told as EAGAIN or EINPROGRESS.
inline std::string socket_error(int error) {
    if (error == EAGAIN || error == EINPROGRESS || error == ETIMEDOUT) return "no answer in time";
    if (error == EADDRNOTAVAIL)
        return "no local port is left (net.ipv4.ip_local_port_range; closed ones rest for a "
               "minute)";
    return std::strerror(error);
}

// Opens a connection and waits until the far end, behind whatever tunnel, has answered the request.
inline int open_stream(const options& set, const address& where, const request& asked) {
    const int fd = connect_to(set, where);
    char answer[ready_size];
    errno = fd < 0 ? errno : 0;
    if (fd >= 0 && write_whole(fd, &asked, sizeof asked) && read_whole(fd, answer, sizeof answer) &&
        std::memcmp(answer, ready_text, ready_size) == 0)
        return fd;
    const std::string why = errno != 0 ? socket_error(errno) : "something else answers there";
    if (fd >= 0) ::close(fd);
    die("%s port %s: no answer from the far end of the load ('bench_load serve', 'burin bench "
        "serve'): %s",
        set.host.c_str(), set.port.c_str(), why.c_str());
}

// The kernel sends no more than so many bits a second of this socket, evenly.
inline void hold_rate(int fd, double bits_per_second) {
    const std::uint64_t bytes =
        std::max<std::uint64_t>(1, static_cast<std::uint64_t>(bits_per_second / 8));
    if (::setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes, sizeof bytes) != 0)
        die("SO_MAX_PACING_RATE: %s", std::strerror(errno));
}

inline request stream_request(const options& set, std::uint64_t index, char op) {
    request asked;
    asked.op = op;
    asked.seed = set.seed;
    std::uint64_t state = set.seed + index * 7919;
    asked.offset = mix(state) % pattern_period;
    return asked;
}

inline std::vector<std::uint8_t> new_buffer() {
    return std::vector<std::uint8_t>(report_size + largest_piece);
}

inline void set_nonblocking(int fd) {
    ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

inline void arm(int epoll, flow& carried, int operation) {
    epoll_event wish{};
    wish.data.ptr = &carried;
    if (carried.wants_input()) wish.events |= EPOLLIN;
    if (carried.wants_output()) wish.events |= EPOLLOUT;
    if (carried.kind() == flow::role::stall) wish.events |= EPOLLRDHUP;
    if (operation == EPOLL_CTL_MOD && wish.events == carried.armed) return;
    carried.armed = wish.events;
    ::epoll_ctl(epoll, operation, carried.fd(), &wish);
}

inline step serve_event(flow& carried, std::uint32_t events, std::vector<std::uint8_t>& buffer) {
    const bool broken = (events & (EPOLLHUP | EPOLLERR)) != 0;
    if (broken && !carried.wants_input()) return step::failed;
    if ((events & EPOLLRDHUP) != 0 && carried.kind() == flow::role::stall) return step::failed;
    return carried.turn((events & EPOLLIN) != 0 || broken, (events & EPOLLOUT) != 0, buffer);
}

}  // namespace load
