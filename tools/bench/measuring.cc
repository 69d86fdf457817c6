#include "tools/bench/measuring.hh"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <thread>

#include "bench/load_client.hh"
#include "tools/bench/child.hh"
#include "tools/bench/numbers.hh"

namespace burin::tools::bench {

namespace {

// The far end grants few seeds (`burin bench serve`).
constexpr std::uint64_t load_seed = 1;
constexpr unsigned streams_beside = 4;
constexpr unsigned callers[] = {1, 16};
// Bounds of one sample, whatever its length: of memory, and of local ports, which rest for a minute
// after each connection.
constexpr std::uint64_t most_trips = 200'000, most_trips_of_all_pairs = 2'000'000,
                        most_connects = 1500;
// Bulk is under way for so long before, and goes on for so long after, round trips beside it.
constexpr double settle_seconds = 0.5;
constexpr double opening_seconds = 0.02;  // what a sample costs besides

load::options load_to(const entry& where, const settings& s, const char* mode) {
    load::options set;
    set.mode = mode;
    set.host = where.host;
    set.port = where.port;
    set.seed = load_seed;
    set.seconds = s.seconds;
    set.timeout = s.timeout;
    return set;
}

std::uint64_t trips_at_most(const settings& s) {
    return std::min(most_trips, most_trips_of_all_pairs / s.pairs);
}

double settle(const settings& s) {
    return std::min(settle_seconds, s.seconds / 2);
}

std::string streams_text(unsigned count) {
    return fmt::format("{} stream{}", count, count == 1 ? "" : "s");
}

double cpu_of(const entry::end& end) {
    double sum = 0;
    for (const pid_t pid : end.processes) sum += cpu_seconds_of(pid);
    return sum;
}

}  // namespace

measuring::measuring(const settings& s, const std::vector<entry>& entries,
                     std::function<std::string()> gone)
    : _settings(s), _entries(entries), _gone(std::move(gone)) {
    _results.seconds = s.seconds;
    _results.pairs = s.pairs;
    for (const entry& e : entries) {
        column& c = _results.columns.emplace_back(column{e.name, e.reference, {}});
        for (const entry::end& end : e.ends) c.ends.push_back(end.name);
    }
    _idle.assign(entries.size(), std::vector<std::vector<double>>(s.pairs));
    _loaded = _idle;
    plan();
}

void measuring::plan() {
    const double length = _settings.seconds + opening_seconds;
    if (_settings.wants("throughput"))
        for (const unsigned streams : _settings.streams)
            for (const bool up : {true, false})
                _steps.push_back({fmt::format("{}, {}", up ? "up" : "down", streams_text(streams)),
                                  length, [this, up, streams](std::size_t column, unsigned pair) {
                                      return throughput(column, pair, up, streams);
                                  }});
    if (_settings.wants("idle"))
        _steps.push_back({"round trip, idle", length, [this](std::size_t column, unsigned pair) {
                              return idle(column, pair);
                          }});
    if (_settings.wants("loaded"))
        _steps.push_back(
            {fmt::format("round trip beside {}", streams_text(streams_beside)),
             length + 2 * settle(_settings),
             [this](std::size_t column, unsigned pair) { return loaded(column, pair); }});
    if (_settings.wants("connections"))
        for (const unsigned parallel : callers)
            _steps.push_back({fmt::format("connections, {} at a time", parallel), length / 2,
                              [this, parallel](std::size_t column, unsigned pair) {
                                  return connections(column, pair, parallel);
                              }});
}

std::size_t measuring::samples() const noexcept {
    return _steps.size() * _entries.size() * _settings.pairs;
}

double measuring::expected_seconds() const noexcept {
    double sum = 0;
    for (const step& each : _steps) sum += each.seconds;
    return sum * static_cast<double>(_entries.size() * _settings.pairs);
}

void measuring::check_all() {
    for (const entry& e : _entries) {
        load::options set = load_to(e, _settings, "rtt");
        set.count = 10;
        try {
            if (!load::run_round_trips(set).clean) load::die("what came back is not what went");
            for (const entry::end& end : e.ends) cpu_of(end);
        } catch (const std::runtime_error& why) {
            throw std::runtime_error(fmt::format("{}: {}", e.name, why.what()));
        }
    }
}

results measuring::run(progress::kind shown) {
    check_all();
    unsigned pair = 0;
    {
        progress told(shown, samples(), expected_seconds());
        try {
            for (; pair < _settings.pairs; ++pair)
                for (const step& each : _steps)
                    for (std::size_t turn = 0; turn < _entries.size(); ++turn) {
                        const std::size_t column = (turn + pair) % _entries.size();
                        const std::string what =
                            _entries.size() == 1
                                ? each.title
                                : fmt::format("{}, {}", each.title, _entries[column].name);
                        told.begin(what, each.seconds);
                        try {
                            told.done(each.take(column, pair));
                        } catch (const std::runtime_error& why) {
                            const std::string also = _gone();
                            throw std::runtime_error(fmt::format("{}: {}{}{}", what, why.what(),
                                                                 also.empty() ? "" : "; ", also));
                        }
                    }
        } catch (const std::runtime_error& why) {
            if (pair == 0) throw;
            _results.cut_short = why.what();
        }
    }
    keep_pairs(pair);
    draw_curves();
    return std::move(_results);
}

void measuring::keep_pairs(unsigned complete) {
    _results.pairs = complete;
    for (row& r : _results.rows)
        for (std::vector<double>& samples : r.samples) samples.resize(complete);
    for (auto* trips : {&_idle, &_loaded})
        for (auto& pairs : *trips) pairs.resize(complete);
}

void measuring::draw_curves() {
    const auto draw = [&](const char* group, std::string title, const auto& trips) {
        if (!_settings.wants(group)) return;
        curve& made = _results.curves.emplace_back(curve{group, std::move(title), {}});
        for (const auto& pairs : trips) made.lines.push_back(make_line(pairs));
    };
    draw("idle", "idle", _idle);
    draw("loaded", fmt::format("beside {} down", streams_text(streams_beside)), _loaded);
}

std::string measuring::throughput(std::size_t column, unsigned pair, bool up, unsigned streams) {
    const entry& where = _entries[column];
    const char* way = up ? "up" : "down";
    load::options set = load_to(where, _settings, way);
    set.streams = streams;
    std::vector<double> before;
    for (const entry::end& end : where.ends) before.push_back(cpu_of(end));
    load::tally total;
    const load::bulk_result made = load::run_bulk(set, total);
    if (made.failed > 0) load::die("%s", made.error.c_str());
    if (!made.ok()) load::die("wrong bytes arrived");
    const double rate = made.gbit_per_second() * 1e9;
    const std::string id = fmt::format("{}.{}", way, streams);
    const std::string title = fmt::format("{}, {}", way, streams_text(streams));
    _results.add({"throughput", "throughput." + id, title, std::string(bits_per_second), "", {}},
                 column, pair, rate);
    std::string told = quantity(rate, bits_per_second);
    if (where.ends.empty()) return told;
    const double gb = static_cast<double>(made.bytes()) * 1e-9;
    double all = 0;
    std::vector<double> each;
    for (std::size_t i = 0; i < where.ends.size(); ++i) {
        each.push_back((cpu_of(where.ends[i]) - before[i]) / gb);
        all += each.back();
    }
    _results.add({"cpu", "cpu." + id, title, std::string(cpu_per_gb), "", {}}, column, pair, all);
    for (std::size_t i = 0; i < each.size() && each.size() > 1; ++i)
        _results.add({"cpu",
                      fmt::format("cpu.{}.{}", id, where.ends[i].name),
                      title,
                      std::string(cpu_per_gb),
                      where.ends[i].name,
                      {}},
                     column, pair, each[i]);
    return told + fmt::format("  {}", quantity(all, cpu_per_gb));
}

std::string measuring::round_trips(const std::string& group, std::size_t column, unsigned pair,
                                   std::vector<double> microseconds_of) {
    std::string told;
    for (const auto& [name, share] : {std::pair{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}}) {
        const double value = load::percentile(microseconds_of, share);
        _results.add(
            {group, fmt::format("{}.{}", group, name), name, std::string(microseconds), "", {}},
            column, pair, value);
        told +=
            fmt::format("{}{} {}", told.empty() ? "" : "  ", name, quantity(value, microseconds));
    }
    (group == "idle" ? _idle : _loaded)[column][pair] = std::move(microseconds_of);
    return told;
}

std::string measuring::idle(std::size_t column, unsigned pair) {
    load::options set = load_to(_entries[column], _settings, "rtt");
    set.count = trips_at_most(_settings);
    load::trips made = load::run_round_trips(set);
    if (!made.clean) load::die("wrong bytes came back");
    return round_trips("idle", column, pair, std::move(made.microseconds));
}

std::string measuring::loaded(std::size_t column, unsigned pair) {
    const double lead = settle(_settings);
    load::options bulk_set = load_to(_entries[column], _settings, "down");
    bulk_set.streams = streams_beside;
    bulk_set.seconds = _settings.seconds + 2 * lead;
    load::tally total;
    load::bulk_result bulk;
    std::string error;
    std::jthread carrier([&] {
        try {
            bulk = load::run_bulk(bulk_set, total);
            if (!bulk.ok()) error = bulk.failed > 0 ? bulk.error : "wrong bytes arrived";
        } catch (const std::runtime_error& why) {
            error = why.what();
            total.fail(error);
        }
    });
    const auto start = load::clock_type::now();
    while (total.moved == 0 && total.failed == 0 && load::seconds_since(start) < _settings.timeout)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::duration<double>(lead));
    load::options set = load_to(_entries[column], _settings, "rtt");
    set.count = trips_at_most(_settings);
    load::trips made = load::run_round_trips(set);
    carrier.join();
    if (!error.empty()) load::die("%s", error.c_str());
    if (!made.clean) load::die("wrong bytes came back");
    const double rate = bulk.gbit_per_second() * 1e9;
    std::string told = round_trips("loaded", column, pair, std::move(made.microseconds));
    _results.add(
        {"loaded", "loaded.bulk", "the streams meanwhile", std::string(bits_per_second), "", {}},
        column, pair, rate);
    return told + fmt::format("  beside {}", quantity(rate, bits_per_second));
}

std::string measuring::connections(std::size_t column, unsigned pair, unsigned parallel) {
    load::options set = load_to(_entries[column], _settings, "connect");
    set.parallel = parallel;
    set.count = parallel == 1 ? most_connects : 3 * most_connects;
    const load::connects made = load::run_connects(set);
    if (made.failed > 0)
        load::die("%u connections failed, the first: %s", made.failed, made.error.c_str());
    const double rate = made.per_second();
    _results.add({"connections",
                  fmt::format("connections.{}", parallel),
                  fmt::format("{} at a time", parallel),
                  std::string(per_second),
                  "",
                  {}},
                 column, pair, rate);
    return quantity(rate, per_second);
}

}  // namespace burin::tools::bench
