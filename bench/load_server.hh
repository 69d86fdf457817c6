// The listening modes of bench_load: serve, sink, source, echo.
#pragma once

#include <csignal>
#include <thread>

#include "bench/load_socket.hh"

namespace load {

// The listeners' side: every thread accepts and carries; a bulk stream moves to the thread with the
// fewest.
struct server {
    struct worker {
        int epoll = -1;
        std::atomic<int> streams{0};
    };
    const options& set;
    int listener = -1;
    std::vector<worker> workers;
    std::atomic<std::uint64_t> connections{0}, received{0}, sent{0}, wrong{0}, broken{0};

    server(const options& settings, unsigned threads) : set(settings), workers(threads) {}

    void accept_some(std::uint32_t self, std::vector<std::uint8_t>& buffer) {
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return;
        }
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ++connections;
        auto carried = std::make_unique<flow>(fd, set.mode == "serve"  ? flow::role::fresh
                                                  : set.mode == "echo" ? flow::role::echo
                                                                       : flow::role::raw);
        carried->home = self;
        if (set.mode == "sink")
            carried->start_raw(0, set.seed_given ? &pattern_of(set.seed) : nullptr, true);
        if (set.mode == "source") carried->start_raw(set.bytes, &pattern_of(set.seed), false);
        flow* raw = carried.release();
        ++workers[self].streams;
        settle(self, raw, raw->turn(true, false, buffer), EPOLL_CTL_ADD);
    }

    void settle(std::uint32_t self, flow* carried, step result, int operation) {
        if (result == step::more) {
            std::uint32_t target = self;
            if (carried->kind() == flow::role::server && carried->received() == 0 &&
                carried->sent() == 0 && workers.size() > 1)
                for (std::uint32_t other = 0; other < workers.size(); ++other)
                    if (workers[other].streams + 1 < workers[target].streams) target = other;
            if (target == self) {
                arm(workers[self].epoll, *carried, operation);
                return;
            }
            if (operation == EPOLL_CTL_MOD)
                ::epoll_ctl(workers[self].epoll, EPOLL_CTL_DEL, carried->fd(), nullptr);
            --workers[self].streams;
            ++workers[target].streams;
            carried->home = target;
            arm(workers[target].epoll, *carried, EPOLL_CTL_ADD);
            return;
        }
        received += carried->received();
        sent += carried->sent();
        wrong += carried->clean() ? 0 : 1;
        broken += result == step::failed ? 1 : 0;
        if (set.mode == "sink" || set.mode == "source")
            std::printf("{\"mode\":\"%s\",\"received\":%llu,\"sent\":%llu,\"checksum_ok\":%s}\n",
                        set.mode.c_str(), static_cast<unsigned long long>(carried->received()),
                        static_cast<unsigned long long>(carried->sent()),
                        carried->clean() && result == step::done ? "true" : "false");
        std::fflush(stdout);
        --workers[self].streams;
        delete carried;
    }

    void run(std::uint32_t self) {
        std::vector<std::uint8_t> buffer = new_buffer();
        std::vector<epoll_event> events(256);
        for (;;) {
            const int count = ::epoll_wait(workers[self].epoll, events.data(),
                                           static_cast<int>(events.size()), -1);
            for (int at = 0; at < count; ++at) {
                const epoll_event& event = events[static_cast<std::size_t>(at)];
                if (event.data.ptr == nullptr) {
                    accept_some(self, buffer);
                    continue;
                }
                auto* carried = static_cast<flow*>(event.data.ptr);
                settle(self, carried, serve_event(*carried, event.events, buffer), EPOLL_CTL_MOD);
            }
        }
    }
};

inline int run_server(const options& set) {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    const address where = resolve(set);
    static server shared(set, set.threads != 0 ? set.threads : std::min(cores(), 8u));
    shared.listener = new_socket(set, where);
    const int on = 1;
    ::setsockopt(shared.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (::bind(shared.listener, as_sockaddr(where), where.size) != 0 ||
        ::listen(shared.listener, 4096) != 0)
        die("%s port %s: %s", set.host.c_str(), set.port.c_str(), std::strerror(errno));
    set_nonblocking(shared.listener);
    address bound;
    bound.size = sizeof bound.storage;
    ::getsockname(shared.listener, reinterpret_cast<sockaddr*>(&bound.storage), &bound.size);
    for (auto& worker : shared.workers) {
        worker.epoll = ::epoll_create1(EPOLL_CLOEXEC);
        epoll_event wish{};
        wish.events = EPOLLIN | (shared.workers.size() > 1 ? EPOLLEXCLUSIVE : EPOLLIN);
        ::epoll_ctl(worker.epoll, EPOLL_CTL_ADD, shared.listener, &wish);
    }
    for (std::uint32_t index = 0; index < shared.workers.size(); ++index)
        std::thread([index] { shared.run(index); }).detach();
    // The port stands at the same place in both address families.
    std::printf("{\"mode\":\"%s\",\"state\":\"listening\",\"port\":%u}\n", set.mode.c_str(),
                ntohs(reinterpret_cast<const sockaddr_in*>(&bound.storage)->sin_port));
    std::fflush(stdout);
    int signal = 0;
    sigwait(&ends, &signal);
    std::printf(
        "{\"mode\":\"%s\",\"state\":\"ended\",\"connections\":%llu,\"received\":%llu,"
        "\"sent\":%llu,\"broken\":%llu,\"wrong\":%llu}\n",
        set.mode.c_str(), static_cast<unsigned long long>(shared.connections.load()),
        static_cast<unsigned long long>(shared.received.load()),
        static_cast<unsigned long long>(shared.sent.load()),
        static_cast<unsigned long long>(shared.broken.load()),
        static_cast<unsigned long long>(shared.wrong.load()));
    std::fflush(stdout);
    std::_Exit(shared.wrong == 0 ? 0 : 1);
}

}  // namespace load
