// bench_load: the load generator of the benchmarks. Both ends are here; they see TCP, no tunnel.
//
//   bench_load serve [HOST] PORT        server for all modes below: does what each client asks
//   bench_load up|down|both HOST PORT   bulk: --streams K; --bytes N each (1GiB) or --seconds S;
//                                       --rate R: no more bits a second than that are sent (up and
//                                       both; of all streams together, as 500M)
//   bench_load rtt HOST PORT            ping-pong of --size B (1), --count N (10000), --seconds S
//   bench_load connect HOST PORT        connections with a byte each way: --count N (1000),
//                                       --parallel P (1), --seconds S
//   bench_load open HOST PORT           --count N (10000) connections, each with a byte each way,
//                                       --parallel P (256) on their way: how long until all are
//                                       open at once
//   bench_load idle HOST PORT           opens --count N (1000); each carries --bytes-each B (1MiB),
//                                       --direction up|down|both (both), --parallel P (64) at a
//                                       time; prints a line when all are idle, keeps them until
//                                       stdin ends or SIGTERM, prints how many were still open
//   bench_load stall HOST PORT          --count N (100) connections that are never read:
//                                       --direction down: this end does not; up: the server
//   bench_load sink|source|echo [HOST] PORT
//                                       listeners for foreign clients: swallow (checked if --seed
//                                       is given), send --bytes N, send back
//
// Common options:
//   --congestion NAME   TCP_CONGESTION of its sockets
//   --threads N         default: one per stream up to the number of cores
//   --seed N            of the pattern (1)
//   --timeout S         no byte moved for so long is a failure (30)
//   --progress          a line a second on stderr
// PORT 0 takes a free port and tells it. Sizes take K, M, G, KiB, MiB, GiB.
//
// Every result is one line of JSON on stdout. Both ends compare every byte with the seeded pattern
// that it must be ("checksum_ok") and count; exit status 0 only if all was right, 1 for wrong or
// missing data, 2 for a wrong command line or an unreachable far end. Seconds run from the moment
// when all streams are open end to end until the far end has reported its count.
#include <poll.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <csignal>

#include "bench/load_client.hh"
#include "bench/load_open.hh"
#include "bench/load_server.hh"

namespace load {

int run_bulk_mode(const options& set) {
    tally total;
    std::jthread teller;
    if (set.progress)
        teller = std::jthread([&](const std::stop_token& ended) {
            const auto start = clock_type::now();
            std::uint64_t before = 0;
            auto then = start;
            while (!ended.stop_requested()) {
                std::this_thread::sleep_for(std::chrono::milliseconds(100));
                const double passed = seconds_since(then);
                if (passed < 1) continue;
                const std::uint64_t moved = total.moved;
                std::fprintf(stderr, "%5.0f s  %8.2f GB  %6.2f Gbit/s\n", seconds_since(start),
                             static_cast<double>(moved) * 1e-9,
                             static_cast<double>(moved - before) * 8e-9 / passed);
                before = moved;
                then = clock_type::now();
            }
        });
    const bulk_result made = run_bulk(set, total);
    teller = {};
    for (const std::uint64_t position : made.bad_at)
        std::fprintf(stderr, "bench_load: wrong byte at position %llu of a stream\n",
                     static_cast<unsigned long long>(position));
    const auto gbit = [&](std::uint64_t bytes) {
        return static_cast<double>(bytes) * 8e-9 / made.seconds;
    };
    if (made.failed > 0) std::fprintf(stderr, "bench_load: %s\n", made.error.c_str());
    std::printf(
        "{\"mode\":\"%s\",\"streams\":%u,\"bytes\":%llu,\"bytes_up\":%llu,\"bytes_down\":%llu,"
        "\"seconds\":%.6f,\"gbit_per_second\":%.4f,\"slowest_stream_gbit\":%.4f,"
        "\"fastest_stream_gbit\":%.4f,\"cpu_seconds\":%.3f,\"failed\":%u,\"checksum_ok\":%s}\n",
        set.mode.c_str(), set.streams, static_cast<unsigned long long>(made.bytes()),
        static_cast<unsigned long long>(made.sent), static_cast<unsigned long long>(made.received),
        made.seconds, made.gbit_per_second(), gbit(made.slowest), gbit(made.fastest),
        made.cpu_seconds, made.failed, made.ok() ? "true" : "false");
    return made.ok() ? 0 : 1;
}

int run_rtt_mode(const options& set) {
    const trips made = run_round_trips(set);
    const std::vector<double>& times = made.microseconds;
    double sum = 0;
    for (const double time : times) sum += time;
    std::printf(
        "{\"mode\":\"rtt\",\"count\":%zu,\"size\":%llu,\"min_us\":%.2f,\"mean_us\":%.2f,"
        "\"p50_us\":%.2f,\"p90_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,\"max_us\":%.2f,"
        "\"checksum_ok\":%s}\n",
        times.size(), static_cast<unsigned long long>(set.size), percentile(times, 0),
        sum / static_cast<double>(std::max<std::size_t>(1, times.size())), percentile(times, 0.5),
        percentile(times, 0.9), percentile(times, 0.99), percentile(times, 0.999),
        percentile(times, 1), made.clean ? "true" : "false");
    return made.clean ? 0 : 1;
}

int run_connect_mode(const options& set) {
    const connects made = run_connects(set);
    if (made.failed > 0) std::fprintf(stderr, "bench_load: %s\n", made.error.c_str());
    std::printf(
        "{\"mode\":\"connect\",\"count\":%zu,\"parallel\":%u,\"seconds\":%.4f,\"per_second\":%.1f,"
        "\"p50_us\":%.1f,\"p99_us\":%.1f,\"failed\":%u}\n",
        made.microseconds.size(), set.parallel != 0 ? set.parallel : 1, made.seconds,
        made.per_second(), percentile(made.microseconds, 0.5), percentile(made.microseconds, 0.99),
        made.failed);
    return made.failed == 0 ? 0 : 1;
}

volatile std::sig_atomic_t released = 0;

// Until SIGTERM or SIGINT, or the end of stdin where that is a pipe or a terminal.
void wait_for_release() {
    struct stat what{};
    ::fstat(0, &what);
    const bool watched = S_ISFIFO(what.st_mode) || S_ISSOCK(what.st_mode) || ::isatty(0) != 0;
    while (released == 0) {
        pollfd input{watched ? 0 : -1, POLLIN, 0};
        if (::poll(&input, 1, 200) <= 0) continue;
        char dropped[256];
        if (::read(0, dropped, sizeof dropped) <= 0) break;
    }
}

bool still_open(int fd) {
    char byte;
    const ssize_t got = ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got > 0 || (got < 0 && errno == EAGAIN);
}

struct held {
    std::uint64_t open = 0;
    std::uint64_t failed = 0;
    std::uint64_t bytes = 0;
    double seconds = 0;
};

// Opens connections first..first+count and lets each carry its bytes, `--parallel` at a time.
held open_idle(const options& set, std::uint64_t first, std::uint64_t count,
               std::vector<std::unique_ptr<flow>>& flows) {
    const address where = resolve(set);
    const pattern& data = pattern_of(set.seed);
    const std::uint64_t batch = set.parallel != 0 ? set.parallel : 64;
    tally total;
    held result;
    const auto start = clock_type::now();
    for (std::uint64_t done = 0; done < count && total.failed == 0; done += batch) {
        std::vector<flow*> together;
        for (std::uint64_t index = done; index < std::min(count, done + batch); ++index) {
            request asked = stream_request(set, first + index, 'h');
            asked.down = set.direction != "up" ? set.bytes_each : 0;
            asked.up = set.direction != "down" ? set.bytes_each : 0;
            const int fd = open_stream(set, where, asked);
            set_nonblocking(fd);
            flows.push_back(std::make_unique<flow>(fd, flow::role::client));
            flows.back()->start_client(asked, data);
            together.push_back(flows.back().get());
        }
        carry(together, 0, set.timeout, total);
        if (set.progress)
            std::fprintf(stderr, "%zu open after %.1f s\n", flows.size(), seconds_since(start));
    }
    for (const auto& carried : flows) {
        result.bytes += carried->sent() + carried->received();
        result.failed += carried->clean() ? 0 : 1;
    }
    if (total.failed > 0) std::fprintf(stderr, "bench_load: %s\n", total.error.c_str());
    result.failed += total.failed;
    result.open = flows.size() - std::min<std::uint64_t>(flows.size(), result.failed);
    result.seconds = seconds_since(start);
    return result;
}

void print_held(const char* mode, const char* state, const held& now) {
    std::printf(
        "{\"mode\":\"%s\",\"state\":\"%s\",\"open\":%llu,\"failed\":%llu,\"bytes\":%llu,"
        "\"seconds\":%.3f,\"checksum_ok\":%s}\n",
        mode, state, static_cast<unsigned long long>(now.open),
        static_cast<unsigned long long>(now.failed), static_cast<unsigned long long>(now.bytes),
        now.seconds, now.failed == 0 ? "true" : "false");
    std::fflush(stdout);
}

std::uint64_t count_open(const std::vector<std::unique_ptr<flow>>& flows) {
    std::uint64_t open = 0;
    for (const auto& carried : flows) open += still_open(carried->fd()) ? 1 : 0;
    return open;
}

// A process holds no more connections than its descriptor limit; the rest goes to children, which
// answer with their `held` on a pipe, once when idle and once when released.
int run_idle(const options& set) {
    const std::uint64_t count = set.count != 0 ? set.count : 1000;
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const std::uint64_t share = limit.rlim_cur > 256 ? limit.rlim_cur - 128 : 128;
    struct child {
        pid_t pid;
        int answers;
        int release;
    };
    std::vector<child> children;
    for (std::uint64_t first = share; first < count; first += share) {
        int answers[2], release[2];
        if (::pipe2(answers, O_CLOEXEC) != 0 || ::pipe2(release, O_CLOEXEC) != 0)
            die("pipe: %s", std::strerror(errno));
        const pid_t pid = ::fork();
        if (pid < 0) die("fork: %s", std::strerror(errno));
        if (pid == 0) {
            ::dup2(release[0], 0);
            ::close(release[1]);
            for (const child& other : children) ::close(other.release);
            std::vector<std::unique_ptr<flow>> flows;
            held mine = open_idle(set, first, std::min(share, count - first), flows);
            if (::write(answers[1], &mine, sizeof mine) < 0) std::_Exit(1);
            wait_for_release();
            mine.open = count_open(flows);
            if (::write(answers[1], &mine, sizeof mine) < 0) std::_Exit(1);
            std::_Exit(0);
        }
        ::close(answers[1]);
        ::close(release[0]);
        children.push_back({pid, answers[0], release[1]});
    }
    std::vector<std::unique_ptr<flow>> flows;
    held all = open_idle(set, 0, std::min(share, count), flows);
    for (const child& other : children) {
        held part;
        if (::read(other.answers, &part, sizeof part) != sizeof part) part.failed = 1;
        all.open += part.open;
        all.failed += part.failed;
        all.bytes += part.bytes;
        all.seconds = std::max(all.seconds, part.seconds);
    }
    print_held("idle", "idle", all);
    wait_for_release();
    all.open = count_open(flows);
    for (const child& other : children) {
        held part;
        ::close(other.release);
        if (::read(other.answers, &part, sizeof part) == sizeof part) all.open += part.open;
        ::waitpid(other.pid, nullptr, 0);
    }
    all.failed += count - all.open;
    print_held("idle", "released", all);
    return all.failed == 0 ? 0 : 1;
}

int run_stall(const options& set) {
    const address where = resolve(set);
    const pattern& data = pattern_of(set.seed);
    const bool up = set.direction == "up";
    const std::uint64_t count = set.count != 0 ? set.count : 100;
    std::vector<std::unique_ptr<flow>> flows;
    held result;
    const auto start = clock_type::now();
    for (std::uint64_t index = 0; index < count; ++index) {
        request asked = stream_request(set, index, up ? 's' : 'b');
        asked.up = up ? no_position : 0;
        asked.down = up ? 0 : no_position;
        const int fd = open_stream(set, where, asked);
        if (!write_whole(fd, "G", 1)) ++result.failed;
        set_nonblocking(fd);
        flows.push_back(std::make_unique<flow>(fd, flow::role::client));
    }
    // Towards a reader that never reads: each takes what fits, seen over a second, as windows open
    // late.
    std::vector<std::uint64_t> at(up ? count : 0);
    for (int round = 0; up && round < 10; ++round) {
        for (std::uint64_t index = 0; index < count; ++index) {
            ssize_t put;
            while ((put = ::send(flows[index]->fd(), data.at(at[index]), largest_piece,
                                 MSG_NOSIGNAL)) > 0)
                at[index] += static_cast<std::uint64_t>(put);
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    for (const std::uint64_t pushed : at) result.bytes += pushed;
    result.open = count_open(flows);
    result.seconds = seconds_since(start);
    print_held("stall", "stalled", result);
    wait_for_release();
    result.open = count_open(flows);
    print_held("stall", "released", result);
    return result.failed == 0 ? 0 : 1;
}

int run(const options& set) {
    raise_descriptors();
    if (set.mode == "serve" || set.mode == "sink" || set.mode == "source" || set.mode == "echo")
        return run_server(set);
    struct sigaction release{};
    release.sa_handler = [](int) { released = 1; };
    if (set.mode == "idle" || set.mode == "stall") {
        ::sigaction(SIGTERM, &release, nullptr);
        ::sigaction(SIGINT, &release, nullptr);
    }
    if (set.mode == "up" || set.mode == "down" || set.mode == "both") return run_bulk_mode(set);
    if (set.mode == "rtt") return run_rtt_mode(set);
    if (set.mode == "connect") return run_connect_mode(set);
    if (set.mode == "open") return run_open(set);
    if (set.mode == "idle") return run_idle(set);
    if (set.mode == "stall") return run_stall(set);
    die("unknown mode '%s'", set.mode.c_str());
}

}  // namespace load

int main(int argc, char** argv) {
    try {
        return load::run(load::parse(argc, argv));
    } catch (const load::trouble& why) {
        std::fprintf(stderr, "bench_load: %s\n", why.what());
        return 2;
    }
}
