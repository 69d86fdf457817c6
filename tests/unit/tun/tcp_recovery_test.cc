// The parts of loss recovery one by one: times of sending, RACK, Reno's duplicates, the rate of
// repairs, the timeout.
#include "tun/tcp_recovery.hh"

#include "tests/catch.hh"

using namespace burin::tun;

TEST_CASE("the timeout follows RFC 6298 and keeps the least round trip") {
    rtt_estimator rtt;
    REQUIRE(rtt.timeout_us() == 1'000'000);
    rtt.sample(100'000, 1);
    REQUIRE(rtt.smoothed_us() == 100'000);
    REQUIRE(rtt.timeout_us() == 300'000);  // 100 ms + 4 * 50 ms, and as much by the floor
    rtt.sample(500'000, 2);
    REQUIRE(rtt.smoothed_us() == 150'000);
    REQUIRE(rtt.timeout_us() == 150'000 + 4 * 137'500);
    rtt.back_off();
    REQUIRE(rtt.timeout_us() == 2 * (150'000 + 4 * 137'500));
    for (int i = 0; i < 20; ++i) rtt.back_off();
    REQUIRE(rtt.timeout_us() == 60'000'000);
    REQUIRE(rtt.least_us() == 100'000);
    rtt.sample(300'000, 3 + rtt_estimator::least_valid_us);
    REQUIRE(rtt.least_us() == 300'000);
}

TEST_CASE("times of sending are bounds on both sides, in constant space") {
    send_times times;
    const sequence zero{0xffffff00};
    std::uint32_t state = 5;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> sent;  // first byte, when
    std::uint32_t now = 0xfffff000;                             // wraps as well
    std::uint32_t next = 0;
    for (int i = 0; i < 200; ++i) {
        state = state * 1664525 + 1013904223;
        now += (state >> 12) % 900;
        times.note(zero + next, now, 1000);
        sent.emplace_back(next, now);
        next += 10;
        for (const auto& [byte, when] : sent) {
            REQUIRE(static_cast<std::int32_t>(times.earliest(zero + byte) - when) <= 0);
            REQUIRE(static_cast<std::int32_t>(times.latest(zero + byte) - when) >= 0);
        }
        // What was sent most recently is known within the grain.
        REQUIRE(now - times.earliest(zero + (next - 10)) <= 1000);
        if (i % 20 == 19) {
            times.forget_until(zero + (next - 50));
            sent.erase(sent.begin(), sent.end() - 5);
        }
    }
}

TEST_CASE("behind a hole that lasts, bytes of a round trip ago are still told from old ones") {
    send_times times;
    constexpr std::uint32_t rtt_us = 20'000;
    std::uint32_t next = 0;
    for (std::uint32_t now = 0; now <= 5 * rtt_us; now += 500, next += 1000) {
        times.note(sequence(next), now, rtt_us / send_times::spans_a_round_trip);
        if (now < rtt_us) continue;
        const std::uint32_t acked = next - rtt_us / 500 * 1000;  // the hole is at 0
        REQUIRE(times.earliest(sequence(acked)) + rtt_us / 2 > now - rtt_us);
        REQUIRE(times.earliest(sequence(acked)) <= now - rtt_us);
    }
}

namespace {

struct rack_stage {
    rack judge;
    send_times times;
    rtt_estimator rtt;
    rack_stage() { rtt.sample(40'000, 1); }
    void original(std::uint32_t start, std::uint32_t end, std::uint32_t now) {
        tcp_delivery news;
        news.bytes = end - start;
        news.original = true;
        news.original_start = sequence(start);
        news.original_end = sequence(end);
        judge.on_delivery(news, times, now, rtt.least_us());
    }
    void repaired(std::uint32_t end, std::uint32_t sent_at, std::uint32_t now) {
        tcp_delivery news;
        news.bytes = 1;
        news.repaired = true;
        news.repaired_at = sent_at;
        news.repaired_end = sequence(end);
        judge.on_delivery(news, times, now, rtt.least_us());
    }
    bool lost(std::uint32_t end, std::uint32_t window, std::uint32_t now, std::uint32_t& wait) {
        return judge.is_lost(sequence(end), nullptr, times, window, now, wait);
    }
};

}  // namespace

TEST_CASE("RACK: only what left before something delivered, and only after the window") {
    rack_stage s;
    s.times.note(sequence(1000), 100'000, 0);
    s.times.note(sequence(2000), 110'000, 0);
    s.times.note(sequence(3000), 120'000, 0);
    REQUIRE_FALSE(s.judge.known());
    s.original(2000, 3000, 150'000);  // round trip 40 ms
    std::uint32_t wait = 0;
    REQUIRE_FALSE(s.lost(4000, 10'000, 150'000, wait));
    REQUIRE(wait == 0);  // sent later: no question
    REQUIRE_FALSE(s.lost(2000, 20'000, 150'000, wait));
    REQUIRE(wait == 10'000);  // it left at 100 ms, and 40 and 20 ms more
    REQUIRE(s.lost(2000, 20'000, 160'000, wait));
    REQUIRE(s.lost(2000, 0, 150'000, wait));
}

TEST_CASE("RACK: reordering opens the window, D-SACK widens it, recoveries close it again") {
    rack_stage s;
    REQUIRE(s.judge.window_us(s.rtt, true) == 0);
    REQUIRE(s.judge.window_us(s.rtt, false) == 10'000);  // a quarter of the least round trip
    s.times.note(sequence(1000), 100'000, 0);
    s.original(2000, 3000, 140'000);
    s.original(1000, 2000, 141'000);
    REQUIRE(s.judge.saw_reordering());
    REQUIRE(s.judge.window_us(s.rtt, true) == 10'000);
    s.judge.on_duplicate(sequence(3000), sequence(9000));
    s.judge.on_duplicate(sequence(4000), sequence(9500));  // the same round trip
    REQUIRE(s.judge.window_us(s.rtt, true) == 20'000);
    s.judge.on_duplicate(sequence(9000), sequence(12'000));
    REQUIRE(s.judge.window_us(s.rtt, true) == 30'000);
    for (int i = 0; i < 20; ++i)
        s.judge.on_duplicate(sequence(12'000 + 10 * i), sequence(12'010 + 10 * i));
    REQUIRE(s.judge.window_us(s.rtt, true) == 40'000);  // never above the smoothed round trip
    for (int i = 0; i < rack::persists; ++i) s.judge.on_recovered();
    REQUIRE(s.judge.window_us(s.rtt, true) == 10'000);
}

TEST_CASE("RACK: a repair that is itself lost is found by what left after it") {
    rack_stage s;
    s.times.note(sequence(1000), 100'000, 0);
    s.original(3000, 4000, 140'000);
    const sent_range repair{sequence(1000), sequence(2000), 141'000, sent_fate::repaired, true};
    std::uint32_t wait = 0;
    REQUIRE_FALSE(s.judge.is_lost(repair.end, &repair, s.times, 0, 145'000, wait));
    s.repaired(2500, 150'000, 160'000);  // faster than any round trip: the original's arrival
    REQUIRE_FALSE(s.judge.is_lost(repair.end, &repair, s.times, 0, 160'000, wait));
    s.repaired(2500, 150'000, 191'000);
    REQUIRE(s.judge.is_lost(repair.end, &repair, s.times, 0, 191'000, wait));
}

TEST_CASE("without SACK the third duplicate tells, and partial ACKs double the repair") {
    reno_recovery reno;
    REQUIRE_FALSE(reno.on_duplicate(1000, 10'000));
    REQUIRE_FALSE(reno.on_duplicate(1000, 10'000));
    REQUIRE(reno.on_duplicate(1000, 10'000));
    REQUIRE(reno.left_bytes() == 3000);
    for (int i = 0; i < 50; ++i) REQUIRE_FALSE(reno.on_duplicate(1000, 10'000));
    REQUIRE(reno.left_bytes() == 9000);  // the lost one is still out
    REQUIRE(reno.on_partial(1000, 1000) == 2);
    REQUIRE(reno.on_partial(2000, 1000) == 4);
    REQUIRE(reno.left_bytes() == 8000);
    REQUIRE(reno.on_partial(9000, 1000) == 1);
    reno.settle();
    REQUIRE(reno.left_bytes() == 0);
}

TEST_CASE("repairs leave in proportion to what arrives, the first at once") {
    rate_reduction rate;
    rate.start(100'000);
    rate.update(1000, 98'000, 70'000, 1000, false);
    REQUIRE(rate.window() == 98'000 + 1000);
    std::uint32_t sent = 1000;
    std::uint32_t pipe = 98'000;
    rate.on_sent(1000);
    // Above the threshold: seven bytes for ten.
    for (std::uint32_t delivered = 2000; delivered <= 20'000; delivered += 1000) {
        rate.update(1000, pipe, 70'000, 1000, false);
        const std::uint32_t allowed = rate.window() - pipe;
        sent += allowed;
        rate.on_sent(allowed);
        REQUIRE(sent <= delivered * 7 / 10 + 1000);
        pipe = pipe - 1000 + allowed;
    }
    REQUIRE(sent == 14'000);
    // Far below: what arrives and a segment more when repairs work, else only what arrives.
    rate.update(1000, 10'000, 70'000, 1000, false);
    const std::uint32_t careful = rate.window() - 10'000;
    rate.update(0, 10'000, 70'000, 1000, true);
    REQUIRE(rate.window() - 10'000 == careful + 1000);
    REQUIRE(rate.window() < 70'000);
}
