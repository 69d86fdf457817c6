// The terminator's promises one by one: opening, the stream both ways, windows, the end.
#include "tun/tcp.hh"

#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"

using namespace burin;
using namespace burin::tun;

TEST_CASE("nothing is answered before the channel is confirmed") {
    stage s;
    s.open();
    REQUIRE(s.turn().empty());
    s.from_host({tcp_syn, 0, 0});  // the host tries again
    REQUIRE(s.turn().empty());
    s.flow->accept(100'000, s.now);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].head.flags == (tcp_syn | tcp_ack));
    REQUIRE(out[0].ack == 1);
    REQUIRE(out[0].head.options.mss == 1460);
    REQUIRE(out[0].head.options.window_shift == 8);
    REQUIRE(out[0].head.window > 60000);
    s.from_host({});
    REQUIRE(s.flow->state() == tcp_state::open);
    REQUIRE(s.turn().empty());
}

TEST_CASE("another SYN while opening takes the place of the first") {
    stage s;
    s.open();
    s.host_first = sequence(5000);
    s.from_host({tcp_syn, 0, 0});
    s.flow->accept(1000, s.now);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].ack == 1);
}

TEST_CASE("a refused dial is a RST for the SYN") {
    stage s;
    s.open();
    s.flow->refuse();
    REQUIRE(s.spoken.size() == 1);
    REQUIRE(s.spoken[0].head.flags == (tcp_rst | tcp_ack));
    REQUIRE(s.spoken[0].ack == 1);
    REQUIRE(s.closings == 1);
    REQUIRE(s.close_reason == tcp_close::aborted);
}

TEST_CASE("without window scaling none is answered") {
    stage s;
    s.open(false);
    s.flow->accept(50'000, s.now);
    const auto out = s.turn();
    REQUIRE(out[0].head.options.window_shift == -1);
    REQUIRE(out[0].head.window == 50'000);
    s.from_host({.window = 700});
    REQUIRE(s.flow->peer_window() == 700);
}

TEST_CASE("a lost SYN-ACK is repeated, and given up in the end") {
    stage s;
    s.open();
    s.flow->accept(1000, s.now);
    REQUIRE(s.turn().size() == 1);
    const time_us first = s.now;
    s.wait_for_timer();
    REQUIRE(s.now - first == 1 * second);  // RFC 6298 section 2.1
    REQUIRE(s.turn().size() == 1);
    const time_us again = s.now;
    s.wait_for_timer();
    REQUIRE(s.now - again == 2 * second);
    s.from_host({tcp_syn, 0, 0});  // a repeated SYN asks as well
    REQUIRE(s.turn().size() == 1);
    for (int i = 0; i < 10 && s.closings == 0; ++i) {
        s.wait_for_timer();
        s.turn();
    }
    REQUIRE(s.close_reason == tcp_close::timed_out);
    REQUIRE(s.closings == 1);
}

TEST_CASE("a handshake with a wrong number is reset") {
    stage s;
    s.open();
    s.flow->accept(1000, s.now);
    s.turn();
    s.from_host({.ack = 99});
    REQUIRE(s.spoken.size() == 1);
    REQUIRE(s.spoken[0].head.flags == tcp_rst);
    REQUIRE(s.spoken[0].seq == 99);
    REQUIRE(s.flow->state() == tcp_state::syn_received);
}

TEST_CASE("data is delivered from the frame itself, one ACK a turn") {
    stage s;
    s.establish();
    s.from_host({.data = "hello "});
    s.from_host({.seq = 7, .data = "world"});
    REQUIRE(s.delivered == "hello world");
    REQUIRE(s.misplaced == 0);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].ack == 12);
    REQUIRE(out[0].head.flags == tcp_ack);
    REQUIRE(s.turn().empty());
}

TEST_CASE("the ACK rides on data that goes out") {
    stage s;
    s.establish();
    s.from_host({.data = "ask"});
    const std::string answer = "answer";
    s.flow->send(still(answer), s.now);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].ack == 4);
    REQUIRE(out[0].data == "answer");
    REQUIRE(out[0].head.has(tcp_psh));
}

TEST_CASE("a gap: duplicate ACKs at once, then everything in order") {
    stage s;
    s.establish();
    s.from_host({.seq = 4, .data = "def"});
    s.from_host({.seq = 7, .data = "ghi"});
    s.from_host({.seq = 10, .data = "jkl"});
    auto out = s.turn();
    REQUIRE(out.size() == 3);  // enough for the host's fast retransmit
    for (const said& ack : out) {
        REQUIRE(ack.ack == 1);
        REQUIRE(ack.head.window == out[0].head.window);
    }
    s.from_host({.data = "abc"});
    REQUIRE(s.delivered == "abcdefghijkl");
    REQUIRE(s.misplaced == 0);
    out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].ack == 13);
    REQUIRE(s.context.pool().taken() == 0);
}

TEST_CASE("a superframe behind a gap is as many duplicate ACKs as it has segments") {
    stage s;
    s.establish();
    s.from_host({.seq = 2000, .data = std::string(4380, 'x')});  // three of 1460
    REQUIRE(s.turn().size() == 3);
    s.from_host({.seq = 6380, .data = std::string(60'000, 'x')});
    REQUIRE(s.turn().size() == 8);
    REQUIRE(s.context.statistics().out_of_order_segments == 2);
}

TEST_CASE("what came already is acknowledged again, and only the rest delivered") {
    stage s;
    s.establish();
    s.from_host({.data = "abc"});
    s.turn();
    s.from_host({.data = "abc"});
    REQUIRE(s.turn().size() == 1);
    s.from_host({.data = "abcde"});
    REQUIRE(s.delivered == "abcde");
}

TEST_CASE("sending: superframes within the windows, slices held until the ACK") {
    stage s;
    s.establish();
    const std::string bulk(40'000, 'b');
    s.flow->send(still(bulk), s.now);
    auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data.size() == 10'000);  // RFC 6928's ten segments
    REQUIRE(out[0].superframe);
    REQUIRE(out[0].head.gso_size == 1000);
    REQUIRE(s.flow->in_flight() == 10'000);
    s.from_host({.ack = 10'001});
    REQUIRE(s.acknowledged == 10'000);
    out = s.turn();
    std::size_t sent = 0;
    for (const said& one : out) sent += one.data.size();
    REQUIRE(sent == 20'000);                      // slow start
    s.from_host({.ack = 30'001, .window = 500});  // 2000 bytes
    out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data.size() == 2000);
    REQUIRE(s.turn().empty());
    s.from_host({.ack = 32'001});
    out = s.turn();
    REQUIRE(out[0].data.size() == 8000);
    s.from_host({.ack = 40'001});
    REQUIRE(s.acknowledged == 40'000);
    REQUIRE(s.flow->unacknowledged() == 0);
    REQUIRE(s.context.pool().taken() == 0);
}

// Grows the congestion window far beyond what the tests below send.
void acknowledge_all(stage& s, std::uint32_t& sent, std::uint32_t rounds) {
    for (std::uint32_t i = 0; i < rounds; ++i) {
        while (!s.turn().empty()) continue;
        sent = s.flow->in_flight() + sent;
        s.now += millisecond;
        s.from_host({.ack = 1 + sent});
    }
}

TEST_CASE("the rest of a burst waits for one turn, what comes alone does not") {
    stage s;
    s.establish();
    const std::string bulk(100'000, 'b');
    std::uint32_t sent = 0;
    for (int i = 0; i < 4; ++i) s.flow->send(still(bulk), s.now);
    acknowledge_all(s, sent, 8);
    REQUIRE(sent == 400'000);
    s.flow->send(still(bulk), s.now);
    auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data.size() == 65'000);
    REQUIRE(s.context.pending());  // the loop does not sleep
    SECTION("and more comes") {
        s.flow->send(still(bulk), s.now);
        out = s.turn();
        REQUIRE(out.size() == 2);
        REQUIRE(out[0].data.size() == 65'000);
        REQUIRE(out[1].data.size() == 65'000);
        REQUIRE(s.turn().at(0).data.size() == 5'000);
    }
    SECTION("and nothing comes") {
        out = s.turn();
        REQUIRE(out.size() == 1);
        REQUIRE(out[0].data.size() == 35'000);
        REQUIRE_FALSE(s.context.pending());
    }
    SECTION("and the end comes") {
        s.flow->send_fin(s.now);
        out = s.turn();
        REQUIRE(out.size() == 1);
        REQUIRE(out[0].head.has(tcp_fin));
    }
}

TEST_CASE("on a short path no more is out than a fast link holds") {
    stage s;
    s.host_shift = 8;
    s.establish();
    const time_us round_trip = GENERATE(100, 20 * millisecond);
    const std::string bulk(16'000'000, 'b');
    s.flow->send(still(bulk), s.now);
    std::uint32_t sent = 0, most = 0;
    while (sent < bulk.size()) {
        while (!s.turn().empty()) continue;
        most = std::max(most, s.flow->in_flight());
        sent += s.flow->in_flight();
        s.now += round_trip;
        s.from_host({.ack = 1 + sent, .window = 65535});
    }
    REQUIRE(s.acknowledged == bulk.size());
    // 4000 bytes a microsecond of the least round trip, which is the handshake's millisecond or
    // those 100 us; a mebibyte at least.
    REQUIRE(most <= (round_trip == 100 ? 1'048'576 : 4'000'000));
    REQUIRE(most >= (round_trip == 100 ? 1'000'000 : 3'900'000));
}

TEST_CASE("small slices share a frame") {
    stage s;
    s.establish();
    const std::string part(300, 'p');
    for (int i = 0; i < 10; ++i) s.flow->send(still(part), s.now);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data.size() == 3000);
}

TEST_CASE("three duplicate ACKs send the first segment again") {
    stage s;
    s.establish();
    const std::string bulk(8000, 'b');
    s.flow->send(still(bulk), s.now);
    s.turn();
    for (int i = 0; i < 2; ++i) s.from_host({});
    REQUIRE(s.turn().empty());
    s.from_host({});
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].seq == 1);
    REQUIRE(out[0].data.size() == 1000);
    s.from_host({.ack = 8001});
    REQUIRE(s.acknowledged == 8000);
    REQUIRE(s.context.statistics().fast_retransmits == 1);
}

TEST_CASE("without SACK, duplicates keep the repairs of several holes going") {
    stage s;
    s.establish();
    const std::string bulk(60'000, 'b');
    s.flow->send(still(bulk), s.now);
    s.turn();
    // Of ten segments the first three are lost: seven duplicates, then one partial ACK a repair.
    for (int i = 0; i < 7; ++i) s.from_host({});
    auto out = s.turn();
    REQUIRE(out.at(0).seq == 1);
    s.now += millisecond;
    s.from_host({.ack = 1001});
    out = s.turn();
    REQUIRE(out.at(0).seq == 1001);
    std::uint32_t repaired = 1001 + static_cast<std::uint32_t>(out.at(0).data.size());
    REQUIRE(repaired > 1001);
    for (int i = 0; i < 3 && repaired < 3001; ++i) {
        s.now += millisecond;
        s.from_host({.ack = repaired});
        out = s.turn();
        REQUIRE(out.at(0).seq == repaired);
        repaired += static_cast<std::uint32_t>(out.at(0).data.size());
    }
    REQUIRE(repaired >= 3001);
    s.now += millisecond;
    s.from_host({.ack = 10'001});
    REQUIRE(s.context.statistics().fast_retransmits == 1);
    REQUIRE(s.context.statistics().timeouts == 0);
    REQUIRE_FALSE(s.turn().empty());
}

TEST_CASE("the retransmission timer doubles, goes back to the first byte, and gives up") {
    tcp_settings settings;
    settings.max_retries = 4;
    stage s(settings);
    s.establish();
    const std::string bulk(5000, 'b');
    s.flow->send(still(bulk), s.now);
    s.turn();
    time_us before = s.now;
    time_us last = 0;
    for (int i = 0; i < 4; ++i) {
        while (s.spoken.empty()) {
            s.wait_for_timer();
            s.context.flush(s.now);
        }
        REQUIRE(s.spoken.size() == 1);
        REQUIRE(s.spoken[0].seq == 1);
        REQUIRE(s.spoken[0].data.size() == 1000);
        if (last != 0) REQUIRE(s.now - before == 2 * last);
        last = s.now - before;
        before = s.now;
        s.spoken.clear();
    }
    while (s.closings == 0) s.wait_for_timer();
    REQUIRE(s.close_reason == tcp_close::timed_out);
    REQUIRE(s.spoken.back().head.has(tcp_rst));
    REQUIRE(s.context.pool().taken() == 0);
}

TEST_CASE("a shut window is probed until it opens, for as long as the host answers") {
    tcp_settings settings;
    settings.max_retries = 3;
    stage s(settings);
    s.establish();
    s.from_host({.window = 0});
    const std::string text = "waiting";
    s.flow->send(still(text), s.now);
    REQUIRE(s.turn().empty());
    for (int i = 0; i < 10; ++i) {
        std::vector<said> out;
        while (out.empty()) {
            s.wait_for_timer();
            out = s.turn();
            REQUIRE(s.closings == 0);
        }
        REQUIRE(out.size() == 1);
        REQUIRE(out[0].seq == 0);  // one below: any host answers
        REQUIRE(out[0].data.empty());
        s.from_host({.window = 0});
    }
    s.from_host({.window = 100});
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data == "waiting");
}

TEST_CASE("the window is the credit, its edge stays, and opening it is announced") {
    stage s;
    s.establish(4096);
    const std::string block(2000, 'x');
    std::uint32_t seq = 1;
    std::uint32_t edge = 0;
    for (int i = 0; i < 4; ++i) {
        const std::uint32_t room = s.flow->advertised();
        const std::string part = block.substr(0, std::min<std::size_t>(room, block.size()));
        s.from_host({.seq = seq, .data = part});
        seq += static_cast<std::uint32_t>(part.size());
        for (const said& ack : s.turn()) {
            const std::uint32_t shown = ack.ack + (std::uint32_t{ack.head.window} << 8);
            REQUIRE(shown >= edge);
            REQUIRE(shown <= 1 + 4096 + 255);
            edge = shown;
        }
    }
    REQUIRE(s.delivered.size() <= 4096);
    REQUIRE(s.delivered.size() > 3000);
    s.flow->set_receive_credit(64 * 1024);
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(std::uint32_t{out[0].head.window} << 8 > 50'000);
    REQUIRE(s.flow->receive_credit() == 64 * 1024);
}

TEST_CASE("a host's probe of our shut window is answered") {
    stage s;
    s.establish(0);
    REQUIRE(s.flow->advertised() == 0);
    s.from_host({.seq = 1, .data = "x"});
    REQUIRE(s.delivered.empty());
    auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].ack == 1);
    REQUIRE(out[0].head.window == 0);
    s.from_host({.seq = 0});  // the other style: below the window
    REQUIRE(s.turn().size() == 1);
}

TEST_CASE("credit below one unit of the window still lets bytes through, and no more than it") {
    stage s;
    s.establish(100);
    REQUIRE(s.flow->advertised() == 256);
    s.from_host({.data = std::string(256, 'y')});
    REQUIRE(s.delivered.size() == 100);
    auto out = s.turn();
    REQUIRE(out.back().ack == 101);
    s.flow->set_receive_credit(100);
    REQUIRE(s.delivered.size() == 200);
    out = s.turn();
    REQUIRE(out.back().ack == 201);
    s.flow->set_receive_credit(100);
    REQUIRE(s.delivered.size() == 256);
    REQUIRE(s.flow->receive_credit() == 44);
}

TEST_CASE("a FIN behind bytes without credit arrives with the credit") {
    stage s;
    s.establish(100);
    s.from_host({.flags = tcp_ack | tcp_fin, .data = std::string(150, 'y')});
    REQUIRE(s.fins == 0);
    s.flow->set_receive_credit(100);
    REQUIRE(s.delivered.size() == 150);
    REQUIRE(s.fins == 1);
    REQUIRE(s.turn().back().ack == 152);
}

TEST_CASE("emit without room keeps everything for the next turn") {
    stage s;
    s.establish();
    s.from_host({.data = "abc"});
    const std::string text = "text";
    s.flow->send(still(text), s.now);
    s.room = false;
    REQUIRE(s.turn().empty());
    REQUIRE(s.context.pending());
    s.room = true;
    const auto out = s.turn();
    REQUIRE(out.size() == 1);
    REQUIRE(out[0].data == "text");
    REQUIRE(out[0].ack == 4);
    REQUIRE_FALSE(s.context.pending());
}

TEST_CASE("old slices leave their block after 50 ms") {
    struct counted : payload_holder {
        counted() {
            release = [](payload_holder* self) noexcept {
                static_cast<counted*>(self)->gone = true;
            };
        }
        bool gone = false;
    } holder;
    stage s;
    s.establish();
    s.from_host({.window = 0});
    const std::string text(3000, 't');
    s.flow->send({as_bytes(text), &holder}, s.now);
    s.turn();
    const time_us start = s.now;
    while (!holder.gone && s.now < start + second) s.wait_for_timer();
    REQUIRE(holder.gone);
    REQUIRE(s.now - start >= 50 * millisecond);
    REQUIRE(s.now - start <= 100 * millisecond);
    REQUIRE(copied_payload_bytes() == 3000);
    s.from_host({});
    REQUIRE(s.turn().at(0).data == text);
    s.from_host({.ack = 3001});
    REQUIRE(copied_payload_bytes() == 0);
}

TEST_CASE("the owner may abort inside a delivery") {
    stage s;
    s.establish();
    s.from_host({.seq = 4, .data = "def"});
    s.abort_on_delivery = true;
    s.from_host({.flags = tcp_ack | tcp_fin, .data = "abc"});
    REQUIRE(s.delivered == "abc");
    REQUIRE(s.closings == 1);
    REQUIRE(s.spoken.back().head.has(tcp_rst));
    REQUIRE_FALSE(s.context.pending());
    REQUIRE(s.context.pool().taken() == 0);
}
