// How flows end, and what cannot end them: FIN in both orders, TIME_WAIT, RST and RFC 5961.
#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"
#include "tun/tcp.hh"

using namespace burin;
using namespace burin::tun;

TEST_CASE("the host closes first: half-closed, then over with the last ACK") {
    stage s;
    s.establish();
    s.from_host({.flags = tcp_ack | tcp_fin, .data = "bye"});
    REQUIRE(s.delivered == "bye");
    REQUIRE(s.fins == 1);
    REQUIRE(s.turn().at(0).ack == 5);
    const std::string late = "still talking";
    REQUIRE(s.flow->send(still(late), s.now));
    REQUIRE(s.turn().at(0).data == late);
    s.from_host({.seq = 5, .ack = 14});
    s.flow->send_fin(s.now);
    REQUIRE_FALSE(s.flow->send(still(late), s.now));
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].head.has(tcp_fin));
    REQUIRE(s.closings == 0);
    s.from_host({.seq = 5, .ack = 15});
    REQUIRE(s.closings == 1);
    REQUIRE(s.close_reason == tcp_close::finished);
}

TEST_CASE("the tunnel closes first: FIN on the last data, half-close, TIME_WAIT") {
    stage s;
    s.establish();
    const std::string text = "last";
    s.flow->send(still(text), s.now);
    s.flow->send_fin(s.now);
    auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data == "last");
    REQUIRE(out[0].head.has(tcp_fin));
    s.from_host({.ack = 6, .data = "and yet"});
    REQUIRE(s.delivered == "and yet");
    REQUIRE(s.turn().at(0).ack == 8);
    s.from_host({.flags = tcp_ack | tcp_fin, .seq = 8, .ack = 6});
    REQUIRE(s.fins == 1);
    REQUIRE(s.flow->state() == tcp_state::time_wait);
    REQUIRE(s.lingerings == 1);
    out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].ack == 9);
    // Its FIN again: the ACK was lost.
    s.from_host({.flags = tcp_ack | tcp_fin, .seq = 8, .ack = 6});
    REQUIRE(s.turn().size() == 1);
    const time_us held = s.now;
    while (s.closings == 0) s.wait_for_timer();
    REQUIRE(s.now - held == 5 * second);
    REQUIRE(s.close_reason == tcp_close::finished);
    REQUIRE(s.fins == 1);
}

TEST_CASE("both close at once") {
    stage s;
    s.establish();
    s.flow->send_fin(s.now);
    s.turn();
    s.from_host({.flags = tcp_ack | tcp_fin, .ack = 1});
    REQUIRE(s.turn().at(0).ack == 2);
    REQUIRE(s.flow->state() == tcp_state::open);
    s.from_host({.seq = 2, .ack = 2});
    REQUIRE(s.flow->state() == tcp_state::time_wait);
}

TEST_CASE("a lost FIN is sent again") {
    stage s;
    s.establish();
    s.flow->send_fin(s.now);
    REQUIRE(s.turn().at(0).head.has(tcp_fin));
    std::vector<said> out;
    while (out.empty()) {
        s.wait_for_timer();
        out = s.turn();
    }
    REQUIRE(out[0].head.has(tcp_fin));
    REQUIRE(out[0].seq == 1);
}

TEST_CASE("a FIN ahead of a gap waits for the gap") {
    stage s;
    s.establish();
    s.from_host({.flags = tcp_ack | tcp_fin, .seq = 4, .data = "def"});
    REQUIRE(s.fins == 0);
    s.from_host({.data = "abc"});
    REQUIRE(s.delivered == "abcdef");
    REQUIRE(s.fins == 1);
    s.from_host({.seq = 8, .data = "beyond the end"});
    REQUIRE(s.delivered == "abcdef");
}

TEST_CASE("a SYN takes over from TIME_WAIT, above the old numbers") {
    stage s;
    s.establish();
    const std::string bulk(4'000'000, 'b');
    s.flow->send(still(bulk), s.now);
    std::uint32_t seq = 1;
    while (seq < bulk.size()) {
        for (const said& one : s.turn())
            seq = one.seq + static_cast<std::uint32_t>(one.data.size());
        s.from_host({.ack = seq});
    }
    s.flow->send_fin(s.now);
    s.turn();
    s.from_host({.flags = tcp_ack | tcp_fin, .ack = seq + 1});
    REQUIRE(s.flow->state() == tcp_state::time_wait);
    const sequence old_end = s.our_first + seq;
    using outcome = tcp_flow::segment_outcome;
    REQUIRE(s.from_host({tcp_syn, 1, 0}) == outcome::taken);  // an old duplicate
    REQUIRE(s.from_host({tcp_syn, 70'000, 0}) == outcome::reopen);
    REQUIRE(s.closings == 1);
    s.host_first = s.host_first + 70'000;
    const parsed_frame syn = s.frame({tcp_syn, 0, 0});
    tcp_flow next(s.context, syn, s.now);
    next.succeed(*s.flow);
    next.accept(1000, s.now);
    REQUIRE(s.turn().back().head.has(tcp_syn));
    REQUIRE(s.our_first > old_end);
}

TEST_CASE("RST: exact resets, near is challenged, far is ignored") {
    stage s;
    s.establish();
    s.from_host({.flags = tcp_rst, .seq = 500});
    auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].head.flags == tcp_ack);
    REQUIRE(out[0].ack == 1);
    s.from_host({.flags = tcp_rst, .seq = 0x10000000});
    s.from_host({.flags = tcp_rst, .seq = 0});
    REQUIRE(s.turn().empty());
    REQUIRE(s.closings == 0);
    s.from_host({.flags = tcp_rst, .seq = 1});
    REQUIRE(s.closings == 1);
    REQUIRE(s.close_reason == tcp_close::reset_by_host);
    REQUIRE(s.spoken.empty());
}

TEST_CASE("a SYN and false ACKs in an open flow are challenged, and challenges are throttled") {
    stage s;
    s.establish();
    s.now += second;
    s.from_host({tcp_syn, 20, 0});
    REQUIRE(s.turn().size() == 1);
    s.from_host({.ack = 5000, .data = "injected"});
    REQUIRE(s.delivered.empty());
    REQUIRE(s.turn().empty());  // too soon
    s.now += 50 * millisecond;
    s.from_host({.ack = 5000, .data = "injected"});
    REQUIRE(s.delivered.empty());
    REQUIRE(s.turn().size() == 1);
    s.now += 50 * millisecond;
    s.from_host({.ack = 0u - (1u << 29), .data = "injected"});  // older than any window
    REQUIRE(s.delivered.empty());
    REQUIRE(s.turn().size() == 1);
    REQUIRE(s.closings == 0);
    REQUIRE(s.context.statistics().bad_acks == 3);
}

TEST_CASE("abort is a RST at the next number and drops what was queued") {
    stage s;
    s.establish();
    const std::string text(5000, 't');
    s.flow->send(still(text), s.now);
    s.turn();
    s.flow->abort();
    REQUIRE(s.spoken.size() == 1);
    REQUIRE(s.spoken[0].head.has(tcp_rst));
    REQUIRE(s.spoken[0].seq == 5001);
    REQUIRE(s.closings == 1);
    REQUIRE(s.context.pool().taken() == 0);
    s.flow->abort();
    REQUIRE(s.closings == 1);
}

TEST_CASE("the handshake is complete with the host's ACK, and is told once") {
    stage s;
    s.open();
    s.from_host({tcp_syn, 0, 0});
    s.flow->accept(1000, s.now);
    s.turn();
    s.from_host({tcp_syn, 0, 0});
    s.from_host({.ack = 77});  // nobody's
    REQUIRE(s.establishments == 0);
    s.from_host({});
    s.from_host({});
    s.from_host({.data = "x"});
    REQUIRE(s.establishments == 1);
    REQUIRE(s.lingerings == 0);
}

TEST_CASE("a dropped flow is over without a word, in any state") {
    for (const bool accepted : {false, true}) {
        for (const bool complete : {false, true}) {
            stage s;
            s.open();
            if (accepted || complete) s.flow->accept(1000, s.now);
            s.turn();
            if (complete) s.from_host({});
            const std::string text(5000, 't');
            if (complete) s.flow->send(still(text), s.now);
            s.spoken.clear();
            s.flow->drop();
            s.flow->drop();
            REQUIRE(s.turn().empty());
            REQUIRE(s.closings == 1);
            REQUIRE(s.close_reason == tcp_close::aborted);
            REQUIRE(s.context.pool().taken() == 0);
        }
    }
}

TEST_CASE("initial sequence numbers differ by flow, key and time") {
    auto first_of = [](const hash_key& key, std::uint16_t port, time_us at) {
        tcp_settings settings;
        settings.isn_key = key;
        stage s(settings);
        s.key.source_port = port;
        s.now = at;
        s.open();
        s.flow->accept(1, s.now);
        s.turn();
        return s.our_first;
    };
    const sequence base = first_of({1, 2}, 1000, second);
    REQUIRE(first_of({1, 2}, 1000, second) == base);
    REQUIRE_FALSE(first_of({1, 3}, 1000, second) == base);
    REQUIRE_FALSE(first_of({1, 2}, 1001, second) == base);
    REQUIRE(first_of({1, 2}, 1000, 2 * second) - base == 250'000);  // RFC 6528: 4 us a tick
}
