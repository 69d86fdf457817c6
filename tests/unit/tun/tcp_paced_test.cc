// A flow under BBR: bursts and timers, loss, what it does not agree on.
#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"
#include "tun/tcp.hh"

using namespace burin;
using namespace burin::tun;

namespace {

tcp_settings bbr_settings() {
    tcp_settings settings;
    settings.congestion = congestion_control::bbr;
    return settings;
}

struct paced : stage {
    std::string bulk = std::string(400'000, 'b');

    paced() : stage(bbr_settings()) { host_sacks = true; }
    // A round trip of 20 ms; nothing was sent yet.
    void begin() {
        open();
        flow->accept(1 << 20, now);
        context.flush(now);
        now += 20 * millisecond;
        from_host({});
        spoken.clear();
    }
    std::uint32_t bytes_of_turn() {
        std::uint32_t bytes = 0;
        for (const said& one : turn()) bytes += static_cast<std::uint32_t>(one.data.size());
        return bytes;
    }
    // Timers and turns until nothing more goes; how often something went.
    int send_all(std::uint32_t& bytes) {
        int times = 0;
        const time_us until = now + 20 * millisecond;
        while (armed < until) {
            wait_for_timer();
            const std::uint32_t went = bytes_of_turn();
            bytes += went;
            if (went > 0) ++times;
        }
        return times;
    }
};

}  // namespace

TEST_CASE("under BBR the first window leaves over a part of the round trip") {
    paced s;
    s.begin();
    REQUIRE(s.flow->control() == congestion_control::bbr);
    s.flow->send(still(s.bulk), s.now);
    std::uint32_t bytes = s.bytes_of_turn();
    REQUIRE(bytes >= 2000);
    REQUIRE(bytes < 10'000);
    REQUIRE(s.armed > s.now);
    REQUIRE(s.armed < s.now + 5 * millisecond);
    REQUIRE(s.turn().empty());
    const time_us start = s.now;
    REQUIRE(s.send_all(bytes) >= 2);
    REQUIRE(bytes == 10'000);
    REQUIRE(s.now - start > 3 * millisecond);  // 2.77 times a window a round trip
    REQUIRE(s.now - start < 20 * millisecond);
    REQUIRE(s.context.statistics().paced_waits > 0);
}

TEST_CASE("under CUBIC it leaves at once, and a flow is what its settings say") {
    stage s;
    s.establish();
    REQUIRE(s.flow->control() == congestion_control::cubic);
    REQUIRE(s.flow->pacing_rate() == 0);
    const std::string bulk(100'000, 'b');
    s.flow->send(still(bulk), s.now);
    REQUIRE(s.turn().at(0).data.size() == 10'000);
    REQUIRE(s.context.statistics().paced_waits == 0);
}

TEST_CASE("under BBR a loss is repaired and takes nothing from the window") {
    paced s;
    s.begin();
    s.flow->send(still(s.bulk), s.now);
    std::uint32_t bytes = s.bytes_of_turn();
    s.send_all(bytes);
    REQUIRE(bytes == 10'000);
    s.now += 20 * millisecond;
    const std::uint32_t window = s.flow->congestion_window();
    s.from_host({.ack = 1001, .sack = {{2001, 10'001}}});
    REQUIRE(s.context.statistics().fast_retransmits == 1);
    REQUIRE(s.flow->congestion_window() >= window);
    const std::vector<said> out = s.turn();
    REQUIRE(out.at(0).seq == 1001);
    REQUIRE(out.at(0).data.size() == 1000);
    std::uint32_t more = 0;
    for (const said& one : out) more += static_cast<std::uint32_t>(one.data.size());
    s.send_all(more);
    REQUIRE(more >= 10'000);  // the repair, and new bytes for what arrived
    REQUIRE(s.context.statistics().retransmitted_bytes == 1000);
    s.from_host({.ack = 10'001});
    REQUIRE(s.acknowledged == 10'000);
}

TEST_CASE("under BBR a host without SACK is repaired too") {
    paced s;
    s.host_sacks = false;
    s.begin();
    s.flow->send(still(s.bulk), s.now);
    std::uint32_t bytes = s.bytes_of_turn();
    s.send_all(bytes);
    s.now += 20 * millisecond;
    const std::uint32_t window = s.flow->congestion_window();
    for (int i = 0; i < 4; ++i) s.from_host({.ack = 1});
    REQUIRE(s.context.statistics().fast_retransmits == 1);
    REQUIRE(s.turn().at(0).seq == 1);
    s.from_host({.ack = 10'001});
    REQUIRE(s.acknowledged == 10'000);
    // Each byte is counted as arrived once, whether a duplicate told of it or not.
    REQUIRE(s.flow->congestion_window() == window + 10'000);
}

TEST_CASE("under BBR a timeout sends a segment, and is over with the repair") {
    paced s;
    s.begin();
    s.flow->send(still(s.bulk), s.now);
    std::uint32_t bytes = s.bytes_of_turn();
    s.send_all(bytes);
    const std::uint32_t window = s.flow->congestion_window();
    while (s.context.statistics().timeouts == 0) {
        s.wait_for_timer();
        if (s.context.statistics().timeouts == 0) s.turn();
    }
    REQUIRE(s.flow->congestion_window() == 1000);
    REQUIRE(s.turn().at(0).data.size() == 1000);
    s.now += 20 * millisecond;
    s.from_host({.ack = 10'001});
    REQUIRE(s.flow->congestion_window() >= window);
}

TEST_CASE("ECN is not agreed on under BBR") {
    paced s;
    s.host_ecn = true;
    s.open();
    s.flow->accept(1 << 20, s.now);
    const std::vector<said> out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].head.has(tcp_syn));
    REQUIRE_FALSE(out[0].head.has(tcp_ece));
    REQUIRE_FALSE(s.flow->uses_ecn());
}

TEST_CASE("a flow that waits for its pace and is aborted asks for nothing more") {
    paced s;
    s.begin();
    s.flow->send(still(s.bulk), s.now);
    s.turn();
    REQUIRE(s.flow->deadline() != never_us);
    s.flow->abort();
    REQUIRE(s.flow->deadline() == never_us);
    REQUIRE(s.closings == 1);
}

TEST_CASE("the names of the laws") {
    REQUIRE(parse_congestion_control("cubic") == congestion_control::cubic);
    REQUIRE(parse_congestion_control("bbr") == congestion_control::bbr);
    for (std::string_view name : {"", "BBR", "reno", "bbr ", "cubic\n"}) {
        REQUIRE_FALSE(parse_congestion_control(name));
    }
}
