// Who runs where while bench_scaling adds workers, and what its table says of what was measured.
#include "bench/scaling_machine.hh"

#include <cmath>
#include <set>

#include "bench/scaling_report.hh"
#include "tests/catch.hh"

using namespace scaling;

namespace {

// `cores` cores with so many processors each, numbered as Linux does: first ones first.
std::vector<processor> machine_of(unsigned cores, unsigned threads) {
    std::vector<processor> all;
    for (unsigned core = 0; core < cores; ++core)
        for (unsigned thread = 0; thread < threads; ++thread)
            all.push_back({thread * cores + core, 0, static_cast<int>(core)});
    return all;
}

measured row(way w, unsigned workers, double gbit, unsigned flows = 64) {
    sample s;
    s.gbit = gbit;
    s.bytes = gbit * 1e9 / 8;
    s.cpu = 2;
    return {w, direction::up, flows, place(workers, machine_of(16, 1)), {s}};
}

}  // namespace

TEST_CASE("workers are added up to a third of the processors") {
    using counts = std::vector<unsigned>;
    CHECK(worker_counts(1) == counts{1});
    CHECK(worker_counts(2) == counts{1, 2});  // neither has places of its own
    CHECK(worker_counts(3) == counts{1, 2});
    CHECK(worker_counts(6) == counts{1, 2});
    CHECK(worker_counts(9) == counts{1, 2, 3});
    CHECK(worker_counts(12) == counts{1, 2, 4});
    CHECK(worker_counts(16) == counts{1, 2, 4, 5});
    CHECK(worker_counts(48) == counts{1, 2, 4, 8, 16});
}

TEST_CASE("each processor has one master, and the load has as many as an end") {
    for (unsigned cores : {3u, 6u, 16u, 17u})
        for (unsigned threads : {1u, 2u}) {
            const auto all = machine_of(cores, threads);
            for (unsigned workers = 1; workers * 3 <= all.size(); ++workers) {
                CAPTURE(cores, threads, workers);
                const plan p = place(workers, all);
                REQUIRE(p.pinned);
                CHECK_FALSE(p.overlap);
                CHECK(p.client.size() == workers);
                CHECK(p.server.size() == workers);
                CHECK(p.load.size() == all.size() - 2 * workers);
                CHECK(p.load.size() >= workers);
                std::set<unsigned> seen;
                for (const processors* list : {&p.client, &p.server, &p.load})
                    seen.insert(list->begin(), list->end());
                CHECK(seen.size() == all.size());
            }
        }
}

TEST_CASE("a core is shared by the two ends of a session or not at all") {
    const auto all = machine_of(8, 2);
    std::vector<int> core_of(16);
    for (const processor& p : all) core_of[p.number] = p.core;
    for (unsigned workers = 1; workers <= 5; ++workers) {
        const plan p = place(workers, all);
        for (unsigned i = 0; i < workers; ++i) {
            CHECK(core_of[p.client[i]] == core_of[p.server[i]]);
            for (unsigned other : p.load) CHECK(core_of[other] != core_of[p.client[i]]);
        }
    }
}

TEST_CASE("where processors are too few nobody is pinned, unless asked for") {
    const auto all = machine_of(2, 1);
    const plan anywhere = place(1, all);
    CHECK_FALSE(anywhere.pinned);
    CHECK((anywhere.client.empty() && anywhere.server.empty() && anywhere.load.empty()));
    const plan crowded = place(2, all, where_too_few::overlap);
    CHECK((crowded.pinned && crowded.overlap));
    CHECK(crowded.client == processors{0, 1});
    CHECK(crowded.server == processors{1, 0});
    CHECK(crowded.load == processors{0, 1});
    CHECK_FALSE(place(3, all, where_too_few::overlap).pinned);
}

TEST_CASE("the share of linear is that of as many single workers") {
    report r;
    for (const measured& m : {row(way::port, 1, 10), row(way::port, 4, 32), row(way::tun, 4, 20),
                              row(way::port, 1, 9, 1), row(way::port, 4, 9, 1)})
        r.row(m.what, m.where, m.flows, m.places).samples = m.samples;
    const auto rows = r.json({}).at("rows");
    REQUIRE(rows.size() == 5);
    const auto share = [&](std::size_t at) {
        return rows[at].contains("share_of_linear") ? rows[at]["share_of_linear"].get<double>()
                                                    : -1;
    };
    CHECK(share(0) == 1);
    CHECK(std::abs(share(1) - 0.8) < 1e-9);
    CHECK(rows[1]["gbit_per_cpu_second"] == 16);
    CHECK(share(3) == -1);  // one flow has one worker
    CHECK(share(4) == -1);  // nothing to compare with
    CHECK(r.table().find("| port | 64 | up | 4 | 32.00 | 32.00-32.00 | 80 % | 16.00 |") !=
          std::string::npos);
}

TEST_CASE("a row's figure is the median of its samples") {
    measured m = row(way::port, 1, 5);
    for (double gbit : {1.0, 9.0, 7.0}) {
        sample s;
        s.gbit = gbit;
        m.samples.push_back(s);
    }
    CHECK(m.gbit() == 6);
    m.samples.pop_back();
    CHECK(m.gbit() == 5);
}
