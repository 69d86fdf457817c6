// Echo requests of hosts behind the TUN, over a channel whose other end a test plays by hand.
#include "core/relay/tun_echo.hh"

#include <deque>

#include "tests/unit/relay/tun_bench.hh"
#include "tests/unit/tun/packets.hh"

using namespace burin;
using namespace burin::relay;
using namespace burin::hand;
using kind = echo_message::kind;

namespace {

constexpr std::uint32_t id_and_number = 0x12340007;

struct echo_bench : tun_bench {
    explicit echo_bench(const tun_echo_settings& s = {}, const ssh::connection_limits& limits = {})
        : tun_bench({.echo = s}, limits) {
        exit->take = [this](ssh::channel& c, const ssh::channel_open& open) {
            if (open.type != echo_channel_type) return false;
            CHECK(open.rest.empty());
            ++asked;
            if (refusing) {
                exit->layer->refuse(c, *refusing, "no");
                return true;
            }
            server.layer = exit->layer.get();
            server.at = &c;
            server.data.clear();
            exit->layer->accept(c, server);
            return true;
        };
    }
    ~echo_bench() override {
        queue->stop();
        go_until([&] { return stopped > 0; });
        if (server.at != nullptr) exit->layer->abort(*server.at);
    }
    bool carries_echo() const noexcept override { return carries; }

    void ask(const ends& e, const octets& data, std::uint32_t rest = id_and_number) {
        raw_frame(frame(ip(e, icmp_protocol(e), icmp(e, e.v6() ? 128 : 8, 0, rest, data))));
    }
    // Requests that have come to the server so far.
    std::vector<echo_message> requests() {
        std::vector<echo_message> all;
        bytes_view left = server.data;
        echo_reader reader;
        for (echo_message m; reader.next(left, m);) all.push_back(m);
        return all;
    }
    std::vector<echo_message> wait_for_requests(std::size_t count) {
        go_until([&] { return requests().size() >= count; });
        return requests();
    }
    void say(bytes_view bytes) {
        kept.emplace_back(bytes.begin(), bytes.end());
        server.layer->send(*server.at, {}, kept.back());
    }
    void say(kind what, std::uint32_t number, const octets& data = {}) {
        const bytes_view view = std::as_bytes(std::span(data));
        const echo_message m{what, number, {}, view};
        byte_vector out(echo_message_bytes(m));
        write_echo(out.data(), m);
        say(out);
    }
    // The one message that came out, from its ICMP header on.
    octets heard() {
        go_until([&] { return !messages.empty(); });
        go_quiet();
        REQUIRE(messages.size() == 1);
        const octets all = to_octets(messages[0]);
        messages.clear();
        return {all.begin() + (all[0] >> 4 == 6 ? 40 : 20), all.end()};
    }
    // Time passes, and what is due happens.
    void pass(ring::microseconds_t time) {
        main.skipped += time;
        for (int i = 0; i < 5; ++i) go();
    }
    // As tun_bench's, with the time that was let pass.
    void go() {
        relays.now = main.now();
        turn(ring::millisecond);
        relays.now = main.now();
        queue->flush();
        main.turn(0);
        tun_bench::go();
    }
    template <class Condition>
    void go_until(Condition&& met) {
        const auto limit = ring::monotonic_now() + 20 * ring::second;
        while (!met()) {
            if (ring::monotonic_now() > limit) FAIL("what was waited for did not come");
            go();
        }
    }
    void go_quiet() {
        for (int i = 0; i < 20; ++i) go();
    }
    const tun_echo_counters& counters() const { return queue->echo().counters(); }

    ssh::flow_record server;
    std::deque<byte_vector> kept;
    std::optional<ssh::open_failure_reason> refusing;
    unsigned asked = 0;
    bool carries = true;
};

octets reply(const ends& e, const octets& data, std::uint32_t rest = id_and_number) {
    return icmp(e.back(), e.v6() ? 129 : 0, 0, rest, data);
}

}  // namespace

TEST_CASE("echo entry: a host is answered when the destination was, with what it said") {
    for (const ends& e : {lan4, lan6}) {
        echo_bench b;
        b.ask(e, filler(56));
        const auto requests = b.wait_for_requests(1);
        CHECK(b.asked == 1);
        CHECK(requests[0].what == kind::request);
        CHECK(to_octets(requests[0].data) == filler(56));
        const auto& to = requests[0].to.bytes;
        CHECK(octets(to.end() - static_cast<std::ptrdiff_t>(e.to.size()), to.end()) == e.to);
        b.go_quiet();
        CHECK(b.messages.empty());  // not before
        b.say(kind::answered, requests[0].number, filler(56, 3));
        CHECK(b.heard() == reply(e, filler(56, 3)));
        CHECK(b.counters().answered == 1);
        CHECK(b.queue->icmp().counters().echo_replies == 0);
        // A second answer finds nobody.
        b.say(kind::answered, requests[0].number, filler(56, 3));
        b.go_until([&] { return b.counters().late == 1; });
        b.go_quiet();
        CHECK(b.messages.empty());
        CHECK(b.queue->echo().waiting() == 0);
        CHECK(b.main.timers.armed() == 0);
    }
}

TEST_CASE("echo entry: many hosts, identifiers and destinations share one channel") {
    echo_bench b;
    std::vector<ends> hosts;
    for (unsigned i = 0; i < 40; ++i) {
        ends e = i % 2 ? lan6 : lan4;
        e.from.back() = static_cast<std::uint8_t>(10 + i / 4);
        e.to.back() = static_cast<std::uint8_t>(1 + i);
        hosts.push_back(e);
        b.ask(e, filler(i, i), 0x77000000 + i % 3);
    }
    const auto requests = b.wait_for_requests(40);
    CHECK(b.asked == 1);
    // The last first, and from the middle of nowhere.
    for (unsigned i = 40; i-- > 0;) b.say(kind::answered, requests[i].number, filler(i, i));
    b.go_until([&] { return b.messages.size() == 40; });
    for (unsigned i = 0; i < 40; ++i) {
        const octets all = to_octets(b.messages[39 - i]);
        const ends& e = hosts[i];
        CHECK(octets(all.begin() + (e.v6() ? 40 : 20), all.end()) ==
              reply(e, filler(i, i), 0x77000000 + i % 3));
        CHECK(octets(all.begin() + (e.v6() ? 24 : 16), all.begin() + (e.v6() ? 40 : 20)) == e.from);
    }
}

TEST_CASE("echo entry: what the server was told becomes an error that quotes the request") {
    struct told {
        kind what;
        unsigned type4, code4, type6, code6;
    };
    for (const told& one :
         {told{kind::unreachable, 3, 1, 1, 3}, told{kind::prohibited, 3, 13, 1, 1},
          told{kind::hops_exceeded, 11, 0, 3, 0}}) {
        for (const ends& e : {lan4, lan6}) {
            echo_bench b;
            b.ask(e, filler(56));
            b.say(one.what, b.wait_for_requests(1)[0].number);
            const octets request =
                ip(e, icmp_protocol(e), icmp(e, e.v6() ? 128 : 8, 0, id_and_number, filler(56)));
            const octets quoted(request.begin(), request.begin() + (e.v6() ? 48 : 28));
            CHECK(b.heard() == icmp(e.back(), e.v6() ? one.type6 : one.type4,
                                    e.v6() ? one.code6 : one.code4, 0, quoted));
            CHECK(b.counters().refused == 1);
        }
    }
}

TEST_CASE("echo entry: silence stays silence, and what waits is forgotten in time") {
    echo_bench b;
    b.ask(lan4, filler(56));
    const auto requests = b.wait_for_requests(1);
    b.pass(4 * ring::second);
    CHECK(b.queue->echo().waiting() == 1);
    b.ask(lan6, filler(56));
    b.wait_for_requests(2);
    b.pass(6 * ring::second);
    CHECK(b.queue->echo().waiting() == 1);
    CHECK(b.counters().timed_out == 1);
    b.say(kind::answered, requests[0].number, filler(56));
    b.go_until([&] { return b.counters().late == 1; });
    b.pass(10 * ring::second);
    CHECK(b.counters().timed_out == 2);
    CHECK(b.messages.empty());
    CHECK(b.main.timers.armed() == 0);
}

TEST_CASE("echo entry: what waits is bounded, and the oldest makes room") {
    echo_bench b({.most_waiting = 8});
    for (unsigned i = 0; i < 20; ++i) b.ask(lan4, filler(8), i);
    const auto requests = b.wait_for_requests(20);
    CHECK(b.queue->echo().waiting() == 8);
    CHECK(b.counters().evicted == 12);
    for (const echo_message& m : requests) b.say(kind::answered, m.number, filler(8));
    b.go_until([&] { return b.counters().late == 12; });
    b.go_until([&] { return b.messages.size() == 8; });
    for (unsigned i = 0; i < 8; ++i) {
        const octets all = to_octets(b.messages[i]);
        CHECK(octets(all.begin() + 20, all.end()) == reply(lan4, filler(8), 12 + i));
    }
}

TEST_CASE("echo entry: limits a second, and of one request") {
    echo_bench b({.per_second = 1, .burst = 5});
    for (unsigned i = 0; i < 20; ++i) b.ask(lan4, filler(8), i);
    b.go_until([&] { return b.counters().limited + b.counters().carried == 20; });
    CHECK(b.counters().carried >= 5);
    CHECK(b.counters().limited >= 1);
    b.pass(60 * ring::second);
    const auto before = b.counters().carried;
    b.raw_frame(frame(ip(lan4, 1, icmp(lan4, 8, 0, 1, filler(most_echo_bytes)))));
    b.raw_frame(frame(ip(lan4, 1, icmp(lan4, 8, 0, 1, filler(most_echo_bytes + 1)))));
    b.go_until([&] { return b.counters().too_long == 1; });
    CHECK(b.counters().carried == before + 1);
    const auto requests = b.wait_for_requests(before + 1);
    CHECK(to_octets(requests.back().data) == filler(most_echo_bytes));
    // The long answer leaves in fragments.
    b.say(kind::answered, requests.back().number, filler(most_echo_bytes));
    b.go_until([&] { return b.messages.size() == 7; });
}

TEST_CASE("echo entry: without credit requests wait within bounds, then are dropped") {
    echo_bench b;
    b.server.takes = false;
    const octets data = filler(8000);
    // What the channel's first window takes, and what may wait behind it.
    for (unsigned i = 0; i < 200; ++i) {
        b.ask(lan4, data, i);
        b.go();
        b.pass(50 * ring::millisecond);
    }
    REQUIRE(b.counters().no_window > 0);
    const auto carried = b.counters().carried;
    CHECK(b.queue->echo().waiting() <= carried);
    CHECK(b.pieces.owned_bytes() < 128 * 1024);
    b.server.takes = true;
    b.server.take_held();
    b.go_until([&] { return b.requests().size() == carried; });
    b.go_quiet();
    CHECK(b.pieces.in_use() == 0);
}

TEST_CASE("echo entry: a server that does not ping leaves it to the gateway") {
    for (const bool by_feature : {true, false}) {
        echo_bench b;
        if (by_feature)
            b.carries = false;
        else
            b.refusing = ssh::open_failure_reason::prohibited;
        b.ask(lan4, filler(56));
        if (!by_feature) {  // the first one is how it is found out
            b.go_until([&] { return b.counters().lost == 1; });
            b.ask(lan4, filler(56));
        }
        CHECK(b.heard() == reply(lan4, filler(56)));
        b.go_quiet();
        CHECK(b.asked == (by_feature ? 0u : 1u));
        CHECK(b.queue->icmp().counters().echo_replies == 1);
        // The next session's server is asked anew.
        b.carries = true;
        b.refusing.reset();
        b.queue->session_ready();
        b.ask(lan4, filler(56));
        b.wait_for_requests(1);
        CHECK(b.messages.empty());
    }
}

TEST_CASE("echo entry: a channel that is refused for now is asked for again, not at once") {
    echo_bench b({.retry_time = 60 * ring::second});
    b.refusing = ssh::open_failure_reason::shortage;
    b.ask(lan4, filler(56));
    b.go_until([&] { return b.counters().lost == 1; });
    b.ask(lan4, filler(56));
    b.go_until([&] { return b.counters().no_channel == 1; });
    CHECK(b.asked == 1);
    b.refusing.reset();
    b.pass(60 * ring::second);
    b.ask(lan4, filler(56));
    b.say(kind::answered, b.wait_for_requests(1)[0].number, filler(56));
    CHECK(b.heard() == reply(lan4, filler(56)));
    CHECK(b.asked == 2);
}

TEST_CASE("echo entry: a server that breaks the rules loses its channel, and nothing else") {
    for (const octets& bad :
         {octets{0, 1}, octets{0xff, 0xff, 1}, octets{0, 8, 4, 0, 0, 0, 1, 1, 2, 3}}) {
        echo_bench b;
        b.ask(lan4, filler(56));
        b.wait_for_requests(1);
        const bytes_view view = std::as_bytes(std::span(bad));
        b.say(view);
        b.go_until([&] { return b.server.closes == 1; });
        CHECK(b.counters().lost == 1);
        CHECK(b.queue->echo().waiting() == 0);
        CHECK(b.entry->failure == "");
        b.pass(1100 * ring::millisecond);
        b.ask(lan4, filler(56));
        b.go_until([&] { return b.asked == 2; });
    }
}

TEST_CASE("echo entry: what is new or not for us is passed over") {
    echo_bench b;
    b.ask(lan4, filler(56));
    const auto requests = b.wait_for_requests(1);
    const octets unknown{0, 6, 99, 0, 0, 0, 1, 5};
    b.say(std::as_bytes(std::span(unknown)));
    b.say(kind::request, 5, filler(4));
    b.say(kind::answered, ~requests[0].number, filler(56));
    b.go_until([&] { return b.counters().late == 1; });
    CHECK(b.messages.empty());
    b.say(kind::answered, requests[0].number, filler(56));
    CHECK(b.heard() == reply(lan4, filler(56)));
    std::string report;
    b.queue->report(report, "tun");
    INFO(report);
    CHECK(report.find("tun: echo: carried=1 answered=1 refused=0 timed-out=0 waiting=0 ") !=
          report.npos);
    CHECK(report.find(" unknown=1\n") != report.npos);
}

TEST_CASE("echo entry: the session takes with it what waits") {
    echo_bench b;
    b.ask(lan4, filler(56));
    b.wait_for_requests(1);
    b.live = false;
    b.entry->layer->lose();
    CHECK(b.queue->echo().waiting() == 0);
    CHECK(b.counters().lost == 1);
    CHECK(b.main.timers.armed() == 0);
    b.ask(lan4, filler(56));
    b.go_until([&] { return b.queue->counters().echoes_unanswered == 1; });
}
