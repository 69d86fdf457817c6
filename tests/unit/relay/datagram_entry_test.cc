// The entry side of UDP remotes, against the exit side; whom it answers, and when it asks again.
#include "core/relay/datagram_entry.hh"

#include <tuple>

#include "core/relay/datagram_sources.hh"
#include "tests/unit/relay/datagram_bench.hh"

using namespace burin;
using namespace burin::relay;

TEST_CASE("datagram sources: by exact text, within the deadline, the longest silent one goes") {
    datagram_sources all(3, 15 * ring::second);
    auto at = [](const char* host, std::uint16_t port) { return *endpoint::literal(host, port); };
    ring::microseconds_t now = 100 * ring::second;
    CHECK(all.note(at("127.0.0.1", 5000), now) == "127.0.0.1:5000");
    CHECK(all.note(at("::1", 5000), now += ring::second) == "[::1]:5000");
    CHECK(all.note(at("127.0.0.1", 5001), now += ring::second) == "127.0.0.1:5001");
    REQUIRE(all.find("[::1]:5000", now) != nullptr);
    CHECK(*all.find("[::1]:5000", now) == at("::1", 5000));
    CHECK(all.find("[0:0::1]:5000", now) == nullptr);
    CHECK(all.find("127.0.0.1:05000", now) == nullptr);
    CHECK(all.find("", now) == nullptr);
    all.note(at("127.0.0.1", 5000), now += ring::second);
    all.note(at("10.0.0.1", 1), now += ring::second);
    CHECK(all.size() == 3);
    CHECK(all.find("[::1]:5000", now) == nullptr);  // its place is taken
    CHECK(all.find("127.0.0.1:5000", now) != nullptr);
    CHECK(all.find("10.0.0.1:1", now + 15 * ring::second) != nullptr);
    CHECK(all.find("10.0.0.1:1", now + 15 * ring::second + 1) == nullptr);
    CHECK(all.note(at("127.0.0.1", 5000), now + 60 * ring::second) == "127.0.0.1:5000");
    CHECK(all.find("127.0.0.1:5000", now + 60 * ring::second) != nullptr);
}

namespace {

struct entry_bench : datagram_bench {
    explicit entry_bench(std::uint16_t to, const datagram_settings& settings = {})
        : datagram_bench(settings),
          descriptor(bound_socket(port)),
          door(datagrams, *this, descriptor, "127.0.0.1:" + std::to_string(to)) {
        entries.push_back(&door);
    }
    ~entry_bench() override {
        door.stop();
        until([&] { return datagrams.alive() == datagrams.sockets; });
        entries.clear();
    }
    std::uint16_t port = 0;
    int descriptor;  // the door's
    datagram_entry door;
};

}  // namespace

TEST_CASE("udp entry: many programs, one channel, each its own answer") {
    udp_program target;
    entry_bench b(target.port);
    b.door.session_ready();
    b.until([&] { return b.entries_open == 1; });
    CHECK(b.asked == 1);  // before any datagram
    udp_program programs[5];
    for (int turn = 0; turn < 3; ++turn)
        for (udp_program& p : programs) {
            p.send(b.port, "q" + std::to_string(p.port));
            const std::string got = b.wait_for(target);
            CHECK(got == "q" + std::to_string(p.port));
            target.send(target.last_from, "a" + std::to_string(p.port));
            CHECK(b.wait_for(p) == "a" + std::to_string(p.port));
            CHECK(p.last_from == b.port);
        }
    CHECK(b.datagrams.counters.sockets_opened == 5);
    CHECK(b.asked == 1);
    // A burst, faster than turns.
    for (int i = 0; i < 150; ++i)
        programs[0].send(b.port, std::string(100, 'x') + std::to_string(i));
    for (int i = 0; i < 150; ++i)
        CHECK(b.wait_for(target) == std::string(100, 'x') + std::to_string(i));
}

TEST_CASE("udp entry: runs of datagrams stay whole, and come out as what they were") {
    udp_program target, near;
    entry_bench b(target.port);
    b.door.session_ready();
    b.until([&] { return b.entries_open == 1; });
    auto texts = [](std::size_t count, std::size_t size, std::size_t last) {
        std::vector<std::string> all;
        for (std::size_t i = 0; i < count; ++i) {
            std::string one = std::to_string(i) + " ";
            one.resize(i + 1 == count ? last : size, static_cast<char>('a' + i % 26));
            all.push_back(one);
        }
        return all;
    };
    auto carry = [&](udp_program& from, std::uint16_t to, udp_program& at,
                     const std::vector<std::string>& all, std::size_t most) {
        std::string together;
        for (const std::string& one : all) together += one;
        from.send_run(to, together, all[0].size());
        for (const std::string& one : all) REQUIRE(b.wait_for(at) == one.substr(0, most));
    };
    const datagram_counters& c = b.datagrams.counters;
    for (auto [count, size, last] : {std::tuple<std::size_t, std::size_t, std::size_t>{40, 1200, 7},
                                     {54, 1200, 1200},
                                     {2, 1452, 1452},
                                     {60, 100, 3},
                                     {6, 9500, 9100}}) {  // larger than what is read of each
        INFO(count << " of " << size);
        const auto all = texts(count, size, last);
        const std::uint64_t received = c.runs_received, sent = c.runs_sent;
        carry(near, b.port, target, all, 9012);
        carry(target, target.last_from, near, all, 9012);
        CHECK(near.last_from == b.port);
        CHECK(c.runs_received == received + 2);
        // Larger ones than fit the usual path are never parts of a run.
        CHECK((c.runs_sent > sent) == (size <= 1452));
    }
    CHECK(c.runs_refused == 0);
    // To whoever asked: answers of two programs in one turn are not one run.
    udp_program other;
    other.send(b.port, "other");
    b.wait_for(target);
    const std::uint16_t to_other = target.last_from;
    near.send(b.port, "near");
    b.wait_for(target);
    for (int i = 0; i < 5; ++i) {
        target.send(target.last_from, "n" + std::to_string(i));
        target.send(to_other, "o" + std::to_string(i));
    }
    for (int i = 0; i < 5; ++i) {
        CHECK(b.wait_for(near) == "n" + std::to_string(i));
        CHECK(b.wait_for(other) == "o" + std::to_string(i));
    }
}

TEST_CASE("udp entry: what the kernel does not cut is sent one by one") {
    udp_program target, near;
    entry_bench b(target.port);
    // The kernel cuts nothing that has no checksum.
    const int on = 1;
    REQUIRE(setsockopt(b.descriptor, SOL_SOCKET, SO_NO_CHECK, &on, sizeof on) == 0);
    b.door.session_ready();
    near.send(b.port, "open");
    CHECK(b.wait_for(target) == "open");
    for (int turn = 0; turn < 2; ++turn) {
        std::string all;
        for (int i = 0; i < 30; ++i) all += std::string(1000, static_cast<char>('A' + i));
        target.send_run(target.last_from, all, 1000);
        for (std::size_t i = 0; i < 30; ++i)
            REQUIRE(b.wait_for(near) == all.substr(i * 1000, 1000));
        CHECK(b.datagrams.counters.runs_refused == 1);
        CHECK(b.datagrams.counters.send_errors == 0);
    }
}

TEST_CASE("udp entry: who has not asked lately gets no answer") {
    udp_program target;
    entry_bench b(target.port, {.deadline = 15 * ring::second});
    b.door.session_ready();
    udp_program p;
    p.send(b.port, "q");
    b.wait_for(target);
    b.pass(10 * ring::second);
    target.send(target.last_from, "in time");
    CHECK(b.wait_for(p) == "in time");
    b.pass(8 * ring::second);  // the exit's socket lives, for it was used
    target.send(target.last_from, "late");
    b.until([&] { return b.datagrams.counters.unknown_source == 1; });
    CHECK_FALSE(p.receive());
    p.send(b.port, "again");
    CHECK(b.wait_for(target) == "again");
    target.send(target.last_from, "welcome back");
    CHECK(b.wait_for(p) == "welcome back");
}

TEST_CASE("udp entry: without a session datagrams are dropped, with the next one they pass") {
    udp_program target;
    entry_bench b(target.port);
    udp_program p;
    b.live = false;
    p.send(b.port, "lost");
    b.until([&] { return b.datagrams.counters.no_channel == 1; });
    CHECK(b.asked == 0);
    b.live = true;
    b.door.session_ready();
    p.send(b.port, "found");
    CHECK(b.wait_for(target) == "found");
    // The session goes.
    b.live = false;
    b.entry->layer->lose();
    CHECK(b.entries_lost == 1);
    p.send(b.port, "lost");
    b.until([&] { return b.datagrams.counters.no_channel == 2; });
}

TEST_CASE("udp entry: a channel that is refused or closed is asked for again, once a second") {
    udp_program target;
    entry_bench b(target.port);
    udp_program p;
    b.refusing = true;
    b.door.session_ready();
    b.until([&] { return b.failures.size() == 1; });
    CHECK(b.failures[0] == "no UDP here");
    for (int i = 0; i < 20; ++i) {
        p.send(b.port, "dropped");
        b.turn();
    }
    b.until([&] { return b.datagrams.counters.no_channel == 20; });
    CHECK(b.asked == 1);
    b.refusing = false;
    b.pass(ring::second);
    CHECK(b.asked == 1);  // not by itself
    p.send(b.port, "asks");
    CHECK(b.wait_for(target) == "asks");
    CHECK(b.asked == 2);
    CHECK(b.entries_open == 1);
}
