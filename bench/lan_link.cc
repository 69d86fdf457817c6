// bench_lan_link: a LAN in a box. Two TAP devices, and between them the link that the kernel of
// this machine may have no netem for: delay, loss, reordering, duplication, rate, queue. Options
// and examples: --help (bench/lan_link_options.hh).
//
// A turn: what has come in on either device meets its fate (bench/lan_link_path.hh), what is due
// leaves. While frames come, turns are spaced by a tick, so that many share the cost of a wake-up.
// A frame that was met after such a pause came in half a tick ago, give or take as much, and may
// leave as much too early; what the machine adds to that, statistics say.
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>

#include <csignal>
#include <ctime>

#include "bench/lan_link_options.hh"

namespace lan {

inline constexpr nanoseconds longest_tick = 100 * microsecond;
inline constexpr unsigned frames_a_turn = 64;  // of a device: the other has its turn, too

nanoseconds now() {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<nanoseconds>(time.tv_sec) * 1'000'000'000 +
           static_cast<nanoseconds>(time.tv_nsec);
}

timespec as_timespec(nanoseconds time) {
    return {static_cast<time_t>(time / 1'000'000'000), static_cast<long>(time % 1'000'000'000)};
}

class link {
  public:
    explicit link(const options& set)
        : _seed(set.seed),
          _ends{{set.ends[0], set.mtu, set.device_queue}, {set.ends[1], set.mtu, set.device_queue}},
          _ways{{set.ways[0], set.seed, 0}, {set.ways[1], set.seed, 1}},
          _frame(65'536 + 256) {
        _tick = std::min({longest_tick, set.ways[0].delay / 4, set.ways[1].delay / 4});
        for (std::size_t end : {0, 1}) _missed[end] = _ends[end].missed();
    }

    void run() {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGTERM);
        sigaddset(&set, SIGINT);
        ::sigprocmask(SIG_BLOCK, &set, nullptr);
        const owned_descriptor signals(::signalfd(-1, &set, SFD_CLOEXEC));
        // Orders come from a pipe; a terminal's input belongs to its shell.
        struct stat input{};
        ::fstat(STDIN_FILENO, &input);
        const bool ordered = S_ISFIFO(input.st_mode) || S_ISSOCK(input.st_mode);
        pollfd waits[4] = {{_ends[0].number(), POLLIN, 0},
                           {_ends[1].number(), POLLIN, 0},
                           {signals.number(), POLLIN, 0},
                           {ordered ? STDIN_FILENO : -1, POLLIN, 0}};
        for (bool paused = false;;) {
            const nanoseconds next = std::min(_ways[0].next(), _ways[1].next());
            const nanoseconds soon = now() + _tick / 2;
            const timespec pause = as_timespec(next > soon ? next - soon : 0);
            if (::ppoll(waits, 4, next == never ? nullptr : &pause, nullptr) < 0) continue;
            if (waits[2].revents != 0) break;
            if (waits[3].revents != 0 && !read_order()) waits[3].fd = -1;
            paused = take(waits[0].revents, waits[1].revents, paused ? _tick / 2 : 0) && _tick > 0;
            give();
            if (!paused) continue;
            const timespec wake = as_timespec(now() + _tick);
            ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &wake, nullptr);
        }
        print();
    }

  private:
    bool take(short first, short second, nanoseconds ago) {
        const short ready[2] = {first, second};
        bool any = false;
        for (std::size_t end : {0, 1}) {
            if (ready[end] == 0) continue;
            const nanoseconds arrival = now() - ago;
            for (unsigned count = 0; count < frames_a_turn; ++count) {
                const std::size_t size = _ends[end].read(_frame);
                if (size == 0) break;
                any = true;
                _ways[end].enter(arrival, std::span(_frame).first(size));
            }
        }
        return any;
    }

    void give() {
        const nanoseconds time = now();
        for (std::size_t end : {0, 1})
            while (auto frame = _ways[end].leave(time, _tick / 2)) _ends[1 - end].write(*frame);
    }

    // False: nothing will come from there any more.
    bool read_order() {
        char text[256];
        const ssize_t size = ::read(STDIN_FILENO, text, sizeof text);
        if (size <= 0) return false;
        _orders.append(text, static_cast<std::size_t>(size));
        for (std::size_t end; (end = _orders.find('\n')) != _orders.npos;) {
            const std::string line = _orders.substr(0, end);
            _orders.erase(0, end + 1);
            if (!line.starts_with("seed ")) {
                std::fprintf(stderr, "bench_lan_link: '%s' is no order\n", line.c_str());
                continue;
            }
            print();
            _seed = parse_count(line.substr(5));
            for (std::size_t way : {0, 1}) {
                _ways[way].restart(_seed);
                _missed[way] = _ends[way].missed();
            }
        }
        return true;
    }

    void print() {
        rusage use{};
        ::getrusage(RUSAGE_SELF, &use);
        const double cpu = static_cast<double>(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
                           static_cast<double>(use.ru_utime.tv_usec + use.ru_stime.tv_usec) * 1e-6;
        std::printf("{\"seed\":%llu,\"realtime\":%s,\"cpu_seconds\":%.3f", ull(_seed),
                    ::sched_getscheduler(0) == SCHED_FIFO ? "true" : "false", cpu);
        for (std::size_t way : {0, 1}) {
            const path_counters& c = _ways[way].counters;
            const lateness& late = _ways[way].late;
            std::printf(
                ",\"%s\":{\"frames\":%llu,\"bytes\":%llu,\"passed\":%llu,\"lost\":%llu,"
                "\"reordered\":%llu,\"doubled\":%llu,\"queue_drops\":%llu,\"exempt\":%llu,"
                "\"held_most\":%llu,\"overruns\":%llu,\"missed\":%llu,\"oversize\":%llu,"
                "\"refused\":%llu,\"late_us\":{\"mean\":%.1f,\"p99\":%.1f,\"max\":%.1f}}",
                way == 0 ? "up" : "down", ull(c.frames), ull(c.bytes), ull(c.passed), ull(c.lost),
                ull(c.reordered), ull(c.doubled), ull(c.queue_drops), ull(c.exempt),
                ull(c.held_most), ull(c.overruns), ull(_ends[way].missed() - _missed[way]),
                ull(_ends[way].oversize()), ull(_ends[1 - way].refused()), late.mean_us(),
                late.share_us(0.99), late.most_us());
        }
        std::printf("}\n");
        std::fflush(stdout);
    }

    static unsigned long long ull(std::uint64_t value) noexcept { return value; }

    std::uint64_t _seed;
    tap _ends[2];
    path _ways[2];
    std::uint64_t _missed[2] = {};
    std::vector<std::uint8_t> _frame;
    std::string _orders;
    nanoseconds _tick = 0;
};

// Frames leave on time beside a busy load generator, too: each only makes that better.
void prefer_punctuality(const options& set) {
    ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    if (!set.realtime) return;
    sched_param priority{};
    priority.sched_priority = 1;
    ::sched_setscheduler(0, SCHED_FIFO, &priority);
}

}  // namespace lan

int main(int argc, char** argv) {
    const lan::options set = lan::parse(argc, argv);
    try {
        lan::link link(set);
        lan::prefer_punctuality(set);
        link.run();
    } catch (const std::exception& error) {
        std::fprintf(stderr, "bench_lan_link: %s\n", error.what());
        return 1;
    }
    return 0;
}
