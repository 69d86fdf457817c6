// UDP of hosts behind the TUN, over a real session; time is the test's own.
#include "core/relay/tun_datagrams.hh"

#include <map>

#include "tests/unit/relay/tun_udp_bench.hh"
#include "tun/fragments.hh"

using namespace burin;
using namespace burin::relay;

namespace {

using record = std::pair<std::string, std::string>;

}  // namespace

TEST_CASE("tun udp: a channel a target, many sources in it, answers find their way back") {
    tun_udp_bench b;
    b.ask(5000, 9, "one");
    far_channel& c = b.channel(0, 1);
    CHECK(c.target == "10.77.0.1:9/udp");
    CHECK(c.records == std::vector<record>{{"10.5.0.2:5000", "one"}});
    b.ask(5001, 9, "two");
    b.ask(5000, 9, "");
    b.channel(0, 3);
    CHECK(c.records[1] == record("10.5.0.2:5001", "two"));
    CHECK(c.records[2] == record("10.5.0.2:5000", ""));
    b.ask(5000, 10, "elsewhere");
    CHECK(b.channel(1, 1).target == "10.77.0.1:10/udp");

    c.say("10.5.0.2:5001", "answer");
    auto got = b.hear();
    CHECK(got->text() == "answer");
    CHECK(got->frame.key.source_port == 9);
    CHECK(got->frame.key.destination_port == 5001);
    CHECK(got->frame.key.source == tun::flow_address::v4(0x0a4d0001));
    CHECK(got->frame.key.destination == tun::flow_address::v4(0x0a050002));
    c.say("10.5.0.2:5001", "");
    CHECK(b.hear()->text() == "");
    // To nobody that has asked here.
    for (const char* name : {"10.5.0.2:5002", "10.5.0.2:05001", "", "[10.5.0.2]:5001"})
        c.say(name, "?");
    b.until([&] { return b.counter("unknown-source") == 4; });
    CHECK(b.listen().empty());

    b.ask(7, 53, "over v6", hand::lan6);
    far_channel& six = b.channel(2, 1);
    CHECK(six.target == "[fd00:77::1]:53/udp");
    CHECK(six.records[0].first == "[fd00:5::2]:7");
    six.say(six.records[0].first, "answer");
    got = b.hear();
    CHECK(got->text() == "answer");
    CHECK(got->frame.ip_version == 6);
    CHECK(got->frame.key.destination_port == 7);
}

TEST_CASE("tun udp: silent flows go, name servers' sooner, and the channel with the last of them") {
    tun_udp_bench b;
    b.ask(5000, 9, "x");
    b.ask(5001, 9, "x");
    b.ask(5000, 53, "x");
    b.channel(0, 2);
    b.channel(1, 1);
    CHECK(b.counter("flows") == 3);
    b.pass(9 * ring::second);
    CHECK(b.counter("flows") == 3);
    b.pass(2 * ring::second);
    CHECK(b.counter("flows") == 2);
    b.until([&] { return b.far[1]->at == nullptr; });  // closed
    for (int i = 0; i < 3; ++i) {
        // An answer keeps a flow as a question does.
        b.far[0]->say("10.5.0.2:5000", "y");
        b.hear();
        b.pass(30 * ring::second);
    }
    CHECK(b.counter("flows") == 1);
    CHECK(b.far[0]->at != nullptr);
    b.pass(61 * ring::second);
    CHECK(b.counter("flows") == 0);
    CHECK(b.counter("targets") == 0);
    b.until([&] { return b.far[0]->at == nullptr; });
    CHECK(b.entry->layer->open_channels() == 0);
    b.ask(5000, 9, "again");
    b.channel(2, 1);
}

TEST_CASE("tun udp: more sources than a far end tells apart take another channel") {
    tun_udp_bench b({}, {.most_sources = 10});
    for (unsigned i = 0; i < 25; ++i) b.ask(5000 + i, 9, std::to_string(i));
    b.until([&] {
        std::size_t sum = 0;
        for (auto& f : b.far) sum += f->records.size();
        return sum == 25;
    });
    CHECK(b.far.size() == 3);
    std::map<std::string, std::size_t> where;
    for (std::size_t i = 0; i < b.far.size(); ++i) {
        CHECK(b.far[i]->records.size() <= 10);
        CHECK(b.far[i]->target == "10.77.0.1:9/udp");
        for (const record& r : b.far[i]->records) where[r.first] = i;
    }
    CHECK(where.size() == 25);
    // Each keeps to its own.
    for (unsigned i = 0; i < 25; ++i) b.ask(5000 + i, 9, "again");
    b.until([&] {
        std::size_t sum = 0;
        for (auto& f : b.far) sum += f->records.size();
        return sum == 50;
    });
    for (std::size_t i = 0; i < b.far.size(); ++i)
        for (const record& r : b.far[i]->records) CHECK(where[r.first] == i);
    b.pass(61 * ring::second);
    CHECK(b.counter("targets") == 0);
}

TEST_CASE("tun udp: a host that wants too many flows loses its own oldest") {
    tun_udp_bench b;  // 1024 a host
    for (unsigned i = 0; i < 1030; ++i) {
        b.ask(10'000 + i, 9, "x");
        if (i % 50 == 0) b.turn(0);
    }
    b.until([&] { return b.counter("opened") == 1030; });
    CHECK(b.counter("flows") == 1024);
    CHECK(b.counter("replaced") == 6);
    // As many targets as there may be: a quarter of the channels.
    tun_udp_bench small({.most_flows = 40});
    for (unsigned i = 0; i < 15; ++i) small.ask(5000, 100 + i, "x");
    small.until([&] { return small.counter("too-many-targets") == 5; });
    CHECK(small.counter("targets") == 10);
}

TEST_CASE("tun udp: what is silent makes room for other hosts, what talks does not") {
    tun_udp_bench b({.most_flows = 40});  // ten targets
    b.main.freeze();
    const hand::ends other{{10, 5, 0, 3}, {10, 77, 0, 1}};
    for (unsigned i = 0; i < 10; ++i) b.ask(5000, 100 + i, "x");
    b.until([&] { return b.counter("targets") == 10 && b.far.size() == 10; });
    b.ask(6000, 200, "x", other);
    b.until([&] { return b.counter("too-many-targets") == 1; });
    b.pass(3 * ring::second);
    b.ask(5000, 100, "y");  // the oldest talks again
    b.channel(0, 2);
    b.ask(6000, 200, "x", other);
    CHECK(b.channel(10, 1).target == "10.77.0.1:200/udp");
    CHECK(b.counter("crowded-out") == 1);
    CHECK(b.counter("targets") == 10);
    CHECK(b.far[0]->at != nullptr);
    b.until([&] { return b.far[1]->at == nullptr; });
    // A flood takes what is silent, and no more.
    for (unsigned i = 0; i < 30; ++i) b.ask(7000, 300 + i, "x", other);
    b.until([&] { return b.counter("too-many-targets") == 23; });
    CHECK(b.counter("crowded-out") == 9);
    CHECK(b.far[0]->at != nullptr);
}

TEST_CASE("tun udp: superframes become records in place, and answers superframes") {
    tun_udp_bench b({.udp_superframes = true});
    b.ask(5000, 9, "open");
    far_channel& c = b.channel(0, 1);
    auto superframe = [&](std::size_t bytes, unsigned size) {
        const hand::octets payload = hand::filler(bytes, size);
        b.put(hand::frame(hand::ip(hand::lan4, 17, hand::udp(hand::lan4, 5000, 9, payload)),
                          tun::virtio_needs_csum, tun::virtio_gso_udp_l4, size));
        return payload;
    };
    for (auto [bytes, size] : {std::pair<std::size_t, unsigned>{40 * 1200 + 700, 1200},
                               {64 * 1000, 1000},
                               {2001, 2000},
                               {1200, 1200},
                               {65'000, 40},  // more headers than the slot has room for
                               {127 * 5, 127},
                               {128 * 5 + 1, 128}}) {
        INFO(bytes << " by " << size);
        c.records.clear();
        const hand::octets payload = superframe(bytes, size);
        const std::size_t count = (bytes + size - 1) / size;
        // 1625 records in one turn are more than may wait: those that came last are there.
        const bool all = count < 200;
        b.until([&] { return all ? c.records.size() == count : !c.records.empty(); });
        std::string want(payload.begin(), payload.end());
        for (std::size_t i = 0; all && i < count; ++i) {
            REQUIRE(c.records[i].first == "10.5.0.2:5000");
            REQUIRE(c.records[i].second == want.substr(i * size, size));
        }
        b.go_quiet();
    }
    CHECK(b.counter("superframes-in") == 6);

    // Answers of one turn: of one size, a shorter one ends it.
    auto answers = [&](const std::vector<std::size_t>& sizes) {
        for (std::size_t i = 0; i < sizes.size(); ++i)
            c.say("10.5.0.2:5000", std::string(sizes[i], static_cast<char>('a' + i)));
        std::vector<std::unique_ptr<seen>> frames;
        std::size_t bytes = 0, want = 0;
        for (std::size_t s : sizes) want += s;
        b.until([&] {
            for (auto& f : b.listen()) {
                bytes += f->frame.payload.size();
                frames.push_back(std::move(f));
            }
            return bytes >= want;  // parts of a datagram have its header, too
        });
        return frames;
    };
    auto frames = answers({1000, 1000, 1000, 400, 1000});
    REQUIRE(frames.size() == 2);
    CHECK(frames[0]->frame.payload.size() == 3400);
    CHECK(frames[0]->frame.gso_size == 1000);
    CHECK(frames[0]->frame.gso_type == tun::virtio_gso_udp_l4);
    CHECK(frames[1]->frame.payload.size() == 1000);
    CHECK(frames[1]->frame.gso_type == tun::virtio_gso_none);
    frames = answers({500, 600});
    CHECK(frames.size() == 2);
    frames = answers({1473, 1473});  // larger than the device: never in a superframe
    CHECK(frames.size() == 4);
    for (auto& f : frames) CHECK(f->frame.fragment.id != 0);
}

TEST_CASE("tun udp: without superframes each answer is a frame of its own") {
    tun_udp_bench b;
    b.ask(5000, 9, "open");
    far_channel& c = b.channel(0, 1);
    for (int i = 0; i < 5; ++i) c.say("10.5.0.2:5000", std::string(100, 'x'));
    std::size_t count = 0;
    b.until([&] {
        for (auto& f : b.listen()) {
            CHECK(f->frame.gso_type == tun::virtio_gso_none);
            CHECK(f->text() == std::string(100, 'x'));
            ++count;
        }
        return count == 5;
    });
}

TEST_CASE("tun udp: a large answer reaches the host in parts") {
    tun_udp_bench b;
    for (const hand::ends& e : {hand::lan4, hand::lan6}) {
        b.ask(5000, 9, "open", e);
        far_channel& c = b.channel(b.far.size() > 0 && e.v6() ? 1 : 0, 1);
        const std::string large = [] {
            std::string out(9000, ' ');
            for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<char>(i * 7);
            return out;
        }();
        c.say(c.records[0].first, large);
        tun::fragment_store store;
        byte_vector space(tun::max_frame_bytes);
        std::string got;
        b.until([&] {
            for (auto& f : b.listen()) {
                CHECK(f->bytes.size() <= 1500 + tun::virtio_header_bytes);
                if (!store.add(f->frame, 1)) continue;
                tun::parsed_frame whole;
                REQUIRE(tun::parse_frame(store.take(space), whole) == tun::frame_kind::udp);
                got = as_text(whole.payload);
            }
            return !got.empty();
        });
        CHECK(got == large);
    }
}

TEST_CASE("tun udp: refused and closed channels are asked for again, once a second a target") {
    tun_udp_bench b;
    b.main.freeze();
    b.refusing = true;
    for (int i = 0; i < 10; ++i) {
        b.ask(5000 + static_cast<unsigned>(i), 9, "x");
        b.go_quiet();
    }
    CHECK(b.asked == 1);
    REQUIRE(b.refused.size() == 1);
    CHECK(b.refused[0] == "no UDP here");
    CHECK(b.counter("no-channel") == 9);
    b.ask(5000, 10, "another target");
    b.until([&] { return b.asked == 2; });
    b.refusing = false;
    b.pass(ring::second);
    CHECK(b.asked == 2);
    b.ask(5003, 9, "now");
    far_channel& c = b.channel(0, 1);
    CHECK(c.records.back() == record("10.5.0.2:5003", "now"));
    // The far end closes it, as Go's does after an ICMP error.
    b.exit->layer->close(*std::exchange(c.at, nullptr));
    b.until([&] { return b.counter("refused") == 3; });
    b.pass(ring::second);
    b.ask(5003, 9, "and again");
    CHECK(b.channel(1, 1).records.back() == record("10.5.0.2:5003", "and again"));
}

TEST_CASE("tun udp: without a session datagrams are dropped, and nothing is remembered") {
    tun_udp_bench b;
    b.live = false;
    for (int i = 0; i < 5; ++i) b.ask(5000, 9, "lost");
    b.until([&] { return b.counter("no-session") == 5; });
    CHECK(b.counter("flows") == 0);
    b.live = true;
    b.ask(5000, 9, "found");
    CHECK(b.channel(0, 1).records[0].second == "found");
}

TEST_CASE("tun udp: what the far end could not deliver is told to its host, and to no other") {
    for (const hand::ends& e : {hand::lan4, hand::lan6}) {
        const bool v6 = e.v6();
        CAPTURE(v6);
        tun_udp_bench b;
        b.ask(5000, 53, "anybody?", e);
        far_channel& f = b.channel(0, 1);
        const std::string source = f.records[0].first;
        auto tell = [&](std::uint8_t kind, std::string_view whom, std::string_view name) {
            byte_vector rest;
            wire::writer(rest).byte(kind).string(whom);
            f.layer.notify(*f.at, name, rest);
        };
        auto told = [&](std::size_t count) {
            b.go_quiet();
            CHECK(b.listen().empty());
            REQUIRE(b.errors.size() == count);
        };
        // Only a peer that named the feature says anything with it.
        tell(1, source, "unreachable@burin");
        told(0);
        b.entry->layer->set_tells_unreachable();
        tell(0, source, "unreachable@burin");
        tell(5, source, "unreachable@burin");
        tell(1, "10.5.0.9:5000", "unreachable@burin");
        tell(1, source, "reachable@burin");
        f.layer.notify(*f.at, "unreachable@burin", as_bytes("\1\2"));
        told(0);
        const int codes[] = {v6 ? 4 : 3, v6 ? 3 : 1, 0, v6 ? 1 : 13};
        for (std::size_t kind = 1; kind <= 4; ++kind) {
            tell(static_cast<std::uint8_t>(kind), source, "unreachable@burin");
            told(kind);
            const tun::parsed_frame& error = b.errors.back()->frame;
            const bytes_view icmp = error.payload;
            CHECK(tun::load_u8(icmp.data()) == (v6 ? 1 : 3));
            CHECK(tun::load_u8(icmp.data() + 1) == codes[kind - 1]);
            const bytes_view quote = icmp.subspan(8);
            const std::size_t ip = v6 ? 40 : 20;
            REQUIRE(quote.size() == ip + 8);
            CHECK(tun::load_u8(quote.data() + (v6 ? 6 : 9)) == 17);
            CHECK(tun::load_u16(quote.data() + ip) == 5000);
            CHECK(tun::load_u16(quote.data() + ip + 2) == 53);
            CHECK(tun::load_u16(quote.data() + ip + 4) == 8);
        }
        CHECK(b.counter("unreachable") == 4);
        // The flow goes on.
        f.say(source, "here I am");
        CHECK(b.hear()->text() == "here I am");
    }
}

TEST_CASE("tun udp: a far end that gives no credit costs the oldest datagrams, and no slot") {
    ssh::connection_limits limits;
    limits.window_max = 32 * 1024;
    tun_udp_bench b({}, {}, limits);
    b.ask(5000, 9, "open");
    far_channel& c = b.channel(0, 1);
    c.takes = false;
    for (int i = 0; i < 500; ++i) {
        std::string text = std::to_string(i) + "!";
        text.resize(1000, '.');
        b.ask(5000, 9, text);
        b.turn(0);
    }
    b.until([&] { return b.counter("datagrams-in") == 501; });
    b.go_quiet();
    CHECK(b.datagrams.held_bytes <= most_waiting_bytes + 2000);
    CHECK(b.datagrams.counters.no_window > 200);
    std::string report;
    b.queue->report(report, "tun");
    CHECK(report.find("slots=0/") != report.npos);
    // It takes again.
    c.takes = true;
    b.exit->layer->consumed(*c.at, c.at->window - c.at->receive_left - c.at->consumed);
    b.until([&] { return c.records.back().second.starts_with("499!"); });
    CHECK(c.records.size() == 501 - b.datagrams.counters.no_window);
}

TEST_CASE(
    "tun udp: a flow of another worker's is told to its home, and stays here while it lives") {
    tun_udp_bench b;
    b.home_is = 1;
    b.ask(5000, 9, "one");
    b.channel(0, 1);
    CHECK(b.told == std::vector<std::string>{"began 5000 1"});
    // The home has a session again: what comes in here all the same is here if its flow is.
    b.comes_in = false;
    b.live_worker = 1;
    b.ask(5000, 9, "two");
    b.channel(0, 2);
    CHECK(b.passed.empty());
    b.ask(5001, 9, "elsewhere");
    b.until([&] { return b.passed.size() == 1; });
    CHECK(b.passed[0].first == 1);
    CHECK(b.counter("flows") == 1);
    // And what its home passes on is taken here without asking.
    b.queue->adopt(b.passed[0].second, 1);
    b.channel(0, 3);
    CHECK(b.told == std::vector<std::string>{"began 5000 1", "began 5001 1"});
    b.pass(61 * ring::second);
    CHECK(b.told.size() == 4);
    CHECK(b.told.back() == "over 5001 1");
    CHECK(b.queue->homes().strays().adopted() == 0);
    // Unless there is no session here any more.
    b.live = false;
    b.queue->adopt(b.passed[0].second, 1);
    CHECK(b.queue->homes().undeliverable() == 1);
    CHECK(b.counter("flows") == 0);
    CHECK(b.passed.size() == 1);
    b.live = true;
}

TEST_CASE("tun udp: at home, what another worker carries goes there while that has a session") {
    tun_udp_bench b;
    // With steering and without: there, a flow's home is where it comes in.
    b.home_is = GENERATE(0u, tun_strays::nobody);
    tun::flow_key key;
    key.source = tun::flow_address::v4(0x0a050002);
    key.destination = tun::flow_address::v4(0x0a4d0001);
    key.source_port = 5000;
    key.destination_port = 9;
    key.protocol = tun::ip_protocol::udp;
    b.queue->carried(key, 2);
    b.live_worker = 2;
    b.ask(5000, 9, "one");
    b.until([&] { return b.passed.size() == 1; });
    CHECK(b.passed[0].first == 2);
    b.ask(5001, 9, "another");
    b.channel(0, 1);
    CHECK(b.told.empty());
    // The other one's session is lost: the flow begins anew here.
    b.live_worker = tun_strays::nobody;
    b.ask(5000, 9, "two");
    b.channel(0, 2);
    CHECK(b.passed.size() == 1);
    CHECK(b.queue->homes().strays().passed() == 0);
    // No session here: anybody's.
    b.live = false;
    b.live_worker = 3;
    b.ask(5002, 9, "three");
    b.until([&] { return b.passed.size() == 2; });
    CHECK(b.passed[1].first == 3);
    b.live = true;
}
