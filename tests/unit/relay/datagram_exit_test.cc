// The exit side of UDP channels: names, sockets, bounds and ends.
#include "core/relay/datagram_exit.hh"

#include "tests/unit/relay/datagram_bench.hh"

using namespace burin;
using namespace burin::relay;

TEST_CASE("udp exit: answers go back under the name they were asked with, byte for byte") {
    datagram_bench b;
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    const std::string odd("not an address \xff\0 at all", 23);
    for (const std::string& name :
         {std::string("10.5.0.2:5000"), std::string("[fe80::1%eth0]:53"), odd, std::string()}) {
        e.say(name, "question");
        CHECK(b.wait_for(target) == "question");
        target.send(target.last_from, "answer");
        b.until([&] { return !e.heard().empty() && e.heard().back() == name + " answer"; });
    }
    CHECK(b.datagrams.sockets == 4);
    // A datagram of no bytes is one, too, both ways.
    e.say("empty", "");
    CHECK(b.wait_for(target) == "");
    target.send(target.last_from, "");
    b.until([&] { return e.heard().back() == "empty "; });
}

TEST_CASE("udp exit: one socket a source, the longest silent one makes room") {
    datagram_bench b({.most_sources = 3});
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    std::vector<std::uint16_t> ports;
    auto ask = [&](const char* name) {
        e.say(name, name);
        CHECK(b.wait_for(target) == name);
        ports.push_back(target.last_from);
        b.pass(ring::second);
    };
    for (const char* name : {"a", "b", "c", "a", "d"}) ask(name);  // d takes b's place
    CHECK(ports[0] == ports[3]);
    b.until([&] { return b.datagrams.sockets == 3; });
    CHECK(b.datagrams.counters.sockets_evicted == 1);
    for (const char* name : {"c", "a", "d"}) ask(name);
    CHECK(ports[5] == ports[2]);
    CHECK(ports[6] == ports[0]);
    CHECK(ports[7] == ports[4]);
    CHECK(b.datagrams.counters.sockets_opened == 4);
}

TEST_CASE("udp exit: a source is forgotten when nothing went either way for the deadline") {
    datagram_bench b;
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    e.say("asks", "1");
    b.wait_for(target);
    const std::uint16_t asks = target.last_from;
    e.say("hears", "1");
    b.wait_for(target);
    const std::uint16_t hears = target.last_from;
    e.say("silent", "1");
    b.wait_for(target);
    for (int i = 0; i < 2; ++i) {
        b.pass(10 * ring::second);
        e.say("asks", "again");
        b.wait_for(target);
        CHECK(target.last_from == asks);
        target.send(hears, "told");
        b.until([&] { return e.heard().size() == static_cast<std::size_t>(i + 1); });
        CHECK(e.heard().back() == "hears told");
        CHECK(b.datagrams.sockets == (i == 0 ? 3 : 2));
    }
    b.pass(16 * ring::second);
    b.until([&] { return b.datagrams.sockets == 0; });
    CHECK(b.datagrams.counters.sockets_expired == 3);
    CHECK(e.record.closes == 0);
    e.say("asks", "new");
    b.wait_for(target);
    CHECK(b.datagrams.sockets == 1);
}

TEST_CASE("udp exit: a destination that is not there harms nobody") {
    datagram_bench b;
    const dead_port dead;
    hand_entry e(*b.entry->layer, dead.number);
    b.until([&] { return e.record.confirmed == 1; });
    for (int i = 0; i < 10; ++i) {
        e.say("x", "anybody?");
        b.go_quiet();
    }
    CHECK(b.datagrams.counters.icmp_errors > 0);
    CHECK(e.record.closes == 0);
    CHECK(b.over.empty());
    CHECK(b.datagrams.sockets == 1);
}

TEST_CASE("udp exit: what a destination refuses is told, to a peer that knows of it") {
    for (const bool knows : {false, true}) {
        CAPTURE(knows);
        datagram_bench b;
        if (knows) b.exit->layer->set_tells_unreachable();
        const dead_port dead;
        hand_entry e(*b.entry->layer, dead.number);
        b.until([&] { return e.record.confirmed == 1; });
        for (int i = 0; i < 200; ++i) {
            e.say("10.5.0.2:5000", "anybody?");
            b.turn();
        }
        b.go_quiet();
        CHECK(b.datagrams.counters.icmp_errors > 0);
        if (!knows) {
            CHECK(e.record.notices.empty());
            continue;
        }
        REQUIRE(!e.record.notices.empty());
        // docs/wire.md section 13.3: refused, and whom it concerns.
        const byte_vector want = [] {
            byte_vector out;
            wire::writer(out).byte(1).string("10.5.0.2:5000");
            return out;
        }();
        for (const auto& [name, rest] : e.record.notices) {
            CHECK(name == "unreachable@burin");
            CHECK(rest == want);
        }
        const std::size_t told = e.record.notices.size();
        CHECK(told <= b.datagrams.counters.icmp_errors);
        // A second's worth, once more.
        b.pass(10 * ring::second);
        e.say("10.5.0.2:5001", "anybody?");
        b.until([&] {
            return e.record.notices.size() > told && e.record.notices.back().second != want;
        });
        CHECK(e.record.closes == 0);
    }
}

TEST_CASE("udp exit: notices are so many a second") {
    datagram_bench b;
    b.exit->layer->set_tells_unreachable();
    const dead_port dead;
    hand_entry e(*b.entry->layer, dead.number);
    b.until([&] { return e.record.confirmed == 1; });
    // The kernel tells a socket of one error, so each is another source's; the clock is real.
    const ring::microseconds_t begun = b.main.now();
    for (int i = 0; i < 90; ++i) {
        e.say("source " + std::to_string(i), "anybody?");
        b.turn(0);
    }
    b.until([&] { return b.datagrams.counters.icmp_errors >= 90; });
    b.go_quiet();
    const auto most = 50 + (b.main.now() - begun) / (10 * ring::millisecond) + 1;
    CHECK(e.record.notices.size() >= std::min<std::size_t>(50, 90));
    CHECK(e.record.notices.size() <= std::max<std::size_t>(most, 50));
}

TEST_CASE("udp exit: a run towards a destination that is not there costs nobody else anything") {
    datagram_bench b;
    std::optional<udp_program> target(std::in_place);
    hand_entry e(*b.entry->layer, target->port);
    b.until([&] { return e.record.confirmed == 1; });
    auto say = [&](std::size_t from) {
        for (std::size_t i = from; i < from + 20; ++i)
            e.say("x", std::to_string(i) + std::string(100, '.'));
    };
    say(10);  // numbers of two digits: of one size
    for (std::size_t i = 10; i < 30; ++i)
        REQUIRE(b.wait_for(*target) == std::to_string(i) + std::string(100, '.'));
    CHECK(b.datagrams.counters.runs_sent > 0);
    const std::uint64_t errors = b.datagrams.counters.icmp_errors;
    target.reset();
    for (int turn = 0; turn < 5; ++turn) {
        say(10);
        b.go_quiet();
    }
    CHECK(b.datagrams.counters.icmp_errors > errors);
    CHECK(b.datagrams.counters.runs_refused == 0);
    CHECK(b.datagrams.counters.send_errors == 0);
    CHECK(e.record.closes == 0);
}

TEST_CASE("udp exit: what is no gob ends its own channel alone") {
    datagram_bench b;
    udp_program target;
    hand_entry bad(*b.entry->layer, target.port), good(*b.entry->layer, target.port);
    b.until([&] { return bad.record.confirmed + good.record.confirmed == 2; });
    bad.say("a", "1");
    b.wait_for(target);
    bad.say(as_bytes(std::string(200, 'x')));
    b.until([&] { return bad.record.closes == 1; });
    REQUIRE(b.over.size() == 1);
    CHECK(b.over[0] != "");
    CHECK(b.datagrams.counters.channels_broken == 1);
    good.say("a", "2");
    CHECK(b.wait_for(target) == "2");
    CHECK(b.exit->failure == "");
    b.until([&] { return b.datagrams.sockets == 1; });  // the other's is closed
}

TEST_CASE("udp exit: the end of the channel or the session closes every socket") {
    datagram_bench b;
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    const std::size_t before = open_descriptors();
    for (int i = 0; i < 50; ++i) e.say(std::to_string(i), "x");
    b.until([&] { return b.datagrams.sockets == 50; });
    SECTION("CLOSE") {
        e.layer.close(*std::exchange(e.record.at, nullptr));
    }
    SECTION("EOF") {
        e.layer.send_eof(*e.record.at);
    }
    SECTION("the session is lost") {
        b.exit->layer->lose();
    }
    b.until([&] { return b.datagrams.sockets == 0 && b.over.size() == 1; });
    CHECK(b.over[0] == "");
    b.turn();
    CHECK(open_descriptors() == before);
}

TEST_CASE("udp exit: records of the largest size, cut anywhere, are sent whole") {
    datagram_bench b;
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    std::string large(65'507, ' ');
    for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<char>(i * 31 >> 3);
    for (int i = 0; i < 5; ++i) {
        e.say("10.0.0.1:1", large);
        CHECK(b.wait_for(target) == large);
    }
    // What is read of an answer is cut.
    target.send(target.last_from, large);
    b.until([&] { return !e.heard().empty(); });
    CHECK(e.heard()[0] == "10.0.0.1:1 " + large.substr(0, 9012));
}

TEST_CASE("udp: what waits on all channels together is bounded") {
    ssh::connection_limits limits;
    limits.window_max = 64 * 1024;
    datagram_bench b({.most_held_bytes = 40'000}, limits);
    udp_program target;
    std::vector<std::unique_ptr<hand_entry>> entries;
    std::vector<std::uint16_t> ports;
    for (int i = 0; i < 3; ++i) {
        entries.push_back(std::make_unique<hand_entry>(*b.entry->layer, target.port));
        hand_entry& e = *entries.back();
        b.until([&] { return e.record.confirmed == 1; });
        e.say("x", "hello");
        b.wait_for(target);
        ports.push_back(target.last_from);
        e.record.takes = false;
    }
    std::uint64_t most = 0;
    for (int i = 0; i < 900; ++i) {
        target.send(ports[static_cast<std::size_t>(i) % 3], std::string(1200, '.'));
        b.turn(0);
        most = std::max(most, b.datagrams.held_bytes);
    }
    b.go_quiet();
    CHECK(most <= 20'000);
    CHECK(most > 15'000);
    CHECK(b.datagrams.counters.no_window > 300);
    for (auto& e : entries) {
        e->record.takes = true;
        e->record.take_held();
    }
    b.until([&] { return b.datagrams.held_bytes == 0; });
}

namespace {

// "x NUMBER!..." of what was heard: none twice, in order.
void check_ascending(const std::vector<std::string>& heard) {
    int before = -1;
    for (const std::string& one : heard) {
        const int number = std::stoi(one.substr(2));
        CHECK(number > before);
        before = number;
    }
}

}  // namespace

TEST_CASE("udp: a peer that gives no credit costs bounded memory, and the oldest are dropped") {
    ssh::connection_limits limits;
    limits.window_max = 64 * 1024;
    datagram_bench b({}, limits);
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    e.say("x", "hello");
    b.wait_for(target);
    e.record.takes = false;  // the entry's program does not read
    std::uint64_t most = 0;
    for (int i = 0; i < 600; ++i) {
        std::string answer = std::to_string(i) + "!";
        answer.resize(1200, '.');
        target.send(target.last_from, answer);
        b.turn(0);
        most = std::max(most, b.datagrams.held_bytes);
    }
    b.go_quiet();
    CHECK(most <= most_waiting_bytes + 2000);
    CHECK(b.datagrams.counters.no_window > 300);
    CHECK(b.buffers.held() == 0);
    // Others go on beside it.
    auto [near, far] = b.flow(4);
    near->write_to(1000);
    b.until([&] {
        far->read_from(4);
        return far->received() == 1000;
    });
    near->leave();
    far->leave();
    // It reads again: what came last is there, in order.
    e.record.takes = true;
    e.record.take_held();
    b.until([&] { return !e.heard().empty() && e.heard().back().starts_with("x 599!"); });
    const auto all = e.heard();
    check_ascending(all);
    CHECK(all.size() == 600 - b.datagrams.counters.no_window);
}

TEST_CASE(
    "udp: of a flood of runs the last ones wait, in order, and blocks only to the turn's end") {
    ssh::connection_limits limits;
    limits.window_max = 64 * 1024;
    datagram_bench b({}, limits);
    udp_program target;
    hand_entry e(*b.entry->layer, target.port);
    b.until([&] { return e.record.confirmed == 1; });
    e.say("x", "hello");
    b.wait_for(target);
    e.record.takes = false;
    const datagram_counters& c = b.datagrams.counters;
    constexpr int each = 40, runs = 30, rounds = 4;
    int number = 0;
    for (int round = 0; round < rounds; ++round) {
        for (int run = 0; run < runs; ++run) {  // all of them there before the next turn
            std::string together;
            for (int i = 0; i < each; ++i, ++number) {
                std::string one = std::to_string(number) + "!";
                one.resize(1200, '.');
                together += one;
            }
            target.send_run(target.last_from, together, 1200);
        }
        const std::uint64_t sent = static_cast<std::uint64_t>(number);
        b.until([&] { return c.received == sent; });
        b.turn(0);
        CHECK(b.buffers.held() == 0);
        CHECK(b.datagrams.held_bytes <= most_waiting_bytes);
        CHECK(b.datagrams.held_bytes > most_waiting_bytes - 2000);
    }
    SECTION("whose entry reads again") {
        e.record.takes = true;
        e.record.take_held();
        const std::string last = "x " + std::to_string(number - 1) + "!";
        b.until([&] { return !e.heard().empty() && e.heard().back().starts_with(last); });
        const auto all = e.heard();
        check_ascending(all);
        CHECK(all.size() == static_cast<std::size_t>(number) - c.no_window);
    }
    SECTION("whose session ends in the turn that brings more") {
        for (int run = 0; run < 4; ++run)
            target.send_run(target.last_from, std::string(each * 1200, '+'), 1200);
        b.main.ring.enter(0);  // they are late now
        // Each counts once: those that waited, with what surrounds them, and the late ones.
        const std::uint64_t waited = b.datagrams.held_bytes / 1536, before = c.no_window;
        b.exit->layer->lose();
        CHECK(b.datagrams.held_bytes == 0);
        b.until([&] { return b.buffers.held() == 0; });
        CHECK(c.no_channel > 0);
        CHECK(c.no_channel + c.no_window - before >= waited + 4 * each);
    }
}
