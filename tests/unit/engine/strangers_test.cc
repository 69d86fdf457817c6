// Who makes room before login, with strangers that are no connections and chance that is none.
#include "core/engine/strangers.hh"

#include <memory>
#include <set>

#include "core/engine/seldom.hh"
#include "tests/catch.hh"

using namespace burin;
using ring::second;

namespace {

struct fake final : engine::stranger {
    explicit fake(engine::strangers& s) : list(s) {}
    void make_room(std::string_view text) noexcept override {
        why = text;
        list.remove(*this);
    }
    engine::strangers& list;
    std::string why;
};

struct crowd {
    explicit crowd(engine::stranger_limits limits) : list(limits, draw) { drawn = 0; }
    fake& come() {
        all.push_back(std::make_unique<fake>(list));
        list.add(*all.back());
        return *all.back();
    }
    // Goes through all of them in turn.
    static std::uint32_t draw() noexcept { return drawn++; }
    static inline std::uint32_t drawn = 0;

    engine::strangers list;
    std::vector<std::unique_ptr<fake>> all;
};

}  // namespace

TEST_CASE("one more stranger than may be: another makes room") {
    crowd c({.connections = 3, .bytes = 1000});
    for (int i = 0; i < 3; ++i) c.come();
    CHECK(c.list.counters().connections == 3);
    CHECK(c.list.counters().for_number == 0);
    fake late(c.list);
    crowd::drawn = 1;
    CHECK_FALSE(c.list.add(late));
    CHECK(c.all[0]->why.empty());
    CHECK(c.all[1]->why == "made room for another connection");
    CHECK(c.list.counters().connections == 3);
    CHECK(c.list.counters().for_number == 1);
    // Who has logged in is no stranger and makes no room.
    c.list.remove(*c.all[0]);
    CHECK(c.list.counters().connections == 2);
    CHECK(c.list.add(*c.all[1]));
    c.list.remove(late);
    c.list.remove(late);
    CHECK(c.list.counters().connections == 2);
}

TEST_CASE("the stranger that holds much makes room, not those that hold little") {
    crowd c({.connections = 100, .bytes = 1000});
    for (int i = 0; i < 8; ++i) CHECK(c.list.hold(c.come(), 100));
    CHECK(c.list.counters().bytes == 800);
    CHECK(c.list.hold(*c.all[5], 300));
    CHECK_FALSE(c.list.hold(*c.all[0], 101));
    CHECK(c.all[5]->why == "made room: too much is held for connections before login");
    CHECK(c.list.counters().bytes == 701);
    CHECK(c.list.counters().for_memory == 1);
    // What it gives back counts no more.
    CHECK(c.list.hold(*c.all[0], 1));
    CHECK(c.list.counters().bytes == 601);
    // It may be the one that asks, and then its share is nobody's.
    CHECK_FALSE(c.list.hold(*c.all[1], 2000));
    CHECK_FALSE(c.all[1]->why.empty());
    CHECK(c.list.counters().bytes == 501);
    CHECK(c.list.hold(*c.all[1], 3000));
    CHECK(c.list.counters().bytes == 501);
    CHECK(c.list.counters().connections == 6);
}

TEST_CASE("memory that all of them hold together is taken back from as many as it needs") {
    crowd c({.connections = 1000, .bytes = 1000});
    for (int i = 0; i < 500; ++i) {
        c.list.hold(c.come(), 10);
        REQUIRE(c.list.counters().bytes <= 1000);
    }
    CHECK(c.list.counters().connections == 100);
    CHECK(c.list.counters().for_memory == 400);
}

TEST_CASE("without descriptors a sixteenth of the strangers goes, at least one") {
    crowd c({.connections = 1000, .bytes = 1000});
    CHECK(c.list.shed() == 0);
    c.come();
    CHECK(c.list.shed() == 1);
    CHECK(c.all[0]->why == "made room: no descriptors are left");
    CHECK(c.list.counters().connections == 0);
    for (int i = 0; i < 160; ++i) c.come();
    CHECK(c.list.shed() == 10);
    CHECK(c.list.counters().connections == 150);
    CHECK(c.list.counters().for_descriptors == 11);
}

TEST_CASE("what strangers may take follows from descriptors and memory") {
    using limits = engine::stranger_limits;
    CHECK(limits::of_server(20'000, 256u << 20).connections == 10'000);
    CHECK(limits::of_server(20'000, 256u << 20).bytes == 48u << 20);
    CHECK(limits::of_server(1u << 20, 1u << 30).connections == 16'384);
    CHECK(limits::of_server(1024, 24u << 20).connections == 512);
    CHECK(limits::of_server(1024, 24u << 20).bytes == 8u << 20);
    CHECK(limits::of_server(4, 16u << 20).connections == 16);
    CHECK(limits::of_server(~std::uint64_t{0}, 256u << 20).connections == 16'384);
    CHECK(limits{.connections = 10, .bytes = 1000}.share(3).connections == 3);
    CHECK(limits{.connections = 10, .bytes = 1000}.share(3).bytes == 333);
    CHECK(limits{.connections = 2, .bytes = 1000}.share(3).connections == 1);
}

TEST_CASE("a line about many events comes seldom") {
    engine::seldom line(60 * second);
    CHECK(line.now_and_then(5 * second));
    CHECK_FALSE(line.now_and_then(5 * second));
    CHECK_FALSE(line.now_and_then(64 * second));
    CHECK_FALSE(line.now_and_then(4 * second));  // another worker's clock
    CHECK(line.now_and_then(65 * second));
    CHECK_FALSE(line.now_and_then(124 * second));
}
