// The far end of the load: listens, and does for each connection what it asks (serve), or one thing
// for all (sink, source, echo). For strangers, with bounds.
#pragma once

#include <csignal>
#include <cstdint>
#include <optional>
#include <thread>
#include <unordered_map>

#include "bench/load_socket.hh"

namespace load {

// What all connections together may hold; by default whatever comes.
struct bounds {
    manners each{};
    unsigned most_connections = 0;  // at once; 0: any number
    double idle_seconds = 0;        // without a byte either way; 0: for ever
    double life_seconds = 0;        // of one connection; 0: for ever
};

// The listeners' side: every thread accepts and carries; a bulk stream moves to the thread with the
// fewest. Its threads run until the process ends, and so must it.
class server {
  public:
    struct counts {
        std::uint64_t connections, refused, received, sent, broken, wrong;
    };

    // `set` and this stay for good.
    server(const options& set, const bounds& limits)
        : _set(set),
          _limits(limits),
          _workers(set.threads != 0 ? set.threads : std::min(cores(), 8u)) {}
    server(const server&) = delete;
    server& operator=(const server&) = delete;

    // Binds and begins. Throws trouble.
    void start() {
        const address where = resolve(_set);
        _listener = new_socket(_set, where);
        const int on = 1;
        ::setsockopt(_listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (::bind(_listener, as_sockaddr(where), where.size) != 0 ||
            ::listen(_listener, 4096) != 0)
            die("%s port %s: %s", _set.host.c_str(), _set.port.c_str(), std::strerror(errno));
        set_nonblocking(_listener);
        for (worker& each : _workers) {
            each.epoll = ::epoll_create1(EPOLL_CLOEXEC);
            epoll_event wish{};
            wish.events = EPOLLIN | (_workers.size() > 1 ? EPOLLEXCLUSIVE : EPOLLIN);
            ::epoll_ctl(each.epoll, EPOLL_CTL_ADD, _listener, &wish);
        }
        for (std::uint32_t index = 0; index < _workers.size(); ++index)
            std::thread([this, index] { run(index); }).detach();
        if (bounded()) std::thread([this] { watch(); }).detach();
    }

    unsigned port() const noexcept {
        address bound;
        bound.size = sizeof bound.storage;
        ::getsockname(_listener, reinterpret_cast<sockaddr*>(&bound.storage), &bound.size);
        // It stands at the same place in both address families.
        return ntohs(reinterpret_cast<const sockaddr_in*>(&bound.storage)->sin_port);
    }

    counts now() const noexcept {
        return {_connections, _refused, _received, _sent, _broken, _wrong};
    }

  private:
    struct worker {
        int epoll = -1;
        std::atomic<int> streams{0};
    };

    bool bounded() const noexcept { return _limits.idle_seconds > 0 || _limits.life_seconds > 0; }

    void accept_some(std::uint32_t self, std::vector<std::uint8_t>& buffer) {
        const int fd = ::accept4(_listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            return;
        }
        if (_limits.most_connections != 0 && _open >= _limits.most_connections) {
            ::close(fd);
            ++_refused;
            return;
        }
        ++_open;
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        ++_connections;
        const auto kind = _set.mode == "serve"  ? flow::role::fresh
                          : _set.mode == "echo" ? flow::role::echo
                                                : flow::role::raw;
        auto carried = std::make_unique<flow>(fd, kind, _limits.each);
        carried->home = self;
        if (_set.mode == "sink")
            carried->start_raw(0, _set.seed_given ? &pattern_of(_set.seed) : nullptr, true);
        if (_set.mode == "source") carried->start_raw(_set.bytes, &pattern_of(_set.seed), false);
        flow* raw = carried.release();
        if (bounded()) {
            const std::lock_guard lock(_guard);
            _since.emplace(raw, clock_type::now());
        }
        ++_workers[self].streams;
        settle(self, raw, raw->turn(true, false, buffer), EPOLL_CTL_ADD);
    }

    void settle(std::uint32_t self, flow* carried, step result, int operation) {
        if (carried->expired.load(std::memory_order_relaxed)) result = step::failed;
        if (result == step::more) {
            std::uint32_t target = self;
            if (carried->kind() == flow::role::server && carried->received() == 0 &&
                carried->sent() == 0 && _workers.size() > 1)
                for (std::uint32_t other = 0; other < _workers.size(); ++other)
                    if (_workers[other].streams + 1 < _workers[target].streams) target = other;
            if (target == self) {
                arm(_workers[self].epoll, *carried, operation);
                return;
            }
            if (operation == EPOLL_CTL_MOD)
                ::epoll_ctl(_workers[self].epoll, EPOLL_CTL_DEL, carried->fd(), nullptr);
            --_workers[self].streams;
            ++_workers[target].streams;
            carried->home = target;
            arm(_workers[target].epoll, *carried, EPOLL_CTL_ADD);
            return;
        }
        _received += carried->received();
        _sent += carried->sent();
        _wrong += carried->clean() ? 0 : 1;
        _broken += result == step::failed ? 1 : 0;
        if (_set.mode == "sink" || _set.mode == "source")
            std::printf("{\"mode\":\"%s\",\"received\":%llu,\"sent\":%llu,\"checksum_ok\":%s}\n",
                        _set.mode.c_str(), static_cast<unsigned long long>(carried->received()),
                        static_cast<unsigned long long>(carried->sent()),
                        carried->clean() && result == step::done ? "true" : "false");
        std::fflush(stdout);
        --_workers[self].streams;
        if (bounded()) {
            const std::lock_guard lock(_guard);
            _since.erase(carried);
        }
        --_open;  // who sees the end of this one finds its place free
        delete carried;
    }

    void run(std::uint32_t self) {
        std::vector<std::uint8_t> buffer = new_buffer();
        std::vector<epoll_event> events(256);
        for (;;) {
            const int count = ::epoll_wait(_workers[self].epoll, events.data(),
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

    // Ends what is silent or has had its time: says so to the flow, whose thread the shutdown
    // wakes. How long nothing moved the kernel knows.
    void watch() {
        for (;;) {
            std::this_thread::sleep_for(std::chrono::milliseconds(200));
            const std::lock_guard lock(_guard);
            for (const auto& [carried, since] : _since) {
                tcp_info told{};
                socklen_t size = sizeof told;
                ::getsockopt(carried->fd(), IPPROTO_TCP, TCP_INFO, &told, &size);
                const double idle =
                    1e-3 * std::min(told.tcpi_last_data_sent, told.tcpi_last_data_recv);
                if (!(_limits.idle_seconds > 0 && idle > _limits.idle_seconds) &&
                    !(_limits.life_seconds > 0 && seconds_since(since) > _limits.life_seconds))
                    continue;
                carried->expired = true;
                ::shutdown(carried->fd(), SHUT_RDWR);
            }
        }
    }

    const options& _set;
    const bounds _limits;
    int _listener = -1;
    std::vector<worker> _workers;
    std::mutex _guard;
    std::unordered_map<flow*, clock_type::time_point> _since;  // with limits of time
    std::atomic<unsigned> _open{0};
    std::atomic<std::uint64_t> _connections{0}, _refused{0}, _received{0}, _sent{0}, _wrong{0},
        _broken{0};
};

// SIGINT and SIGTERM of this thread and those it makes: held for wait_for_end.
inline void hold_ends() {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    pthread_sigmask(SIG_BLOCK, &ends, nullptr);
}

inline void wait_for_end() {
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGTERM);
    sigaddset(&ends, SIGINT);
    int signal = 0;
    sigwait(&ends, &signal);
}

inline int run_server(const options& set) {
    hold_ends();
    static server shared(set, bounds{});
    shared.start();
    std::printf("{\"mode\":\"%s\",\"state\":\"listening\",\"port\":%u}\n", set.mode.c_str(),
                shared.port());
    std::fflush(stdout);
    wait_for_end();
    const server::counts all = shared.now();
    std::printf(
        "{\"mode\":\"%s\",\"state\":\"ended\",\"connections\":%llu,\"received\":%llu,"
        "\"sent\":%llu,\"broken\":%llu,\"wrong\":%llu}\n",
        set.mode.c_str(), static_cast<unsigned long long>(all.connections),
        static_cast<unsigned long long>(all.received), static_cast<unsigned long long>(all.sent),
        static_cast<unsigned long long>(all.broken), static_cast<unsigned long long>(all.wrong));
    std::fflush(stdout);
    std::_Exit(all.wrong == 0 ? 0 : 1);
}

}  // namespace load
