// bench_datagrams: datagrams at a steady rate, and what becomes of them. Both ends are here; they
// see UDP, no tunnel.
//
//   bench_datagrams echo [HOST] PORT   sends back what comes, and counts it
//   bench_datagrams run HOST PORT      --rate N a second (50000), of all flows together;
//                                      --flows K (1), a socket each; --bytes B each (1200);
//                                      --seconds S (2); --train T: so many leave in one call
//                                      (UDP_SEGMENT, 1: none do)
//
// A run ends with one line of JSON: how many were sent, how many arrived at the echo, how many came
// back, as counts and shares; doubled, overtaken and strange ones (changed, or of nobody) at either
// end; round trips; CPU of this process. Exit status 0: something came back and nothing was strange
// or doubled; 1: it was; 2: a wrong command line, or nobody answers.
#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/udp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <string_view>
#include <thread>

#include "bench/datagram_record.hh"

namespace load {
namespace {

constexpr std::size_t batch = 64, most_bytes = 65'507;
constexpr int room_bytes = 16 << 20;
// Strange datagrams that are told of one by one.
constexpr std::uint64_t most_shown = 5;
// Runs that the echo remembers, and flows of one.
constexpr std::size_t most_runs = 16, most_flows = 4096;
// The sender sleeps so long, and then sends what is due; what it has missed beyond so much, because
// it did not run, is not made up for.
constexpr std::uint64_t tick_ns = 200'000, most_behind_ns = 5'000'000;
constexpr std::uint64_t settle_ns = 400'000'000;  // silence after which nothing more comes

template <class... Words>
[[noreturn]] void die(const char* format, Words... words) {
    std::fputs("bench_datagrams: ", stderr);
    std::fprintf(stderr, format, words...);
    std::fputc('\n', stderr);
    std::exit(2);
}

struct options {
    std::string mode, host = "0.0.0.0", port;
    std::uint64_t rate = 50'000, flows = 1, bytes = 1200, train = 1;
    double seconds = 2;
};

options parse(int argc, char** argv) {
    options set;
    std::vector<std::string> words;
    for (int at = 1; at < argc; ++at) {
        const std::string word = argv[at];
        if (!word.starts_with("--")) {
            words.push_back(word);
            continue;
        }
        if (at + 1 == argc) die("%s needs a value", word.c_str());
        const char* value = argv[++at];
        char* end = nullptr;
        if (word == "--seconds") {
            set.seconds = std::strtod(value, &end);
        } else {
            const std::uint64_t number = std::strtoull(value, &end, 10);
            const std::pair<std::string_view, std::uint64_t*> known[] = {
                {"--rate", &set.rate},
                {"--flows", &set.flows},
                {"--bytes", &set.bytes},
                {"--train", &set.train},
            };
            const auto it = std::find_if(std::begin(known), std::end(known),
                                         [&](const auto& one) { return one.first == word; });
            if (it == std::end(known)) die("unknown option %s", word.c_str());
            *it->second = number;
        }
        if (*value == 0 || *end != 0) die("%s: '%s' is no number", word.c_str(), value);
    }
    if (words.size() < 2 || words.size() > 3 || (words[0] != "echo" && words[0] != "run"))
        die("usage: bench_datagrams echo [HOST] PORT | run HOST PORT [options]");
    set.mode = words.front();
    set.port = words.back();
    if (words.size() == 3) set.host = words[1];
    if (set.bytes < sizeof(datagram_record) || set.bytes > most_bytes)
        die("--bytes is %zu to %zu", sizeof(datagram_record), most_bytes);
    if (set.flows == 0 || set.flows > most_flows || set.rate == 0 || set.train == 0 ||
        set.train > batch || set.train * set.bytes > most_bytes || set.seconds <= 0)
        die("--flows is 1 to %zu, --rate and --seconds are positive, --train is 1 to %zu",
            most_flows, batch);
    return set;
}

std::uint64_t now_ns() {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(t.tv_nsec);
}

void sleep_until(std::uint64_t at_ns) {
    const timespec t{static_cast<time_t>(at_ns / 1'000'000'000),
                     static_cast<long>(at_ns % 1'000'000'000)};
    ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr);
}

// No two runs share one, so that what is late of one is strange to the next.
std::uint64_t fresh_number() {
    std::uint64_t state = now_ns() ^ static_cast<std::uint64_t>(::getpid()) << 40;
    return mix(state);
}

// A UDP socket with large buffers, so that what is lost is lost by whoever is measured.
int open_socket(const options& set, bool bound) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    hints.ai_flags = bound ? AI_PASSIVE : 0;
    addrinfo* found = nullptr;
    if (const int error = ::getaddrinfo(set.host.c_str(), set.port.c_str(), &hints, &found))
        die("%s port %s: %s", set.host.c_str(), set.port.c_str(), ::gai_strerror(error));
    const int fd = ::socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %s", std::strerror(errno));
    for (const int name : {SO_RCVBUF, SO_SNDBUF, SO_RCVBUFFORCE, SO_SNDBUFFORCE})
        ::setsockopt(fd, SOL_SOCKET, name, &room_bytes, sizeof room_bytes);
    const auto use = bound ? ::bind : ::connect;
    if (use(fd, found->ai_addr, found->ai_addrlen) != 0)
        die("%s port %s: %s", set.host.c_str(), set.port.c_str(), std::strerror(errno));
    ::freeaddrinfo(found);
    return fd;
}

// Room for a batch of datagrams of one call.
class messages {
  public:
    explicit messages(std::size_t bytes) : _bytes(bytes), _memory(batch * bytes) {
        for (std::size_t i = 0; i < batch; ++i) {
            _parts[i] = {_memory.data() + i * bytes, bytes};
            _all[i].msg_hdr = {};
            _all[i].msg_hdr.msg_iov = &_parts[i];
            _all[i].msg_hdr.msg_iovlen = 1;
        }
    }
    messages(const messages&) = delete;
    messages& operator=(const messages&) = delete;

    // How many came, 0 when none is there.
    std::size_t receive(int fd, int flags, sockaddr_storage* from) {
        for (std::size_t i = 0; i < batch; ++i) {
            _parts[i].iov_len = _bytes;
            if (from == nullptr) continue;
            _all[i].msg_hdr.msg_name = &from[i];
            _all[i].msg_hdr.msg_namelen = sizeof from[i];
        }
        const int got = ::recvmmsg(fd, _all, batch, flags, nullptr);
        return got < 0 ? 0 : static_cast<std::size_t>(got);
    }
    // Sends the first `count` as they are; returns how many left.
    std::size_t send(int fd, std::size_t count) {
        std::size_t done = 0;
        for (std::size_t at = 0; at < count;) {
            const int sent =
                ::sendmmsg(fd, _all + at, static_cast<unsigned>(count - at), MSG_DONTWAIT);
            // The one in front did not leave: a full socket, or what a destination says of it.
            at += sent > 0 ? static_cast<std::size_t>(sent) : 1;
            done += sent > 0 ? static_cast<std::size_t>(sent) : 0;
        }
        return done;
    }
    std::span<std::uint8_t> received(std::size_t i) {
        return {_memory.data() + i * _bytes, _all[i].msg_len};
    }
    std::span<std::uint8_t> room(std::size_t i) { return {_memory.data() + i * _bytes, _bytes}; }
    void set_size(std::size_t i, std::size_t bytes) { _parts[i].iov_len = bytes; }

  private:
    std::size_t _bytes;
    std::vector<std::uint8_t> _memory;
    iovec _parts[batch];
    mmsghdr _all[batch];
};

// ---- the far end ----

int echo(const options& set) {
    const int fd = open_socket(set, true);
    struct run_record {
        pattern bytes;
        std::vector<arrivals> flows;
        std::uint64_t strange = 0;
    };
    std::map<std::uint64_t, run_record> runs;
    messages all(most_bytes + 1);
    std::vector<sockaddr_storage> from(batch);
    std::printf("{\"listening\": true}\n");
    std::fflush(stdout);
    for (;;) {
        const std::size_t count = all.receive(fd, MSG_WAITFORONE, from.data());
        for (std::size_t i = 0; i < count; ++i) {
            const std::span<std::uint8_t> bytes = all.received(i);
            all.set_size(i, bytes.size());
            datagram_record r;
            if (bytes.size() < sizeof r) continue;
            std::memcpy(&r, bytes.data(), sizeof r);
            auto known = runs.find(r.run);
            if (known == runs.end()) {
                if (runs.size() == most_runs) runs.erase(runs.begin());
                known = runs.emplace(r.run, run_record{pattern(r.run), {}, 0}).first;
            }
            run_record& of = known->second;
            if (!read_datagram(bytes, r, of.bytes) || r.flow >= most_flows) {
                ++of.strange;
                continue;
            }
            if (r.what == datagram_record::kind::data) {
                if (r.flow >= of.flows.size()) of.flows.resize(r.flow + 1);
                of.flows[r.flow].note(r.number);
            } else if (bytes.size() >= sizeof r + sizeof(arrival_sums)) {
                r.what = datagram_record::kind::told;
                const arrival_sums told = sum(of.flows, of.strange);
                std::memcpy(bytes.data(), &r, sizeof r);
                std::memcpy(bytes.data() + sizeof r, &told, sizeof told);
            }
        }
        all.send(fd, count);
    }
}

// ---- the near end ----

struct flow_state {
    int fd = -1;
    std::uint64_t next = 0;  // number
    arrivals back;
};

class run {
  public:
    explicit run(const options& set)
        : _set(set),
          _run(fresh_number()),
          _pattern(_run),
          _flows(set.flows),
          _told(sizeof(datagram_record)) {
        for (flow_state& f : _flows) f.fd = open_socket(set, false);
    }
    int go();

  private:
    void meet();
    void send_all();
    void send_burst(flow_state&, std::uint64_t flow, std::size_t count, messages&);
    void receive_all();
    void show_strange(const flow_state&, std::span<const std::uint8_t>) const;
    bool ask();

    options _set;
    std::uint64_t _run;  // number of this run, and seed of its bytes
    pattern _pattern;
    std::vector<flow_state> _flows;
    std::vector<std::uint8_t> _told;
    arrival_sums _far;
    std::uint64_t _sent = 0, _strange = 0;
    double _seconds = 0;
    std::vector<std::uint32_t> _trips_us;
    std::atomic<bool> _over{false};
};

// Until the far end answers on every flow: the first datagrams of a flow may be lost.
void run::meet() {
    std::uint8_t space[2048];
    const timeval wait{0, 200'000};
    for (flow_state& f : _flows) {
        ::setsockopt(f.fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        bool met = false;
        for (int tries = 0; tries < 50 && !met; ++tries) {
            datagram_record r;
            r.what = datagram_record::kind::ask;
            r.run = _run;
            // An answer to the first try may come behind that to the second, when all have met.
            r.flow = static_cast<std::uint64_t>(&f - _flows.data());
            std::memcpy(space, &r, sizeof r);
            ::send(f.fd, space, sizeof r + sizeof(arrival_sums), 0);
            met = ::recv(f.fd, space, sizeof space, 0) > 0;
        }
        if (!met) die("nobody answers at %s port %s", _set.host.c_str(), _set.port.c_str());
    }
}

void run::send_burst(flow_state& f, std::uint64_t flow, std::size_t count, messages& all) {
    const std::uint64_t now = now_ns();
    for (std::size_t i = 0; i < count; ++i) {
        datagram_record r;
        r.run = _run;
        r.flow = flow;
        r.number = f.next++;
        r.sent_ns = now;
        write_datagram(all.room(i), r, _pattern);
    }
    if (_set.train == 1) {
        _sent += all.send(f.fd, count);
        return;
    }
    // They lie side by side: one call for all of them.
    const auto sent = ::send(f.fd, all.room(0).data(), count * _set.bytes, MSG_DONTWAIT);
    if (sent > 0) _sent += count;
}

void run::send_all() {
    messages all(_set.bytes);
    if (_set.train > 1) {
        const auto part = static_cast<int>(_set.bytes);
        for (flow_state& f : _flows) {
            if (::setsockopt(f.fd, SOL_UDP, UDP_SEGMENT, &part, sizeof part) != 0)
                die("UDP_SEGMENT: %s", std::strerror(errno));
        }
    }
    const std::uint64_t began = now_ns();
    const std::uint64_t end = began + static_cast<std::uint64_t>(_set.seconds * 1e9);
    const double each_ns = 1e9 / static_cast<double>(_set.rate);
    std::uint64_t at = 0;  // the next flow
    double due_at = static_cast<double>(began);
    for (std::uint64_t now = began; now < end; now = now_ns()) {
        due_at = std::max(due_at, static_cast<double>(now - std::min(now, most_behind_ns)));
        auto due = static_cast<std::uint64_t>((static_cast<double>(now) - due_at) / each_ns);
        due -= due % _set.train;
        due_at += static_cast<double>(due) * each_ns;
        while (due > 0) {
            // One flow: all at once, as far as a call takes them. Several: in turn.
            const std::uint64_t share = _set.train > 1       ? _set.train
                                        : _flows.size() == 1 ? std::min(due, batch)
                                                             : 1;
            send_burst(_flows[at], at, share, all);
            at = (at + 1) % _flows.size();
            due -= share;
        }
        const auto next = static_cast<std::uint64_t>(due_at + each_ns * double(_set.train));
        sleep_until(std::max(now + tick_ns, next));
    }
    _seconds = static_cast<double>(now_ns() - began) * 1e-9;
    _over = true;
}

// Whose it is, and where it was changed, as far as it says so itself.
void run::show_strange(const flow_state& f, std::span<const std::uint8_t> bytes) const {
    datagram_record r;
    if (bytes.size() < sizeof r) {
        std::fprintf(stderr, "strange: %zu bytes\n", bytes.size());
        return;
    }
    std::memcpy(&r, bytes.data(), sizeof r);
    const auto rest = bytes.subspan(sizeof r);
    const std::uint8_t* expected = filler(_pattern, r);
    const auto differs = std::mismatch(rest.begin(), rest.end(), expected).first - rest.begin();
    std::fprintf(stderr,
                 "strange: %zu bytes, magic %08x kind %u run %llu flow %llu number %llu, at flow "
                 "%td of run %llu; its bytes differ from octet %td on\n",
                 bytes.size(), r.magic, static_cast<unsigned>(r.what),
                 static_cast<unsigned long long>(r.run), static_cast<unsigned long long>(r.flow),
                 static_cast<unsigned long long>(r.number), &f - _flows.data(),
                 static_cast<unsigned long long>(_run),
                 differs + static_cast<std::ptrdiff_t>(sizeof r));
}

void run::receive_all() {
    messages all(_set.bytes + 1);
    const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
    for (std::size_t i = 0; i < _flows.size(); ++i) {
        epoll_event e{.events = EPOLLIN, .data = {.u64 = i}};
        ::epoll_ctl(epoll, EPOLL_CTL_ADD, _flows[i].fd, &e);
    }
    std::vector<epoll_event> events(256);
    std::uint64_t last = 0;
    for (;;) {
        const int ready = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), 50);
        const std::uint64_t now = now_ns();
        if (last == 0 || !_over) last = now;
        if (ready > 0) last = now;
        if (now - last > settle_ns) break;
        for (int e = 0; e < ready; ++e) {
            flow_state& f = _flows[events[static_cast<std::size_t>(e)].data.u64];
            const std::size_t count = all.receive(f.fd, MSG_DONTWAIT, nullptr);
            for (std::size_t i = 0; i < count; ++i) {
                datagram_record r;
                const bool ours = read_datagram(all.received(i), r, _pattern) && r.run == _run &&
                                  r.flow == static_cast<std::uint64_t>(&f - _flows.data());
                if (ours && r.what != datagram_record::kind::data) continue;
                if (!ours || all.received(i).size() != _set.bytes) {
                    if (_strange++ < most_shown) show_strange(f, all.received(i));
                    continue;
                }
                if (f.back.note(r.number))
                    _trips_us.push_back(static_cast<std::uint32_t>((now - r.sent_ns) / 1000));
            }
        }
    }
    ::close(epoll);
}

bool run::ask() {
    std::uint8_t space[2048];
    const timeval wait{0, 200'000};
    const int fd = _flows[0].fd;
    const int none = 0;
    ::setsockopt(fd, SOL_UDP, UDP_SEGMENT, &none, sizeof none);
    ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    for (int tries = 0; tries < 50; ++tries) {
        datagram_record r;
        r.what = datagram_record::kind::ask;
        r.run = _run;
        r.number = static_cast<std::uint64_t>(tries);
        std::memcpy(space, &r, sizeof r);
        ::send(fd, space, sizeof r + sizeof _far, 0);
        while (::recv(fd, space, sizeof space, 0) >= static_cast<long>(sizeof r + sizeof _far)) {
            std::memcpy(&r, space, sizeof r);
            if (r.what != datagram_record::kind::told) continue;
            std::memcpy(&_far, space + sizeof r, sizeof _far);
            return true;
        }
    }
    return false;
}

int run::go() {
    meet();
    _trips_us.reserve(
        static_cast<std::size_t>(_set.seconds * 1.2 * static_cast<double>(_set.rate)));
    std::thread receiver([this] { receive_all(); });
    send_all();
    receiver.join();
    if (!ask()) die("%s port %s answers no longer", _set.host.c_str(), _set.port.c_str());
    rusage used{};
    ::getrusage(RUSAGE_SELF, &used);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
    };
    arrival_sums back;
    for (const flow_state& f : _flows) {
        const arrival_sums one = sum({&f.back, 1}, 0);
        back.count += one.count;
        back.doubled += one.doubled;
        back.overtaken += one.overtaken;
    }
    back.strange = _strange;
    const auto trip = [&](double share) -> std::uint32_t {
        if (_trips_us.empty()) return 0;
        const auto at = static_cast<std::size_t>(share * double(_trips_us.size() - 1));
        std::nth_element(_trips_us.begin(), _trips_us.begin() + static_cast<std::ptrdiff_t>(at),
                         _trips_us.end());
        return _trips_us[at];
    };
    const auto share = [](std::uint64_t part, std::uint64_t of) {
        return of == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(of);
    };
    std::printf(
        "{\"run\": %llu, \"sent\": %llu, \"seconds\": %.3f, \"per_second\": %.0f, \"arrived\": "
        "%llu, "
        "\"returned\": %llu, \"arrived_share\": %.5f, \"returned_share\": %.5f, "
        "\"doubled\": [%llu, %llu], \"overtaken\": [%llu, %llu], \"strange\": [%llu, %llu], "
        "\"p50_us\": %u, \"p99_us\": %u, \"worst_us\": %u, \"cpu_seconds\": %.3f}\n",
        static_cast<unsigned long long>(_run), static_cast<unsigned long long>(_sent), _seconds,
        static_cast<double>(_sent) / _seconds, static_cast<unsigned long long>(_far.count),
        static_cast<unsigned long long>(back.count), share(_far.count, _sent),
        share(back.count, _far.count), static_cast<unsigned long long>(_far.doubled),
        static_cast<unsigned long long>(back.doubled),
        static_cast<unsigned long long>(_far.overtaken),
        static_cast<unsigned long long>(back.overtaken),
        static_cast<unsigned long long>(_far.strange),
        static_cast<unsigned long long>(back.strange), trip(0.5), trip(0.99), trip(1),
        seconds(used.ru_utime) + seconds(used.ru_stime));
    const bool clean = _far.strange + back.strange + _far.doubled + back.doubled == 0;
    return back.count > 0 && clean ? 0 : 1;
}

}  // namespace
}  // namespace load

int main(int argc, char** argv) {
    const load::options set = load::parse(argc, argv);
    if (set.mode == "echo") return load::echo(set);
    return load::run(set).go();
}
