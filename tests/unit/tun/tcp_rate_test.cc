// Delivery-rate samples, from sendings and arrivals at given times.
#include "tun/tcp_rate.hh"

#include "tests/catch.hh"

using namespace burin::tun;

namespace {

constexpr std::uint32_t mss = 1000;
constexpr std::uint32_t start_us = 0xfffff000;  // wraps at once

struct sampling {
    delivery_rate rate;
    std::uint32_t sent = 0, arrived = 0;  // segments

    void send(std::uint32_t at_us, std::uint32_t rtt_us, std::uint32_t count = 1) {
        for (std::uint32_t i = 0; i < count; ++i) {
            rate.on_sent(sequence(sent * mss), start_us + at_us, rtt_us, sent == arrived);
            ++sent;
        }
    }
    rate_sample arrive(std::uint32_t at_us, std::uint32_t count = 1, std::uint32_t least_us = 0) {
        tcp_delivery news;
        news.bytes = count * mss;
        news.original = true;
        news.original_start = sequence(arrived * mss);
        arrived += count;
        news.original_end = sequence(arrived * mss);
        return rate.on_arrival(news, news.bytes, start_us + at_us, least_us);
    }
};

}  // namespace

TEST_CASE("a steady stream is sampled at its rate, with far more sendings than spans") {
    sampling s;
    rate_sample last;
    // A segment a millisecond, back after 100 ms: 100 are out.
    s.rate.on_sent(sequence(0), start_us, 100'000, true);
    s.sent = 1;
    for (std::uint32_t at = 1000; at < 600'000; at += 1000) {
        if (at >= 100'000) last = s.arrive(at);
        s.send(at, 100'000);
    }
    REQUIRE(last.rate > 0.97f);
    REQUIRE(last.rate < 1.03f);
    REQUIRE(last.rtt_us >= 100'000);
    REQUIRE(last.rtt_us <= 113'000);
    REQUIRE(last.dated);
    REQUIRE_FALSE(last.app_limited);
}

TEST_CASE("acknowledgements in a heap do not look faster than the sending was") {
    sampling s;
    s.rate.on_sent(sequence(0), start_us, 20'000, true);
    s.sent = 1;
    for (std::uint32_t at = 1000; at < 20'000; at += 1000) s.send(at, 20'000);
    // All twenty at once, and the next ones, sent in the same rhythm, too.
    for (std::uint32_t i = 0; i < 20; ++i) s.arrive(39'000);
    for (std::uint32_t at = 20'000; at < 40'000; at += 1000) s.send(at + 20'000, 20'000);
    rate_sample best;
    for (std::uint32_t i = 0; i < 20; ++i) {
        const rate_sample one = s.arrive(79'000);
        if (one.rate > best.rate) best = one;
    }
    REQUIRE(best.rate > 0);
    REQUIRE(best.rate <= 1.15f);
}

TEST_CASE("samples of less than the least round trip are none") {
    sampling s;
    s.rate.on_sent(sequence(0), start_us, 20'000, true);
    s.sent = 1;
    REQUIRE(s.arrive(500, 1, 20'000).rate == 0);
    s.send(1000, 20'000);
    REQUIRE(s.arrive(21'000, 1, 20'000).rate > 0);
}

TEST_CASE("what was sent for want of more is marked, until it has arrived") {
    sampling s;
    s.rate.on_sent(sequence(0), start_us, 20'000, true);
    s.sent = 1;
    s.rate.note_limited(mss);
    s.rate.split();
    s.send(1000, 20'000, 2);
    REQUIRE_FALSE(s.arrive(20'000).app_limited);
    REQUIRE(s.rate.limited());
    REQUIRE(s.arrive(21'000).app_limited);
    REQUIRE_FALSE(s.rate.limited());
    REQUIRE(s.arrive(21'100).app_limited);
    s.send(22'000, 20'000);
    REQUIRE_FALSE(s.arrive(42'000).app_limited);
}

TEST_CASE("after a pause the time without anything out does not count") {
    sampling s;
    s.rate.on_sent(sequence(0), start_us, 20'000, true);
    s.sent = 1;
    s.arrive(20'000);
    s.rate.on_sent(sequence(mss), start_us + 900'000, 20'000, true);
    s.sent = 2;
    s.send(900'000, 20'000, 19);
    rate_sample last;
    for (int i = 0; i < 20; ++i) last = s.arrive(920'000);
    REQUIRE(last.rate > 0.99f);
    REQUIRE(last.rate < 1.01f);
}

TEST_CASE("what was sent again dates a round trip and gives no rate") {
    sampling s;
    s.rate.on_sent(sequence(0), start_us, 20'000, true);
    s.sent = 1;
    tcp_delivery news;
    news.bytes = mss;
    news.repaired = true;
    news.repaired_at = start_us + 30'000;
    const rate_sample one = s.rate.on_arrival(news, mss, start_us + 50'000, 0);
    REQUIRE(one.dated);
    REQUIRE(one.sent_at == start_us + 30'000);
    REQUIRE(one.rate == 0);
    REQUIRE(one.rtt_us == 0);
    REQUIRE_FALSE(s.rate.on_arrival({}, 0, start_us + 51'000, 0).dated);
}
