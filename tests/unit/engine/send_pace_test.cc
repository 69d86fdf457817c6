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
    CHECK(pace.seal_bytes(0) == send_pace::quick_seal_bytes);  // not known yet
    CHECK(pace.unsent_bytes(0) == send_pace::most_unsent_bytes);
    // 100 Mbit/s, 1 Gbit/s, and memory.
    ring::microseconds_t now = carry(pace, 12'500'000, second, second);
    CHECK(pace.rate() > 11'000'000);
    CHECK(pace.rate() < 14'000'000);
    CHECK(pace.seal_bytes(now) == send_pace::least_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::least_unsent_bytes);
    now = carry(pace, 125'000'000, now, second);
    CHECK(pace.seal_bytes(now) > 225'000);
    CHECK(pace.seal_bytes(now) < 275'000);
    CHECK(pace.unsent_bytes(now) == 512 * 1024);
    now = carry(pace, 2'000'000'000, now, second);
    CHECK(pace.seal_bytes(now) == send_pace::most_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::most_unsent_bytes);
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
    pace.look(1, now);
    pace.look(2, now + 10);
    CHECK_FALSE(pace.quick(now + 20));
    for (std::uint64_t i = 3; i < 50; ++i) pace.look(i, now += second / 5);
    CHECK_FALSE(pace.quick(now));
    for (std::uint64_t i = 50; i < 60; ++i) pace.look(i, now += 20 * millisecond);
    CHECK(pace.quick(now));
    CHECK(pace.seal_bytes(now) == send_pace::quick_seal_bytes);
    CHECK(pace.unsent_bytes(now) == send_pace::quick_unsent_bytes);
    CHECK(pace.quick(now + send_pace::quick_rest - 1));
    CHECK_FALSE(pace.quick(now + send_pace::quick_rest));
    CHECK(pace.seal_bytes(now + send_pace::quick_rest) == send_pace::most_seal_bytes);
    // Many at once count as many.
    pace.look(200, now += 10 * second);
    CHECK(pace.quick(now));
}

}  // namespace
}  // namespace burin::engine
