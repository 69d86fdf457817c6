// The near end of the load: bulk streams, round trips and connections, each measured over real
// sockets and told as a value. Blocks until done; `total.moved` may be watched from another thread
// meanwhile. What cannot begin throws trouble; what breaks on the way is told in the result.
#pragma once

#include <cstdint>
#include <memory>

#include "bench/load_socket.hh"

namespace load {

// What several client threads did together.
struct tally {
    std::atomic<std::uint64_t> moved{0};
    std::atomic<unsigned> failed{0};
    std::mutex guard;
    std::string error;

    void fail(const std::string& why) {
        ++failed;
        const std::lock_guard lock(guard);
        if (error.empty()) error = why;
    }
};

// Carries these flows until each is done; after `limit` seconds (if any) it stops sending. One
// thread.
inline void carry(const std::vector<flow*>& flows, double limit, double timeout, tally& total) {
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    std::vector<std::uint8_t> buffer = new_buffer();
    std::vector<epoll_event> events(256);
    std::size_t left = flows.size();
    for (flow* carried : flows) arm(epoll, *carried, EPOLL_CTL_ADD);
    const auto start = clock_type::now();
    auto last_progress = start;
    bool stopped = limit <= 0;
    while (left > 0) {
        const int count =
            ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), stopped ? 250 : 20);
        std::uint64_t moved = 0;
        for (int at = 0; at < count; ++at) {
            auto& carried = *static_cast<flow*>(events[static_cast<std::size_t>(at)].data.ptr);
            const std::uint64_t before = carried.sent() + carried.received();
            const step result =
                serve_event(carried, events[static_cast<std::size_t>(at)].events, buffer);
            moved += carried.sent() + carried.received() - before;
            if (result == step::more) {
                arm(epoll, carried, EPOLL_CTL_MOD);
                continue;
            }
            if (result == step::failed) total.fail(carried.error());
            ::epoll_ctl(epoll, EPOLL_CTL_DEL, carried.fd(), nullptr);
            --left;
        }
        total.moved.fetch_add(moved, std::memory_order_relaxed);
        const auto now = clock_type::now();
        if (moved > 0) last_progress = now;
        if (!stopped && std::chrono::duration<double>(now - start).count() >= limit) {
            stopped = true;
            for (flow* carried : flows) {
                carried->stop();
                arm(epoll, *carried, EPOLL_CTL_MOD);
            }
        }
        if (std::chrono::duration<double>(now - last_progress).count() > timeout) {
            total.fail("no byte moved for " + std::to_string(static_cast<int>(timeout)) + " s");
            break;
        }
    }
    ::close(epoll);
}

// User and system time of this process.
inline double cpu_seconds() {
    rusage use{};
    ::getrusage(RUSAGE_SELF, &use);
    return static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
}

struct bulk_result {
    std::uint64_t sent = 0, received = 0;    // bytes that both ends have counted
    std::uint64_t slowest = 0, fastest = 0;  // bytes of one stream
    double seconds = 0;                      // from "all are open" to the last report
    double cpu_seconds = 0;                  // of this process
    std::vector<std::uint64_t> bad_at;       // the first wrong byte of each stream that had one
    unsigned failed = 0;                     // streams that broke
    std::string error;                       // why the first of them did

    std::uint64_t bytes() const noexcept { return sent + received; }
    bool ok() const noexcept { return failed == 0 && bad_at.empty(); }
    double gbit_per_second() const noexcept {
        return static_cast<double>(bytes()) * 8e-9 / seconds;
    }
};

// set.mode is up, down or both; --streams, --threads; --bytes each, or --seconds.
inline bulk_result run_bulk(const options& set, tally& total) {
    const address where = resolve(set);
    const bool up = set.mode != "down";
    const bool down = set.mode != "up";
    const std::uint64_t each = set.seconds > 0 ? no_position : set.bytes;
    const pattern& data = pattern_of(set.seed);
    std::vector<std::unique_ptr<flow>> flows;
    for (unsigned index = 0; index < set.streams; ++index) {
        request asked = stream_request(set, index, 'b');
        asked.up = up ? each : 0;
        asked.down = down ? each : 0;
        const int fd = open_stream(set, where, asked);
        if (set.rate > 0) hold_rate(fd, set.rate / set.streams);
        set_nonblocking(fd);
        flows.push_back(std::make_unique<flow>(fd, flow::role::client));
        flows.back()->start_client(asked, data);
    }
    const unsigned count =
        std::min(set.streams, set.threads != 0 ? set.threads : std::min(set.streams, cores()));
    std::vector<std::vector<flow*>> shares(count);
    for (unsigned index = 0; index < set.streams; ++index)
        shares[index % count].push_back(flows[index].get());
    if (set.progress) std::fprintf(stderr, "%u streams are open\n", set.streams);
    bulk_result result;
    const double cpu_before = cpu_seconds();
    const auto start = clock_type::now();
    std::vector<std::jthread> threads;
    for (auto& share : shares)
        threads.emplace_back([&] { carry(share, set.seconds, set.timeout, total); });
    threads.clear();
    result.seconds = seconds_since(start);
    result.cpu_seconds = cpu_seconds() - cpu_before;
    result.slowest = no_position;
    for (const auto& carried : flows) {
        const std::uint64_t bytes = carried->sent() + carried->received();
        result.sent += carried->sent();
        result.received += carried->received();
        result.slowest = std::min(result.slowest, bytes);
        result.fastest = std::max(result.fastest, bytes);
        if (!carried->clean()) result.bad_at.push_back(carried->bad_at());
    }
    result.failed = total.failed;
    result.error = total.error;
    return result;
}

// The value below which `share` of the sorted values lie; 0 of none.
inline double percentile(const std::vector<double>& sorted, double share) {
    if (sorted.empty()) return 0;
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

struct trips {
    std::vector<double> microseconds;  // sorted
    bool clean = true;                 // what came back is what went
};

// Ping-pong of --size bytes over one connection: --count of them, or as many as begin within
// --seconds, one at least.
inline trips run_round_trips(const options& set) {
    const address where = resolve(set);
    const int fd = open_stream(set, where, stream_request(set, 0, 'e'));
    const pattern& data = pattern_of(set.seed);
    const std::uint64_t count = set.count != 0 ? set.count : 10000;
    const std::uint64_t warm_up =
        set.seconds > 0 ? 5 : std::min<std::uint64_t>(100, count / 10 + 1);
    std::vector<std::uint8_t> answer(set.size);
    trips result;
    result.microseconds.reserve(count);
    const auto deadline =
        clock_type::now() + std::chrono::duration<double>(set.seconds > 0 ? set.seconds : 1e6);
    for (std::uint64_t turn = 0; turn < count + warm_up; ++turn) {
        const std::uint8_t* ping = data.at(turn * set.size);
        const auto start = clock_type::now();
        if (start > deadline && !result.microseconds.empty()) break;
        if (!write_whole(fd, ping, set.size) || !read_whole(fd, answer.data(), set.size)) {
            const std::string why = socket_error(errno);
            ::close(fd);
            die("round trip %llu: %s", static_cast<unsigned long long>(turn), why.c_str());
        }
        if (turn >= warm_up) result.microseconds.push_back(seconds_since(start) * 1e6);
        result.clean = result.clean && std::memcmp(ping, answer.data(), set.size) == 0;
    }
    ::close(fd);
    std::sort(result.microseconds.begin(), result.microseconds.end());
    return result;
}

struct connects {
    std::vector<double> microseconds;  // of each that was made, sorted
    double seconds = 0;
    unsigned failed = 0;
    std::string error;  // of the first that was not

    double per_second() const noexcept {
        return static_cast<double>(microseconds.size()) / seconds;
    }
};

// Connections with a byte each way: --count of them by --parallel callers, and no longer than
// --seconds.
inline connects run_connects(const options& set) {
    const address where = resolve(set);
    const std::uint64_t count = set.count != 0 ? set.count : 1000;
    const unsigned parallel = set.parallel != 0 ? set.parallel : 1;
    std::atomic<std::uint64_t> next{0};
    tally total;
    connects result;
    std::mutex guard;
    const auto start = clock_type::now();
    const auto one_connection = [&] {
        const int fd = connect_to(set, where);
        char answer = 0;
        errno = fd < 0 ? errno : 0;
        const bool answered =
            fd >= 0 && write_whole(fd, "?", 1) && read_whole(fd, &answer, 1) && answer == '!';
        const int error = errno;
        if (fd >= 0) ::close(fd);
        if (!answered) die("%s", error != 0 ? socket_error(error).c_str() : "a wrong answer");
    };
    const auto one_caller = [&] {
        std::vector<double> mine;
        while (next++ < count && (set.seconds <= 0 || seconds_since(start) < set.seconds)) {
            const auto began = clock_type::now();
            try {
                one_connection();
                mine.push_back(seconds_since(began) * 1e6);
            } catch (const trouble& why) {
                total.fail(why.what());
            }
        }
        const std::lock_guard lock(guard);
        result.microseconds.insert(result.microseconds.end(), mine.begin(), mine.end());
    };
    std::vector<std::jthread> callers;
    for (unsigned index = 0; index < parallel; ++index) callers.emplace_back(one_caller);
    callers.clear();
    result.seconds = seconds_since(start);
    result.failed = total.failed;
    result.error = total.error;
    std::sort(result.microseconds.begin(), result.microseconds.end());
    return result;
}

}  // namespace load
