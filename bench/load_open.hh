// bench_load open: how long it takes until so many connections are open end to end at once.
//
// Each says a byte as soon as it may and counts as open when the far end's answer is there; then it
// stays. `--parallel` bounds those on their way, so that a listener's queue does not overflow,
// which would measure the kernel's repeated SYN.
#pragma once

#include <cstdint>

#include "bench/load_socket.hh"

namespace load {

inline int run_open(const options& set) {
    const address where = resolve(set);
    const std::uint64_t count = set.count != 0 ? set.count : 10'000;
    const std::uint64_t at_once = set.parallel != 0 ? set.parallel : 256;
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    if (count + 64 > limit.rlim_cur)
        die("%llu connections need more descriptors than %llu (ulimit -n)",
            static_cast<unsigned long long>(count),
            static_cast<unsigned long long>(limit.rlim_cur));
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    std::vector<epoll_event> events(1024);
    std::vector<int> sockets;
    sockets.reserve(count);
    std::uint64_t open = 0, failed = 0;
    const auto start = clock_type::now();
    auto heard = start;
    const auto fail = [&](int fd, int error) {
        if (failed++ == 0) std::fprintf(stderr, "bench_load: %s\n", std::strerror(error));
        ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
    };
    const auto turn = [&](const epoll_event& event) {
        const int fd = event.data.fd;
        char answer = 0;
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return fail(fd, error);
        epoll_event wish{};
        wish.data.fd = fd;
        if ((event.events & EPOLLOUT) != 0) {
            if (!write_whole(fd, "?", 1)) return fail(fd, errno);
            wish.events = EPOLLIN;
            ::epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &wish);
            return;
        }
        if (::recv(fd, &answer, 1, 0) != 1 || answer != '!') return fail(fd, ECONNRESET);
        ::epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr);
        ++open;
        heard = clock_type::now();
    };
    while (open + failed < count) {
        while (sockets.size() < count && sockets.size() - open - failed < at_once) {
            const int fd = new_socket(set, where);
            sockets.push_back(fd);
            set_nonblocking(fd);
            epoll_event wish{};
            wish.data.fd = fd;
            wish.events = EPOLLOUT;
            ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &wish);
            if (::connect(fd, as_sockaddr(where), where.size) != 0 && errno != EINPROGRESS)
                fail(fd, errno);
        }
        const int ready = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 250);
        for (int at = 0; at < ready; ++at) turn(events[static_cast<std::size_t>(at)]);
        if (seconds_since(heard) > set.timeout) {
            std::fprintf(stderr, "bench_load: %llu of %llu open, then nothing for %.0f s\n",
                         static_cast<unsigned long long>(open),
                         static_cast<unsigned long long>(count), set.timeout);
            break;
        }
    }
    const double seconds = seconds_since(start);
    // Those that were open must be so still.
    std::uint64_t kept = 0;
    for (const int fd : sockets) {
        char byte;
        kept += ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN ? 1 : 0;
        ::close(fd);
    }
    ::close(epoll);
    std::printf(
        "{\"mode\":\"open\",\"count\":%llu,\"open\":%llu,\"failed\":%llu,\"seconds\":%.4f}\n",
        static_cast<unsigned long long>(count), static_cast<unsigned long long>(kept),
        static_cast<unsigned long long>(failed), seconds);
    return kept == count ? 0 : 1;
}

}  // namespace load
