// Flows between two programs through two relays and a session, over a real ring: every byte, every
// kind of end (docs/wire.md section 8.6), and nothing left behind.
#include "core/relay/socket_relay.hh"

#include <random>

#include "tests/catch.hh"
#include "tests/unit/relay/tunnel.hh"

namespace burin::relay {
namespace {

TEST_CASE("bytes go both ways and both kinds of half-close work", "[socket_relay]") {
    const std::size_t before = open_descriptors();
    const bool near_first = GENERATE(true, false);
    {
        tunnel t;
        auto [near, far] = t.flow();
        program& first = near_first ? *near : *far;
        program& second = near_first ? *far : *near;
        const std::uint32_t of_first = near_first ? 0 : 1, of_second = 1 - of_first;
        constexpr std::uint64_t total = 3'000'000;
        t.until([&] {
            first.write_to(total);
            second.write_to(total / 2);
            first.read_from(of_second);
            second.read_from(of_first);
            return first.sent() == total;
        });
        first.shut_down();
        // The other direction goes on for as long as it likes.
        t.until([&] {
            second.read_from(of_first);
            return second.eof();
        });
        CHECK(second.received() == total);
        CHECK_FALSE(first.eof());
        t.until([&] {
            second.write_to(2 * total);
            first.read_from(of_second);
            return second.sent() == 2 * total && first.received() == 2 * total;
        });
        CHECK(t.relays.alive() == 2);
        second.shut_down();
        t.until([&] {
            first.read_from(of_second);
            return first.eof();
        });
        CHECK(first.error() == 0);
        t.check_empty();
        CHECK(t.entry->opened == 1);
        CHECK(t.exit->opened == 1);
        CHECK(t.relays.counters.resets == 0);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a reset stays a reset", "[socket_relay]") {
    tunnel t;
    auto [near, far] = t.flow();
    const bool near_resets = GENERATE(true, false);
    program& dies = near_resets ? *near : *far;
    program& sees = near_resets ? *far : *near;
    const std::uint32_t of_dying = near_resets ? 0 : 1;
    t.until([&] {
        dies.write_to(50'000);
        sees.read_from(of_dying);
        return sees.received() == 50'000;
    });
    SECTION("while nothing moves") {}
    SECTION("in the middle of a transfer") {
        t.until([&] {
            dies.write_to(2'000'000);
            sees.write_to(2'000'000);
            return dies.sent() > 300'000;
        });
    }
    dies.reset();
    t.until([&] {
        sees.read_from(of_dying);
        return sees.error() != 0 || sees.eof();
    });
    CHECK(sees.error() == ECONNRESET);
    CHECK_FALSE(sees.eof());
    t.check_empty();
    CHECK(t.relays.counters.resets >= 1);
}

TEST_CASE("a reader that is slow holds its window and no receive buffer", "[socket_relay]") {
    tunnel t;
    auto [near, far] = t.flow();
    const ssh::channel& channel = *t.exit->layer->channels()[0];
    t.until_quiet([&] { near->write_to(1u << 30); });
    CHECK(channel.receive_left == 0);
    CHECK(t.sessions.held() == 0);
    REQUIRE(t.exit->last != nullptr);
    // Every byte is either in the socket, and credited or about to be, or waits here.
    CHECK(t.exit->last->waiting_bytes() == channel.window - channel.consumed);
    CHECK(t.exit->last->waiting_bytes() > channel.window / 2);
    CHECK(t.pieces.owned_bytes() == t.exit->last->waiting_bytes());
    CHECK(t.sockets.held() == 0);
    CHECK(t.entry->layer->queued_bytes() == 0);
    // Another flow of the same session does not mind.
    auto [near2, far2] = t.flow(2);
    t.until([&] {
        near2->write_to(2'000'000);
        far2->read_from(2);
        return far2->received() == 2'000'000;
    });
    near2->shut_down();
    far2->shut_down();
    const std::uint64_t sent = near->sent();
    near->shut_down();
    t.until([&] {
        far->read_from(0);
        return far->eof();
    });
    CHECK(far->received() == sent);
    far->leave();
    t.check_empty();
    CHECK(t.relays.counters.resets == 0);
}

// A flow that stands still is watched for a reset, and the watch makes room when credit comes: also
// when the other half of the flow is just being shut down.
TEST_CASE("credit that comes together with the peer's EOF moves a flow on", "[socket_relay]") {
    tunnel t;
    auto [near, far] = t.flow();
    t.until_quiet([&] { near->write_to(1u << 30); });
    const std::uint64_t stalled_at = near->sent();
    t.relays.on_sweep(0);  // both relays stand still: both are watched from here on
    t.turn();
    t.exit->hold_back(true);
    far->shut_down();
    t.until_quiet([&] { far->read_from(0); });
    t.exit->hold_back(false);  // EOF and credit in one turn of the entry side
    t.until([&] {
        near->write_to(stalled_at + 3'000'000);
        far->read_from(0);
        return far->received() == stalled_at + 3'000'000;
    });
    near->shut_down();
    t.until([&] {
        far->read_from(0);
        near->read_from(1);
        return far->eof() && near->eof();
    });
    CHECK(near->error() == 0);
    CHECK(far->error() == 0);
    t.check_empty();
}

TEST_CASE("single bytes for a reader that is slow cost little", "[socket_relay]") {
    tunnel t;
    ssh::flow_record end;
    auto far = t.raw(end);
    std::uint64_t sent = 0;
    auto put = [&](std::uint32_t size) {
        end.layer->send(*end.at, {}, ssh::pattern_bytes().at(0, sent, size));
        sent += size;
    };
    t.until_quiet([&] {
        if (end.layer->sendable(*end.at) >= 20'000) put(20'000);
    });
    for (int round = 0; round < 40; ++round) {
        while (end.layer->queued_bytes() < 200 && end.layer->sendable(*end.at) > 0) put(1);
        t.turn(0);
    }
    t.until([&] { return end.layer->queued_bytes() == 0; });
    t.until([&] { return t.sessions.held() == 0; });
    CHECK(t.exit->last->waiting_bytes() > 4000);
    CHECK(t.pieces.in_use() < 100);
    end.layer->send_eof(*end.at);
    t.until([&] {
        far->read_from(0);
        return far->eof();
    });
    CHECK(far->received() == sent);
    far->leave();
    t.until([&] { return end.eofs == 1 || end.closes == 1; });
    if (end.at != nullptr) end.layer->close(*end.at);
    t.check_empty();
}

TEST_CASE("the peer's CLOSE lets what it sent before reach a slow socket", "[socket_relay]") {
    tunnel t;
    ssh::flow_record end;
    auto far = t.raw(end);
    std::uint64_t sent = 0;
    t.until_quiet([&] {
        if (end.layer->sendable(*end.at) < 20'000) return;
        end.layer->send(*end.at, {}, ssh::pattern_bytes().at(0, sent, 20'000));
        sent += 20'000;
    });
    end.layer->send_eof(*end.at);
    end.layer->close(*std::exchange(end.at, nullptr));
    t.until([&] { return t.exit->layer->open_channels() == 0; });
    CHECK(t.relays.alive() == 1);
    CHECK(t.exit->last->channel() == nullptr);
    SECTION("while the program still writes, which nobody takes any more") {
        far->write_to(5000);
        for (int i = 0; i < 5; ++i) t.turn();
    }
    SECTION("while the program ends its own direction") {
        far->shut_down();
        for (int i = 0; i < 5; ++i) t.turn();
    }
    SECTION("and the program says nothing") {}
    t.until([&] {
        far->read_from(0);
        return far->eof() || far->error() != 0;
    });
    CHECK(far->eof());
    CHECK(far->received() == sent);
    t.check_empty();
}

TEST_CASE("what a program never takes is not kept for ever", "[socket_relay]") {
    tunnel t;
    ssh::flow_record end;
    auto far = t.raw(end);
    std::uint64_t sent = 0;
    t.until_quiet([&] {
        if (end.layer->sendable(*end.at) < 20'000) return;
        end.layer->send(*end.at, {}, ssh::pattern_bytes().at(0, sent, 20'000));
        sent += 20'000;
    });
    end.layer->send_eof(*end.at);
    end.layer->close(*std::exchange(end.at, nullptr));
    t.until([&] { return t.exit->layer->open_channels() == 0; });
    const std::uint64_t now = ring::monotonic_now();
    for (int i = 0; i < 59; ++i) t.relays.on_sweep(now);
    t.until_quiet([] {});
    CHECK(t.relays.alive() == 1);
    CHECK(t.exit->last->waiting_bytes() > 0);
    // The kernel may still have taken some bytes, and then the time begins anew.
    t.until([&] {
        t.relays.on_sweep(now);
        return t.relays.alive() == 0;
    });
    t.check_empty();
    t.until([&] {
        far->read_from(0);
        return far->eof() || far->error() != 0;
    });
    CHECK(far->error() == ECONNRESET);
    CHECK(far->received() < sent);
}

TEST_CASE("CLOSE without EOF is a reset, unless the peer knows nothing else", "[socket_relay]") {
    tunnel t;
    t.exit->close_is_eof = GENERATE(false, true);
    ssh::flow_record end;
    auto far = t.raw(end);
    end.layer->send(*end.at, {}, ssh::pattern_bytes().at(0, 0, 30'000));
    end.layer->close(*std::exchange(end.at, nullptr));
    t.until([&] {
        far->read_from(0);
        return far->eof() || far->error() != 0;
    });
    if (t.exit->close_is_eof) {
        CHECK(far->eof());
        CHECK(far->received() == 30'000);
    } else {
        CHECK(far->error() == ECONNRESET);
    }
    t.check_empty();
}

TEST_CASE("a lost session resets its flows", "[socket_relay]") {
    tunnel t;
    auto [near, far] = t.flow();
    auto [near2, far2] = t.flow(2);
    t.until([&] {
        near->write_to(500'000);
        return near->sent() > 100'000;
    });
    near2->shut_down();
    t.until([&] {
        far2->read_from(2);
        return far2->eof();
    });
    t.entry->layer->lose();
    t.exit->layer->lose();
    t.until([&] {
        near->read_from(1);
        far->read_from(0);
        near2->read_from(3);
        return (near->eof() || near->error()) && (far->eof() || far->error()) &&
               (near2->eof() || near2->error());
    });
    CHECK(near->error() == ECONNRESET);
    CHECK(far->error() == ECONNRESET);
    CHECK(near2->error() == ECONNRESET);
    t.check_empty();
}

TEST_CASE("a flow that the peer refuses is reset", "[socket_relay]") {
    tunnel t;
    const auto [fd, accepted] = tcp_pair();
    program near(fd, 0);
    socket_relay::start(t.relays, *t.entry->layer, *t.entry, accepted, "chisel", {}, 1);
    t.until([&] {
        near.read_from(1);
        return near.error() != 0 || near.eof();
    });
    CHECK(near.error() == ECONNRESET);
    CHECK(t.entry->refused ==
          std::vector<std::string>{"ssh: rejected: connect failed (nobody there)"});
    t.check_empty();
}

TEST_CASE("without a channel to be had a flow is reset at once", "[socket_relay]") {
    tunnel t({.max_channels = 0});
    const auto [fd, accepted] = tcp_pair();
    program near(fd, 0);
    CHECK(socket_relay::start(t.relays, *t.entry->layer, *t.entry, accepted, "chisel", {}, 1) ==
          nullptr);
    t.until([&] {
        near.read_from(1);
        return near.error() != 0 || near.eof();
    });
    CHECK(near.error() == ECONNRESET);
    CHECK(t.entry->refused.size() == 1);
    t.check_empty();
}

TEST_CASE("a program that leaves before the channel is there leaves nothing", "[socket_relay]") {
    tunnel t;
    const auto [fd, accepted] = tcp_pair();
    const auto [far_fd, dialled] = tcp_pair();
    program far(far_fd, 1);
    program near(fd, 0);
    const bool clean = GENERATE(true, false);
    near.write_to(1000);
    t.exit->next_descriptor = dialled;
    socket_relay::start(t.relays, *t.entry->layer, *t.entry, accepted, "chisel", {}, 1);
    clean ? near.leave() : near.reset();
    t.until([&] {
        far.read_from(0);
        return far.error() != 0 || far.eof();
    });
    if (clean) CHECK(far.received() == 1000);
    CHECK(far.eof() == clean);
    far.leave();
    t.check_empty();
}

TEST_CASE("a stuck session stops its flows, not the memory", "[socket_relay]") {
    tunnel t;
    std::vector<tunnel::programs> flows;
    for (std::uint32_t i = 0; i < 150; ++i) flows.push_back(t.flow(2 * i));
    t.entry->hold_back(true);
    for (int round = 0; round < 5; ++round) {
        for (auto& f : flows) f.first->write_to(200'000);
        for (int turn = 0; turn < 20; ++turn) t.turn(0);
    }
    // One small receive each, copied out of its buffer.
    CHECK(t.entry->layer->queued_bytes() <= flows.size() * 16 * 1024);
    CHECK(t.entry->layer->queued_bytes() >= 16 * 1024);
    CHECK(t.sockets.held() <= t.sockets.count() / 2);
    t.entry->hold_back(false);
    std::size_t done = 0;
    t.until([&] {
        done = 0;
        for (std::uint32_t i = 0; i < flows.size(); ++i) {
            flows[i].first->write_to(200'000);
            flows[i].second->read_from(2 * i);
            done += flows[i].second->received() == 200'000 ? 1u : 0u;
        }
        return done == flows.size();
    });
    for (auto& f : flows) f.first->reset();
    t.check_empty();
}

// More of them than the ring of this test holds completions.
TEST_CASE("a worker that stops resets every flow", "[socket_relay]") {
    tunnel t;
    std::vector<tunnel::programs> flows;
    for (std::uint32_t i = 0; i < 150; ++i) flows.push_back(t.flow(2 * i));
    for (auto& f : flows) f.first->write_to(100'000);
    t.turn();
    t.relays.end_all();
    t.until([&] {
        bool all = true;
        for (std::uint32_t i = 0; i < flows.size(); ++i) {
            flows[i].second->read_from(2 * i);
            all = all && (flows[i].second->error() != 0 || flows[i].second->eof());
        }
        return all;
    });
    for (auto& f : flows) CHECK(f.second->error() == ECONNRESET);
    t.check_empty();
}

TEST_CASE("many flows that end in all ways tell the truth", "[socket_relay][fuzz]") {
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    const std::size_t before = open_descriptors();
    {
        tunnel t;
        struct life {
            tunnel::programs both;
            std::uint64_t total[2] = {0, 0};
            bool shut[2] = {false, false};
        };
        std::vector<life> lives;
        for (std::uint32_t i = 0; i < 60; ++i) {
            life& l = lives.emplace_back();
            l.both = t.flow(2 * i);
            for (auto& total : l.total) total = random() % 300'000;
        }
        auto over = [](const program& p) { return p.gone() || p.eof() || p.error() != 0; };
        unsigned resets = 0;
        t.until([&] {
            bool all = true;
            for (std::uint32_t i = 0; i < lives.size(); ++i) {
                life& l = lives[i];
                for (unsigned which : {0u, 1u}) {
                    program& me = which == 0 ? *l.both.first : *l.both.second;
                    program& other = which == 0 ? *l.both.second : *l.both.first;
                    if (me.gone()) continue;
                    me.write_to(l.total[which], 1 + random() % 40'000);
                    if (random() % 3 != 0) me.read_from(2 * i + 1 - which);
                    if (!l.shut[which] && me.error() == 0 && me.sent() == l.total[which]) {
                        me.shut_down();
                        l.shut[which] = true;
                    }
                    if (me.eof()) {  // the whole of it, or it would be a lie
                        REQUIRE(l.shut[1 - which]);
                        REQUIRE(me.received() == l.total[1 - which]);
                    }
                    if (random() % 400 == 0) {
                        me.reset();
                        ++resets;
                        continue;
                    }
                    if (me.error() != 0) CHECK(other.gone());
                    all = all && over(me);
                }
            }
            return all;
        });
        CAPTURE(resets);
        for (life& l : lives) {
            if (l.both.first->gone() || l.both.second->gone()) continue;
            CHECK(l.both.first->eof());
            CHECK(l.both.second->eof());
        }
        lives.clear();
        t.check_empty();
    }
    CHECK(open_descriptors() == before);
}

}  // namespace
}  // namespace burin::relay
