// bench_scaling: throughput of a tunnel with 1, 2, 4 ... workers at each end. What it does and
// prints: --help (bench/scaling_options.hh). In the order of a run:
//
//   scaling_machine.hh   the processors, and who runs where
//   scaling_space.hh     namespaces and the link between them
//   scaling_child.hh     processes in them
//   scaling_tunnel.hh    both ends of a tunnel, load through it, what is counted
//   scaling_report.hh    table and JSON
//   scaling_pack.hh      the folder for another machine, without tools of that one
#include <sys/utsname.h>

#include <csignal>
#include <ctime>
#include <filesystem>

#include "bench/scaling_options.hh"
#include "bench/scaling_pack.hh"
#include "bench/scaling_report.hh"

namespace scaling {

namespace fs = std::filesystem;

void say(const std::string& text) {
    std::fputs((text + "\n").c_str(), stdout);
    std::fflush(stdout);
}

programs find_programs(const options& set) {
    if (set.packed.empty())
        return {fs::read_symlink("/proc/self/exe").parent_path().string(), {}, {}};
    const fs::path libraries = fs::path(set.packed).parent_path();
    return {(libraries.parent_path() / "bin").string(), set.packed, libraries.string()};
}

struct machine {
    std::vector<processor> all;
    std::size_t cores = 0;
    std::vector<plan> plans;
};

machine look_at_machine(const options& set) {
    const processors allowed = burin::engine::allowed_processors();
    processors usable = set.cpus.empty() ? allowed : set.cpus;
    for (unsigned cpu : usable)
        if (std::find(allowed.begin(), allowed.end(), cpu) == allowed.end())
            throw trouble("--cpus: this process may not run on " + std::to_string(cpu) +
                          ", only on " + burin::engine::processors_text(allowed));
    machine found{by_core(usable), 0, {}};
    found.cores = cores_of(found.all);
    const auto counts = set.workers.empty() ? worker_counts(usable.size()) : set.workers;
    for (unsigned count : counts)
        found.plans.push_back(place(
            count, found.all, set.overlap ? where_too_few::overlap : where_too_few::anywhere));
    return found;
}

void tell_plan(const machine& here, report& into) {
    say(fmt::format("processors: {} ({} cores), {}", here.all.size(), here.cores,
                    first_line("/proc/cpuinfo", "model name")));
    bool all_pinned = true;
    for (const plan& p : here.plans) {
        all_pinned = all_pinned && p.pinned && !p.overlap;
        say(p.pinned ? fmt::format("  {} workers an end: client {}, server {}, load {}", p.workers,
                                   in_order(p.client), in_order(p.server), list_text(p.load))
                     : fmt::format("  {} workers an end: not pinned", p.workers));
    }
    if (here.cores < here.all.size())
        into.note(
            "Cores of this machine have several processors (hyper-threads): worker i of the "
            "client and worker i of the server share a core, whatever their number.");
    if (!all_pinned)
        into.note(fmt::format(
            "Three processors are needed for each worker of an end (one each for client, server "
            "and load); {} can be used here. Rows marked \"not pinned\" or \"overlap\" have no "
            "places of their own: load and ends take turns on the same processors, and the share "
            "of "
            "linear says nothing about the program.",
            here.all.size()));
}

nlohmann::json conditions(const options& set, const programs& tools, const machine& here,
                          const space& where, const std::string& version) {
    utsname kernel{};
    ::uname(&kernel);
    char date[32];
    const std::time_t now = std::time(nullptr);
    std::strftime(date, sizeof date, "%Y-%m-%d %H:%M UTC", std::gmtime(&now));
    nlohmann::json topology = nlohmann::json::array();
    for (const processor& p : here.all)
        topology.push_back({{"cpu", p.number}, {"core", p.core}, {"package", p.package}});
    const std::string model = first_line("/proc/cpuinfo", "model name");
    return {{"date", date},
            {"burin", version},
            {"processor", model.substr(std::min(model.size(), model.find(": ") + 2))},
            {"processors", topology},
            {"cores", here.cores},
            {"kernel", std::string(kernel.release) + " " + kernel.machine},
            {"congestion_control", where.congestion()},
            {"user_namespace", where.in_user_namespace()},
            {"packed", !tools.loader.empty()},
            {"seconds", set.seconds},
            {"rounds", set.rounds},
            {"server_options", set.server},
            {"client_options", set.client}};
}

class run {
  public:
    run(const options& set, const programs& tools, const machine& here, report& into)
        : _set(set), _tools(tools), _here(here), _report(into), _space(set.congestion) {
        fs::create_directories(set.out);
        if (!_space.complaint().empty())
            _report.note(fmt::format("Congestion control: {}; the namespaces use {}.",
                                     _space.complaint(), _space.congestion()));
        if (_set.tun && ::access("/dev/net/tun", R_OK | W_OK) != 0) {
            _with_tun = false;
            _report.note(fmt::format("No TUN: /dev/net/tun: {}.", std::strerror(errno)));
        }
        const std::size_t each = _set.flows.size() * 2;
        _total = each * _set.rounds *
                 (here.plans.size() * (set.port + (set.tun && _with_tun)) + set.direct);
    }

    void all() {
        _began = std::chrono::steady_clock::now();
        for (unsigned round = 0; round < _set.rounds; ++round) {
            if (_set.direct) direct();
            for (const plan& places : _here.plans) through(places);
        }
        look_at_load();
    }
    const space& where() const noexcept { return _space; }

  private:
    void direct() {
        // With the processors that the load has when the most workers run.
        const plan& places = *std::max_element(
            _here.plans.begin(), _here.plans.end(), [](const plan& a, const plan& b) {
                return std::pair(a.pinned, a.workers) < std::pair(b.pinned, b.workers);
            });
        load generator(_tools, _space, places, _set.out);
        each_transfer(generator, nullptr, places, {way::direct});
    }

    void through(const plan& places) {
        if (!_set.port && !(_set.tun && _with_tun)) return;
        load generator(_tools, _space, places, _set.out);
        tunnel ends(_tools, _space, places, {_set.server, _set.client, _set.tun && _with_tun},
                    _set.out);
        std::vector<way> ways;
        if (_set.port) ways.push_back(way::port);
        if (_set.tun && _with_tun) ways.push_back(way::tun);
        each_transfer(generator, &ends, places, ways);
        if (const std::string why = ends.unsteered(); !why.empty() && !_told_unsteered) {
            _told_unsteered = true;
            _report.note(
                fmt::format("Flows of the TUN came in where the kernel put them: {}.", why));
        }
        ends.stop();
    }

    void each_transfer(load& generator, tunnel* ends, const plan& places,
                       const std::vector<way>& ways) {
        for (unsigned flows : _set.flows)
            for (direction d : {direction::up, direction::down})
                for (way w : ways) {
                    const sample found = generator.carry(ends, w, d, flows, _set.seconds);
                    _report.row(w, d, flows, places).samples.push_back(found);
                    tell(found, w, d, flows, places);
                }
    }

    void tell(const sample& found, way w, direction d, unsigned flows, const plan& places) {
        const double spent =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - _began).count();
        ++_done;
        const double left =
            spent * static_cast<double>(_total - _done) / static_cast<double>(_done);
        std::string text = fmt::format("[{}/{}] ", _done, _total);
        if (w == way::direct) {
            text +=
                fmt::format("no tunnel, {} flows {}: {:.2f} Gbit/s", flows, name_of(d), found.gbit);
        } else {
            text += fmt::format(
                "{} workers an end{}, {}, {} flows {}: {:.2f} Gbit/s, {:.2f} Gbit "
                "per CPU-s, {} messages in {:.1f} GB",
                places.workers, places.pinned ? "" : " (not pinned)", name_of(w), flows, name_of(d),
                found.gbit, found.per_cpu(), found.messages, found.counted_gb);
        }
        say(text + fmt::format("; {:.0f} s left", left));
    }

    // What the load generator could not bring says nothing about the tunnel.
    void look_at_load() {
        constexpr double nearly_all = 0.9;
        for (const std::string& row : _report.rows_with_load_above(nearly_all))
            _report.note(
                fmt::format("{}: the load generator's processors were busy for more than "
                            "{:.0f} % of the time; it may have been the limit.",
                            row, nearly_all * 100));
    }

    const options& _set;
    const programs& _tools;
    const machine& _here;
    report& _report;
    space _space;
    bool _with_tun = true, _told_unsteered = false;
    std::size_t _total = 0, _done = 0;
    std::chrono::steady_clock::time_point _began;
};

std::string trimmed(std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
}

int start(const options& set) {
    const programs tools = find_programs(set);
    if (!set.pack_to.empty()) {
        pack(tools, set.pack_to);
        say(fmt::format("{0} is ready: copy it whole; there, as root: ./scaling", set.pack_to));
        return 0;
    }
    report results;
    const machine here = look_at_machine(set);
    tell_plan(here, results);
    fs::create_directories(set.out);
    const std::string version =
        trimmed(said_by(tools.command("burin", {"version"}), set.out + "/version.log"));
    if (set.plan_alone) {
        fs::remove(set.out + "/version.log");
        fs::remove(set.out);  // when nothing else is there
        say("burin " + version + " starts");
        return 0;
    }
    run measurement(set, tools, here, results);
    measurement.all();
    const std::string table = results.table();
    say("\n" + table);
    const auto json = results.json(conditions(set, tools, here, measurement.where(), version));
    std::ofstream(set.out + "/scaling.md") << table;
    std::ofstream(set.out + "/scaling.json") << json.dump(2) << "\n";
    say(fmt::format("written: {0}/scaling.md, {0}/scaling.json, logs beside them", set.out));
    return 0;
}

}  // namespace scaling

int main(int argc, char** argv) {
    const scaling::options set = scaling::parse(argc, argv);
    struct sigaction end{};
    end.sa_handler = [](int) { scaling::interrupted = 1; };
    for (int s : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(s, &end, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    try {
        return scaling::start(set);
    } catch (const std::exception& why) {
        std::fprintf(stderr, "scaling: %s\n", why.what());
        return 1;
    }
}
