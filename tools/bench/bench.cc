#include "tools/bench/bench.hh"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "bench/load_server.hh"
#include "tools/bench/conditions.hh"
#include "tools/bench/local_tunnel.hh"
#include "tools/bench/measuring.hh"
#include "tools/bench/page.hh"
#include "tools/bench/settings.hh"
#include "tools/bench/table.hh"

namespace burin::tools::bench {

namespace {

namespace files = std::filesystem;

constexpr std::uintmax_t most_input = 64u << 20;
// The load's seeds (measuring.cc uses the first); each costs the far end half a megabyte.
constexpr std::uint64_t most_seeds = 8;
constexpr std::size_t echo_bytes = 4096;
constexpr double most_quiet_load = 0.5;
constexpr int ending_signals[] = {SIGINT, SIGTERM, SIGHUP};

void say(std::string_view text) {
    std::fprintf(stderr, "burin bench: %.*s\n", static_cast<int>(text.size()), text.data());
}

sigset_t endings() {
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : ending_signals) sigaddset(&set, signal);
    return set;
}

// From here on a signal that ends this process ends its children first. Before there are threads.
void end_with_children() {
    const sigset_t set = endings();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::thread([set] {
        int signal = 0;
        sigwait(&set, &signal);
        child::end_all();
        // What a progress bar left.
        if (::isatty(STDERR_FILENO) != 0) std::fputs("\r\x1b[K", stderr);
        std::_Exit(128 + signal);
    }).detach();
}

// Whole or not at all: a reader of an earlier file never sees half of this one.
void write_file(const files::path& path, std::string_view text) {
    const files::path fresh = path.string() + ".new";
    std::ofstream file(fresh, std::ios::binary | std::ios::trunc);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    file.close();
    std::error_code error;
    if (file) files::rename(fresh, path, error);
    if (!file || error)
        throw std::runtime_error(fmt::format("cannot write {}: {}", path.string(),
                                             error ? error.message() : "the disk may be full"));
}

// Before anything is measured: minutes of it should not end with a folder that is not ours.
void make_folder(const std::string& folder) {
    std::error_code error;
    files::create_directories(folder, error);
    if (error || ::access(folder.c_str(), W_OK) != 0)
        throw std::runtime_error(fmt::format("cannot write into {}: {}; --out names another folder",
                                             folder, error ? error.message() : "it is another's"));
}

void write_all(const results& all, const std::string& folder) {
    const files::path to = folder;
    write_file(to / "results.json", to_json(all));
    write_file(to / "results.md", table(all));
    write_file(to / "results.html", page(all));
    std::fputs(table(all).c_str(), stdout);
    std::fflush(stdout);
    say(fmt::format("written: {0}/results.html, {0}/results.md, {0}/results.json", folder));
}

int measure(const settings& s) {
    make_folder(s.out);
    std::vector<entry> entries;
    std::unique_ptr<local_tunnel> tunnel;
    if (s.what == settings::mode::alone) {
        tunnel = std::make_unique<local_tunnel>(s.server_flags, s.client_flags);
        entries.push_back({"no tunnel", "127.0.0.1", tunnel->direct_port, true, {}});
        entries.push_back(
            {"burin",
             "127.0.0.1",
             tunnel->tunnel_port,
             false,
             {{"client", {tunnel->client->pid()}}, {"server", {tunnel->server->pid()}}}});
    } else {
        for (const target& t : s.direct) entries.push_back({t.name, t.host, t.port, true, {}});
        for (const target& t : s.targets) {
            entry& e = entries.emplace_back(entry{t.name, t.host, t.port, false, {}});
            if (!t.processes.empty()) e.ends.push_back({"processes", t.processes});
        }
    }
    if (const double load = load_before(); load > most_quiet_load)
        say(fmt::format("the machine is not idle (load {:.2f}): expect noise", load));
    auto conditions = conditions_here(s);
    measuring all(s, entries, [&] { return tunnel ? tunnel->gone() : std::string(); });
    say(fmt::format("{} samples, {}", all.samples(), duration_text(all.expected_seconds())));
    results found = all.run(progress::of_stderr());
    found.conditions = std::move(conditions);
    write_all(found, s.out);
    if (found.cut_short.empty()) return 0;
    say(fmt::format("ended after {} of {} pairs: {}", found.pairs, s.pairs, found.cut_short));
    return 1;
}

int serve(const settings& s) {
    load::hold_ends();
    load::options set;
    set.mode = "serve";
    set.host = s.host;
    set.port = s.port;
    load::bounds limits;
    limits.each = {most_seeds, echo_bytes, false};
    limits.most_connections = s.connections;
    limits.idle_seconds = s.idle_seconds;
    limits.life_seconds = s.life_seconds;
    load::raise_descriptors();
    static load::server far_end(set, limits);
    far_end.start();
    say(
        fmt::format("listening on {}:{}; at most {} connections, each for {} s at most and not "
                    "silent for {}",
                    s.host.find(':') == s.host.npos ? s.host : "[" + s.host + "]", far_end.port(),
                    s.connections, s.life_seconds, s.idle_seconds));
    load::wait_for_end();
    const load::server::counts all = far_end.now();
    say(
        fmt::format("{} connections, {} refused, {} broken, {} with wrong bytes; {} received, {} "
                    "sent",
                    all.connections, all.refused, all.broken, all.wrong, all.received, all.sent));
    std::_Exit(all.wrong == 0 ? 0 : 1);
}

int render(const settings& s) {
    std::error_code error;
    const std::uintmax_t size = files::file_size(s.input, error);
    if (error || size > most_input)
        throw std::runtime_error(fmt::format("cannot read {}: {}", s.input,
                                             error ? error.message() : "it is too large"));
    std::ifstream file(s.input, std::ios::binary);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const results all = from_json(text);
    make_folder(s.out);
    const files::path to = s.out;
    write_file(to / "results.md", table(all));
    write_file(to / "results.html", page(all));
    say(fmt::format("written: {0}/results.html, {0}/results.md", s.out));
    return 0;
}

}  // namespace

int run(const std::vector<std::string>& arguments) {
    const command given = parse(arguments);
    if (!given.help.empty()) {
        std::fputs(given.help.c_str(), stdout);
        return 0;
    }
    if (!given.error.empty()) {
        say(given.error);
        say("see burin bench --help");
        return 2;
    }
    try {
        switch (given.chosen.what) {
            case settings::mode::serve: return serve(given.chosen);
            case settings::mode::render: return render(given.chosen);
            default: end_with_children(); return measure(given.chosen);
        }
    } catch (const std::exception& why) {
        say(why.what());
        return 1;
    }
}

}  // namespace burin::tools::bench
