// BBR's model of a path: what it finds, what it forgets, and in which order it looks.
#include "tun/tcp_bbr.hh"

#include "tests/catch.hh"
#include "tests/unit/tun/bbr_line.hh"

using namespace burin::tun;

namespace {

using phase = tcp_bbr::phase;
constexpr time_us ms = 1000;
constexpr time_us one_second = 1'000'000;

bool is_near(float value, float wanted, float tolerance) {
    return value > wanted * (1 - tolerance) && value < wanted * (1 + tolerance);
}

}  // namespace

TEST_CASE("BBR finds what a path carries, and leaves hardly a queue") {
    bbr_line line;
    line.handshake();
    line.run(one_second);
    REQUIRE(line.phases.at(0) == phase::startup);
    REQUIRE(line.phases.at(1) == phase::drain);
    REQUIRE(line.phases.at(2) == phase::down);
    REQUIRE(is_near(line.control.model.bandwidth(), line.rate, 0.06f));
    REQUIRE(line.control.model.min_rtt_us() >= line.rtt_us);
    REQUIRE(line.control.model.min_rtt_us() < line.rtt_us * 11 / 10);
    line.dropped = line.most_in_flight = 0;
    REQUIRE(line.run(10 * one_second) > 0.9f * line.rate * 8);
    REQUIRE(static_cast<float>(line.most_in_flight) < 1.6f * line.holds());
    REQUIRE(line.dropped == 0);
}

TEST_CASE("BBR goes round: down, cruise, refill, up") {
    bbr_line line;
    line.handshake();
    line.run(one_second);
    while (line.control.model.where() != phase::cruise) line.run(ms);
    line.phases = {phase::cruise};
    line.run(4 * one_second);
    const std::vector<phase> round = {phase::cruise, phase::refill, phase::up, phase::down};
    REQUIRE(line.phases.size() > 4);
    for (std::size_t i = 0; i < line.phases.size(); ++i) REQUIRE(line.phases[i] == round[i % 4]);
}

TEST_CASE("loss that is not congestion moves nothing") {
    bbr_line line;
    line.lose_every = 50;
    line.handshake();
    line.run(2 * one_second);
    REQUIRE(line.run(10 * one_second) > 0.85f * line.rate * 8);
    REQUIRE(line.control.model.bandwidth() > 0.9f * line.rate);
}

TEST_CASE("a link without a queue bounds what is in flight, and the loss ends") {
    bbr_line line;
    line.queue_us = 1500;  // a burst, and little more
    line.handshake();
    line.run(3 * one_second);
    REQUIRE(line.dropped > 0);
    line.dropped = 0;
    line.most_in_flight = 0;
    const float got = line.run(10 * one_second);
    REQUIRE(got > 0.7f * line.rate * 8);
    REQUIRE(static_cast<float>(line.most_in_flight) < 1.4f * line.holds());
    // Of some 12'500 segments a second.
    REQUIRE(line.dropped < 10 * 12'500 / 30);
}

TEST_CASE("a path that becomes four times as fast is found, and one that becomes slower") {
    bbr_line line;
    line.handshake();
    line.run(3 * one_second);
    line.rate *= 4;
    line.run(8 * one_second);
    REQUIRE(is_near(line.control.model.bandwidth(), line.rate, 0.08f));
    line.rate /= 8;
    line.run(8 * one_second);
    REQUIRE(is_near(line.control.model.bandwidth(), line.rate, 0.15f));
    REQUIRE(line.run(5 * one_second) > 0.85f * line.rate * 8);
}

TEST_CASE("when no round trip was as short for five seconds, what is out shrinks for a look") {
    bbr_line line;
    line.handshake();
    line.run(3 * one_second);
    const std::uint32_t before = line.control.model.min_rtt_us();
    REQUIRE_FALSE(line.seen(phase::probe_rtt));
    line.rtt_us = 35'000;
    const time_us changed = line.now;
    while (line.control.model.where() != phase::probe_rtt) {
        line.run(ms);
        REQUIRE(line.now - changed < 6 * one_second);
    }
    REQUIRE(line.now - changed > 2 * one_second);
    REQUIRE(line.control.model.min_rtt_us() == before);  // until it is ten seconds old
    line.run(150 * ms);
    REQUIRE(line.control.model.where() == phase::probe_rtt);
    REQUIRE(static_cast<float>(line.in_flight()) <= 0.5f * line.holds());
    line.run(400 * ms);
    REQUIRE(line.control.model.where() != phase::probe_rtt);
    line.run(6 * one_second);
    REQUIRE(line.control.model.min_rtt_us() >= line.rtt_us);
    REQUIRE(line.control.model.min_rtt_us() < line.rtt_us * 11 / 10);
    REQUIRE(line.run(5 * one_second) > 0.85f * line.rate * 8);
}

TEST_CASE("a flow with little to send does not forget what the path carries") {
    bbr_line line;
    line.handshake();
    line.run(3 * one_second);
    line.offered = line.rate / 20;
    line.run(20 * one_second);
    REQUIRE(line.control.model.bandwidth() > 0.9f * line.rate);
    line.offered = 0;
    REQUIRE(line.run(one_second) > 0.7f * line.rate * 8);
}

TEST_CASE("a flow that was never given enough does not take its offer for the path's limit") {
    bbr_line line;
    line.offered = line.rate / 10;
    line.handshake();
    line.run(3 * one_second);
    REQUIRE(line.control.model.where() == phase::startup);
    line.offered = 0;
    line.run(one_second);
    REQUIRE(is_near(line.control.model.bandwidth(), line.rate, 0.06f));
}

TEST_CASE("a timeout leaves four segments, and the window comes back") {
    bbr_line line;
    line.handshake();
    line.run(3 * one_second);
    tcp_bbr& model = line.control.model;
    const std::uint32_t window = model.window();
    model.on_timeout(0);
    REQUIRE(model.window() == bbr_line::mss);
    bbr_ack ack;
    ack.arrived = bbr_line::mss;
    model.on_ack(ack, line.now);
    REQUIRE(model.window() == 4 * bbr_line::mss);
    model.on_timeout(0);
    model.on_timeout(0);
    model.restore();
    REQUIRE(model.window() == window);
    REQUIRE(model.bandwidth() > 0.9f * line.rate);
}
