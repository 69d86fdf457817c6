#include "core/engine/send_pace.hh"

#include "tests/catch.hh"

namespace burin::engine {
namespace {

using ring::millisecond;
using ring::second;

// A path that takes `rate` bytes a second of whatever is sealed, one send after another.
ring::microseconds_t carry(send_pace& pace, std::uint64_t rate, ring::microseconds_t from,
                           ring::microseconds_t time) {
    ring::microseconds_t now = from;
    while (now < from + time) {
        const std::size_t bytes = pace.seal_bytes(now);
        pace.begin(bytes, now);
        now += bytes * second / rate;
        pace.sent(bytes, now);
    }
    return now;
}

TEST_CASE("a send is what the path takes in two milliseconds", "[pace]") {
    send_pace pace;
    CHECK(pace.seal_bytes(0) == send_pace::first_seal_bytes);  // not known yet
    CHECK(pace.unsent_bytes(0) == send_pace::first_unsent_bytes);
    CHECK(pace.turn_bytes(0) == send_pace::least_turn_bytes);
    // 100 Mbit/s, 1 Gbit/s, and memory.
    ring::microseconds_t now = carry(pace, 12'500'000, second, second);
    CHECK(pace.rate() > 11'000'000);
    CHECK(pace.rate() < 14'000'000);
    CHECK(pace.seal_bytes(now) == send_pace::least_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::least_unsent_bytes);
    CHECK(pace.turn_bytes(now) == send_pace::least_turn_bytes);
    now = carry(pace, 125'000'000, now, second);
    CHECK(pace.seal_bytes(now) > 225'000);
    CHECK(pace.seal_bytes(now) < 275'000);
    CHECK(pace.unsent_bytes(now) == 512 * 1024);
    CHECK(pace.turn_bytes(now) > 112'000);
    CHECK(pace.turn_bytes(now) < 138'000);
    now = carry(pace, 2'000'000'000, now, second);
    CHECK(pace.seal_bytes(now) == send_pace::most_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::most_unsent_bytes);
    CHECK(pace.turn_bytes(now) == send_pace::most_turn_bytes);
}

TEST_CASE("pauses between sends are not the path's slowness", "[pace]") {
    send_pace pace;
    ring::microseconds_t now = carry(pace, 125'000'000, second, second);
    const std::uint64_t before = pace.rate();
    for (int i = 0; i < 1000; ++i) {
        pace.begin(12'500, now);  // small, and each is on its way for as long as a turn takes
        now += 400;
        pace.sent(12'500, now);
        now += 500;
        pace.begin(125'000, now);
        now += millisecond;
        pace.sent(125'000, now);
        now += 20 * millisecond;  // nothing to send
    }
    CHECK(pace.rate() > before / 100 * 99);
    CHECK(pace.rate() < before / 100 * 101);
}

TEST_CASE("quick packets make the pace short for a second", "[pace]") {
    send_pace pace;
    ring::microseconds_t now = carry(pace, 2'000'000'000, second, second);
    // Two within a tenth of a second are nobody who waits; nor is one every fifth.
    pace.look(1, 0, now);
    pace.look(2, 0, now + 10);
    CHECK_FALSE(pace.quick(now + 20));
    for (std::uint64_t i = 3; i < 50; ++i) pace.look(i, 0, now += second / 5);
    CHECK_FALSE(pace.quick(now));
    // Four within 60 ms are.
    now += second / 5;
    for (std::uint64_t i = 50; i < 53; ++i) pace.look(i, 0, now += 20 * millisecond);
    CHECK_FALSE(pace.quick(now));
    pace.look(53, 0, now += 20 * millisecond);
    CHECK(pace.quick(now));
    CHECK(pace.seal_bytes(now) == send_pace::quick_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::quick_unsent_bytes);
    CHECK(pace.turn_bytes(now) == send_pace::least_turn_bytes);
    CHECK(pace.quick(now + send_pace::quick_rest - 1));
    CHECK_FALSE(pace.quick(now + send_pace::quick_rest));
    CHECK(pace.seal_bytes(now + send_pace::quick_rest) == send_pace::most_seal_bytes);
    CHECK_FALSE(pace.apart(now));  // a fast path
    // Many at once count as many.
    pace.look(200, 0, now += 10 * second);
    CHECK_FALSE(pace.quick(now));
    pace.look(201, 0, now += send_pace::lasting_time);
    CHECK(pace.quick(now));
}

TEST_CASE("flows that begin at once are nobody who waits", "[pace]") {
    send_pace pace;
    ring::microseconds_t now = carry(pace, 2'000'000'000, 10 * second, second);
    pace.look(16, 0, now);
    pace.look(40, 0, now += send_pace::lasting_time - 1);
    CHECK_FALSE(pace.quick(now));
    CHECK(pace.seal_bytes(now) == send_pace::most_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::most_unsent_bytes);
    CHECK(pace.turn_bytes(now) == send_pace::most_turn_bytes);
    CHECK_FALSE(pace.quick(now + send_pace::quick_rest / 2));
    // Whoever goes on is, from 50 ms after the first.
    pace.look(43, 0, ++now);
    CHECK(pace.quick(now));
    CHECK(pace.quick(now + send_pace::quick_rest - 1));
    CHECK_FALSE(pace.quick(now + send_pace::quick_rest));
    // And after a rest it begins anew.
    pace.look(50, 0, now += 2 * second);
    CHECK_FALSE(pace.quick(now));
}

TEST_CASE("over a long path whoever waits for answers is slower, and as quick", "[pace]") {
    send_pace pace;
    ring::microseconds_t now = 10 * second;
    for (std::uint64_t i = 1; i < 20; ++i) pace.look(i, millisecond, now += 85 * millisecond);
    CHECK_FALSE(pace.quick(now));
    for (std::uint64_t i = 20; i < 40; ++i) pace.look(i, 40 * millisecond, now += 85 * millisecond);
    CHECK(pace.quick(now));
    CHECK_FALSE(pace.quick(now + send_pace::quick_rest));
    for (std::uint64_t i = 40; i < 50; ++i) pace.look(i, 400 * millisecond, now += second);
    CHECK(pace.quick(now));
    CHECK(pace.quick(now + send_pace::quick_rest));
    CHECK_FALSE(pace.quick(now + 8 * 400 * millisecond));
}

TEST_CASE("over a slow path whoever waits for answers is slower, and as quick", "[pace]") {
    send_pace pace;
    ring::microseconds_t now = carry(pace, 125'000'000, second, second);
    for (std::uint64_t i = 1; i < 20; ++i) pace.look(i, 0, now += 85 * millisecond);
    CHECK_FALSE(pace.quick(now));
    now = carry(pace, 5'000'000, now, 3 * second);
    for (std::uint64_t i = 20; i < 40; ++i) pace.look(i, 0, now += 85 * millisecond);
    CHECK(pace.quick(now));
    now = carry(pace, 20'000, now, 20 * second);
    for (std::uint64_t i = 40; i < 60; ++i) pace.look(i, 0, now += second);
    CHECK_FALSE(pace.quick(now));
}

TEST_CASE("over a slow path little is in front of somebody who waits", "[pace]") {
    send_pace pace;
    ring::microseconds_t now = carry(pace, 5'000'000, second, second);
    CHECK_FALSE(pace.apart(now));
    for (std::uint64_t i = 0; i < 10; ++i) pace.look(i, 0, now);
    pace.look(10, 0, now += send_pace::lasting_time);
    CHECK(pace.quick(now));
    CHECK(pace.seal_bytes(now) == send_pace::least_quick_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::least_quick_unsent_bytes);
    CHECK(pace.apart(now));
    // So short, they tell the rate all the same, both ways.
    std::uint64_t pace_total = 100;
    const auto still = [&](std::uint64_t rate) {
        for (int i = 0; i < 4; ++i) {
            pace.look(pace_total += 10, 0, now);
            now = carry(pace, rate, now, second / 2);
        }
    };
    still(1'000'000);
    CHECK(pace.rate() < 1'200'000);
    CHECK(pace.seal_bytes(now) == send_pace::least_quick_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::least_quick_unsent_bytes);
    still(20'000'000);
    CHECK(pace.seal_bytes(now) > 17'000);
    CHECK(pace.seal_bytes(now) < 22'000);
    CHECK(pace.unsent_bytes(now) == 32 * 1024);
    CHECK(pace.apart(now));
    still(50'000'000);
    CHECK(pace.rate() > 40'000'000);
    CHECK(pace.seal_bytes(now) > 40'000);
    CHECK(pace.unsent_bytes(now) == send_pace::quick_unsent_bytes);
    CHECK_FALSE(pace.apart(now));
}

}  // namespace
}  // namespace burin::engine
