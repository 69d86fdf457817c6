// Durations, byte counts and the back-off: what Go prints and reads.
#include <chrono>

#include "core/engine/backoff.hh"
#include "core/engine/byte_count.hh"
#include "core/engine/duration.hh"
#include "tests/catch.hh"

using namespace burin;
using namespace burin::engine;
using namespace std::chrono_literals;

TEST_CASE("durations are read in Go's syntax") {
    struct row {
        std::string_view text;
        std::chrono::nanoseconds value;
    };
    const row rows[] = {
        {"25s", 25s},
        {"2m", 2min},
        {"1h30m", 90min},
        {"100ms", 100ms},
        {"0", 0s},
        {"+5s", 5s},
        {"-1.5s", -1500ms},
        {"1.5h", 90min},
        {".5s", 500ms},
        {"5.s", 5s},
        {"3us", 3us},
        {"3\u00b5s", 3us},
        {"3\u03bcs", 3us},
        {"7ns", 7ns},
        {"1h1m1s1ms1us1ns", 3661001001001ns},
        {"0.3333333s", 333333300ns},
        {"0s", 0s},
        {"9223372036854775807ns", 9223372036854775807ns},
    };
    for (const row& r : rows) {
        CAPTURE(r.text);
        auto got = parse_duration(r.text);
        REQUIRE(got);
        CHECK(*got == r.value);
    }
    for (std::string_view bad :
         {"", "5", "s", "-", "+", ".s", "1x", "1 s", "1s ", "1sm", "1..5s", "9223372036854775808ns",
          "99999999999999999999h", "2562047h2562047h", "1e3s", "--1s"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_duration(bad));
    }
}

TEST_CASE("durations are printed as Go prints them") {
    struct row {
        std::chrono::nanoseconds value;
        std::string_view text;
    };
    const row rows[] = {
        {0s, "0s"},
        {1ns, "1ns"},
        {850300ns, "850.3\u00b5s"},
        {100ms, "100ms"},
        {1500ms, "1.5s"},
        {1s, "1s"},
        {90s, "1m30s"},
        {5min, "5m0s"},
        {90min, "1h30m0s"},
        {-1500ms, "-1.5s"},
        {2200us, "2.2ms"},
        {3661001001001ns, "1h1m1.001001001s"},
        {std::chrono::nanoseconds::min(), "-2562047h47m16.854775808s"},
    };
    for (const row& r : rows) CHECK(duration_text(r.value) == r.text);
}

TEST_CASE("byte counts have three significant digits of base 1000") {
    struct row {
        std::uint64_t bytes;
        std::string_view text;
    };
    const row rows[] = {
        {0, "0B"},
        {5, "5B"},
        {999, "999B"},
        {1000, "1KB"},
        {1200, "1.2KB"},
        {1234, "1.23KB"},
        {1235, "1.24KB"},
        {12345, "12.3KB"},
        {123456, "123KB"},
        {999499, "999KB"},
        {999500, "1MB"},
        {1230000000, "1.23GB"},
        {1u << 30, "1.07GB"},
    };
    for (const row& r : rows) {
        CAPTURE(r.bytes);
        CHECK(byte_count(r.bytes) == r.text);
    }
    CHECK(parse_byte_count("256M") == 256u << 20);
    CHECK(parse_byte_count("1GiB") == 1u << 30);
    CHECK(parse_byte_count("1gb") == 1'000'000'000u);
    CHECK(parse_byte_count("77") == 77u);
    CHECK(parse_byte_count("2T") == std::uint64_t{2} << 40);
    for (std::string_view bad :
         {"", "M", "1X", "1 M", "-1M", "1MM", "18446744073709551616", "99999999999T", "1.5G"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_byte_count(bad));
    }
}

TEST_CASE("retries double their delay up to the most, and say so in chisel's lines") {
    backoff b(100 * ring::millisecond, 5 * ring::second, -1);
    auto first = b.failed("refused");
    CHECK(first.error_line == "Connection error: refused");
    CHECK(first.next_line == "Retrying in 100ms...");
    CHECK(first.delay == 100 * ring::millisecond);
    auto second = b.failed("refused");
    CHECK(second.error_line == "Connection error: refused (Attempt: 1/unlimited)");
    CHECK(second.next_line == "Retrying in 200ms...");
    for (auto expected : {"400ms", "800ms", "1.6s", "3.2s", "5s", "5s"})
        CHECK(b.failed("x").next_line == std::string("Retrying in ") + expected + "...");
    // A clean disconnect has no error line; five seconds are not yet a good session.
    auto clean = b.failed("", 5 * ring::second);
    CHECK(clean.error_line.empty());
    CHECK(clean.next_line == "Retrying in 5s...");
    auto fresh = b.failed("EOF", 5 * ring::second + 1);
    CHECK(fresh.error_line == "Connection error: EOF");
    CHECK(fresh.next_line == "Retrying in 100ms...");
    for (int i = 0; i < 200; ++i) CHECK(b.failed("x").delay <= 5 * ring::second);
}

TEST_CASE("retries end where they are told to") {
    backoff none(ring::second, 300 * ring::second, 0);
    auto only = none.failed("refused");
    CHECK(only.error_line == "Connection error: refused");
    CHECK_FALSE(only.delay);
    CHECK(only.next_line == "Give up");

    backoff two(ring::second, 300 * ring::second, 2);
    CHECK(two.failed("a").next_line == "Retrying in 1s...");
    auto again = two.failed("a");
    CHECK(again.error_line == "Connection error: a (Attempt: 1/2)");
    CHECK(again.next_line == "Retrying in 2s...");
    auto last = two.failed("a");
    CHECK(last.error_line == "Connection error: a (Attempt: 2/2)");
    CHECK(last.next_line == "Give up");

    // Below a second the longest wait means five minutes.
    backoff long_wait(100 * ring::millisecond, 999 * ring::millisecond, -1);
    backoff::step step;
    for (int i = 0; i < 30; ++i) step = long_wait.failed("x");
    CHECK(step.next_line == "Retrying in 5m0s...");
    // A least above the most is cut.
    CHECK(backoff(60 * ring::second, 2 * ring::second, -1).failed("x").delay == 2 * ring::second);
}
