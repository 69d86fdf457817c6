// What is asked of the load generator, how it complains, and the command line of bench_load.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "bench/load_pattern.hh"

namespace load {

using clock_type = std::chrono::steady_clock;

inline double seconds_since(clock_type::time_point then) {
    return std::chrono::duration<double>(clock_type::now() - then).count();
}

// What keeps a measurement from being made: a wrong command line, a far end that does not answer.
// For a person, in one line.
struct trouble : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Throws trouble; longer texts are cut.
[[noreturn, gnu::format(printf, 1, 2)]] inline void die(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    throw trouble(text);
}

struct options {
    std::string mode;
    std::string host = "127.0.0.1";
    std::string port;
    std::string congestion;
    std::string direction = "both";
    std::uint64_t bytes = std::uint64_t{1} << 30;
    std::uint64_t bytes_each = std::uint64_t{1} << 20;
    std::uint64_t count = 0;
    std::uint64_t size = 1;
    std::uint64_t seed = 1;
    bool seed_given = false;
    bool progress = false;
    unsigned streams = 1;
    unsigned parallel = 0;
    unsigned threads = 0;
    double seconds = 0;
    double timeout = 30;
    double rate = 0;  // bits a second that are sent, by all streams together; 0: what goes
};

inline std::uint64_t parse_size(const std::string& text) {
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    const std::string_view unit = end;
    static constexpr std::pair<const char*, double> units[] = {
        {"", 1},          {"K", 1e3},       {"M", 1e6},      {"G", 1e9},
        {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
    for (const auto& [name, factor] : units)
        if (unit == name && number >= 0 && end != text.c_str())
            return static_cast<std::uint64_t>(number * factor);
    die("'%s' is not a size (as 65536, 64KiB, 1.5G)", text.c_str());
}

inline options parse(int argc, char** argv) {
    options set;
    std::vector<std::string> words;
    for (int at = 1; at < argc; ++at) {
        const std::string word = argv[at];
        if (!word.starts_with("--")) {
            words.push_back(word);
            continue;
        }
        if (word == "--progress") {
            set.progress = true;
            continue;
        }
        if (at + 1 == argc) die("%s needs a value", word.c_str());
        const std::string value = argv[++at];
        if (word == "--congestion")
            set.congestion = value;
        else if (word == "--direction")
            set.direction = value;
        else if (word == "--bytes")
            set.bytes = parse_size(value);
        else if (word == "--bytes-each")
            set.bytes_each = parse_size(value);
        else if (word == "--count")
            set.count = parse_size(value);
        else if (word == "--size")
            set.size = parse_size(value);
        else if (word == "--seed")
            set.seed = parse_size(value), set.seed_given = true;
        else if (word == "--streams")
            set.streams = static_cast<unsigned>(parse_size(value));
        else if (word == "--parallel")
            set.parallel = static_cast<unsigned>(parse_size(value));
        else if (word == "--threads")
            set.threads = static_cast<unsigned>(parse_size(value));
        else if (word == "--seconds")
            set.seconds = std::strtod(value.c_str(), nullptr);
        else if (word == "--rate")
            set.rate = static_cast<double>(parse_size(value));
        else if (word == "--timeout")
            set.timeout = std::strtod(value.c_str(), nullptr);
        else
            die("unknown option %s (the file head of bench/load.cc lists all)", word.c_str());
    }
    if (words.size() < 2 || words.size() > 3)
        die("usage: bench_load serve|sink|source|echo [HOST] PORT, or "
            "up|down|both|rtt|connect|open|idle|stall HOST PORT [options]");
    set.mode = words.front();
    set.port = words.back();
    if (words.size() == 3) set.host = words[1];
    if (set.direction != "up" && set.direction != "down" && set.direction != "both")
        die("--direction is up, down or (idle only) both");
    if (set.rate > 0 && set.mode != "up" && set.mode != "both")
        die("--rate is of what this end sends: up or both");
    if (set.streams == 0 || set.size == 0 || set.size > largest_piece)
        die("--streams is at least 1, --size at most %zu", largest_piece);
    return set;
}

inline unsigned cores() {
    return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace load
