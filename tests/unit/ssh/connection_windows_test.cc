// Windows by the path: a line with a round trip and a rate, between two connection layers and under
// a clock of the test's own.
#include <algorithm>
#include <deque>
#include <vector>

#include "tests/catch.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::ssh {
namespace {

ring::microseconds_t told_now = 0;

constexpr std::uint32_t near_window = 4u << 20;  // what any path may have
constexpr std::uint64_t mib = 1u << 20;

// A line of so many bytes a millisecond; what goes in comes out half a round trip later.
class line {
  public:
    line(station_pair& pair, std::uint32_t bytes_a_ms, std::uint32_t round_trip_ms)
        : _pair(pair), _rate(bytes_a_ms), _half(round_trip_ms / 2) {
        pair.entry.path = pair.exit.path = round_trip_ms * ring::millisecond;
    }
    // A millisecond passes. The sender has cwnd bytes of room, as TCP's slow start gives it.
    void pass() {
        told_now += ring::millisecond;
        ++_now;
        arrive(_there, _pair.server);
        arrive(_back, _pair.client);
        for (; !_acks.empty() && _acks.front().first <= _now; _acks.pop_front()) {
            _under_way -= _acks.front().second;
            _congestion_window = std::min(_congestion_window + _acks.front().second, endless_room);
        }
        // What was no whole packet is the next millisecond's.
        _may_send = std::min(_may_send + _rate, 2 * _rate + 32768);
        const std::uint64_t free =
            _congestion_window > _under_way ? _congestion_window - _under_way : 0;
        _pair.entry.flush(std::min(_may_send, free));
        _pair.exit.flush();
        _may_send -= std::min<std::uint64_t>(_may_send, _pair.client.said.size());
        leave(_pair.client, _there);
        leave(_pair.server, _back);
    }
    void set_congestion_window(std::uint64_t bytes) { _congestion_window = bytes; }
    std::uint64_t arrived() const { return _arrived; }

  private:
    static constexpr std::uint64_t endless_room = std::uint64_t{1} << 30;
    struct parcel {
        std::uint64_t due;
        byte_vector bytes;
    };
    void leave(link_end& from, std::deque<parcel>& on) {
        if (from.said.empty()) return;
        if (&on == &_there) _under_way += from.said.size();
        on.push_back({_now + _half, std::move(from.said)});
        from.said.clear();
    }
    void arrive(std::deque<parcel>& on, link_end& to) {
        while (!on.empty() && on.front().due <= _now) {
            feed(*to.end, to.run, on.front().bytes);
            if (&on == &_there) {
                _arrived += on.front().bytes.size();
                _acks.emplace_back(_now + _half, on.front().bytes.size());
            }
            on.pop_front();
        }
    }
    station_pair& _pair;
    std::uint64_t _rate, _half, _now = 0, _may_send = 0;
    std::uint64_t _under_way = 0, _arrived = 0, _congestion_window = endless_room;
    std::deque<parcel> _there, _back;
    std::deque<std::pair<std::uint64_t, std::uint64_t>> _acks;  // when they are back, of how much
};

// Always has more to send.
struct endless {
    endless(station& where, flow_record& flow) : at(where), end(flow) {
        end.when_sendable = [this] { fill(); };
    }
    ~endless() { end.when_sendable = nullptr; }
    void fill() {
        while (end.at != nullptr && !stopped && end.at->queue.bytes() < mib) {
            const std::uint32_t room = at.layer->sendable(*end.at);
            if (room == 0) return;
            at.layer->send(*end.at, {}, pattern_bytes().at(0, 0, std::min(room, 32768u)));
        }
    }
    station& at;
    flow_record& end;
    bool stopped = false;
};

struct flow_over {
    explicit flow_over(std::uint32_t window_max = connection_limits{}.window_max,
                       std::uint64_t memory = 256u << 20, std::uint32_t channels = 100) {
        told_now = 1000 * ring::second;
        pair.begin({.window_max = window_max, .clock = [] { return told_now; }}, memory, channels);
        pair.exit.keeps = false;
    }
    // `wider`: a window with so much more from the beginning.
    endless& open(std::uint32_t wider = 0) {
        flow_record& flow = pair.entry.open();
        pair.settle();
        flow_record& far = pair.exit.flows.back();
        if (wider > 0) far.layer->widen(*far.at, wider);
        pair.settle();
        return sources.emplace_back(pair.entry, flow);
    }
    std::uint32_t window(std::size_t i = 0) { return pair.exit.flows[i].at->window; }
    void pass(line& on, std::uint32_t ms) {
        for (std::uint32_t i = 0; i < ms; ++i) {
            for (endless& s : sources) s.fill();
            on.pass();
        }
    }
    station_pair pair;
    std::deque<endless> sources;
};

TEST_CASE("a window follows the path's bandwidth-delay product", "[windows]") {
    struct path {
        std::uint32_t bytes_a_ms, round_trip_ms;
    };
    // 200 Mbit/s over 200 ms, 100 over 500, and 1.6 Gbit/s over 16.
    const auto p = GENERATE(path{25'000, 200}, path{12'500, 500}, path{200'000, 16});
    const std::uint64_t product = std::uint64_t{p.bytes_a_ms} * p.round_trip_ms;
    CAPTURE(p.bytes_a_ms, p.round_trip_ms, product);
    flow_over over;
    line on(over.pair, p.bytes_a_ms, p.round_trip_ms);
    over.open();
    over.pass(on, 14 * p.round_trip_ms);
    // The line is full: as many bytes in the last round trips as it takes (a packet's worth less).
    const std::uint64_t before = on.arrived();
    over.pass(on, 2 * p.round_trip_ms);
    CHECK(on.arrived() - before > product * 2 * 95 / 100);
    // By what a round trip brings, rounded up: neither more nor less.
    CHECK(over.window() >= std::max<std::uint64_t>(near_window, product * 4 / 3));
    CHECK(over.window() <= std::max<std::uint64_t>(near_window, product * 9 / 2));
    over.pair.check_peace();
}

TEST_CASE("slow start does not wait for the window", "[windows]") {
    constexpr std::uint32_t bytes_a_ms = 30'000, round_trip_ms = 200;
    std::uint64_t took[2] = {};
    for (int has_all = 0; has_all < 2; ++has_all) {
        flow_over over;
        line on(over.pair, bytes_a_ms, round_trip_ms);
        on.set_congestion_window(65'536);
        // The second has a window that is never in the way.
        endless& source = over.open(has_all == 1 ? 60u << 20 : 0);
        const std::uint64_t wanted = std::uint64_t{3} * bytes_a_ms * round_trip_ms;
        for (; on.arrived() < wanted; ++took[has_all]) over.pass(on, 1);
        source.stopped = true;
    }
    CAPTURE(took[0], took[1]);
    CHECK(took[0] <= took[1] + round_trip_ms);
}

TEST_CASE("a near path's window stays what it was, whatever its rate", "[windows]") {
    flow_over over;
    line on(over.pair, 480'000, 0);  // 4 Gbit/s, and no round trip to speak of
    over.pair.exit.path = 100;
    over.open();
    over.pass(on, 150);
    CHECK(on.arrived() > 50 * mib);
    CHECK(over.window() == near_window);
    // Where nobody knows the path it is taken for a near one.
    over.pair.exit.path = 0;
    over.pass(on, 50);
    CHECK(over.window() == near_window);
    // The socket is asked about windows that are used up, not about bytes.
    CHECK(over.pair.exit.asked_for_path < on.arrived() / near_window * 2 + 2);
}

TEST_CASE("no window grows beyond --window-max", "[windows]") {
    const std::uint32_t most = GENERATE(65'536u, 6u << 20);
    flow_over over(most);
    line on(over.pair, 25'000, 200);
    over.open();
    over.pass(on, 2500);
    CHECK(over.window() == most);
}

TEST_CASE("a window that is many times what its flow needs gives back", "[windows]") {
    flow_over over;
    line fast(over.pair, 25'000, 200);
    endless& source = over.open();
    over.pass(fast, 2500);
    const std::uint32_t large = over.window();
    const std::uint64_t left = over.pair.exit.budget->growth_left();
    REQUIRE(large > 8 * mib);
    // The sender slows down to a tenth: its bytes come, and their credit does not.
    source.stopped = true;
    std::uint64_t sent = 0;
    for (int ms = 0; ms < 15'000; ++ms) {
        if (const std::uint32_t room = over.pair.entry.layer->sendable(*source.end.at)) {
            const std::uint32_t part = std::min(room, 2500u);
            over.pair.entry.layer->send(*source.end.at, {}, pattern_bytes().at(0, 0, part));
            sent += part;
        }
        fast.pass();
    }
    CHECK(sent > 15'000 * 2450ull);  // it never waited
    CHECK(over.window() < large / 2);
    CHECK(over.window() >= near_window);
    CHECK(over.pair.exit.budget->growth_left() == left + (large - over.window()));
    CHECK(over.pair.exit.layer->counters().windows_shrunk > 0);
    // And has it again when it needs it.
    source.stopped = false;
    over.pass(fast, 2500);
    CHECK(over.window() > 8 * mib);
    over.pair.check_peace();
    source.stopped = true;
    over.pair.entry.abort(source.end);
    for (int ms = 0; ms < 500; ++ms) fast.pass();
    over.pair.exit.check_empty();
}

TEST_CASE("an end that does not keep up gets no larger window", "[windows]") {
    flow_over over;
    line on(over.pair, 25'000, 200);
    over.open();
    flow_record& slow = over.pair.exit.flows[0];
    slow.takes = false;
    for (int ms = 0; ms < 5000; ++ms) {  // it takes a fifth of what the line would bring
        over.pass(on, 1);
        const std::uint32_t part = std::min(slow.held, 5'000u);
        slow.held -= part;
        over.pair.exit.layer->consumed(*slow.at, part);
    }
    CHECK(slow.bytes > 10 * mib);
    CHECK(over.window() <= near_window);
}

TEST_CASE("two hundred flows of a long path stay within the memory", "[windows]") {
    constexpr std::uint64_t memory = 64u << 20;
    flow_over over(64u << 20, memory, 1000);
    line on(over.pair, 50'000, 200);
    for (int i = 0; i < 200; ++i) over.open();
    std::uint64_t most = 0;
    const auto granted = [&] {
        std::uint64_t sum = 0;
        for (const channel* c : over.pair.exit.layer->channels())
            if (c != nullptr) sum += c->window;
        return sum;
    };
    for (int round = 0; round < 20; ++round) {
        over.pass(on, 100);
        most = std::max(most, granted());
    }
    CHECK(most <= memory - (1000 - 200) * ring::budget::base_bytes);
    std::vector<std::uint64_t> before;
    for (const flow_record& flow : over.pair.exit.flows) before.push_back(flow.bytes);
    over.pass(on, 600);
    std::size_t moved = 0;
    for (std::size_t i = 0; i < before.size(); ++i)
        moved += over.pair.exit.flows[i].bytes > before[i];
    CHECK(moved == 200);
    over.pair.check_peace();
}

TEST_CASE("where memory is short, flows that hardly move leave it to those that do", "[windows]") {
    // Ten flows took what there was; then they carry a little each, and another one wants it.
    flow_over over(16u << 20, 32u << 20, 100);
    line on(over.pair, 50'000, 200);
    for (int i = 0; i < 10; ++i) over.open();
    over.pass(on, 3000);
    REQUIRE(over.pair.exit.budget->scarce());
    for (endless& s : over.sources) s.stopped = true;
    over.pass(on, 600);
    std::vector<std::uint32_t> large;
    for (std::size_t i = 0; i < 10; ++i) large.push_back(over.window(i));
    endless& mover = over.open();
    for (int ms = 0; ms < 6'000; ++ms) {
        mover.fill();
        for (std::size_t i = 0; i < 10; ++i) {
            flow_record& flow = over.sources[i].end;
            if (over.pair.entry.layer->sendable(*flow.at) >= 1000)
                over.pair.entry.layer->send(*flow.at, {}, pattern_bytes().at(0, 0, 1000));
        }
        on.pass();
    }
    std::uint64_t had = 0, have = 0;
    for (std::size_t i = 0; i < 10; ++i) {
        had += large[i];
        have += over.window(i);
    }
    CAPTURE(large, had, have, over.window(10));
    CHECK(have < had);
    CHECK(over.window(10) > 4 * mib);
    over.pair.check_peace();
}

}  // namespace
}  // namespace burin::ssh
