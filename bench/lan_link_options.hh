// What the command line of bench_lan_link says, and how it complains.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/lan_link_path.hh"
#include "bench/lan_link_tap.hh"

namespace lan {

[[noreturn, gnu::format(printf, 1, 2)]] inline void die(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("bench_lan_link: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputs(" (see --help)\n", stderr);
    va_end(arguments);
    std::exit(2);
}

inline constexpr const char* help = R"(bench_lan_link A B [options]: a LAN in a box

Makes two TAP devices and carries Ethernet frames between them, with the delay, loss, reordering and
rate of a real link. A and B are [NAMESPACE:]DEVICE, where a namespace is a name of `ip netns` or a
file like /proc/PID/ns/net. The devices are up without addresses, and gone when the program ends
(SIGTERM, SIGINT). Needs root. Nothing ends TCP here, and no superframe passes: a frame is a packet.

  --delay TIME           each frame takes so long (0)
  --loss SHARE           lost frames (0), as 0.1% or 0.001
  --burst N              mean length of a run of losses (1: each by itself)
  --reorder SHARE        frames that are late, so that others pass them (0)
  --reorder-delay TIME   by up to so much (1ms)
  --duplicate SHARE      frames that arrive twice (0)
  --rate BITS            per second: 200M, 1G (no limit)
  --queue BYTES          that wait for the rate; more are dropped (20 ms of the rate)
Each holds for both directions; with -up behind its name for A to B alone, with -down for B to A.

  --mtu BYTES            of both devices (1500)
  --seed N               of the fates: frame i meets the same in every run with this seed (1)
  --device-queue N       frames that may wait in the kernel until they are read (20000)
  --held N               frames of a direction that may be under way (65536)
  --no-realtime          do not run with SCHED_FIFO

A line `seed N` on standard input prints the statistics so far as a line of JSON and starts again
with that seed. The same line is printed at the end. "late" says how much later than wanted frames
left; "missed", "overruns" and "oversize" must be 0, else the link was no honest one.

A host behind a gateway, over Wi-Fi as it often is:

  ip netns add host; ip netns add gate
  bench_lan_link host:eth0 gate:lan0 --delay 5ms --loss 0.5% --reorder 0.5% --rate 200M &
  ip -n host addr add 10.60.0.2/24 dev eth0; ip -n gate addr add 10.60.0.1/24 dev lan0
  ip netns exec host ping -c 3 10.60.0.1
)";

struct options {
    place ends[2];
    path_settings ways[2];  // A to B, B to A
    std::uint64_t seed = 1;
    unsigned mtu = 1500;
    unsigned device_queue = 20'000;
    bool realtime = true;
};

// A number with one of these units; exits when it is none.
inline double parse_number(const std::string& text, const char* what,
                           const std::vector<std::pair<const char*, double>>& units) {
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    const std::string_view unit = end;
    if (end != text.c_str() && number >= 0)
        for (const auto& [name, factor] : units)
            if (unit == name) return number * factor;
    die("'%s' is not %s", text.c_str(), what);
}

inline nanoseconds parse_time(const std::string& text) {
    return static_cast<nanoseconds>(
        parse_number(text, "a time, as 500us, 10ms or 1s", {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}}));
}

inline double parse_share(const std::string& text) {
    const double share = parse_number(text, "a share, as 0.1% or 0.001", {{"", 1}, {"%", 0.01}});
    if (share >= 1) die("'%s' is not less than all", text.c_str());
    return share;
}

inline std::uint64_t parse_count(const std::string& text) {
    return static_cast<std::uint64_t>(parse_number(
        text, "a number, as 65536, 64KiB or 200M",
        {{"", 1}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"KiB", 1024}, {"MiB", 1 << 20}}));
}

// False: not an option of a direction.
inline bool set_way(path_settings& way, std::string_view name, const std::string& value) {
    if (name == "--delay")
        way.delay = parse_time(value);
    else if (name == "--loss")
        way.loss = parse_share(value);
    else if (name == "--burst")
        way.burst = parse_number(value, "a number of frames", {{"", 1}});
    else if (name == "--reorder")
        way.reorder = parse_share(value);
    else if (name == "--reorder-delay")
        way.reorder_delay = parse_time(value);
    else if (name == "--duplicate")
        way.duplicate = parse_share(value);
    else if (name == "--rate")
        way.bits_per_second = parse_count(value);
    else if (name == "--queue")
        way.queue_bytes = parse_count(value);
    else if (name == "--held")
        way.most_frames = parse_count(value);
    else
        return false;
    return true;
}

inline options parse(int argc, char** argv) {
    options set;
    std::vector<std::string> words;
    for (int at = 1; at < argc; ++at) {
        const std::string word = argv[at];
        if (word == "--help" || word == "-h") {
            std::fputs(help, stdout);
            std::exit(0);
        }
        if (!word.starts_with("--")) {
            words.push_back(word);
            continue;
        }
        if (word == "--no-realtime") {
            set.realtime = false;
            continue;
        }
        if (at + 1 == argc) die("%s needs a value", word.c_str());
        const std::string value = argv[++at];
        std::string_view name = word;
        bool up = true, down = true;
        if (name.ends_with("-up")) {
            name.remove_suffix(3);
            down = false;
        } else if (name.ends_with("-down")) {
            name.remove_suffix(5);
            up = false;
        }
        bool known = true;
        if (up) known = set_way(set.ways[0], name, value);
        if (down) known = set_way(set.ways[1], name, value);
        if (known) continue;
        if (word == "--seed")
            set.seed = parse_count(value);
        else if (word == "--mtu")
            set.mtu = static_cast<unsigned>(parse_count(value));
        else if (word == "--device-queue")
            set.device_queue = static_cast<unsigned>(parse_count(value));
        else
            die("unknown option %s", word.c_str());
    }
    if (words.size() != 2) die("usage: bench_lan_link [NAMESPACE:]DEVICE [NAMESPACE:]DEVICE");
    for (std::size_t end : {0, 1}) set.ends[end] = place::parse(words[end]);
    return set;
}

}  // namespace lan
