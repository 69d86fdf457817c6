// Two connection layers back to back: many channels at once, windows that fill and grow, fair
// shares, and sessions that end in the middle of everything.
#include <algorithm>
#include <numeric>

#include "core/ssh/messages.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::ssh {
namespace {

// Queues as much of its stream as the channel takes, whenever it may.
struct source {
    source(station& where, flow_record& flow, std::uint32_t stream, std::uint32_t size)
        : at(where), end(flow), number(stream), piece(size) {
        end.when_sendable = [this] { fill(); };
    }
    void fill() {
        if (end.at == nullptr) return;
        while (std::uint32_t room = at.layer->sendable(*end.at)) {
            if (end.at->queue.bytes() >= most_queued) return;
            const auto size = static_cast<std::uint32_t>(
                std::min<std::uint64_t>(std::min(room, piece), total - sent));
            if (size == 0) return;
            at.layer->send(*end.at, {}, pattern_bytes().at(number, sent, size));
            sent += size;
        }
    }
    station& at;
    flow_record& end;
    std::uint32_t number;
    std::uint32_t piece;
    std::uint64_t sent = 0;
    std::uint64_t total = std::uint64_t{1} << 40;
    std::uint64_t most_queued = total;
};

TEST_CASE("sixteen channels with as much to send get equal shares", "[connection]") {
    // Sends of less than a channel's turn, of a turn and a bit, and of many turns.
    const std::size_t send_bytes = GENERATE(40'000u, 100'000u, 480u * 1024);
    const std::uint32_t turn_bytes = GENERATE(0u, 256u * 1024);
    station_pair pair;
    pair.begin({.max_channels = 100}, 256u << 20, 100);
    pair.entry.layer->set_turn_bytes(turn_bytes);
    pair.exit.keeps = false;
    std::vector<std::unique_ptr<source>> sources;
    for (std::uint32_t i = 0; i < 16; ++i) {
        flow_record& flow = pair.entry.open();
        // Some write bytes by the dozen, some by the packet, some more than a packet.
        const std::uint32_t piece = i % 4 == 0   ? 700
                                    : i % 4 == 1 ? 9000
                                    : i % 4 == 2 ? 32768
                                                 : 70000;
        sources.push_back(std::make_unique<source>(pair.entry, flow, i, piece));
    }
    pair.settle();
    // With long turns, as much as a receive brings: beyond that the first ones would fill the
    // session's queue, and the others have less than a turn.
    if (turn_bytes > 0)
        for (auto& s : sources) s->most_queued = turn_bytes;
    for (auto& s : sources) s->fill();
    std::vector<std::uint64_t> before;
    for (auto& s : sources) before.push_back(s->end.at->bytes_sent);
    std::uint64_t carried = 0;
    while (carried < 24u << 20) {
        pair.entry.flush(send_bytes);
        pair.exit.flush();
        for (auto& s : sources) s->fill();
        transport_pair::carry(pair.client, pair.server, whole());
        transport_pair::carry(pair.server, pair.client, whole());
        carried = 0;
        for (std::size_t i = 0; i < 16; ++i) carried += sources[i]->end.at->bytes_sent - before[i];
    }
    std::vector<std::uint64_t> shares;
    for (std::size_t i = 0; i < 16; ++i)
        shares.push_back(sources[i]->end.at->bytes_sent - before[i]);
    CAPTURE(send_bytes, turn_bytes, shares);
    const auto [least, most] = std::minmax_element(shares.begin(), shares.end());
    CHECK(*least * 2 > *most);
    pair.check_peace();
    for (auto& s : sources) s->end.when_sendable = nullptr;
}

TEST_CASE("a turn is as long as it was set, in full packets, and two of them at least",
          "[connection]") {
    const auto [set, packets] = GENERATE(table<std::uint32_t, unsigned>(
        {{0, 2}, {40'000, 2}, {98'303, 2}, {98'304, 3}, {256 * 1024, 8}}));
    station_pair pair;
    pair.begin({.max_channels = 100}, 256u << 20, 100);
    pair.entry.layer->set_turn_bytes(set);
    std::vector<std::unique_ptr<source>> sources;
    for (std::uint32_t i = 0; i < 3; ++i)
        sources.push_back(std::make_unique<source>(pair.entry, pair.entry.open(), i, 32'768));
    for (auto& s : sources) s->most_queued = 1 << 20;
    pair.settle();
    for (auto& s : sources) s->fill();
    std::vector<std::size_t> order;
    for (std::size_t i = 0; i < 3; ++i)
        pair.exit.flows[i].when_data = [&order, i] { order.push_back(i); };
    pair.entry.flush(std::size_t{packets} * 6 * 33'000);
    transport_pair::carry(pair.client, pair.server, whole());
    std::vector<unsigned> turns;  // packets in each
    for (std::size_t i = 0; i < order.size(); ++i) {
        if (i == 0 || order[i] != order[i - 1]) turns.push_back(0);
        ++turns.back();
    }
    CAPTURE(set, turns);
    REQUIRE(turns.size() >= 3);
    for (std::size_t i = 0; i < 3; ++i) CHECK(turns[i] == packets);
    for (auto& s : sources) s->end.when_sendable = nullptr;
}

TEST_CASE("what has little to send goes before what has much", "[connection]") {
    station_pair pair;
    pair.begin({.max_channels = 100}, 256u << 20, 100);
    std::vector<std::unique_ptr<source>> sources;
    for (std::uint32_t i = 0; i < 4; ++i)
        sources.push_back(std::make_unique<source>(pair.entry, pair.entry.open(), i, 70'000));
    for (auto& s : sources) s->most_queued = 512 * 1024;
    flow_record& quick = pair.entry.open();
    pair.settle();
    unsigned bulk_packets = 0;
    std::vector<unsigned> in_front;  // of each quick one, packets of bulk of the same send
    for (std::size_t i = 0; i < 4; ++i) pair.exit.flows[i].when_data = [&] { ++bulk_packets; };
    pair.exit.flows[4].when_data = [&] { in_front.push_back(bulk_packets); };
    const bool answers = GENERATE(true, false);
    for (int turn = 0; turn < 50; ++turn) {
        for (auto& s : sources) s->fill();
        pair.entry.send(quick, as_bytes("key"));
        bulk_packets = 0;
        // Sends that end in the midst of a channel's turn as well: that one is served first.
        pair.entry.flush(turn % 2 == 0 ? 480 * 1024 : 100'000);
        pair.exit.flush();
        transport_pair::carry(pair.client, pair.server, whole());
        if (answers) {
            pair.exit.send(pair.exit.flows[4], as_bytes("echo"));
            pair.exit.flush();
        }
        transport_pair::carry(pair.server, pair.client, whole());
        CHECK(bulk_packets >= 2);
    }
    CAPTURE(in_front);
    CHECK(in_front.size() == 50);
    CHECK(std::ranges::max(in_front) <= 4);  // the rest of one turn, in pieces of 70 000
    CHECK(pair.entry.layer->counters().quick_packets == (answers ? 50u : 1u));
    pair.check_peace();
    for (auto& s : sources) s->end.when_sendable = nullptr;
}

TEST_CASE("thousands that have little leave half of it to those who have much", "[connection]") {
    station_pair pair;
    pair.begin({.max_channels = 4000}, 512u << 20, 4000);
    pair.exit.keeps = false;
    source bulk(pair.entry, pair.entry.open(), 0, 70'000);
    bulk.most_queued = 512 * 1024;
    std::vector<flow_record*> many;
    for (int i = 0; i < 2000; ++i) many.push_back(&pair.entry.open());
    pair.settle();
    std::uint64_t small_bytes = 0;
    const std::uint64_t before = bulk.sent;
    for (int turn = 0; turn < 100; ++turn) {
        bulk.fill();
        for (flow_record* f : many) {
            if (!f->at->queue.empty() || pair.entry.layer->sendable(*f->at) < 1000) continue;
            pair.entry.send(*f, pattern_bytes().at(1, 0, 1000));
            small_bytes += 1000;
        }
        pair.entry.flush(128 * 1024);
        pair.exit.flush();
        transport_pair::carry(pair.client, pair.server, whole());
        transport_pair::carry(pair.server, pair.client, whole());
    }
    const double share = static_cast<double>(bulk.sent - before) /
                         static_cast<double>(bulk.sent - before + small_bytes);
    CAPTURE(share);
    CHECK(share > 0.35);
    CHECK(share < 0.65);
    pair.check_peace();
    bulk.end.when_sendable = nullptr;
}

TEST_CASE("small pieces share packets, as far as whole ones fit", "[connection]") {
    station_pair pair;
    pair.begin({.max_channels = 10}, 256u << 20, 10);
    flow_record& flow = pair.entry.open();
    pair.settle();
    flow_record& far = pair.exit.flows.back();
    std::uint64_t sent = 0;
    auto packets = [&](std::initializer_list<std::size_t> sizes) {
        for (std::size_t size : sizes) {
            pair.entry.layer->send(*flow.at, {}, pattern_bytes().at(1, sent, size));
            sent += size;
        }
        const std::uint64_t before = pair.client.end->counters().packets_sent;
        pair.entry.flush();
        const std::uint64_t count = pair.client.end->counters().packets_sent - before;
        pair.settle();
        return count;
    };
    CHECK(packets({1200, 1200, 1200}) == 1);
    CHECK(packets({1}) == 1);
    CHECK(packets({4096, 4097, 4096}) == 3);        // what is larger is not copied
    CHECK(packets({1200, 9000, 1200, 1200}) == 3);  // nor moved from its place
    CHECK(packets({4096, 4096, 4096, 4096, 4096, 4096, 4096, 4096, 1}) == 2);
    CHECK(packets({4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000, 4000}) == 2);
    CHECK(far.bytes == sent);
    byte_vector want;
    for (std::uint64_t at = 0; at < sent; at += 1000) {
        const bytes_view part = pattern_bytes().at(1, at, std::min<std::uint64_t>(1000, sent - at));
        want.insert(want.end(), part.begin(), part.end());
    }
    CHECK(far.data == want);
    pair.check_peace();
}

TEST_CASE("an end that keeps nothing has credit beyond the budget, and gives none of it back",
          "[connection]") {
    station_pair pair;
    pair.begin({.max_channels = 10, .window_max = 1u << 20}, 64u << 20, 10);
    flow_record& flow = pair.entry.open();
    pair.settle();
    flow_record& far = pair.exit.flows.back();
    const std::uint32_t before = flow.at->send_credit;
    const std::uint64_t left = pair.exit.budget->growth_left();
    far.layer->widen(*far.at, 500'000);
    pair.settle();
    CHECK(flow.at->send_credit == before + 500'000);
    far.layer->widen(*far.at, 1u << 30);  // as far as a window may be
    pair.settle();
    CHECK(flow.at->send_credit == 1u << 20);
    CHECK(far.at->window == 1u << 20);
    far.layer->widen(*far.at, 1);
    pair.settle();
    CHECK(flow.at->send_credit == 1u << 20);
    CHECK(pair.exit.budget->growth_left() == left);
    pair.entry.close(flow);
    pair.settle();
    CHECK(far.closes == 1);
    pair.entry.check_empty();
    pair.exit.check_empty();
}

TEST_CASE("a channel without credit leaves its share to the others", "[connection]") {
    station_pair pair;
    pair.begin();
    flow_record& stuck = pair.entry.open("stuck");
    flow_record& runs = pair.entry.open("runs");
    pair.exit.when_open = [&](channel& c, const channel_open& open) {
        pair.exit.accept(c).takes = as_text(open.rest) != "stuck";
    };
    pair.settle();
    source one(pair.entry, stuck, 1, 32768), two(pair.entry, runs, 2, 32768);
    two.total = 8u << 20;
    one.fill();
    two.fill();
    pair.settle();
    CHECK(pair.exit.flows[1].bytes == two.total);
    CHECK(is_prefix(pair.exit.flows[1].data, 2));
    CHECK(pair.exit.flows[0].bytes == stuck.at->bytes_sent);
    CHECK(pair.exit.flows[0].bytes == pair.exit.flows[0].at->window);
    CHECK(pair.entry.layer->queued_bytes() == 0);
    pair.check_peace();
    stuck.when_sendable = runs.when_sendable = nullptr;
}

TEST_CASE("ten thousand channels fill up and stay within the budget", "[connection]") {
    constexpr std::uint64_t memory = 224u << 20;
    constexpr std::uint32_t limit = 10'000;
    station_pair pair;
    const connection_limits limits{.max_channels = 20'000};
    pair.exit.begin(limits, memory, limit);
    REQUIRE(pair.exit.budget->channel_limit() == limit);
    // The opener has more to give than the other end.
    pair.entry.begin(limits, 512u << 20, 20'000);
    pair.exit.takes = pair.exit.keeps = false;
    std::uint64_t granted = 0, sent = 0;
    for (std::uint32_t at = 0; at < limit; ++at) {
        pair.entry.open().when_sendable = nullptr;
        if (at % 256 == 255) pair.settle();
    }
    pair.settle();
    CHECK(pair.exit.layer->open_channels() == limit);
    flow_record& beyond = pair.entry.open();
    pair.settle();
    CHECK(beyond.refused == open_failure_reason::shortage);
    for (const channel* c : pair.exit.layer->channels()) granted += c->window;
    CHECK(granted <= memory);
    for (flow_record& flow : pair.entry.flows) {
        if (flow.at == nullptr) continue;
        std::uint32_t stream = 0;
        while (std::uint32_t room = pair.entry.layer->sendable(*flow.at)) {
            pair.entry.send(flow, pattern_bytes().at(stream, 0, std::min(room, 100'000u)));
            sent += std::min(room, 100'000u);
        }
        if (pair.entry.layer->queued_bytes() > 2u << 20) pair.settle();
    }
    pair.settle();
    std::uint64_t got = 0;
    for (const flow_record& flow : pair.exit.flows) got += flow.bytes;
    CHECK(got == sent);
    CHECK(got == granted);  // every window full
    CHECK(pair.exit.layer->open_channels() == limit);
    // One goes, and one more may come.
    pair.entry.abort(pair.entry.flows[limit / 2]);
    pair.settle();
    flow_record& next = pair.entry.open();
    pair.settle();
    CHECK(next.confirmed == 1);
    pair.check_peace();
    // The end of the session is the end of them all, in no time and in any state.
    pair.exit.layer->lose();
    pair.exit.check_empty();
    pair.entry.layer->lose();
    pair.entry.check_empty();
}

TEST_CASE("payload waits for new keys, and nothing spins meanwhile", "[connection]") {
    station_pair pair;
    pair.begin();
    flow_record& flow = pair.entry.open();
    pair.settle();
    pair.entry.send(flow, pattern_bytes().at(0, 0, 10'000));
    CHECK(pair.entry.layer->pending());
    pair.client.end->start_rekey();
    CHECK_FALSE(pair.entry.layer->pending());
    pair.entry.flush();
    CHECK(pair.entry.layer->queued_bytes() == 10'000);
    CHECK_FALSE(pair.entry.layer->pending());
    pair.settle();
    CHECK(pair.exit.flows[0].bytes == 10'000);
    CHECK(pair.client.end->counters().key_exchanges == 2);
    pair.check_peace();
}

// ---- growth ----

ring::microseconds_t told_time = 0;

TEST_CASE("a queue tells how long it has waited", "[connection]") {
    station_pair pair;
    told_time = 1000 * ring::second;
    pair.begin({.clock = [] { return told_time; }}, 64u << 20, 100);
    pair.exit.takes = false;
    flow_record& flow = pair.entry.open();
    pair.settle();
    source from(pair.entry, flow, 0, 1u << 30);
    const ssh::connection& layer = *pair.entry.layer;
    CHECK(layer.queue_age_ms(*flow.at) == 0);
    // More than the peer's window takes: the rest stays, and grows old.
    from.fill();
    pair.entry.layer->send(*flow.at, {}, pattern_bytes().at(0, from.sent, 1000));
    pair.settle();
    REQUIRE_FALSE(flow.at->queue.empty());
    told_time += 700 * ring::millisecond;
    CHECK(layer.queue_age_ms(*flow.at) == 700);
    flow.when_sendable = nullptr;
    pair.entry.abort(flow);
    pair.settle();
}

TEST_CASE("a window grows for a flow that it may hold back, and for no other", "[connection]") {
    station_pair pair;
    told_time = 1000 * ring::second;
    const connection_limits limits{.window_max = 1u << 20, .clock = [] { return told_time; }};
    pair.begin(limits, 64u << 20, 100);
    pair.exit.keeps = false;
    flow_record& flow = pair.entry.open();
    pair.settle();
    flow_record& taker = pair.exit.flows[0];
    const std::uint32_t first = taker.at->window;
    source from(pair.entry, flow, 0, 32768);
    SECTION("quick: a window a round trip of 400 ms") {
        while (from.total > 0 && taker.at->window < limits.window_max) {
            from.total = from.sent + flow.at->send_credit;  // one window, and wait
            from.fill();
            pair.settle();
            told_time += 400 * ring::millisecond;
            REQUIRE(from.sent < 1u << 30);
        }
        CHECK(taker.at->window == limits.window_max);
        CHECK(pair.exit.budget->growth_left() ==
              pair.exit.growth_at_start - (limits.window_max - ring::budget::base_bytes));
    }
    SECTION("slow: a window lasts for seconds") {
        for (int round = 0; round < 100; ++round) {
            told_time += 3 * ring::second;
            from.total = from.sent + first;
            from.fill();
            pair.settle();
        }
        CHECK(from.sent == 100 * std::uint64_t{first});
        CHECK(taker.at->window == first);
    }
    SECTION("quick, but the end does not keep up") {
        taker.takes = false;
        for (int round = 0; round < 400; ++round) {
            from.fill();
            pair.settle();
            // It always holds on to more than half a window.
            const std::uint32_t part = taker.held - std::min(taker.held, first * 5 / 8);
            taker.held -= part;
            pair.exit.layer->consumed(*taker.at, part);
        }
        CHECK(from.sent > 20 * std::uint64_t{first});
        CHECK(taker.at->window == first);
    }
    SECTION("quick, and all that is held is under way to the end") {
        taker.takes = false;
        taker.under_way = true;
        for (int round = 0; round < 400; ++round) {
            from.fill();
            pair.settle();
            const std::uint32_t part = taker.held - std::min(taker.held, taker.at->window * 5 / 8);
            taker.held -= part;
            pair.exit.layer->consumed(*taker.at, part);
        }
        CHECK(taker.at->window == limits.window_max);
    }
    flow.when_sendable = nullptr;
    pair.check_peace();
    pair.entry.abort(flow);
    pair.settle();
    pair.exit.check_empty();
}

// ---- a session that is stuck, or ends ----

TEST_CASE("a session that cannot send holds a bounded amount", "[connection]") {
    station_pair pair;
    pair.begin({}, 512u << 20, 1000);
    pair.exit.keeps = false;
    std::vector<std::unique_ptr<source>> sources;
    for (std::uint32_t i = 0; i < 40; ++i)
        sources.push_back(std::make_unique<source>(pair.entry, pair.entry.open(), i, 65536));
    pair.settle();
    for (auto& s : sources) s->fill();
    CHECK(pair.entry.layer->queued_bytes() >= queued_limit_bytes);
    CHECK(pair.entry.layer->queued_bytes() < queued_limit_bytes + 65536 * 2);
    CHECK(pair.entry.pieces.in_use() < 100);
    pair.entry.layer->own_queued();
    CHECK(pair.entry.pieces.owned_bytes() == pair.entry.layer->queued_bytes());
    // All of them go on when it moves again.
    for (auto& s : sources) s->total = 1u << 20;
    pair.settle();
    for (auto& s : sources) CHECK(s->sent == s->total);
    for (const flow_record& flow : pair.exit.flows) CHECK(flow.bytes == 1u << 20);
    for (auto& s : sources) s->end.when_sendable = nullptr;
    pair.check_peace();
}

struct losing_events final : transport_events {
    explicit losing_events(recorder& all) : events(all) {}
    void on_authenticated(std::string_view who) override { events.on_authenticated(who); }
    void on_message(bytes_span payload) override { events.on_message(payload); }
    void on_failure(std::string_view why) override {
        events.on_failure(why);
        layer->lose();
    }
    recorder& events;
    connection* layer = nullptr;
};

// The transport fails in the middle of whatever queues a message, and the owner loses the session
// there and then, as a session does; nothing may be touched afterwards (run with a sanitizer).
TEST_CASE("the session may end inside every call", "[connection]") {
    station_pair pair;
    losing_events events(pair.server.events);
    pair.connect();
    pair.server.end =
        std::make_unique<transport>(pair.server_settings, role::server, dialect::chisel, events);
    pair.pump();
    pair.begin();
    station& exit = pair.exit;
    events.layer = exit.layer.get();
    for (int i = 0; i < 8; ++i) pair.entry.open();
    pair.settle();
    exit.accepts = false;
    flow_record& asked = pair.entry.open();
    pair.settle();
    channel& waiting = *exit.asked.back();
    flow_record& ours = exit.open();

    // Room for `messages` small ones, then the queue is full.
    auto fill = [&](std::size_t messages) {
        drain(*pair.server.end, pair.server.said);
        const std::size_t small = 4 + 5;
        byte_vector bulk(max_queued_bytes - 4 - messages * small, std::byte{81});
        REQUIRE(pair.server.end->send(bulk));
    };
    SECTION("in the first message of a flush of credit") {
        for (flow_record& flow : pair.entry.flows)
            if (flow.at != nullptr && flow.confirmed > 0)
                pair.entry.send(flow, pattern_bytes().at(0, 0, 20'000));
        pair.entry.flush();
        transport_pair::carry(pair.client, pair.server, whole());
        fill(GENERATE(0u, 2u));
        exit.layer->flush_adjusts();
    }
    SECTION("in the answer to a CLOSE") {
        pair.entry.abort(pair.entry.flows[3]);
        pair.entry.flush();
        fill(0);
        transport_pair::carry(pair.client, pair.server, whole());
        CHECK(exit.flows[3].cause == close_cause::cut_off);
        CHECK(exit.flows[3].closes == 1);
    }
    SECTION("in accept") {
        fill(0);
        flow_record& flow = exit.accept(waiting);
        CHECK(flow.cause == close_cause::lost);
    }
    SECTION("in refuse") {
        fill(0);
        exit.layer->refuse(waiting, open_failure_reason::prohibited, "");
    }
    SECTION("in open") {
        fill(0);
        flow_record& flow = exit.open();
        CHECK(flow.at == nullptr);
        CHECK(flow.closes == 0);
    }
    SECTION("in close, at EOF or at CLOSE") {
        fill(GENERATE(0u, 1u));
        exit.layer->send_eof(*exit.flows[2].at);
        if (exit.flows[2].at != nullptr) exit.close(exit.flows[2]);
    }
    SECTION("in close, behind payload") {
        for (std::size_t at : {1u, 2u, 4u}) exit.send(exit.flows[at], pattern_bytes().at(0, 0, 10));
        exit.layer->send_eof(*exit.flows[2].at);
        exit.close(exit.flows[2]);
        fill(GENERATE(0u, 1u));
        send_room room(1 << 20);
        exit.layer->flush_data(room);
    }
    SECTION("in abort") {
        fill(0);
        exit.abort(exit.flows[5]);
    }
    SECTION("while ends are told that they may send") {
        for (flow_record& flow : exit.flows)
            if (flow.at != nullptr)
                flow.when_sendable = [&exit, &flow] {
                    if (flow.at != nullptr) exit.layer->send_eof(*flow.at);
                };
        for (std::size_t at : {1u, 2u, 4u}) exit.send(exit.flows[at], pattern_bytes().at(0, 0, 10));
        send_room room(1 << 20);
        exit.layer->flush_data(room);
        fill(GENERATE(0u, 1u));
        exit.layer->tell_sendable();
    }
    CHECK(pair.server.events.failures == 1);
    CHECK(exit.layer->open_channels() == 0);
    CHECK(ours.closes <= 1);
    CHECK(asked.confirmed == 0);
    exit.check_empty();
    for (flow_record& flow : exit.flows) flow.when_sendable = nullptr;
}

}  // namespace
}  // namespace burin::ssh
