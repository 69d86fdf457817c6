// The text format 0.0.4 of Prometheus, and the names in it.
#include "core/engine/metrics.hh"

#include <set>

#include "core/engine/metrics_sources.hh"
#include "tests/catch.hh"

using namespace burin;
using namespace burin::engine;

namespace {

std::vector<metric> all_metrics() {
    std::vector<metric> all;
    for (std::size_t i = 0; i < static_cast<std::size_t>(metric::count); ++i)
        all.push_back(static_cast<metric>(i));
    return all;
}

std::string text(const tally& process, std::vector<tally> workers = {}) {
    return exposition({}, process, workers);
}

}  // namespace

TEST_CASE("names are Prometheus': letters and _, units in base units, counters end in _total") {
    std::set<std::string_view> seen;
    for (metric m : all_metrics()) {
        const metric_family& f = family_of(m);
        CAPTURE(f.name);
        CHECK(seen.insert(f.name).second);
        CHECK((f.name.starts_with("burin_") || f.name.starts_with("process_")));
        CHECK(f.name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == f.name.npos);
        CHECK(f.name.ends_with("_total") == (f.kind == metric_kind::counter));
        CHECK(f.billionths == (f.name.find("_seconds") != f.name.npos));
        CHECK(f.help.ends_with('.'));
        const std::string words = "_" + std::string(f.name) + "_";
        for (std::string_view no : {"_ms_", "_us_", "_milliseconds_", "_kib_", "_mib_", "_kb_"})
            CHECK(words.find(no) == words.npos);
    }
}

TEST_CASE("a family is told once, with its help and type, the process before the workers") {
    tally process;
    process.add(metric::login_failures, 3);
    std::vector<tally> workers(2);
    workers[1].add(metric::sessions, 5);
    workers[0].add(metric::sessions, 4);
    workers[0].add(metric::login_failures, 1);
    const std::string out = text(process, workers);
    CHECK(out ==
          "# HELP burin_build_info Version, role and cipher library; always 1.\n"
          "# TYPE burin_build_info gauge\n"
          "burin_build_info 1\n"
          "# HELP burin_sessions Sessions that are logged in.\n"
          "# TYPE burin_sessions gauge\n"
          "burin_sessions{worker=\"0\"} 4\n"
          "burin_sessions{worker=\"1\"} 5\n"
          "# HELP burin_login_failures_total Logins of a server that failed.\n"
          "# TYPE burin_login_failures_total counter\n"
          "burin_login_failures_total 3\n"
          "burin_login_failures_total{worker=\"0\"} 1\n");
}

TEST_CASE("what is added twice under one name counts together, and no series appears twice") {
    std::vector<tally> workers(1);
    workers[0].add(metric::drops, 1, "kind=\"udp\",reason=\"no_window\"");
    workers[0].add(metric::drops, 5, "kind=\"echo\",reason=\"late\"");
    workers[0].add(metric::drops, 2, "kind=\"udp\",reason=\"no_window\"");
    const std::string out = text({}, workers);
    CHECK(out.find("burin_drops_total{worker=\"0\",kind=\"echo\",reason=\"late\"} 5\n"
                   "burin_drops_total{worker=\"0\",kind=\"udp\",reason=\"no_window\"} 3\n") !=
          out.npos);
    CHECK(out.find("no_window") == out.rfind("no_window"));
}

TEST_CASE("numbers are whole and exact, seconds have a point") {
    tally t;
    t.add(metric::log_lines_dropped, ~std::uint64_t{0});
    t.add(metric::process_cpu, 1'500'000'001);
    t.add(metric::process_start_time, 5);
    const std::string out = text(t);
    CHECK(out.find("\nburin_log_lines_dropped_total 18446744073709551615\n") != out.npos);
    CHECK(out.find("\nprocess_cpu_seconds_total 1.500000001\n") != out.npos);
    CHECK(out.find("\nprocess_start_time_seconds 0.000000005\n") != out.npos);
}

TEST_CASE("labels and help are escaped") {
    CHECK(escape_label("a\"b\\c\nd{}=,") == "a\\\"b\\\\c\\nd{}=,");
    CHECK(escape_help("a\"b\\c\nd") == "a\"b\\\\c\\nd");
    const build_label build[] = {{"version", "1.0\" 2\n"}, {"role", "server"}};
    const std::string out = exposition(build, tally(), {});
    CHECK(out.find("\nburin_build_info{version=\"1.0\\\" 2\\n\",role=\"server\"} 1\n") != out.npos);
}

TEST_CASE("sessions that are over still count, and are not live") {
    std::vector<tally> workers(1);
    workers[0].sessions.opened = 3;
    workers[0].sessions.live = 1;
    workers[0].sessions.sent_bytes = 1000;
    workers[0].add_sessions();
    const std::string out = text({}, workers);
    CHECK(out.find("\nburin_sessions{worker=\"0\"} 1\n") != out.npos);
    CHECK(out.find("\nburin_sessions_opened_total{worker=\"0\"} 3\n") != out.npos);
    CHECK(out.find("\nburin_session_bytes_total{worker=\"0\",direction=\"sent\"} 1000\n") !=
          out.npos);
}

TEST_CASE("the budget that is used is what was granted") {
    ring::budget budget(64u << 20, 1000);
    const auto used = [&budget] {
        tally t;
        count(t, budget);
        for (const tally::sample& s : t.samples())
            if (s.of == metric::budget_used) return s.value;
        return ~std::uint64_t{0};
    };
    CHECK(used() == 0);
    const std::uint32_t first = budget.open(64 * 1024), more = budget.grow(1u << 20);
    REQUIRE(first > ring::budget::base_bytes);
    REQUIRE(more > 0);
    CHECK(used() == first + more);
    budget.close(first + more);
    CHECK(used() == 0);
}

TEST_CASE("the process tells its own memory, time and descriptors") {
    tally t;
    count_process(t);
    std::uint64_t started = 0, resident = 0, open = 0, most = 0, threads = 0;
    for (const tally::sample& s : t.samples()) {
        if (s.of == metric::process_start_time) started = s.value;
        if (s.of == metric::process_resident) resident = s.value;
        if (s.of == metric::process_open_fds) open = s.value;
        if (s.of == metric::process_max_fds) most = s.value;
        if (s.of == metric::process_threads) threads = s.value;
    }
    const auto now = static_cast<std::uint64_t>(time(nullptr));
    CHECK(started / 1'000'000'000 > now - 86'400);
    CHECK(started / 1'000'000'000 <= now + 1);
    CHECK(resident > 100'000);
    CHECK(open >= 3);
    CHECK(most >= open);
    CHECK(threads >= 1);
}
