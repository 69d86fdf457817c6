// Flows of a worker without a session, carried by another's, where the kernel chooses queues by
// itself: both workers' queues on one thread, with the mail between them carried by hand.
#include "core/relay/tun_strays.hh"

#include "tests/catch.hh"
#include "tests/unit/relay/tun_bench.hh"

namespace burin::relay {
namespace {

// What one worker says to the other.
struct passing_bench : tun_bench {
    explicit passing_bench(unsigned which = 0) : index(which) {}
    unsigned number() const noexcept override { return index; }
    bool has_session(unsigned worker) const noexcept override { return worker == 1 && somebody; }
    unsigned hand_over(bytes_view frame, unsigned to) noexcept override {
        if (!somebody || (to != tun_strays::anybody && to != 1)) return tun_strays::nobody;
        mail.emplace_back(frame.begin(), frame.end());
        return 1;
    }
    void on_adopted(const tun::flow_key& key, unsigned from) noexcept override {
        begun.emplace_back(key, from);
    }
    void on_adopted_closed(const tun::flow_key& key, unsigned from) noexcept override {
        over.emplace_back(key, from);
    }
    unsigned index;
    bool somebody = true;
    std::vector<byte_vector> mail;
    std::vector<std::pair<tun::flow_key, unsigned>> begun, over;
};

TEST_CASE("a flow that finds no session on its worker is carried by another", "[tun_strays]") {
    passing_bench home, other(1);
    home.live = false;
    const auto [far, dialled] = tcp_pair();
    other.exit->next_descriptor = dialled;
    program destination(far, 0);
    // Its frames enter one queue, and it hears the other.
    other.hosts.push_back(std::make_unique<tun_host>(home.device(), 4000));
    tun_host& h = *other.hosts.back();
    int step = 0;
    auto until = [&](auto&& met) {
        CAPTURE(++step);
        other.go_until([&] {
            home.go();
            for (const byte_vector& frame : std::exchange(home.mail, {}))
                other.queue->adopt(frame, 0);
            for (const auto& [key, from] : std::exchange(other.begun, {})) {
                CHECK(from == 0);
                home.queue->carried(key, 1);
            }
            return met();
        });
    };
    h.syn();
    until([&] { return h.answered; });
    h.acknowledge();
    const byte_vector all(ssh::pattern_bytes().at(7, 0, 60'000).begin(),
                          ssh::pattern_bytes().at(7, 0, 60'000).end());
    h.data(bytes_view(all).first(15'000));
    h.data(bytes_view(all).subspan(15'000, 15'000));
    until([&] {
        destination.read_from(7);
        return destination.received() == 30'000;
    });
    CHECK(home.queue->flows() == 0);
    CHECK(home.queue->homes().handed_over() == 4);
    CHECK(home.queue->counters().unknown_flow == 0);
    CHECK(other.queue->counters().adopted == 4);
    // The session of its own worker comes back: a flow that is carried stays where it is.
    home.live = true;
    until([&] { return h.acked == h.seq && h.shown >= 30'000; });
    h.data(bytes_view(all).subspan(30'000, 30'000));
    until([&] {
        destination.read_from(7);
        return destination.received() == all.size();
    });
    // It ends, and both workers forget it.
    h.fin();
    until([&] {
        destination.read_from(7);
        return destination.eof();
    });
    destination.leave();
    until([&] { return h.fin_heard; });
    h.acknowledge();
    until([&] { return other.over.size() == 1; });
    CHECK(other.over[0] == std::pair(h.key, 0u));
    home.queue->forget_carried(h.key, 2);  // somebody else's word
    CHECK(home.queue->homes().strays().passed() == 1);
    home.queue->forget_carried(h.key, 1);
    h.acknowledge();
    home.go_until([&] { return home.queue->counters().unknown_flow == 1; });
    CHECK(home.mail.empty());
    other.check_nothing_left();
}

TEST_CASE("without a session anywhere a flow waits where it came in", "[tun_strays]") {
    passing_bench home;
    home.live = home.somebody = false;
    tun_host& h = home.host(4000);
    h.syn();
    home.go_until([&] { return home.queue->counters().held == 1; });
    CHECK(home.queue->homes().handed_over() == 0);
    // What was adopted, for a session that is gone since, goes no further and does not wait either:
    // when it comes again, it may find a session at home.
    passing_bench last(1);
    last.live = false;
    h.syn();
    home.somebody = true;
    tun_host& again = home.host(4001);
    again.syn();
    home.go_until([&] { return home.mail.size() == 1; });
    last.queue->adopt(home.mail[0], 0);
    CHECK(last.queue->counters().held == 0);
    CHECK(last.queue->homes().undeliverable() == 1);
    CHECK(last.mail.empty());
}

TEST_CASE("a flow that begins anew begins where there is a session", "[tun_strays]") {
    passing_bench home;
    home.live = false;
    tun_host& h = home.host(4000);
    h.syn();
    home.go_until([&] { return home.mail.size() == 1; });
    home.queue->carried(h.key, 1);
    // The same SYN once more is for the flow that the first one began, though there is a session
    // here now.
    home.live = true;
    h.seq -= 1;
    h.syn();
    home.go_until([&] { return home.mail.size() == 2; });
    CHECK(home.queue->flows() == 0);
    // That one's session is lost.
    home.somebody = false;
    const auto [far, dialled] = tcp_pair();
    program destination(far, 0);
    home.exit->next_descriptor = dialled;
    h.seq += 1000;
    h.syn();
    home.go_until([&] { return h.answered; });
    CHECK(home.mail.size() == 2);
    CHECK(home.queue->homes().strays().passed() == 0);
    h.rst();
    home.go_until([&] { return home.queue->flows() == 0; });
}

TEST_CASE("strays are bounded, and what is too much is only forgotten", "[tun_strays]") {
    tun_strays s(100);
    auto key = [](std::uint16_t port) {
        tun::flow_key k;
        k.source_port = port;
        return k;
    };
    CHECK(s.carrier(key(1)) == tun_strays::nobody);
    CHECK(s.release(key(1)) == tun_strays::nobody);
    for (std::uint16_t i = 1; i <= 150; ++i) {
        s.pass_on(key(i), 3);
        CHECK(s.adopt(key(i), 2) == (i <= 100));
    }
    CHECK(s.passed() == 100);
    CHECK(s.adopted() == 100);
    CHECK(s.carrier(key(1)) == 3);
    CHECK(s.carrier(key(150)) == tun_strays::nobody);
    CHECK(s.release(key(1)) == 2);
    CHECK(s.release(key(1)) == tun_strays::nobody);
    s.forget(key(1));
    CHECK(s.carrier(key(1)) == tun_strays::nobody);
    s.pass_on(key(2), 5);
    CHECK(s.carrier(key(2)) == 5);
}

}  // namespace
}  // namespace burin::relay
