// Payload behind an open that is not answered yet (docs/wire.md section 13.4): nothing of it is
// lost, doubled or out of order, and the rules about it hold in both roles.
#include "tests/catch.hh"
#include "tests/unit/ssh/hand_played.hh"

namespace burin::ssh {
namespace {

byte_vector early_message(std::uint32_t sender, std::size_t size) {
    byte_vector out = data_message(sender, size);
    out[0] = static_cast<std::byte>(message::early_data);
    return out;
}

byte_vector early_eof_message(std::uint32_t sender) {
    byte_vector out;
    build_early_eof(out, sender);
    return out;
}

// Two ends of ours; the exit lets opens wait.
struct early_pair : station_pair {
    explicit early_pair(bool both_know = true) {
        begin();
        entry.layer->set_takes_opens_back();
        exit.layer->set_takes_opens_back();
        if (both_know) entry.layer->set_takes_early_data();
        if (both_know) exit.layer->set_takes_early_data();
        exit.accepts = false;
        exit.when_open = [this](channel& c, const channel_open&) {
            flow_record& waits = exit.new_flow();
            waits.takes = false;
            waits.at = &c;
            c.end = &waits;
        };
    }
    flow_record& open() {
        flow_record& flow = entry.new_flow();
        flow.at = entry.layer->open(flow, "chisel", as_bytes("host:1"), early::data);
        return flow;
    }
    // As much of stream 0 as there is credit for, up to `total` in all.
    void say_stream(flow_record& flow, std::uint64_t& said, std::uint64_t total) {
        for (;;) {
            const auto most = std::min<std::uint64_t>(total - said, pattern::longest);
            const auto size = std::min<std::uint64_t>(most, entry.layer->sendable(*flow.at));
            if (size == 0) return;
            entry.send(flow, pattern_bytes().at(0, said, size));
            said += size;
        }
    }
    void check_over() {
        check_peace();
        entry.check_empty();
        exit.check_empty();
    }
};

TEST_CASE("what is said before the answer arrives with the open", "[connection]") {
    early_pair b;
    flow_record& flow = b.open();
    std::uint64_t said = 0;
    constexpr std::uint64_t total = 300'000;
    b.say_stream(flow, said, total);
    CHECK(said == early_bytes);
    b.entry.flush();
    b.carry(b.client, b.server, whole());
    REQUIRE(b.exit.flows.size() == 1);
    flow_record& far = b.exit.flows[0];
    CHECK(far.bytes == early_bytes);
    // The answer grants a window of which that is a part.
    b.exit.layer->accept(*far.at, far);
    far.takes = true;
    b.settle();
    CHECK(flow.confirmed == 1);
    CHECK(flow.at->send_credit == far.at->window - early_bytes);
    far.take_held();
    for (int turns = 0; turns < 100 && far.bytes < total; ++turns) {
        b.say_stream(flow, said, total);
        b.settle();
    }
    CHECK(far.bytes == total);
    CHECK(is_prefix(far.data, 0));
    b.entry.layer->send_eof(*flow.at);
    b.settle();
    CHECK(far.eofs == 1);
    b.exit.close(far);
    b.entry.close(flow);
    b.settle();
    b.check_over();
}

TEST_CASE("a request that ends before the answer is whole", "[connection]") {
    early_pair b;
    const std::size_t size = GENERATE(0u, 1u, 700u, early_bytes);
    flow_record& flow = b.open();
    if (size > 0) b.entry.send(flow, pattern_bytes().at(0, 0, size));
    b.entry.layer->send_eof(*flow.at);
    b.entry.flush();
    b.carry(b.client, b.server, whole());
    flow_record& far = b.exit.flows.at(0);
    CHECK(far.bytes == size);
    CHECK(far.eofs == 1);
    CHECK(far.after_end == 0);
    b.exit.layer->accept(*far.at, far);
    b.exit.send(far, pattern_bytes().at(1, 0, 999));
    b.exit.close(far);
    b.settle();
    CHECK(far.eofs == 1);
    CHECK(flow.bytes == 999);
    CHECK(flow.cause == close_cause::cut_off);  // no EOF was sent here
    b.check_over();
}

TEST_CASE("what finds no room before the answer goes after it", "[connection]") {
    early_pair b;
    flow_record& flow = b.open();
    piece* p = b.entry.pieces.make_owned(40'000);  // beyond what is sendable, as is allowed
    const bytes_view bytes = pattern_bytes().at(0, 0, 40'000);
    std::copy(bytes.begin(), bytes.end(), p->owned);
    b.entry.layer->send(*flow.at, p);
    b.entry.layer->send_eof(*flow.at);
    b.settle();
    flow_record& far = b.exit.flows.at(0);
    CHECK(far.bytes == early_bytes);
    CHECK(far.eofs == 0);
    far.takes = true;
    b.exit.layer->accept(*far.at, far);
    far.take_held();
    b.settle();
    CHECK(far.bytes == 40'000);
    CHECK(is_prefix(far.data, 0));
    CHECK(far.eofs == 1);
    b.exit.close(far);
    b.entry.close(flow);
    b.settle();
    b.check_over();
}

TEST_CASE("early data and the answer cross, whatever it is", "[connection]") {
    early_pair b;
    const int answer = GENERATE(0, 1, 2);
    flow_record& flow = b.open();
    b.entry.send(flow, pattern_bytes().at(0, 0, 100));
    b.entry.flush();
    b.carry(b.client, b.server, whole());
    flow_record& far = b.exit.flows.at(0);
    if (answer == 0) b.exit.layer->accept(*far.at, far);
    if (answer == 1) b.exit.layer->refuse(*far.at, open_failure_reason::connect_failed, "no");
    if (answer == 2) b.exit.layer->accept(*far.at, far), b.exit.abort(far);
    b.entry.send(flow, pattern_bytes().at(0, 100, 100));
    b.entry.layer->send_eof(*flow.at);
    b.settle();
    CHECK(far.bytes == (answer == 0 ? 200u : 100u));
    CHECK(is_prefix(far.data, 0));
    CHECK(b.exit.layer->counters().dropped_bytes == (answer == 0 ? 0u : 100u));
    CHECK(flow.refused.has_value() == (answer == 1));
    // The number is used again, and nothing of the first channel touches the second.
    flow_record& second = b.open();
    b.entry.send(second, pattern_bytes().at(0, 0, 50));
    b.settle();
    CHECK(b.exit.flows.at(1).bytes == 50);
    if (answer == 0) {
        b.entry.close(flow);
        b.exit.close(far);
    }
    b.entry.abort(second);
    b.settle();
    b.check_over();
}

TEST_CASE("an open that is taken back takes its early data along", "[connection]") {
    early_pair b;
    flow_record& flow = b.open();
    b.entry.send(flow, pattern_bytes().at(0, 0, 100));
    const bool sealed = GENERATE(true, false);
    if (sealed) b.settle();
    b.entry.abort(flow);
    b.settle();
    CHECK(b.exit.flows.at(0).bytes == (sealed ? 100u : 0u));
    CHECK(b.exit.flows.at(0).cause == close_cause::cut_off);
    b.check_over();
}

TEST_CASE("nothing goes early to a peer that does not know it", "[connection]") {
    early_pair b(false);
    flow_record& flow = b.open();
    CHECK(b.entry.layer->sendable(*flow.at) == 0);
    b.entry.layer->send_eof(*flow.at);
    b.settle();
    CHECK(b.exit.flows.at(0).eofs == 0);
    b.exit.layer->accept(*b.exit.flows[0].at, b.exit.flows[0]);
    b.settle();
    CHECK(b.exit.flows[0].eofs == 1);
    b.entry.close(flow);
    b.exit.close(b.exit.flows[0]);
    b.settle();
    b.check_over();
}

TEST_CASE("on channels of a high number nothing goes early", "[connection]") {
    hand_played b({.max_channels = 20'000}, 512u << 20, role::client);
    b.layer->set_takes_early_data();
    b.own.budget.emplace(512u << 20, 20'000);
    for (std::uint32_t i = 0; i <= early_channels; ++i) {
        flow_record& flow = b.own.new_flow();
        flow.at = b.layer->open(flow, "chisel", as_bytes("host:1"), early::data);
        REQUIRE(flow.at != nullptr);
        REQUIRE(b.layer->sendable(*flow.at) == (i < early_channels ? early_bytes : 0));
        if (i % 1000 == 0) b.heard();
    }
    b.layer->lose();
}

TEST_CASE("early data without the feature ends the conversation, in both roles", "[connection]") {
    hand_played b({}, 64u << 20, GENERATE(role::server, role::client));
    b.opened(0);
    b.breaks(GENERATE(early_message(0, 1), early_eof_message(0)), "early data without the feature");
}

TEST_CASE("early data and its rules, in both roles", "[connection]") {
    hand_played b({}, 64u << 20, GENERATE(role::server, role::client));
    const auto too_much = "more early data than may be";
    const bool answered = GENERATE(true, false);
    b.layer->set_takes_early_data();
    b.own.accepts = answered;
    b.own.takes = false;
    if (!answered) {
        b.own.when_open = [&b](channel& c, const channel_open&) {
            flow_record& waits = b.own.new_flow();
            waits.at = &c;
            c.end = &waits;
        };
    }
    b.say(open_message(5));
    b.heard();
    flow_record& flow = b.own.flows.at(0);
    SECTION("as much as may be, and no octet more") {
        b.say(early_message(5, early_bytes - 1));
        b.say(early_message(5, 0));
        b.say(early_message(5, 1));
        CHECK(b.own.violations.empty());
        CHECK(flow.bytes == early_bytes);
        b.breaks(early_message(5, 1), too_much);
    }
    SECTION("at once") {
        b.breaks(early_message(5, early_bytes + 1), too_much);
    }
    SECTION("behind as much of ordinary data") {
        if (!answered) return;
        b.say(data_message(0, early_bytes));
        b.breaks(early_message(5, 1), too_much);
    }
    SECTION("behind EOF") {
        b.say(early_message(5, 10));
        b.say(early_eof_message(5));
        b.say(early_eof_message(5));
        CHECK(flow.eofs == 1);
        b.breaks(early_message(5, 1), "data after EOF");
    }
    SECTION("ordinary data before the answer") {
        if (answered) return;
        b.breaks(data_message(0, 1), "data on a channel that is not open");
    }
    SECTION("ordinary data behind early EOF") {
        if (!answered) return;
        b.say(early_eof_message(5));
        b.breaks(data_message(0, 1), "data after EOF");
    }
    SECTION("on numbers that nobody has") {
        for (std::uint32_t id : {0u, 4u, 6u, early_channels - 1}) {
            b.say(early_message(id, 100));
            b.say(early_eof_message(id));
        }
        CHECK(b.own.violations.empty());
        CHECK(b.layer->counters().dropped_bytes == 400);
        CHECK(flow.bytes + flow.eofs == 0);
    }
    SECTION("on numbers that nobody may have") {
        const auto id = GENERATE(as<std::uint32_t>{}, early_channels, ~0u);
        b.breaks(GENERATE_COPY(early_message(id, 1), early_eof_message(id)),
                 "early data on a channel of a high number");
    }
    SECTION("after a refusal, until it is known") {
        if (answered) return;
        b.layer->refuse(*std::exchange(flow.at, nullptr), open_failure_reason::connect_failed, "");
        b.say(early_message(5, early_bytes));
        b.say(early_message(5, early_bytes));
        CHECK(b.own.violations.empty());
        CHECK(flow.bytes == 0);
    }
    SECTION("broken messages") {
        const bool of_data = GENERATE(true, false);
        byte_vector broken = of_data ? early_message(5, 100) : early_eof_message(5);
        const std::size_t whole_size = broken.size(), head = of_data ? 8 : 1;
        broken.resize(GENERATE_COPY(as<std::size_t>{}, whole_size - 1, whole_size + 1, head));
        b.breaks(broken, of_data ? "malformed early data" : "malformed early EOF");
    }
}

TEST_CASE("an answer grants at least what was said already", "[connection]") {
    hand_played b({}, 64u << 20, GENERATE(role::server, role::client));
    b.layer->set_takes_early_data();
    flow_record& flow = b.own.new_flow();
    flow.at = b.layer->open(flow, "chisel", as_bytes("host:1"), early::data);
    b.own.send(flow, pattern_bytes().at(0, 0, 1000));
    CHECK(numbers(b.heard()) == order{90, 194});
    SECTION("less") {
        b.breaks(confirmation(0, 1, 999),
                 "channel confirmation with a window below the early data");
    }
    SECTION("just that") {
        b.say(confirmation(0, 1, 1000));
        CHECK(flow.confirmed == 1);
        CHECK(b.layer->sendable(*flow.at) == 0);
        b.layer->lose();
    }
}

}  // namespace
}  // namespace burin::ssh
