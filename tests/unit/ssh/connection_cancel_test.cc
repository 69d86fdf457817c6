// Opens that are taken back before they are answered (docs/wire.md section 8.9), and those that
// cannot be: both ends are left with nothing.
#include "tests/catch.hh"
#include "tests/unit/ssh/hand_played.hh"

namespace burin::ssh {
namespace {

// Two ends of ours; the exit lets opens wait.
struct patient_pair : station_pair {
    explicit patient_pair(bool knows = true, const connection_limits& limits = {}) {
        begin(limits);
        if (knows) entry.layer->set_takes_opens_back();
        if (knows) exit.layer->set_takes_opens_back();
        exit.accepts = false;
        exit.when_open = [this](channel& c, const channel_open&) {
            flow_record& waits = exit.new_flow();
            waits.at = &c;
            c.end = &waits;
        };
    }
    void check_over() {
        check_peace();
        entry.check_empty();
        exit.check_empty();
        CHECK(entry.layer->unanswered() == 0);
    }
};

TEST_CASE("an open that is taken back is answered at once", "[connection]") {
    patient_pair b;
    flow_record& first = b.entry.open();
    flow_record& second = b.entry.open();
    b.settle();
    REQUIRE(b.exit.flows.size() == 2);
    CHECK(b.entry.layer->unanswered() == 2);
    b.entry.abort(first);
    CHECK(b.entry.layer->unanswered() == 2);  // its place is kept until the answer
    b.settle();
    CHECK(b.exit.requests == std::vector<std::string>{std::string(cancel_open_name)});
    CHECK(b.exit.flows[0].cause == close_cause::cut_off);
    CHECK(b.exit.flows[1].closes == 0);
    CHECK(b.entry.layer->unanswered() == 1);
    CHECK(b.entry.layer->open_channels() == 1);
    CHECK_FALSE(first.refused);  // nobody is there to be told
    // Its number is used again, and nothing of the first one touches it.
    flow_record& third = b.entry.open();
    REQUIRE(third.at->local == 0);
    b.settle();
    REQUIRE(b.exit.flows.size() == 3);
    b.exit.layer->accept(*b.exit.flows[2].at, b.exit.flows[2]);
    b.settle();
    CHECK(third.confirmed == 1);
    b.entry.abort(third);
    b.entry.abort(second);
    b.settle();
    b.check_over();
}

TEST_CASE("an answer that is under way meets the taking back", "[connection]") {
    patient_pair b;
    flow_record& flow = b.entry.open();
    b.settle();
    const bool accepted = GENERATE(true, false);
    flow_record& far = b.exit.flows[0];
    if (accepted)
        b.exit.layer->accept(*far.at, far);
    else
        b.exit.layer->refuse(*far.at, open_failure_reason::connect_failed, "");
    b.entry.abort(flow);
    b.settle();
    CHECK(flow.confirmed == 0);
    CHECK_FALSE(flow.refused);
    CHECK(far.closes == (accepted ? 1u : 0u));
    b.check_over();
}

TEST_CASE("a peer that takes nothing back answers when it does", "[connection]") {
    patient_pair b(false);
    flow_record& accepted = b.entry.open();
    flow_record& refused = b.entry.open();
    b.settle();
    b.entry.abort(accepted);
    b.entry.abort(refused);
    b.settle();
    CHECK(b.exit.requests.empty());
    CHECK(b.entry.layer->unanswered() == 2);
    CHECK(b.entry.layer->open_channels() == 2);
    b.exit.layer->accept(*b.exit.flows[0].at, b.exit.flows[0]);
    b.exit.layer->refuse(*b.exit.flows[1].at, open_failure_reason::connect_failed, "");
    b.settle();
    CHECK(b.exit.flows[0].cause == close_cause::cut_off);
    b.check_over();
}

TEST_CASE("what a taking back names may be anything", "[connection]") {
    hand_played b;
    auto take_back = [](bytes_view rest) {
        return built(global_request{cancel_open_name, false, rest});
    };
    auto of = [&](std::uint32_t id) {
        byte_vector rest(4);
        store_u32(rest.data(), id);
        return take_back(rest);
    };
    b.layer->set_takes_opens_back();
    b.opened(3);
    b.exit.accepts = false;
    b.say(open_message(7));            // nobody is its end yet
    b.say(open_message(0xfffffff0u));  // a number that no end of ours gives
    for (std::uint32_t id : {0u, 3u, 7u, 8u, 0xfffffff0u, ~0u}) b.say(of(id));
    CHECK(b.heard().empty());
    CHECK(b.layer->open_channels() == 3);
    CHECK(b.exit.violations.empty());
    const byte_vector five(5);
    b.breaks(take_back(five), "malformed cancel-open");
}

TEST_CASE("a crowd of unanswered opens leaves the budget to those that move", "[connection]") {
    patient_pair b;
    std::vector<flow_record*> flows;
    for (int i = 0; i < 600; ++i) flows.push_back(&b.entry.open());
    b.settle();
    REQUIRE(b.exit.flows.size() == 600);
    for (station* s : {&b.entry, &b.exit}) {
        unsigned least = 0;
        for (const channel* c : s->layer->channels())
            if (c->window == ring::budget::base_bytes) ++least;
        CHECK(least >= 600 - 256);
        CHECK(s->budget->growth_left() > s->growth_at_start / 2);
    }
    for (flow_record* f : flows) b.entry.abort(*f);
    b.settle();
    b.check_over();
    // In calm again, a channel begins with more.
    b.entry.open();
    b.settle();
    CHECK(b.entry.layer->channels()[0]->window > ring::budget::base_bytes);
}

TEST_CASE("a session that ends forgets what was not answered", "[connection]") {
    patient_pair b;
    b.entry.open();
    b.entry.abort(b.entry.open());
    b.settle();
    flow_record& late = b.entry.open();
    b.entry.abort(late);
    b.entry.layer->lose();
    b.exit.layer->lose();
    CHECK(b.entry.layer->unanswered() == 0);
    b.entry.check_empty();
    b.exit.check_empty();
}

}  // namespace
}  // namespace burin::ssh
