#include "tools/bench/settings.hh"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "tools/bench/numbers.hh"

namespace burin::tools::bench {

namespace {

using texts = std::vector<std::string>;

constexpr std::size_t most_targets = 6, most_name = 200, most_stream_counts = 6;
constexpr unsigned most_streams = 1024, most_pairs = 100, most_connections = 100'000;
constexpr double least_seconds = 0.05, most_seconds = 600;

constexpr std::string_view about =
    "Measures a tunnel: throughput, round trips, connections and CPU, beside no tunnel, and draws "
    "them.\n\n"
    "  burin bench                              a tunnel of its own on this machine, without root\n"
    "  burin bench serve [HOST:PORT]            the far end of the load, behind a tunnel\n"
    "  burin bench [NAME=]HOST:PORT...          through whatever tunnel is between\n"
    "  burin bench render results.json          table and page anew\n\n"
    "Behind a tunnel: run `burin bench serve 7000` where the destination is, forward a port to it "
    "(or route to\nit), and name that port here. Several are measured in turn, side by side. "
    "Writes results.json, results.md\nand results.html, one page that needs nothing else.";

struct mistake : std::runtime_error {
    using std::runtime_error::runtime_error;
};

template <class... Words>
[[noreturn]] void refuse(fmt::format_string<Words...> format, Words&&... words) {
    throw mistake(fmt::format(format, std::forward<Words>(words)...));
}

template <class Number>
std::optional<Number> whole(std::string_view text) {
    Number value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

unsigned number(std::string_view text, std::string_view flag, unsigned least, unsigned most) {
    const auto value = whole<unsigned>(text);
    if (!value || *value < least || *value > most)
        refuse("--{}: '{}' is no number from {} to {}", flag, clean(text), least, most);
    return *value;
}

double seconds(const std::string& text, std::string_view flag, double least) {
    char* end = nullptr;
    const double value = std::strtod(text.c_str(), &end);
    if (text.empty() || *end != 0 || !std::isfinite(value) || value < least || value > most_seconds)
        refuse("--{}: '{}' is no number of seconds from {} to {}", flag, clean(text), least,
               most_seconds);
    return value;
}

texts split(std::string_view text, char at) {
    texts parts;
    while (true) {
        const std::size_t end = text.find(at);
        parts.emplace_back(text.substr(0, end));
        if (end == text.npos) return parts;
        text.remove_prefix(end + 1);
    }
}

texts words(const std::string& text) {
    texts all = split(text, ' ');
    std::erase(all, "");
    return all;
}

// HOST:PORT, [v6]:PORT, or PORT of this machine.
void address(std::string_view text, std::string& host, std::string& port) {
    const std::string_view whole_text = text;
    const std::size_t colon = text.rfind(':');
    if (colon == text.npos) {
        host = "127.0.0.1";
    } else {
        std::string_view name = text.substr(0, colon);
        text.remove_prefix(colon + 1);
        if (name.size() > 2 && name.front() == '[' && name.back() == ']')
            name = name.substr(1, name.size() - 2);
        else if (name.empty() || name.find(':') != name.npos)
            refuse("'{}' is not HOST:PORT; an IPv6 address stands in brackets, [::1]:7000",
                   clean(whole_text));
        host = name;
    }
    const auto value = whole<std::uint16_t>(text);
    if (!value || clean(host) != host)
        refuse("'{}' is not HOST:PORT, or a port of this machine", clean(whole_text));
    port = text;
}

target target_from(std::string_view text, bool may_be_named) {
    target made;
    const std::size_t equals = may_be_named ? text.rfind('=') : text.npos;
    const std::string_view where = equals == text.npos ? text : text.substr(equals + 1);
    made.name = equals == text.npos ? text : text.substr(0, equals);
    address(where, made.host, made.port);
    if (made.port == "0") refuse("'{}': nothing listens on port 0", clean(text));
    if (made.name.empty() || made.name.size() > most_name || clean(made.name) != made.name)
        refuse("a name has 1 to {} bytes of UTF-8 without control characters", most_name);
    return made;
}

// [NAME=]PID[,PID...]
void add_processes(const std::string& text, std::vector<target>& targets) {
    const std::size_t equals = text.rfind('=');
    target* whose = targets.size() == 1 ? &targets.front() : nullptr;
    if (equals != text.npos) {
        const auto named = std::find_if(targets.begin(), targets.end(), [&](const target& t) {
            return t.name == text.substr(0, equals);
        });
        whose = named == targets.end() ? nullptr : &*named;
    }
    if (whose == nullptr)
        refuse("--pid {}: whose? Write NAME=PID,PID with the name of one that is measured",
               clean(text));
    for (const std::string& one : split(text.substr(equals == text.npos ? 0 : equals + 1), ',')) {
        const auto pid = whole<pid_t>(one);
        if (!pid || *pid <= 0) refuse("--pid: '{}' is no number of a process", clean(one));
        whose->processes.push_back(*pid);
    }
}

void choose_mode(settings& s, const texts& places) {
    if (places.empty()) return;
    const auto wants_one = [&](std::string_view what) {
        if (places.size() > 2) refuse("burin bench {} takes one thing more", what);
    };
    if (places[0] == "serve") {
        wants_one("serve");
        s.what = settings::mode::serve;
        if (places.size() == 2) address(places[1], s.host, s.port);
        return;
    }
    if (places[0] == "render") {
        wants_one("render");
        if (places.size() < 2) refuse("burin bench render needs a file of results");
        s.what = settings::mode::render;
        s.input = places[1];
        return;
    }
    s.what = settings::mode::through;
    if (places.size() > most_targets) refuse("at most {} are measured at once", most_targets);
    for (const std::string& text : places) s.targets.push_back(target_from(text, true));
    for (std::size_t i = 0; i < s.targets.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (s.targets[i].name == s.targets[j].name)
                refuse("two are called '{}'; NAME=HOST:PORT gives a name", s.targets[i].name);
}

}  // namespace

bool settings::wants(std::string_view group) const noexcept {
    return only.empty() || std::find(only.begin(), only.end(), group) != only.end();
}

command parse(const texts& arguments) {
    command out;
    settings& s = out.chosen;
    CLI::App app{std::string(about), "burin bench"};
    app.set_help_flag("-h,--help", "Show this help");
    app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
    texts places, processes;
    std::string duration, timeout, pairs, streams, only, direct, server_flags, client_flags,
        connections, idle;
    bool quick = false;
    app.add_option("what", places, "serve, render, or where the load enters a tunnel")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_option("--direct", direct,
                   "HOST:PORT that reaches the same far end without a tunnel, for comparison");
    app.add_option("--pid", processes,
                   "[NAME=]PID[,PID...]: processes whose CPU is the tunnel's; repeatable")
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
    app.add_option("--seconds", duration, "Length of each sample (2)");
    app.add_option("--pairs", pairs, "Samples of each measure, taken in turn (7)");
    app.add_option("--streams", streams, "Streams at once, as 1,4,16 (1,16)");
    app.add_option("--only", only, "Of throughput,idle,loaded,connections, which (all)");
    app.add_option("--timeout", timeout, "Seconds without an answer that end the run (10)");
    app.add_option("--out", out.chosen.out, "Folder for the results (burin-bench)");
    app.add_flag("--quick", quick, "One pair of half a second each");
    app.add_option("--server-flags", server_flags,
                   "alone: more flags of burin server, in one text");
    app.add_option("--client-flags", client_flags,
                   "alone: more flags of burin client, in one text");
    app.add_option("--connections", connections, "serve: how many at once (256)");
    app.add_option("--idle", idle, "serve: seconds of silence that end one (30)");
    try {
        texts reversed(arguments.rbegin(), arguments.rend());  // CLI11 reads from the back
        app.parse(std::move(reversed));
        choose_mode(s, places);
        if (quick) {
            s.seconds = 0.5;
            s.pairs = 1;
        }
        if (!duration.empty()) s.seconds = seconds(duration, "seconds", least_seconds);
        if (!timeout.empty()) s.timeout = seconds(timeout, "timeout", 0.1);
        if (!pairs.empty()) s.pairs = number(pairs, "pairs", 1, most_pairs);
        if (!streams.empty()) {
            s.streams.clear();
            for (const std::string& one : split(streams, ','))
                s.streams.push_back(number(one, "streams", 1, most_streams));
            std::sort(s.streams.begin(), s.streams.end());
            s.streams.erase(std::unique(s.streams.begin(), s.streams.end()), s.streams.end());
            if (s.streams.size() > most_stream_counts)
                refuse("--streams: at most {} counts", most_stream_counts);
        }
        if (!only.empty()) s.only = split(only, ',');
        for (const std::string& group : s.only)
            if (std::find(std::begin(group_names), std::end(group_names), group) ==
                std::end(group_names))
                refuse("--only: there is no '{}', but {}", clean(group),
                       fmt::join(group_names, ", "));
        if (!direct.empty()) {
            if (s.what != settings::mode::through) refuse("--direct stands beside a HOST:PORT");
            s.direct.push_back(target_from(direct, false));
            s.direct[0].name = "no tunnel";
        }
        for (const target& t : s.targets)
            if (!s.direct.empty() && t.name == s.direct[0].name)
                refuse("'{}' is what --direct is called", t.name);
        if (!processes.empty() && s.what != settings::mode::through)
            refuse("--pid stands beside a HOST:PORT");
        for (const std::string& one : processes) add_processes(one, s.targets);
        if (s.what != settings::mode::alone && !(server_flags.empty() && client_flags.empty()))
            refuse("--server-flags and --client-flags are for the tunnel that burin bench starts");
        s.server_flags = words(server_flags);
        s.client_flags = words(client_flags);
        if (!connections.empty())
            s.connections = number(connections, "connections", 1, most_connections);
        if (!idle.empty()) s.idle_seconds = seconds(idle, "idle", 0.1);
        if (s.out.empty()) refuse("--out needs a folder");
    } catch (const CLI::CallForHelp&) {
        out.help = app.help();
    } catch (const CLI::ParseError& e) {
        out.error = e.what();
    } catch (const mistake& e) {
        out.error = e.what();
    }
    return out;
}

}  // namespace burin::tools::bench
