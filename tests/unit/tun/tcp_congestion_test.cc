// The window's law: slow start, CUBIC (RFC 9438), what does not make it grow.
#include "tun/tcp_congestion.hh"

#include <cmath>

#include "tests/catch.hh"

using namespace burin::tun;

namespace {

constexpr std::uint32_t mss = 1000;

// A path of one round trip `rtt_us`, always full: a window is acknowledged a round trip later.
struct full_path {
    tcp_congestion congestion;
    std::uint64_t now = 1'000'000;
    std::uint32_t rtt_us = 100'000;

    full_path() { congestion.start(mss); }
    void round_trip() {
        const std::uint32_t window = congestion.window();
        for (std::uint32_t acked = 0; acked + mss <= window; acked += mss) {
            now += rtt_us / (window / mss);
            congestion.on_ack(mss, congestion.window(), now, rtt_us);
        }
    }
    // Slow start up to `segments`, then a loss: avoidance from 0.7 of it.
    void lose_at(std::uint32_t segments) {
        while (congestion.window() < segments * mss) {
            congestion.on_ack(mss, congestion.window(), now, rtt_us);
        }
        congestion.on_loss(congestion.window());
    }
};

}  // namespace

TEST_CASE("slow start doubles, and only what uses its window") {
    full_path path;
    REQUIRE(path.congestion.window() == 10 * mss);
    path.round_trip();
    REQUIRE(path.congestion.window() == 20 * mss);
    path.congestion.on_ack(mss, 3 * mss, path.now, path.rtt_us);
    REQUIRE(path.congestion.window() == 20 * mss);
}

TEST_CASE("a loss leaves seven tenths, and of what was really out") {
    full_path path;
    path.lose_at(100);
    REQUIRE(path.congestion.window() == 70 * mss);
    REQUIRE(path.congestion.threshold() == 70 * mss);
    full_path lazy;
    lazy.lose_at(100);
    lazy.congestion.on_loss(10 * mss);
    REQUIRE(lazy.congestion.window() == 7 * mss);
    lazy.congestion.on_loss(1 * mss);
    REQUIRE(lazy.congestion.window() == 2 * mss);
}

TEST_CASE("CUBIC is back at its peak after K, slowly there, and fast beyond") {
    full_path path;
    path.rtt_us = 100'000;
    path.lose_at(1000);
    const std::uint64_t start = path.now;
    const double k_s = std::cbrt(300 / 0.4);  // (W_max - cwnd) / C: 9.1 s
    std::uint32_t near_peak_growth = 0;
    std::uint32_t first_growth = 0;
    std::uint32_t late_growth = 0;
    double reached_s = 0;
    while (path.now - start < 25'000'000) {
        const std::uint32_t before = path.congestion.window();
        path.round_trip();
        const double at_s = static_cast<double>(path.now - start) / 1e6;
        const std::uint32_t growth = path.congestion.window() - before;
        if (at_s < 1) first_growth = std::max(first_growth, growth);
        if (std::abs(at_s - k_s) < 0.5) near_peak_growth = std::max(near_peak_growth, growth);
        if (at_s > 20) late_growth = std::max(late_growth, growth);
        if (reached_s == 0 && path.congestion.window() >= 990 * mss) reached_s = at_s;
    }
    INFO("first " << first_growth << " near " << near_peak_growth << " late " << late_growth);
    REQUIRE(first_growth > 4 * near_peak_growth);
    REQUIRE(late_growth > 4 * near_peak_growth);
    REQUIRE(reached_s > k_s - 4);
    REQUIRE(reached_s < k_s + 1);
}

TEST_CASE("on short round trips it is as fast as Reno") {
    full_path path;
    path.rtt_us = 1000;
    path.lose_at(20);
    const std::uint32_t before = path.congestion.window();
    for (int i = 0; i < 100; ++i) path.round_trip();
    // Reno with a reduction of 0.7 gains 0.53 segments a round trip, a whole one above its old
    // peak.
    const std::uint32_t gained = path.congestion.window() - before;
    REQUIRE(gained > 50 * mss);
    REQUIRE(gained < 110 * mss);
}

TEST_CASE("a second loss below the peak gives way") {
    full_path path;
    path.rtt_us = 10'000;
    path.lose_at(100);
    path.congestion.on_loss(path.congestion.window());  // at 70, below 100
    REQUIRE(path.congestion.window() == 49 * mss);
    // The new peak is 70 * (1 + 0.7) / 2 = 59.5, not 70: growth flattens there.
    const std::uint64_t start = path.now;
    const double k_s = std::cbrt((59.5 - 49) / 0.4);
    while (static_cast<double>(path.now - start) / 1e6 < k_s / 2) path.round_trip();
    REQUIRE(path.congestion.window() < 200 * mss);
    full_path patient;
    patient.lose_at(100);
    REQUIRE(patient.congestion.window() == 70 * mss);
}

TEST_CASE("time without use of the window is no time of the curve") {
    full_path path;
    path.lose_at(1000);
    path.round_trip();
    const std::uint32_t before = path.congestion.window();
    for (int i = 0; i < 600; ++i) {  // a minute of little use
        path.now += 100'000;
        path.congestion.on_ack(mss, 5 * mss, path.now, path.rtt_us);
    }
    REQUIRE(path.congestion.window() == before);
    path.round_trip();
    REQUIRE(path.congestion.window() < before + before / 10);
}

TEST_CASE("a timeout starts over, a repeated one changes no threshold, undo brings back") {
    full_path path;
    path.lose_at(100);
    const std::uint32_t window = path.congestion.window();
    path.congestion.on_timeout(window, tcp_congestion::timeout::first);
    REQUIRE(path.congestion.window() == mss);
    const std::uint32_t threshold = path.congestion.threshold();
    REQUIRE(threshold == 49 * mss);
    path.congestion.on_timeout(mss, tcp_congestion::timeout::again);
    REQUIRE(path.congestion.threshold() == threshold);
    path.congestion.undo();
    REQUIRE(path.congestion.window() == window);
    REQUIRE(path.congestion.threshold() == 70 * mss);
}

TEST_CASE("after an idle time the window starts over at ten segments") {
    full_path path;
    path.lose_at(100);
    path.congestion.on_idle();
    REQUIRE(path.congestion.window() == 10 * mss);
}
