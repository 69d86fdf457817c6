// Loss towards a host that speaks SACK: what is sent again, when, and what it costs the window.
#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"
#include "tun/tcp.hh"

using namespace burin;
using namespace burin::tun;

namespace {

struct sending : stage {
    std::string bulk = std::string(400'000, 'b');

    // Ten segments of 1000 bytes are out, at numbers 1 to 10'001; a round trip is 20 ms.
    sending() {
        host_sacks = true;
        open();
        flow->accept(1 << 20, now);
        context.flush(now);
        now += 20 * millisecond;
        from_host({});
        spoken.clear();
        flow->send(still(bulk), now);
        REQUIRE(turn().at(0).data.size() == 10'000);
        now += 20 * millisecond;
    }
    std::uint32_t window() const { return flow->congestion_window(); }
    const tcp_statistics& counts() { return context.statistics(); }
    // The parts of a turn that repeat old bytes: first number and length.
    std::vector<std::pair<std::uint32_t, std::uint32_t>> repeats(std::uint32_t below) {
        std::vector<std::pair<std::uint32_t, std::uint32_t>> out;
        for (const said& one : turn()) {
            if (!one.data.empty() && one.seq < below) {
                out.emplace_back(one.seq, static_cast<std::uint32_t>(one.data.size()));
            }
        }
        return out;
    }
};
using parts = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

}  // namespace

TEST_CASE("only the holes of a superframe are sent again, and the window falls once") {
    sending s;
    // 2, 5 and 6 of ten are lost.
    s.from_host({.ack = 1001, .sack = {{2001, 4001}}});
    s.from_host({.ack = 1001, .sack = {{6001, 9001}, {2001, 4001}}});
    s.from_host({.ack = 1001, .sack = {{6001, 10'001}, {2001, 4001}}});
    REQUIRE(s.counts().fast_retransmits == 1);
    const std::uint32_t reduced = s.window();
    REQUIRE(reduced < 10'000);
    parts all;
    for (int i = 0; i < 10 && all.size() < 3; ++i) {
        for (const auto& one : s.repeats(10'001)) all.push_back(one);
        s.now += millisecond;
        s.from_host({.ack = 1001, .sack = {{6001, 10'001}, {2001, 4001}}});
    }
    std::uint32_t bytes = 0;
    for (const auto& [seq, count] : all) {
        const bool in_hole =
            (seq >= 1001 && seq + count <= 2001) || (seq >= 4001 && seq + count <= 6001);
        REQUIRE(in_hole);
        bytes += count;
    }
    REQUIRE(bytes == 3000);
    REQUIRE(s.counts().retransmitted_bytes == 3000);
    s.now += 20 * millisecond;
    s.from_host({.ack = 10'001});
    REQUIRE(s.acknowledged == 10'000);
    REQUIRE(s.window() <= reduced + 1000);
    REQUIRE(s.counts().fast_retransmits == 1);
    REQUIRE(s.counts().timeouts == 0);
    REQUIRE(s.context.scoreboards().taken() == 0);
}

TEST_CASE("a segment late by less than the reordering window costs nothing") {
    sending s;
    const std::uint32_t window = s.window();
    s.from_host({.ack = 1001, .sack = {{2001, 4001}}});  // two after a gap: not enough
    REQUIRE(s.repeats(10'001).empty());
    s.now += 2 * millisecond;
    s.from_host({.ack = 4001});  // it was only late
    REQUIRE(s.window() >= window);
    s.turn();
    // From now on three and more after a gap have to wait as well.
    s.from_host({.ack = 4001, .sack = {{5001, 10'001}}});
    REQUIRE(s.repeats(10'001).empty());
    REQUIRE(s.counts().fast_retransmits == 0);
    s.now += 2 * millisecond;
    s.from_host({.ack = 10'001});
    REQUIRE(s.counts().fast_retransmits == 0);
    REQUIRE(s.counts().retransmitted_bytes == 0);
}

TEST_CASE("when the reordering window is over, the timer finds the loss") {
    sending s;
    s.from_host({.ack = 1001, .sack = {{2001, 4001}}});
    REQUIRE(s.repeats(10'001).empty());
    const time_us start = s.now;
    while (s.counts().fast_retransmits == 0 && s.now - start < second) s.wait_for_timer();
    REQUIRE(s.now - start <= 20 * millisecond);
    REQUIRE(s.now - start >= 4 * millisecond);
    REQUIRE(s.counts().fast_retransmits == 1);
    REQUIRE(s.repeats(10'001).front() == std::pair(1001u, 1000u));
}

TEST_CASE("a repair that is lost too is found by what left after it, without a timeout") {
    sending s;
    s.from_host({.ack = 1001, .sack = {{2001, 10'001}}});
    std::uint32_t newest = 10'001;
    std::uint32_t repaired = 0;
    for (const said& one : s.turn()) {
        if (one.seq == 1001) repaired += static_cast<std::uint32_t>(one.data.size());
        newest = std::max(newest, one.seq + static_cast<std::uint32_t>(one.data.size()));
    }
    REQUIRE(repaired == 1000);
    REQUIRE(newest > 10'001);  // new data behind it
    s.now += 20 * millisecond;
    s.from_host({.ack = 1001, .sack = {{2001, newest}}});
    REQUIRE(s.repeats(10'001) == parts{{1001, 1000}});
    REQUIRE(s.counts().timeouts == 0);
    REQUIRE(s.counts().fast_retransmits == 1);  // one recovery, one reduction
}

TEST_CASE("a lost tail is probed after two round trips, and its SACK repairs the rest") {
    stage s;
    s.host_sacks = true;
    s.open();
    s.flow->accept(1 << 20, s.now);
    s.context.flush(s.now);
    s.now += 20 * millisecond;
    s.from_host({});
    s.spoken.clear();
    const std::string text(5000, 't');
    s.flow->send(still(text), s.now);
    REQUIRE(s.turn().size() == 1);
    const time_us start = s.now;
    s.wait_for_timer();
    auto out = s.turn();
    while (out.empty()) {
        s.wait_for_timer();
        out = s.turn();
    }
    REQUIRE(s.now - start == 40 * millisecond);
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].seq == 4001);  // the last segment, not the first
    REQUIRE(out[0].data.size() == 1000);
    REQUIRE(s.context.statistics().tail_probes == 1);
    REQUIRE(s.context.statistics().timeouts == 0);
    s.now += 20 * millisecond;
    s.from_host({.ack = 1, .sack = {{4001, 5001}}});
    std::uint32_t repaired = 0;
    for (int i = 0; i < 20 && s.acknowledged < 5000; ++i) {
        for (const said& one : s.turn()) repaired += static_cast<std::uint32_t>(one.data.size());
        s.now += 20 * millisecond;
        s.from_host({.ack = 1 + repaired < 4001 ? 1 + repaired : 5001});
        if (s.flow->in_flight() > 0 && s.spoken.empty() && s.armed <= s.now) s.wait_for_timer();
    }
    REQUIRE(s.acknowledged == 5000);
    REQUIRE(repaired == 4000);
    REQUIRE(s.context.statistics().timeouts == 0);
}

TEST_CASE("a tail probe prefers new data, and one that D-SACK answers costs no window") {
    stage s;
    s.host_sacks = true;
    s.establish();
    s.now += 20 * millisecond;
    const std::string text(9'000, 't');
    s.flow->send(still(text), s.now);
    s.turn();
    const std::uint32_t window = s.flow->congestion_window();
    s.wait_for_timer();
    auto out = s.turn();
    REQUIRE(out.at(0).seq == 8001);
    s.from_host({.ack = 9001});
    s.from_host({.ack = 9001, .sack = {{8001, 9001}}});
    REQUIRE(s.flow->congestion_window() >= window);
    s.flow->send(still(text), s.now);
    s.turn();
    s.now += millisecond;
    s.from_host({.ack = 18'001});
    REQUIRE(s.flow->congestion_window() >= window);
    REQUIRE(s.context.statistics().fast_retransmits == 0);
    // The window for new data is shut by congestion only: the probe is new.
    const std::string more(100'000, 'm');
    s.flow->send(still(more), s.now);
    std::uint32_t last = 0;
    for (const said& one : s.turn()) last = one.seq + static_cast<std::uint32_t>(one.data.size());
    do {
        s.wait_for_timer();
        out = s.turn();
    } while (out.empty());
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].seq == last);
    REQUIRE(out[0].data.size() == 1000);
}

TEST_CASE("D-SACK of all repairs undoes the reduction") {
    sending s;
    const std::uint32_t window = s.window();
    s.from_host({.ack = 1001, .sack = {{2001, 10'001}}});
    REQUIRE(s.repeats(10'001) == parts{{1001, 1000}});
    REQUIRE(s.window() < window);
    s.now += 5 * millisecond;
    s.from_host({.ack = 10'001});  // the original arrives
    s.now += 20 * millisecond;
    s.from_host({.ack = 10'001, .sack = {{1001, 2001}}});  // and then the repair
    REQUIRE(s.window() >= window);
    REQUIRE(s.counts().spurious_repairs == 1);
}

TEST_CASE("after a timeout only what is missing is sent again") {
    sending s;
    s.from_host({.ack = 1, .sack = {{2001, 3001}}});
    s.from_host({.ack = 1, .sack = {{2001, 3001}}});
    s.turn();
    while (s.counts().timeouts == 0) {
        s.wait_for_timer();
        if (s.counts().timeouts == 0) s.turn();
    }
    REQUIRE(s.window() == 1000);
    REQUIRE(s.repeats(10'001) == parts{{1, 1000}});
    s.now += 20 * millisecond;
    s.from_host({.ack = 1001, .sack = {{2001, 3001}}});
    const parts next = s.repeats(10'001);
    REQUIRE(next.size() == 2);
    REQUIRE(next[0] == std::pair(1001u, 1000u));
    REQUIRE(next[1] == std::pair(3001u, 1000u));  // not 2001
}

TEST_CASE("a host that forgets what it SACKed gets it again") {
    sending s;
    s.from_host(
        {.ack = 1, .sack = {{1, 5001}, {6001, 10'001}}});  // even where it should have ACKed
    s.from_host({.ack = 1, .sack = {{6001, 10'001}}});
    s.turn();
    std::uint32_t acked = 1;
    for (int i = 0; i < 400 && s.acknowledged < 10'000; ++i) {
        for (const said& one : s.turn()) {
            const auto end = one.seq + static_cast<std::uint32_t>(one.data.size());
            if (!one.data.empty() && one.seq <= acked && end > acked)
                acked = std::min(end, 10'001u);
        }
        s.now += 20 * millisecond;
        if (acked > 1) s.from_host({.ack = acked});
        if (s.armed <= s.now + 2 * second) s.wait_for_timer();
    }
    REQUIRE(s.acknowledged == 10'000);
}

TEST_CASE("SACK blocks of nonsense change nothing") {
    sending s;
    const std::uint32_t window = s.window();
    s.from_host({.ack = 1001, .sack = {{50'001, 60'001}, {9001, 8001}, {4001, 20'001}}});
    REQUIRE(s.counts().bad_sacks == 3);
    REQUIRE(s.repeats(10'001).empty());
    REQUIRE(s.window() >= window);
    REQUIRE(s.flow->unacknowledged() == s.bulk.size() - 1000);
}

TEST_CASE("a smaller path MTU: smaller segments, all again, no smaller window") {
    sending s;
    const std::uint32_t window = s.window();
    REQUIRE(s.flow->is_in_flight(s.our_first + 5000));
    REQUIRE_FALSE(s.flow->is_in_flight(s.our_first + 50'000));
    s.flow->on_packet_too_big(640);
    REQUIRE(s.flow->segment_bytes() == 600);
    s.flow->on_packet_too_big(1400);  // larger: no news
    REQUIRE(s.flow->segment_bytes() == 600);
    std::uint32_t next = 1;
    for (const said& one : s.turn()) {
        if (one.data.empty()) continue;
        REQUIRE(one.seq == next);
        REQUIRE(one.head.gso_size == 600);
        next += static_cast<std::uint32_t>(one.data.size());
    }
    REQUIRE(next >= 9001);
    REQUIRE(s.window() == window);
    s.flow->on_packet_too_big(20);
    REQUIRE(s.flow->segment_bytes() == 88);
}

TEST_CASE("a host may take window back, and gets the rest when it gives it again") {
    sending s;
    s.from_host({.ack = 1001, .window = 250});  // 1000 bytes, where 9000 are out
    REQUIRE(s.turn().empty());
    s.from_host({.ack = 1001, .window = 0});
    std::vector<said> out;
    for (int i = 0; i < 30; ++i) {
        s.wait_for_timer();
        for (said& one : s.turn()) out.push_back(std::move(one));
        s.from_host({.ack = 1001, .window = 0});
    }
    REQUIRE(s.closings == 0);
    REQUIRE(out.size() >= 10);
    for (const said& one : out) REQUIRE(one.data.empty());  // probes only
    s.from_host({.ack = 1001, .window = 60'000});
    std::uint32_t acked = 1001;
    for (int i = 0; i < 100 && acked < 30'001; ++i) {
        for (const said& one : s.turn()) {
            if (one.seq <= acked) {
                acked = std::max(acked, one.seq + static_cast<std::uint32_t>(one.data.size()));
            }
        }
        s.now += 20 * millisecond;
        s.from_host({.ack = acked});
        if (s.armed <= s.now + second) s.wait_for_timer();
    }
    REQUIRE(acked >= 30'001);
}
