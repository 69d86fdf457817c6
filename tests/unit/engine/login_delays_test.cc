// Delays of logins by address, under a clock of the test's own.
#include "core/engine/login_delays.hh"

#include <thread>
#include <vector>

#include "tests/catch.hh"

using namespace burin;
using ring::millisecond;
using ring::second;

namespace {

relay::endpoint at(std::string_view address, std::uint16_t port = 1000) {
    return *relay::endpoint::literal(address, port);
}

}  // namespace

TEST_CASE("failed logins of an address wait longer and longer, up to four seconds") {
    engine::login_delays delays;
    CHECK(delays.right(at("192.0.2.1"), 0) == 0);
    std::vector<ring::microseconds_t> waits;
    for (unsigned i = 0; i < 6; ++i)
        waits.push_back(delays.failed(at("192.0.2.1", static_cast<std::uint16_t>(i)), i));
    CHECK(waits == std::vector<ring::microseconds_t>{1 * second, 2 * second, 4 * second, 4 * second,
                                                     4 * second, 4 * second});
    // However many there were: it is a delay, no ban, and a right one waits as long.
    for (unsigned i = 0; i < 1000; ++i) delays.failed(at("192.0.2.1"), second);
    CHECK(delays.failed(at("192.0.2.1"), second) == 4 * second);
    CHECK(delays.right(at("192.0.2.1"), second) == 4 * second);
    // Nobody else waits for it.
    CHECK(delays.right(at("192.0.2.2"), second) == 0);
    CHECK(delays.failed(at("192.0.2.2"), second) == second);
    CHECK(delays.report().failures == 1008);
    CHECK(delays.report().addresses == 2);
}

TEST_CASE("an address without failures for five minutes is new again") {
    engine::login_delays delays;
    delays.failed(at("192.0.2.1"), 0);
    delays.failed(at("192.0.2.1"), 299 * second);
    CHECK(delays.right(at("192.0.2.1"), 598 * second) == 2 * second);
    CHECK(delays.right(at("192.0.2.1"), 599 * second) == 0);
    CHECK(delays.report().addresses == 0);
    CHECK(delays.failed(at("192.0.2.1"), 600 * second) == second);
    // Clocks of two workers differ by a little.
    CHECK(delays.failed(at("192.0.2.1"), 599 * second) == 2 * second);
    CHECK(delays.right(at("192.0.2.1"), 598 * second) == 2 * second);
}

TEST_CASE("an address is all of IPv4 and a network's half of IPv6") {
    engine::login_delays delays;
    delays.failed(at("2001:db8:1:2::1"), 0);
    CHECK(delays.right(at("2001:db8:1:2:ffff::2"), 0) == second);
    CHECK(delays.right(at("2001:db8:1:3::1"), 0) == 0);
    // A socket for both families shows IPv4 addresses mapped, each of them its own.
    delays.failed(at("192.0.2.1"), 0);
    CHECK(delays.right(at("::ffff:192.0.2.1"), 0) == second);
    CHECK(delays.right(at("::ffff:192.0.2.2"), 0) == 0);
    CHECK(delays.report().addresses == 2);
}

TEST_CASE("the table of addresses is bounded; the oldest failure is forgotten first") {
    engine::login_delays delays({.addresses = 3});
    for (const char* address : {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1"})
        delays.failed(at(address), 0);
    delays.failed(at("192.0.2.4"), 0);
    CHECK(delays.report().addresses == 3);
    CHECK(delays.right(at("192.0.2.1"), 0) == 2 * second);
    CHECK(delays.right(at("192.0.2.2"), 0) == 0);
    CHECK(delays.right(at("192.0.2.3"), 0) == second);
}

TEST_CASE("the first delay is a setting, and none is one") {
    engine::login_delays quick({.first = 10 * millisecond}), slow({.first = 60 * second}),
        none({.first = 0});
    CHECK(quick.failed(at("::1"), 0) == 10 * millisecond);
    for (int i = 0; i < 9; ++i) quick.failed(at("::1"), 0);
    CHECK(quick.failed(at("::1"), 0) == 40 * millisecond);
    // Longer than a second would be a ban: a login must be over in time.
    CHECK(slow.failed(at("::1"), 0) == second);
    CHECK(slow.failed(at("::1"), 0) == 2 * second);
    for (int i = 0; i < 3; ++i) CHECK(none.failed(at("::1"), 0) == 0);
    CHECK(none.right(at("::1"), 0) == 0);
}

TEST_CASE("workers share the delays", "[tsan]") {
    engine::login_delays delays;
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
        threads.emplace_back([&] {
            for (unsigned n = 0; n < 1000; ++n) {
                delays.failed(at("192.0.2.1"), n * millisecond);
                delays.right(at("2001:db8::1"), n * millisecond);
            }
        });
    for (auto& each : threads) each.join();
    CHECK(delays.report().failures == 4000);
    CHECK(delays.report().addresses == 1);
}
