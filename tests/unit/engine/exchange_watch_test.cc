// A key exchange that does not end, by a clock of the test's own.
#include "core/engine/exchange_watch.hh"

#include "tests/catch.hh"
#include "tests/unit/ssh/recorder.hh"

using namespace burin;

namespace {

struct watched {
    explicit watched(const ssh::transport& t) : what(t) {}
    void turn() {
        timers.advance(now);
        watch.look(what, timers, now);
    }
    void pass(ring::microseconds_t time) {
        now += time;
        turn();
    }
    void on_overdue(ring::microseconds_t) noexcept { ++overdue; }

    const ssh::transport& what;
    ring::microseconds_t now = 1000 * ring::second;
    ring::timer_wheel timers{now};
    ring::member_timer<&watched::on_overdue> timer{this};
    engine::exchange_watch watch{timer, 30 * ring::second};
    unsigned overdue = 0;
};

}  // namespace

TEST_CASE("a key exchange has its time, each anew") {
    ssh::transport_pair pair;
    pair.open_session();
    ssh::link_end& ours = GENERATE(false, true) ? pair.client : pair.server;
    watched w(*ours.end);
    w.turn();
    CHECK_FALSE(w.timer.armed());
    // None that ends disturbs, however many there are and however long all of them take together.
    for (unsigned at = 0; at < 5; ++at) {
        ours.end->start_rekey();
        w.turn();
        CHECK(w.timer.armed());
        w.pass(29 * ring::second);
        pair.pump();
        // The next may begin before anybody has looked.
        if (at % 2 == 0) w.turn();
    }
    w.turn();
    CHECK_FALSE(w.timer.armed());
    CHECK(w.overdue == 0);
    // One that the peer does not answer.
    ours.end->start_rekey();
    for (unsigned at = 0; at < 29; ++at) w.pass(ring::second);
    CHECK(w.overdue == 0);
    w.pass(2 * ring::second);
    CHECK(w.overdue == 1);
}

TEST_CASE("a key exchange that the peer began and leaves has its time as well") {
    ssh::transport_pair pair;
    pair.open_session();
    watched w(*pair.server.end);
    pair.client.end->start_rekey();
    drain(*pair.client.end, pair.client.said);
    ssh::transport_pair::carry(pair.client, pair.server, ssh::whole());
    for (unsigned at = 0; at < 32; ++at) w.pass(ring::second);
    CHECK(w.overdue == 1);
}
