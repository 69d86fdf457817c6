// Lists of processors, and workers that keep to theirs. Runs under ThreadSanitizer too.
#include "core/engine/processors.hh"

#include <atomic>
#include <cerrno>
#include <thread>

#include "core/engine/supervisor.hh"
#include "tests/catch.hh"

using namespace burin;
using namespace burin::engine;

using numbers = std::vector<unsigned>;

TEST_CASE("lists of processors are read in the order of the text") {
    struct row {
        std::string_view text;
        numbers list;
    };
    const row rows[] = {{"0", {0}},   {"0-3,8", {0, 1, 2, 3, 8}}, {"8,0-1", {8, 0, 1}},
                        {"5-5", {5}}, {"8191", {8191}},           {"007", {7}}};
    for (const row& r : rows) {
        CAPTURE(r.text);
        CHECK(parse_processors(r.text) == r.list);
    }
}

TEST_CASE("what is no list of different processors is not read as one") {
    for (std::string_view text : {"",
                                  ",",
                                  "0,",
                                  ",0",
                                  "-1",
                                  "1-",
                                  "3-1",
                                  "0--1",
                                  "0-1-2",
                                  "a",
                                  "0 1",
                                  " 0",
                                  "0 ",
                                  "+1",
                                  "0,0",
                                  "0-3,2",
                                  "8192",
                                  "0-8192",
                                  "99999999999999999999",
                                  "1.5",
                                  "0x1"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_processors(text));
    }
}

TEST_CASE("processors are told shortly") {
    CHECK(processors_text(numbers{}).empty());
    CHECK(processors_text(numbers{4}) == "4");
    CHECK(processors_text(numbers{0, 1, 2, 5, 7, 8}) == "0-2,5,7-8");
}

TEST_CASE("a processor that this process may not use is named") {
    CHECK(why_not_allowed({}, numbers{0}).empty());
    CHECK(why_not_allowed(numbers{3, 1}, numbers{0, 1, 2, 3}).empty());
    CHECK(why_not_allowed(numbers{9, 1, 8}, numbers{0, 1, 2, 3}) ==
          "--cpu-affinity: this process may not run on CPU 8-9, only on 0-3");
}

TEST_CASE("a thread stays where it was put, and other threads do not", "[tsan]") {
    const numbers all = allowed_processors();
    REQUIRE_FALSE(all.empty());
    numbers seen;
    std::thread([&] {
        if (run_on(std::span(&all.back(), 1)) == 0) seen = allowed_processors();
    }).join();
    CHECK(seen == numbers{all.back()});
    CHECK(allowed_processors() == all);
    CHECK(run_on(all) == 0);
    CHECK(run_on({}) == EINVAL);
    CHECK(run_on(numbers{most_processors - 1}) == EINVAL);  // no machine has that one
    CHECK(run_on(numbers{all.back(), most_processors}) == EINVAL);
    CHECK(allowed_processors() == all);
}

TEST_CASE("each worker runs on its processor of the list", "[tsan]") {
    const numbers all = allowed_processors();
    block_signals();
    logger log;
    supervisor boss(log);
    worker_options small;
    small.memory_bytes = 4u << 20;
    small.processors = all.size() > 1 ? numbers{all[1], all[0]} : numbers{all[0]};
    const unsigned count = static_cast<unsigned>(small.processors.size());
    boss.start_workers(count, small);
    std::vector<numbers> seen(count);
    std::atomic<unsigned> done{0};
    for (auto& w : boss.workers())
        w->post([&](worker& self) {
            seen[self.index()] = allowed_processors();
            if (++done == count) boss.finish(0);
        });
    REQUIRE(boss.run() == 0);
    for (unsigned i = 0; i < count; ++i) CHECK(seen[i] == numbers{small.processors[i]});
    CHECK(allowed_processors() == all);
}

TEST_CASE("no worker starts where it may not run") {
    block_signals();
    logger log;
    supervisor boss(log);
    worker_options small;
    small.memory_bytes = 4u << 20;
    small.processors = {most_processors - 1};
    std::string why;
    try {
        boss.start_workers(1, small);
    } catch (const std::exception& e) {
        why = e.what();
    }
    CHECK(why.starts_with("--cpu-affinity: this process may not run on CPU 8191, only on "));
    CHECK(boss.workers().empty());
}
