// Bursts and their times.
#include "tun/tcp_pacer.hh"

#include "tests/catch.hh"

using namespace burin::tun;

namespace {

constexpr std::uint32_t mss = 1460;

// Sends whenever it may, looking at the clock `every_us`; bytes in `for_us`.
std::uint64_t sent_by(tcp_pacer& pacer, time_us& now, time_us every_us, time_us for_us) {
    std::uint64_t sent = 0;
    for (const time_us end = now + for_us; now < end; now += every_us) {
        while (pacer.may_send(now)) {
            pacer.on_sent(pacer.burst(), false, now);
            sent += pacer.burst();
        }
    }
    return sent;
}

}  // namespace

TEST_CASE("a burst is a millisecond of the rate, two segments at least, a superframe at most") {
    tcp_pacer pacer;
    pacer.set_rate(25, mss, 0);
    REQUIRE(pacer.burst() == 25'000);
    pacer.set_rate(0.1f, mss, 0);
    REQUIRE(pacer.burst() == 2 * mss);
    pacer.set_rate(5000, mss, 0);
    REQUIRE(pacer.burst() == tcp_pacer::most_burst);
}

TEST_CASE("the mean rate holds, however coarse the timer is within bounds") {
    for (time_us every : {time_us{50}, time_us{1000}, time_us{9000}}) {
        INFO("every " << every);
        for (float rate : {0.5f, 12.5f, 300.0f}) {
            tcp_pacer pacer;
            time_us now = 1'000'000'000'000;
            pacer.set_rate(rate, mss, now);
            sent_by(pacer, now, every, 100'000);
            const auto sent = static_cast<float>(sent_by(pacer, now, every, 10'000'000));
            REQUIRE(sent > 0.98f * rate * 10'000'000);
            REQUIRE(sent < 1.02f * rate * 10'000'000);
        }
    }
}

TEST_CASE("what waits is told when, and a timer later than the bound is not made up for") {
    tcp_pacer pacer;
    time_us now = 1'000'000'000'000;
    pacer.set_rate(10, mss, now);
    pacer.on_sent(10'000, true, now);
    REQUIRE_FALSE(pacer.may_send(now));
    REQUIRE(pacer.ready_at() > now + 990);
    REQUIRE(pacer.ready_at() <= now + 1002);
    REQUIRE(pacer.may_send(pacer.ready_at()));
    now += 500'000;
    const std::uint64_t at_once = sent_by(pacer, now, 1, 1);
    REQUIRE(at_once > 100'000);  // ten milliseconds
    REQUIRE(at_once <= 120'000);
    // After a pause there is nothing to make up for at all.
    now += 500'000;
    pacer.on_sent(pacer.burst(), true, now);
    REQUIRE_FALSE(pacer.may_send(now));
}
