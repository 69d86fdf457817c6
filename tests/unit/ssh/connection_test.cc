// The rules of RFC 4254 and of docs/wire.md sections 8.2, 8.6 and 8.8, against a peer that is
// played by hand: every message that it sends and gets is looked at.
#include "tests/catch.hh"
#include "tests/unit/ssh/hand_played.hh"

namespace burin::ssh {
namespace {

// ---- opening ----

TEST_CASE("a channel that the peer opens is confirmed with our window", "[connection]") {
    hand_played b;
    b.say(open_message(42, 1000, 500));
    CHECK(b.exit.type == "chisel");
    CHECK(b.exit.extra == "host:1");
    const auto heard = b.heard();
    REQUIRE(heard.size() == 1);
    channel_open_confirmation answer;
    REQUIRE(parse(heard[0], answer));
    CHECK(answer.recipient == 42);
    CHECK(answer.sender == 0);
    CHECK(answer.max_packet == 32768);
    CHECK(answer.window == b.exit.asked[0]->window);
    CHECK(answer.window >= ring::budget::base_bytes);
    CHECK(b.exit.asked[0]->send_credit == 1000);
    CHECK(b.exit.asked[0]->max_packet == 500);
    CHECK(b.exit.flows[0].sendable == 1);  // it may send at once
}

TEST_CASE("a refusal carries reason, text and language", "[connection]") {
    hand_played b;
    b.exit.when_open = [&](channel& c, const channel_open&) {
        b.layer->refuse(c, open_failure_reason::prohibited, "access denied");
    };
    b.say(open_message(7));
    const auto heard = b.heard();
    REQUIRE(heard.size() == 1);
    channel_open_failure answer;
    REQUIRE(parse(heard[0], answer));
    CHECK(answer.recipient == 7);
    CHECK(answer.reason == open_failure_reason::prohibited);
    CHECK(answer.text == "access denied");
    CHECK(answer.language == "en");
    b.exit.check_empty();
}

TEST_CASE("an open with an impossible maximum packet is refused as Go does", "[connection]") {
    hand_played b;
    for (std::uint32_t max_packet : {0u, 8u, 0x80000001u, ~0u}) {
        b.say(open_message(3, 1000, max_packet));
        const auto heard = b.heard();
        REQUIRE(heard.size() == 1);
        channel_open_failure answer;
        REQUIRE(parse(heard[0], answer));
        CHECK(answer.reason == open_failure_reason::connect_failed);
        CHECK(answer.text == "invalid request");
        CHECK(answer.language == "en_US.UTF-8");
    }
    b.opened(3, 1000, 9);
    b.opened(4, 1000, 0x80000000u);
    CHECK(b.exit.violations.empty());
}

TEST_CASE("beyond the limit an open is refused for shortage", "[connection]") {
    hand_played b({.max_channels = 3});
    for (std::uint32_t id : {0u, 1u, 2u}) b.opened(id);
    b.say(open_message(3));
    auto heard = b.heard();
    REQUIRE(heard.size() == 1);
    channel_open_failure answer;
    REQUIRE(parse(heard[0], answer));
    CHECK(answer.reason == open_failure_reason::shortage);
    b.say(close_message(1));
    CHECK(numbers(b.heard()) == order{97});
    b.opened(3);
    CHECK(b.exit.asked.back()->local == 1);
    flow_record end;
    CHECK(b.layer->open(end, "chisel", {}) == nullptr);
}

TEST_CASE("ids are the lowest free ones and are used again at once", "[connection]") {
    hand_played b;
    for (std::uint32_t id = 0; id < 6; ++id) b.opened(id);
    for (std::uint32_t id : {4u, 1u, 3u}) b.say(close_message(id));
    b.heard();
    std::vector<std::uint32_t> ids;
    for (std::uint32_t id = 10; id < 14; ++id) {
        b.opened(id);
        ids.push_back(b.exit.asked.back()->local);
    }
    CHECK(ids == std::vector<std::uint32_t>{1, 3, 4, 6});
}

TEST_CASE("our open tells its window, and a confirmation opens the way", "[connection]") {
    hand_played b;
    flow_record& flow = b.exit.open("example.com:80");
    REQUIRE(flow.at != nullptr);
    CHECK(b.layer->sendable(*flow.at) == 0);
    auto heard = b.heard();
    REQUIRE(heard.size() == 1);
    channel_open asked;
    REQUIRE(parse(heard[0], asked));
    CHECK(asked.type == "chisel");
    CHECK(asked.sender == 0);
    CHECK(asked.window == flow.at->window);
    CHECK(asked.max_packet == 32768);
    CHECK(as_text(asked.rest) == "example.com:80");
    b.say(confirmation(0, 1234, 5000));
    CHECK(flow.confirmed == 1);
    CHECK(b.layer->sendable(*flow.at) == 5000);
    b.exit.send(flow, pattern_bytes().at(0, 0, 10));
    heard = b.heard();
    REQUIRE(heard.size() == 1);
    CHECK(load_u32(heard[0].data() + 1) == 1234);
}

TEST_CASE("a refused open tells why, once", "[connection]") {
    hand_played b;
    flow_record& flow = b.exit.open();
    b.heard();
    b.say(built(channel_open_failure{0, open_failure_reason::connect_failed, "no route"}));
    REQUIRE(flow.refused.has_value());
    CHECK(*flow.refused == open_failure_reason::connect_failed);
    CHECK(flow.text == "no route");
    CHECK(flow.closes == 0);
    b.exit.check_empty();
}

TEST_CASE("a flow given up while it opens is closed when the answer comes", "[connection]") {
    hand_played b;
    SECTION("confirmed") {
        flow_record& flow = b.exit.open();
        SECTION("by abort") {
            b.exit.abort(flow);
        }
        SECTION("by close") {
            b.exit.close(flow);
        }
        CHECK(numbers(b.heard()) == order{90});
        b.say(confirmation(0, 55));
        const auto heard = b.heard();
        REQUIRE(numbers(heard) == order{97});
        CHECK(load_u32(heard[0].data() + 1) == 55);
        CHECK(b.layer->open_channels() == 1);
        b.say(data_message(0, 100));  // the peer did not know yet
        b.say(eof_message(0));
        b.say(close_message(0));
        CHECK(b.heard().empty());
        CHECK(flow.confirmed + flow.closes + flow.eofs + flow.bytes == 0);
    }
    SECTION("refused") {
        flow_record& flow = b.exit.open();
        b.exit.abort(flow);
        b.heard();
        b.say(built(channel_open_failure{0, open_failure_reason::connect_failed, ""}));
        CHECK(b.heard().empty());
        CHECK_FALSE(flow.refused.has_value());
    }
    CHECK(b.exit.violations.empty());
    b.exit.check_empty();
}

TEST_CASE("EOF asked for while a channel opens follows the confirmation", "[connection]") {
    hand_played b;
    flow_record& flow = b.exit.open();
    b.layer->send_eof(*flow.at);
    CHECK(numbers(b.heard()) == order{90});
    b.say(confirmation(0, 5));
    CHECK(flow.confirmed == 1);
    CHECK(numbers(b.heard()) == order{96});
}

TEST_CASE("an asked channel may be turned down by closing it", "[connection]") {
    hand_played b;
    b.exit.accepts = false;
    b.say(open_message(1));
    b.say(open_message(2));
    b.layer->close(*b.exit.asked[0]);
    b.layer->abort(*b.exit.asked[1]);
    CHECK(numbers(b.heard()) == order{92, 92});
    b.exit.check_empty();
}

// ---- data and windows ----

TEST_CASE("data goes out in packets of the peer's size, within its window", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(5, 10'000, 3000);
    CHECK(b.layer->sendable(*flow.at) == 10'000);
    b.exit.send(flow, pattern_bytes().at(0, 0, 10'000));
    CHECK(b.layer->sendable(*flow.at) == 0);
    CHECK(b.layer->queued_bytes() == 10'000);
    flow.sendable = 0;
    auto heard = b.heard();
    std::vector<std::size_t> sizes;
    byte_vector got;
    for (const byte_vector& m : heard) {
        channel_data part;
        REQUIRE(parse(m, part));
        CHECK(part.recipient == 5);
        sizes.push_back(part.data.size());
        got.insert(got.end(), part.data.begin(), part.data.end());
    }
    CHECK(sizes == std::vector<std::size_t>{3000, 3000, 3000, 1000});
    CHECK(is_prefix(got, 0));
    CHECK(flow.at->send_credit == 0);
    CHECK(flow.at->stalls == 1);
    CHECK(flow.sendable == 0);  // nothing more may be sent yet
    b.say(adjust_message(0, 77));
    b.heard();
    CHECK(flow.sendable == 1);
    CHECK(b.layer->sendable(*flow.at) == 77);
}

TEST_CASE("a peer's window may grow to the very end of its range", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(0, 0xfffffff0u);
    b.say(adjust_message(0, 15));
    CHECK(flow.at->send_credit == 0xffffffffu);
    b.breaks(adjust_message(0, 1), "window adjust beyond 2^32-1");
}

TEST_CASE("credit goes back when the end took the bytes, not before", "[connection]") {
    hand_played b;
    b.exit.takes = false;
    flow_record& flow = b.opened(8);
    const std::uint32_t window = flow.at->window;
    std::uint32_t sent = 0;
    while (sent < window) {
        const std::uint32_t size = std::min(window - sent, 32768u);
        b.say(data_message(0, pattern_bytes().at(0, sent, size)));
        sent += size;
    }
    CHECK(b.heard().empty());
    CHECK(flow.at->receive_left == 0);
    CHECK(is_prefix(flow.data, 0));
    b.layer->consumed(*flow.at, 1);
    CHECK(b.heard().empty());  // not for a single byte
    flow.held -= 1;
    flow.take_held();
    const auto heard = b.heard();
    REQUIRE(heard.size() == 1);
    channel_window_adjust credit;
    REQUIRE(parse(heard[0], credit));
    CHECK(credit.recipient == 8);
    CHECK(flow.at->window >= window);  // it went through quickly, and may have earned more
    CHECK(credit.bytes == flow.at->window);
    CHECK(flow.at->receive_left == flow.at->window);
}

TEST_CASE("a peer that has sent EOF gets no more credit", "[connection]") {
    hand_played b;
    b.exit.takes = false;
    flow_record& flow = b.opened(8);
    b.say(data_message(0, 32768));
    b.say(data_message(0, 32768));
    b.say(eof_message(0));
    flow.take_held();
    CHECK(b.heard().empty());
    CHECK_FALSE(b.layer->pending());
}

TEST_CASE("extended data is dropped and its window given back", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(0);
    const std::uint32_t window = flow.at->window;
    std::uint32_t credited = 0, sent = 0;
    while (sent < 3 * window) {
        const std::uint32_t size = std::min(flow.at->receive_left, 32768u);
        REQUIRE(size > 0);
        b.say(extended_message(0, size));
        sent += size;
        for (const byte_vector& m : b.heard()) {
            channel_window_adjust credit;
            REQUIRE(parse(m, credit));
            credited += credit.bytes;
        }
    }
    CHECK(flow.bytes == 0);
    CHECK(credited > 2 * window);
    CHECK(b.layer->counters().dropped_bytes == sent);
}

TEST_CASE("empty data is nothing", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(0);
    unsigned calls = 0;
    flow.when_data = [&] { ++calls; };
    b.say(data_message(0, 0));
    CHECK(calls == 0);
    b.layer->send(*flow.at, {}, {});
    CHECK(b.heard().empty());
    CHECK(b.exit.violations.empty());
}

// ---- ends ----

TEST_CASE("EOF follows the last byte and CLOSE follows EOF", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(1, 100'000);
    b.exit.send(flow, pattern_bytes().at(0, 0, 70'000));
    b.layer->send_eof(*flow.at);
    b.layer->send_eof(*flow.at);
    CHECK(b.layer->sendable(*flow.at) == 0);
    b.exit.close(flow);
    CHECK(numbers(b.heard()) == order{94, 94, 94, 96, 97});
    // After our CLOSE: silence, whatever comes.
    b.say(data_message(0, 16'000));
    b.say(extended_message(0, 200));
    b.say(adjust_message(0, 5000));
    b.say(built(channel_request{0, "exec", true, {}}));
    b.say(eof_message(0));
    CHECK(b.heard().empty());
    b.say(close_message(0));
    CHECK(b.heard().empty());
    CHECK(flow.closes + flow.eofs == 0);  // it had left
    b.exit.check_empty();
}

TEST_CASE("abort closes at once and drops what was queued", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(1, 100'000);
    b.exit.send(flow, pattern_bytes().at(0, 0, 70'000));
    b.layer->send_eof(*flow.at);
    b.exit.abort(flow);
    CHECK(b.layer->queued_bytes() == 0);
    CHECK(numbers(b.heard()) == order{97});
    b.say(close_message(0));
    b.exit.check_empty();
}

TEST_CASE("a CLOSE of the peer is answered once and says how the flow ended", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(1, 100'000);
    b.exit.send(flow, pattern_bytes().at(0, 0, 70'000));
    bool whole = GENERATE(true, false);
    if (whole) {
        b.say(eof_message(0));
        b.say(eof_message(0));
        CHECK(flow.eofs == 1);
    }
    b.say(close_message(0));
    CHECK(numbers(b.heard()) == order{97});  // what was queued goes with the channel
    CHECK(flow.closes == 1);
    CHECK(flow.cause == (whole ? close_cause::finished : close_cause::cut_off));
    CHECK(b.layer->peer_sends_eof() == whole);
    b.exit.check_empty();
}

TEST_CASE("a CLOSE that crosses ours needs no answer", "[connection]") {
    hand_played b;
    flow_record& flow = b.opened(1, 1000);
    b.exit.send(flow, pattern_bytes().at(0, 0, 1000));
    b.exit.close(flow);
    order answer{97};
    SECTION("ours was on its way") {
        CHECK(numbers(b.heard()) == order{94, 97});
        answer = {};
    }
    SECTION("ours still waited behind payload") {}
    b.say(close_message(0));
    CHECK(numbers(b.heard()) == answer);
    b.exit.check_empty();
}

TEST_CASE("a session that ends tells every flow that it is lost", "[connection]") {
    hand_played b;
    for (std::uint32_t id = 0; id < 4; ++id) b.opened(id, 50'000);
    flow_record& asking = b.exit.open();
    b.exit.send(b.exit.flows[0], pattern_bytes().at(0, 0, 50'000));
    b.say(eof_message(1));
    b.exit.close(b.exit.flows[2]);
    unsigned reopened = 0;
    for (flow_record& flow : b.exit.flows)
        flow.when_closed = [&] {  // there is no way back in
            flow_record end;
            reopened += b.layer->open(end, "chisel", {}) != nullptr;
        };
    b.layer->lose();
    for (std::size_t at : {0u, 1u, 3u, 4u}) {
        CHECK(b.exit.flows[at].closes == 1);
        CHECK(b.exit.flows[at].cause == close_cause::lost);
    }
    CHECK(b.exit.flows[2].closes == 0);
    CHECK(asking.confirmed == 0);
    CHECK(reopened == 0);
    b.exit.check_empty();
    b.layer->lose();
    CHECK(b.exit.flows[0].closes == 1);
}

// ---- requests ----

TEST_CASE("channel requests are turned down, on channels that are there", "[connection]") {
    hand_played b;
    b.opened(17);
    b.say(built(channel_request{0, "pty-req", false, {}}));
    CHECK(b.heard().empty());
    b.say(built(channel_request{0, "pty-req", true, as_bytes("more")}));
    const auto heard = b.heard();
    REQUIRE(numbers(heard) == order{100});
    CHECK(load_u32(heard[0].data() + 1) == 17);
    // The one message that may name a channel already gone.
    for (std::uint32_t id : {1u, 77u, ~0u}) b.say(built(channel_request{id, "exec", true, {}}));
    CHECK(b.heard().empty());
    CHECK(b.exit.violations.empty());
}

TEST_CASE("global requests and their replies pass through", "[connection]") {
    hand_played b;
    b.say(built(global_request{"ping", true, {}}));
    auto heard = b.heard();
    REQUIRE(heard.size() == 1);
    CHECK(as_text(bytes_view(heard[0]).subspan(1)) == "pong");
    b.layer->request("ping", {});
    b.layer->request("other", as_bytes("x"));
    heard = b.heard();
    REQUIRE(numbers(heard) == order{80, 80});
    byte_vector reply;
    build_request_success(reply, as_bytes("pong"));
    b.say(reply);
    reply.clear();
    build_request_failure(reply, {});
    b.say(reply);
    CHECK(b.exit.replies == std::vector<std::string>{"yes pong", "no "});
    CHECK(b.exit.requests == std::vector<std::string>{"ping"});
}

}  // namespace
}  // namespace burin::ssh
