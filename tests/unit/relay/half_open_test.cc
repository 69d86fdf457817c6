// Who may have one more half-open flow, and who gives way; time is the test's own.
#include "core/relay/half_open.hh"

#include <algorithm>
#include <map>
#include <random>
#include <vector>

#include "tests/catch.hh"

using namespace burin;
using namespace burin::relay;

namespace {

using outcome = half_open::outcome;
constexpr ring::microseconds_t ms = ring::millisecond;

struct crowd {
    explicit crowd(const half_open_settings& s) : all({1, 2}, s) {}

    static tun::flow_key key(std::uint32_t host) {
        tun::flow_key k;
        k.source = tun::flow_address::v4(0x0a000000 + host);
        k.destination = tun::flow_address::v4(0x0a4d0001);
        k.source_port = 1000;  // never matters
        k.destination_port = 80;
        return k;
    }
    struct flow {
        std::uint32_t number = 0, of = 0;
        ring::microseconds_t since = 0;
    };
    // A SYN of a host; the loser is removed, as the queue does it.
    outcome syn(std::uint32_t of, bool full = false) {
        const half_open::answer a = all.admit(key(of), now, full);
        CHECK((a.loser != half_open::none) ==
              (a.what == outcome::crowded || a.what == outcome::replaces));
        last_loser = ~0u;
        if (a.what == outcome::refused) return a.what;
        if (a.loser != half_open::none) {
            const auto at = std::find_if(flows.begin(), flows.end(),
                                         [&](const flow& f) { return f.number == a.loser; });
            REQUIRE(at != flows.end());
            last_loser = at->of;
            last_age = now - at->since;
            end(static_cast<std::size_t>(at - flows.begin()));
        }
        std::uint32_t number = 0;  // the lowest that is free
        while (std::any_of(flows.begin(), flows.end(),
                           [&](const flow& f) { return f.number == number; }))
            ++number;
        flows.push_back({number, of, now});
        all.insert(number, key(of), now);
        return a.what;
    }
    void end(std::size_t at) {
        all.remove(flows[at].number);
        all.remove(flows[at].number);  // and once more, which is nothing
        flows.erase(flows.begin() + static_cast<std::ptrdiff_t>(at));
    }
    std::map<std::uint32_t, std::uint32_t> counts() const {
        std::map<std::uint32_t, std::uint32_t> out;
        for (const flow& f : flows) ++out[f.of];
        return out;
    }

    half_open all;
    ring::microseconds_t now = 1000 * ring::second;
    std::vector<flow> flows;  // the oldest first
    std::uint32_t last_loser = ~0u;
    ring::microseconds_t last_age = 0;
};

}  // namespace

TEST_CASE("a host has half of all half-open flows at most, and replaces its own") {
    crowd c({.most = 10, .least_age = 100 * ms});
    for (int i = 0; i < 5; ++i) CHECK(c.syn(1) == outcome::room);
    CHECK(c.all.most_of_a_host() == 5);
    CHECK(c.syn(1) == outcome::refused);  // none is old enough
    c.now += 99 * ms;
    CHECK(c.syn(1) == outcome::refused);
    c.now += 1 * ms;
    for (int i = 0; i < 5; ++i) {
        CHECK(c.syn(1) == outcome::replaces);
        CHECK(c.last_loser == 1);
        CHECK(c.last_age == 100 * ms);
    }
    CHECK(c.syn(1) == outcome::refused);  // all of them are new
    for (std::uint32_t other = 2; other <= 6; ++other) CHECK(c.syn(other) == outcome::room);
    CHECK(c.all.size() == 10);
    CHECK(c.all.hosts() == 6);
    while (!c.flows.empty()) c.end(0);
    CHECK(c.all.size() == 0);
    CHECK(c.all.hosts() == 0);
}

TEST_CASE("a scanning host crowds out itself, however young its flows are") {
    crowd c({.most = 12, .least_age = 100 * ms});
    for (int i = 0; i < 6; ++i) c.syn(1);
    for (int i = 0; i < 6; ++i) c.syn(2);
    CHECK(c.all.size() == 12);
    // A third host has flows taken from the two, in turn, until all have the same.
    for (unsigned i = 0; i < 4; ++i) {
        CHECK(c.syn(3) == outcome::crowded);
        CHECK(c.last_loser == 1 + i % 2);
    }
    CHECK(c.counts() == std::map<std::uint32_t, std::uint32_t>{{1, 4}, {2, 4}, {3, 4}});
    for (std::uint32_t host : {1u, 2u, 3u}) CHECK(c.syn(host) == outcome::refused);
    c.now += 100 * ms;
    for (std::uint32_t host : {1u, 2u, 3u}) {
        CHECK(c.syn(host) == outcome::replaces);
        CHECK(c.last_loser == host);
    }
    CHECK(c.counts() == std::map<std::uint32_t, std::uint32_t>{{1, 4}, {2, 4}, {3, 4}});
}

TEST_CASE("who is crowded out loses the oldest flow") {
    crowd c({.most = 8, .least_age = 100 * ms});
    for (int i = 0; i < 4; ++i, c.now += ms) c.syn(1);
    for (int i = 0; i < 4; ++i, c.now += ms) c.syn(2);
    CHECK(c.syn(3) == outcome::crowded);
    CHECK(c.last_loser == 1);
    CHECK(c.last_age == 8 * ms);
}

TEST_CASE("where every SYN names another host, the oldest gives way") {
    crowd c({.most = 4, .least_age = 100 * ms});
    for (std::uint32_t host = 1; host <= 4; ++host) {
        CHECK(c.syn(host) == outcome::room);
        c.now += 10 * ms;
    }
    CHECK(c.syn(5) == outcome::refused);
    c.now += 60 * ms;  // the first is old enough, the second is not
    CHECK(c.syn(5) == outcome::replaces);
    CHECK(c.last_loser == 1);
    CHECK(c.syn(6) == outcome::refused);
    c.now += 10 * ms;
    CHECK(c.syn(6) == outcome::replaces);
    CHECK(c.last_loser == 2);
    CHECK(c.all.hosts() == 4);
}

TEST_CASE("what nobody will answer any more makes room for anybody") {
    crowd c({.most = 8, .least_age = 100 * ms, .stale_age = 1000 * ms});
    for (std::uint32_t host = 1; host <= 4; ++host) {
        c.syn(host);
        c.syn(host);
    }
    c.now += 99 * ms;
    c.syn(5);
    CHECK(c.last_loser == 1);  // which had two
    CHECK(c.syn(5) == outcome::refused);
    c.now += 901 * ms;
    // All but its own are stale: a burst of one host takes their places, up to its share.
    for (std::uint32_t loser : {1u, 2u, 2u}) {
        CHECK(c.syn(5) == outcome::replaces);
        CHECK(c.last_loser == loser);
    }
    CHECK(c.counts().at(5) == 4);
    CHECK(c.syn(5) == outcome::replaces);
    CHECK(c.last_loser == 5);
    CHECK(c.last_age == 901 * ms);
    CHECK(c.syn(5) == outcome::refused);
    CHECK(c.syn(3) == outcome::crowded);
    CHECK(c.last_loser == 5);
}

TEST_CASE("a full table makes somebody give way, whatever the number") {
    crowd c({.most = 100, .least_age = 100 * ms});
    CHECK(c.syn(1, true) == outcome::refused);  // there is nobody
    for (int i = 0; i < 3; ++i) c.syn(1);
    CHECK(c.syn(2, true) == outcome::crowded);
    CHECK(c.last_loser == 1);
    CHECK(c.syn(2, true) == outcome::refused);
    c.now += 100 * ms;
    CHECK(c.syn(2, true) == outcome::replaces);
    CHECK(c.last_loser == 2);
}

TEST_CASE("any order of beginnings and ends keeps the ranks of hosts") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    crowd c({.most = 40, .least_age = 50 * ms, .stale_age = 400 * ms});
    for (int step = 0; step < 20'000; ++step) {
        c.now += random() % 5 * ms;
        if (random() % 3 == 0 && !c.flows.empty()) {
            c.end(random() % c.flows.size());
            continue;
        }
        const auto before = c.counts();
        const std::size_t all = c.flows.size();
        const ring::microseconds_t oldest_age = all == 0 ? 0 : c.now - c.flows.front().since;
        const std::uint32_t host = random() % (step % 1000 < 500 ? 4 : 60);
        const auto at = before.find(host);
        const std::uint32_t had = at == before.end() ? 0 : at->second;
        std::uint32_t most = 0;
        for (const auto& [of, count] : before) most = std::max(most, count);
        switch (c.syn(host)) {
            case outcome::room: REQUIRE((all < 40 && had < 20)); break;
            case outcome::crowded:
                REQUIRE(all == 40);
                REQUIRE(had < 20);
                REQUIRE(most >= had + 2);
                REQUIRE(before.at(c.last_loser) == most);
                break;
            case outcome::replaces:
                REQUIRE((all == 40 || had == 20));
                REQUIRE((had == 20 || most < had + 2));
                REQUIRE(c.last_age >= 50 * ms);
                if (had > 0 && c.last_age < 400 * ms) REQUIRE(c.last_loser == host);
                if (had < 20) REQUIRE((oldest_age < 400 * ms || c.last_age == oldest_age));
                break;
            case outcome::refused: REQUIRE((all == 40 || had == 20)); break;
        }
        REQUIRE(c.all.size() == c.flows.size());
        REQUIRE(c.all.hosts() == c.counts().size());
        REQUIRE(c.flows.size() <= 40);
    }
}
