// Congestion told by ECN, and the limits of every wait: vanished hosts, shut windows, half-closed
// flows.
#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"
#include "tun/tcp.hh"

using namespace burin;
using namespace burin::tun;

TEST_CASE("ECN is agreed on when the host asks, and only new payload carries it") {
    for (bool asks : {false, true}) {
        stage s;
        s.host_ecn = asks;
        s.open();
        s.flow->accept(1 << 20, s.now);
        auto out = s.turn();
        REQUIRE(out.at(0).head.has(tcp_ece) == asks);
        REQUIRE_FALSE(out.at(0).head.has(tcp_cwr));
        REQUIRE(out.at(0).head.traffic_class == 0);
        s.now += millisecond;
        s.from_host({});
        REQUIRE(s.flow->uses_ecn() == asks);
        s.from_host({.data = "x"});
        REQUIRE(s.turn().at(0).head.traffic_class == 0);  // an ACK
        const std::string text(3000, 't');
        s.flow->send(still(text), s.now);
        REQUIRE(s.turn().at(0).head.traffic_class == (asks ? ecn_capable : ecn_none));
        for (int i = 0; i < 3; ++i) s.from_host({.seq = 2});
        out = s.turn();
        REQUIRE(out.at(0).data.size() == 1000);
        REQUIRE(out.at(0).head.traffic_class == 0);  // a repair
    }
}

TEST_CASE("a congestion report halves nothing twice in a round trip, and CWR answers it once") {
    stage s;
    s.host_ecn = true;
    s.establish();
    const std::string bulk(300'000, 'b');
    s.flow->send(still(bulk), s.now);
    s.turn();
    const std::uint32_t window = s.flow->congestion_window();
    constexpr std::uint8_t report = tcp_ack | tcp_ece;
    s.from_host({.flags = report, .ack = 2001});
    const std::uint32_t reduced = s.flow->congestion_window();
    REQUIRE(reduced < window);
    s.from_host({.flags = report, .ack = 5001});
    s.from_host({.flags = report, .ack = 10'001});
    REQUIRE(s.flow->congestion_window() == reduced);
    REQUIRE(s.context.statistics().ecn_reductions == 1);
    auto out = s.turn();
    REQUIRE(out.size() >= 2);
    REQUIRE(out[0].head.has(tcp_cwr));
    REQUIRE(out[0].data.size() <= 1000);  // no superframe
    for (std::size_t i = 1; i < out.size(); ++i) REQUIRE_FALSE(out[i].head.has(tcp_cwr));
    const said& last = out.back();
    s.from_host({.flags = report, .ack = last.seq + static_cast<std::uint32_t>(last.data.size())});
    REQUIRE(s.context.statistics().ecn_reductions == 2);
    REQUIRE(s.context.statistics().retransmitted_bytes == 0);
}

TEST_CASE("a mark is echoed until the host has reacted") {
    stage s;
    s.host_ecn = true;
    s.establish();
    s.from_host({.data = "a", .ecn = ecn_capable});
    REQUIRE_FALSE(s.turn().at(0).head.has(tcp_ece));
    s.from_host({.seq = 2, .data = "b", .ecn = ecn_congestion});
    REQUIRE(s.turn().at(0).head.has(tcp_ece));
    s.from_host({.seq = 3, .data = "c", .ecn = ecn_capable});
    REQUIRE(s.turn().at(0).head.has(tcp_ece));
    s.from_host({.flags = tcp_ack | tcp_cwr, .seq = 4, .data = "d", .ecn = ecn_capable});
    REQUIRE_FALSE(s.turn().at(0).head.has(tcp_ece));
    s.from_host({.flags = tcp_ack | tcp_cwr, .seq = 5, .data = "e", .ecn = ecn_congestion});
    REQUIRE(s.turn().at(0).head.has(tcp_ece));  // marked again on the way
    REQUIRE(s.delivered == "abcde");
}

TEST_CASE("an idle host is asked whether it is there, and given up when it is not") {
    tcp_settings settings;
    settings.keepalive_after = 100 * second;
    settings.keepalive_interval = 10 * second;
    settings.keepalive_probes = 3;
    stage s(settings);
    s.establish();
    const time_us start = s.now;
    std::vector<said> out;
    while (out.empty()) {
        s.wait_for_timer();
        out = s.turn();
    }
    REQUIRE(s.now - start <= 100 * second);
    REQUIRE(s.now - start >= 99 * second);
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data.empty());
    REQUIRE(out[0].seq == 0);  // below the window: any host answers
    s.from_host({});
    const time_us answered = s.now;
    int probes = 0;
    while (s.closings == 0) {
        s.wait_for_timer();
        for (const said& one : s.turn()) probes += one.seq == 0 && !one.head.has(tcp_rst);
    }
    REQUIRE(probes == 3);
    REQUIRE(s.now - answered == 130 * second);
    REQUIRE(s.close_reason == tcp_close::timed_out);
    REQUIRE(s.context.statistics().keepalive_probes == 4);
}

TEST_CASE("a flow that moves is not asked") {
    tcp_settings settings;
    settings.keepalive_after = 100 * second;
    stage s(settings);
    s.establish();
    std::uint32_t seq = 1;
    for (int i = 0; i < 50; ++i) {
        s.now += 30 * second;
        if (s.armed <= s.now) s.wait_for_timer();
        s.from_host({.seq = seq++, .data = "x"});
        for (const said& one : s.turn()) REQUIRE(one.seq == 1);
    }
    REQUIRE(s.context.statistics().keepalive_probes == 0);
    REQUIRE(s.closings == 0);
}

TEST_CASE("a window that stays shut is an end, even if somebody answers") {
    tcp_settings settings;
    settings.most_shut = 300 * second;
    stage s(settings);
    s.establish();
    s.from_host({.window = 0});
    const time_us start = s.now;
    const std::string text = "waiting";
    s.flow->send(still(text), s.now);
    while (s.closings == 0) {
        s.wait_for_timer();
        if (!s.turn().empty() && s.closings == 0) s.from_host({.window = 0});
    }
    REQUIRE(s.close_reason == tcp_close::timed_out);
    REQUIRE(s.now - start >= 300 * second);
    REQUIRE(s.now - start <= 361 * second);
    REQUIRE(s.context.pool().taken() == 0);
}

TEST_CASE("a host that never closes its half is given up, one that still sends is not") {
    tcp_settings settings;
    settings.half_closed_after = 250 * second;
    settings.keepalive_after = 100 * second;
    for (bool sends : {false, true}) {
        stage s(settings);
        s.establish();
        s.flow->send_fin(s.now);
        s.turn();
        s.from_host({.ack = 2});
        const time_us start = s.now;
        std::uint32_t seq = 1;
        while (s.closings == 0 && s.now - start < 1000 * second) {
            s.wait_for_timer();
            s.turn();
            if (s.closings > 0) break;
            if (sends) {
                s.from_host({.seq = seq++, .ack = 2, .data = "x"});
            } else {
                s.from_host({.seq = seq, .ack = 2});  // alive
            }
        }
        REQUIRE((s.closings == 0) == sends);
        if (!sends) {
            REQUIRE(s.now - start == 250 * second);
            REQUIRE(s.close_reason == tcp_close::timed_out);
        }
    }
}
