// The wheel against a sorted map, with a clock of the test's own.
#include "ring/timer_wheel.hh"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "tests/catch.hh"

using namespace burin::ring;

namespace {

struct probe {
    std::vector<std::pair<int, microseconds_t>>* fired;
    int id;
    timer t{this, [](void* self, microseconds_t now) noexcept {
                auto& p = *static_cast<probe*>(self);
                p.fired->push_back({p.id, now});
            }};
    explicit probe(std::vector<std::pair<int, microseconds_t>>* f, int i) : fired(f), id(i) {}
};

}  // namespace

TEST_CASE("timers fire once, at their time or up to a tick later", "[timer]") {
    unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    microseconds_t now = 1'234'567'890;
    timer_wheel wheel(now);
    std::vector<std::pair<int, microseconds_t>> fired;
    std::vector<std::unique_ptr<probe>> probes;
    for (int i = 0; i < 400; ++i) probes.push_back(std::make_unique<probe>(&fired, i));
    std::map<int, microseconds_t> expected;
    const microseconds_t spans[] = {5 * millisecond, 80 * millisecond, 10 * second, 3600 * second};
    for (int round = 0; round < 20000; ++round) {
        int id = static_cast<int>(random() % probes.size());
        if (random() % 4 == 0) {
            probes[static_cast<std::size_t>(id)]->t.disarm();
            expected.erase(id);
        } else {
            microseconds_t at = now + random() % spans[random() % 4];
            wheel.arm(probes[static_cast<std::size_t>(id)]->t, at);
            expected[id] = at;
        }
        REQUIRE(wheel.armed() == expected.size());
        if (random() % 3 != 0) continue;
        microseconds_t next = wheel.next();
        if (expected.empty()) {
            REQUIRE(next == timer_wheel::never);
            continue;
        }
        microseconds_t earliest = timer_wheel::never;
        for (auto& [i, at] : expected) earliest = std::min(earliest, at);
        // next() is never late: at most the tick that the earliest deadline rounds up to.
        REQUIRE(next <= std::max(earliest + millisecond, now + 2 * millisecond));
        now = random() % 2 == 0 ? std::max(now, next) : now + random() % (50 * millisecond);
        fired.clear();
        wheel.advance(now);
        for (auto& [i, when] : fired) {
            REQUIRE(expected.count(i) == 1);
            REQUIRE(expected[i] <= now);  // never early
            expected.erase(i);
        }
        for (auto& [i, at] : expected) REQUIRE(at + millisecond > now);  // none forgotten
    }
}

TEST_CASE("a timer may arm itself and disarm others while it fires", "[timer]") {
    struct repeating {
        timer_wheel* wheel;
        timer* victim;
        int times = 0;
        timer t{this, [](void* self, microseconds_t now) noexcept {
                    auto& r = *static_cast<repeating*>(self);
                    r.victim->disarm();
                    if (++r.times < 5) r.wheel->arm(r.t, now + 10 * millisecond);
                }};
    };
    timer_wheel wheel(0);
    std::vector<std::pair<int, microseconds_t>> fired;
    probe victim(&fired, 1);
    repeating r{.wheel = &wheel, .victim = &victim.t};
    wheel.arm(r.t, 10 * millisecond);
    wheel.arm(victim.t, 11 * millisecond);
    for (microseconds_t now = 0; now < 200 * millisecond; now += 5 * millisecond)
        wheel.advance(now);
    REQUIRE(r.times == 5);
    REQUIRE(fired.empty());
    REQUIRE(wheel.armed() == 0);
}

TEST_CASE("a timer that dies is disarmed", "[timer]") {
    timer_wheel wheel(0);
    std::vector<std::pair<int, microseconds_t>> fired;
    {
        probe p(&fired, 1);
        wheel.arm(p.t, 5 * millisecond);
    }
    REQUIRE(wheel.armed() == 0);
    wheel.advance(second);
    REQUIRE(fired.empty());
}

// A machine that slept, or a process that was stopped: all that was due meanwhile is due now, each
// once, and what is not due yet keeps its time. A clock that goes back (none should) does nothing.
TEST_CASE("a jump of the clock fires what it passed, and nothing else", "[timer]") {
    unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    constexpr microseconds_t hour = 3600 * second, day = 24 * hour;
    for (microseconds_t jump : {microseconds_t{0}, 10 * second, 70 * second, hour, day, 13 * day}) {
        microseconds_t now = random() % (20 * day);
        timer_wheel wheel(now);
        std::vector<std::pair<int, microseconds_t>> fired;
        std::vector<std::unique_ptr<probe>> probes;
        std::map<int, microseconds_t> expected;
        for (int i = 0; i < 300; ++i) {
            probes.push_back(std::make_unique<probe>(&fired, i));
            const microseconds_t spans[] = {100 * millisecond, 60 * second, 2 * hour, 30 * day};
            expected[i] = now + random() % spans[random() % 4];
            wheel.arm(probes.back()->t, expected[i]);
        }
        wheel.advance(now < second ? 0 : now - second);
        REQUIRE(fired.empty());
        now += jump;
        wheel.advance(now);
        for (auto& [i, when] : fired) {
            REQUIRE(expected.count(i) == 1);
            REQUIRE(expected[i] <= now);
            REQUIRE(when == now);
            expected.erase(i);
        }
        for (auto& [i, at] : expected) REQUIRE(at + millisecond > now);
        // The wheel goes on as before: the next one comes at its time.
        if (expected.empty()) continue;
        microseconds_t earliest = timer_wheel::never;
        for (auto& [i, at] : expected) earliest = std::min(earliest, at);
        REQUIRE(wheel.next() <= std::max(earliest, now) + 2 * millisecond);
        fired.clear();
        wheel.advance(earliest + millisecond);
        REQUIRE_FALSE(fired.empty());
    }
}
