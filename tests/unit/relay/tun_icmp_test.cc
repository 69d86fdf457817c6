// What a TUN queue does with everything that is not IPv4 TCP: IPv6, fragments, ICMP.
#include "core/relay/tun_icmp.hh"

#include <random>

#include "tests/unit/relay/tun_bench.hh"
#include "tests/unit/tun/packets.hh"

using namespace burin;
using namespace burin::relay;
using namespace burin::hand;

namespace {

octets echo_request(const ends& e, const octets& data) {
    return icmp(e, e.v6() ? 128 : 8, 0, 0x00070001, data);
}
octets echo_reply(const ends& e, const octets& data) {
    return icmp(e.back(), e.v6() ? 129 : 0, 0, 0x00070001, data);
}
// What a packet carries behind its IP header.
octets carried(const byte_vector& packet) {
    const octets all = to_octets(packet);
    return {all.begin() + (all[0] >> 4 == 6 ? 40 : 20), all.end()};
}
void in_fragments(tun_bench& b, const ends& e, unsigned protocol, const octets& whole) {
    for (std::size_t from = 0; from < whole.size(); from += 1400) {
        const std::size_t to = std::min(from + 1400, whole.size());
        const octets part(whole.begin() + static_cast<std::ptrdiff_t>(from),
                          whole.begin() + static_cast<std::ptrdiff_t>(to));
        b.raw_frame(
            frame(fragment(e, protocol, part, static_cast<unsigned>(from), to < whole.size(), 77)));
    }
}

// The beginning of stream 0, which destinations check.
byte_vector bytes_of(std::size_t size) {
    const bytes_view bytes = ssh::pattern_bytes().at(0, 0, size);
    return {bytes.begin(), bytes.end()};
}

}  // namespace

TEST_CASE("a flow over IPv6, from its SYN to its end") {
    tun_bench b;
    auto [h, destination] = b.open(4000, 1, true);
    REQUIRE(b.opened.size() == 1);
    CHECK(b.opened[0] == "[fd00:77::1]:80");
    CHECK(h->frames[0].options.mss == 1440);
    h->data(bytes_of(3000));
    b.go_until([&] {
        destination->read_from(0);
        return destination->received() == 3000;
    });
    destination->write_to(40'000);
    b.go_until([&] {
        h->acknowledge_news();
        return h->received.size() == 40'000;
    });
    CHECK(ssh::is_prefix(h->received, 1));
    for (const seen_frame& f : h->frames)
        if (f.data.size() > 1440) CHECK(f.gso_size == 1440);
    h->fin();
    destination->leave();
    b.go_until([&] { return h->fin_heard; });
    h->acknowledge();
    b.check_nothing_left();
    CHECK(b.closed == 1);
}

TEST_CASE("a segment of no flow is reset over IPv6 too") {
    tun_bench b;
    tun_host& h = b.host(4000, 80, true);
    h.say(tun::tcp_ack);
    b.go_until([&] { return h.reset; });
    CHECK(b.queue->counters().unknown_flow == 1);
}

TEST_CASE("echo requests are answered while a session is live, and only then") {
    for (const ends& e : {lan4, lan6}) {
        tun_bench b;
        const octets data = filler(56);
        const byte_vector request = frame(ip(e, icmp_protocol(e), echo_request(e, data)));
        b.live = false;
        b.raw_frame(request);
        b.go_quiet();
        CHECK(b.messages.empty());
        CHECK(b.queue->counters().echoes_unanswered == 1);
        b.live = true;
        b.raw_frame(request);
        b.go_until([&] { return !b.messages.empty(); });
        CHECK(carried(b.messages[0]) == echo_reply(e, data));
        b.go_quiet();
        CHECK(b.messages.size() == 1);
        CHECK(b.queue->icmp().counters().echo_replies == 1);
        b.check_nothing_left();
    }
}

TEST_CASE("an echo longer than the MTU comes in fragments and goes back in fragments") {
    for (const ends& e : {lan4, lan6}) {
        tun_bench b;
        const octets data = filler(4000);
        in_fragments(b, e, icmp_protocol(e), echo_request(e, data));
        b.go_until([&] { return b.messages.size() >= 3; });
        tun::fragment_store store;
        byte_vector space(tun::max_frame_bytes);
        octets got;
        for (const byte_vector& packet : b.messages) {
            CHECK(packet.size() <= 1500);
            const byte_vector f = frame(to_octets(packet));
            tun::parsed_frame part;
            REQUIRE(tun::parse_frame(f, part) == tun::frame_kind::fragment);
            if (!store.add(part, 1)) continue;
            const bytes_view whole = store.take(space);
            got = to_octets(whole.subspan(e.v6() ? 50 : 30));
        }
        CHECK(got == echo_reply(e, data));
        CHECK(b.queue->fragments().bytes() == 0);
        b.check_nothing_left();
    }
}

TEST_CASE("fragments of a flow are its segments once they are whole") {
    for (const bool v6 : {false, true}) {
        const ends& e = v6 ? lan6 : lan4;
        tun_bench b;
        auto [h, destination] = b.open(4000, 1, v6);
        const byte_vector payload = bytes_of(3000);
        in_fragments(b, e, 6, tcp(e, 4000, 80, h->seq, h->ack, 0x18, to_octets(payload)));
        b.go_until([&] {
            destination->read_from(0);
            return destination->received() == 3000;
        });
        // One that is nobody's may be another queue's: no reset for it.
        in_fragments(b, e, 6, tcp(e, 4001, 80, 1, 1, 0x10, filler(3000)));
        b.go_quiet();
        CHECK(b.queue->counters().unknown_flow == 1);
        CHECK(b.messages.empty());
        h->rst();
        h->seq += 3000;
        h->rst();
        b.check_nothing_left();
    }
}

TEST_CASE("a protocol that cannot be carried is unreachable") {
    for (const ends& e : {lan4, lan6}) {
        tun_bench b;
        const octets cause = ip(e, 132, filler(40));
        b.raw_frame(frame(cause));
        b.go_until([&] { return !b.messages.empty(); });
        CHECK(carried(b.messages[0]) ==
              icmp(e.back(), e.v6() ? 4 : 3, e.v6() ? 1 : 2, e.v6() ? 6 : 0, cause));
        // Neither errors nor what goes to many is answered.
        const ends back = e.back();
        b.raw_frame(frame(ip(e, icmp_protocol(e),
                             icmp(e, e.v6() ? 1 : 3, e.v6() ? 4 : 3, 0,
                                  ip(back, 6, tcp(back, 80, 1, 0, 0, 0x10))))));
        ends many = e;
        many.to[0] = e.v6() ? 0xff : 224;
        b.raw_frame(frame(ip(many, 132, filler(40))));
        b.go_quiet();
        CHECK(b.messages.size() == 1);
        CHECK(b.queue->icmp().counters().errors == 1);
        CHECK(b.queue->counters().errors_strange == 1);
        b.check_nothing_left();
    }
}

TEST_CASE("a host's errors are obeyed where they may be") {
    const bool v6 = GENERATE(false, true);
    const ends& e = v6 ? lan6 : lan4;
    const ends back = e.back();
    tun_bench b;
    const auto [far, dialled] = tcp_pair();
    program destination(far, 1);
    b.exit->next_descriptor = dialled;
    tun_host& h = b.host(4000, 80, v6);
    auto error = [&](unsigned type, unsigned code, std::uint32_t second, std::uint32_t seq) {
        const octets quoted = ip(back, 6, tcp(back, 80, 4000, seq, 1, 0x12));
        b.raw_frame(frame(ip(e, icmp_protocol(e), icmp(e, type, code, second, quoted))));
        b.go_quiet();
    };
    const unsigned hard_type = v6 ? 1 : 3, hard_code = v6 ? 4 : 3;
    h.syn();
    b.go_until([&] { return h.answered; });
    const std::uint32_t first = h.ack - 1;  // our SYN-ACK's number
    error(hard_type, hard_code, 0, first + 1);
    CHECK(b.queue->counters().errors_strange == 1);
    CHECK(b.queue->flows() == 1);
    SECTION("not open yet: refused") {
        error(hard_type, hard_code, 0, first);
        CHECK(b.queue->flows() == 0);
    }
    SECTION("open: it lives on, with smaller segments") {
        h.acknowledge();
        b.go_quiet();
        destination.write_to(1000);
        b.go_until([&] { return h.received.size() == 1000; });
        error(hard_type, hard_code, 0, first + 1);
        CHECK(b.queue->flows() == 1);
        error(v6 ? 2 : 3, v6 ? 0 : 4, 1300, first + 1);
        CHECK(b.queue->counters().too_big_heard == 1);
        destination.write_to(20'000);
        const std::size_t before = h.frames.size();
        b.go_until([&] {
            h.acknowledge_news();
            return h.received.size() == 20'000;
        });
        for (std::size_t i = before; i < h.frames.size(); ++i) {
            const seen_frame& f = h.frames[i];
            const std::size_t size = f.gso_size > 0 ? f.gso_size : f.data.size();
            CHECK(size <= 1300u - (v6 ? 60 : 40));
        }
        CHECK(b.queue->counters().errors_strange == 1);
        h.rst();
    }
    b.check_nothing_left();
}

TEST_CASE("what is said about another queue's flow is passed on, within reason") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    destination->write_to(3000);
    b.go_until([&] { return h->received.size() == 3000; });
    const ends back = lan4.back();
    auto too_big = [&](unsigned port, std::uint32_t seq) {
        const octets quoted = ip(back, 6, tcp(back, 80, port, seq, 1, 0x10));
        return frame(ip(lan4, 1, icmp(lan4, 3, 4, 1300, quoted)));
    };
    for (int i = 0; i < 100; ++i) b.raw_frame(too_big(4001, 7));
    b.go_until([&] { return b.queue->counters().errors_heard == 100; });
    CHECK(b.queue->counters().errors_strange == 100);
    REQUIRE_FALSE(b.strays.empty());
    CHECK(b.strays.size() < 100);
    CHECK(b.strays[0].key.source_port == 4001);
    CHECK(b.strays[0].mtu == 1300);
    // A queue that hears of its own flow does as if it had been told itself.
    tun::icmp_report report = b.strays[0];
    report.key = h->key;
    report.seq = tun::sequence(h->ack - 3000);
    b.queue->hear(report);
    CHECK(b.queue->counters().too_big_heard == 1);
    b.queue->hear(b.strays[0]);  // nobody's
    CHECK(b.queue->counters().too_big_heard == 1);
    h->rst();
    b.check_nothing_left();
}

TEST_CASE("IPv6, ICMP and fragments of any shape do no harm") {
    tun_bench b;
    auto [h, destination] = b.open(4000, 1, true);
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 600; ++round) {
        const ends& e = random() % 4 == 0 ? lan4 : lan6;
        const ends back = e.back();
        const octets data = filler(random() % 2000, random());
        const octets segment =
            tcp(e, 4000, 80, h->seq + random() % 3000, h->ack, random() & 0xfb, data);  // no reset
        octets packet;
        switch (random() % 6) {
            case 0: packet = ip(e, 6, segment); break;
            case 1:
                packet = ip(e, 60, extension(random() % 64, {}, 8 * (1 + random() % 4)) + segment);
                break;
            case 2: packet = ip(e, icmp_protocol(e), echo_request(e, data)); break;
            case 3:
                packet = ip(e, icmp_protocol(e),
                            icmp(e, random() % 13, random() % 16, random() % 3000,
                                 ip(back, 6, tcp(back, 80, 4000, h->ack + random() % 3, 0, 0x10))));
                break;
            case 4:
                packet = fragment(e, random() % 2 ? 6 : icmp_protocol(e), filler(random() % 1400),
                                  8 * (random() % 400), random() % 3 != 0, random() % 4);
                break;
            default: packet = ip(e, random() % 256, data);
        }
        byte_vector f = frame(packet, random() % 3);
        if (random() % 3 == 0)
            for (int i = 0; i < 3; ++i) f[random() % f.size()] = static_cast<std::byte>(random());
        if (random() % 6 == 0) f.resize(1 + random() % f.size());
        b.raw_frame(f);
        if (round % 8 == 0) b.go();
    }
    b.go_quiet();
    CHECK(b.lost == 0);
    CHECK(b.entry->failure == "");
    CHECK(b.queue->fragments().datagrams() <= 64);
    b.queue->stop();
    b.go_until([&] { return b.stopped == 1; });
}

TEST_CASE("the report tells of ICMP and fragments") {
    tun_bench b;
    b.raw_frame(frame(ip(lan6, 58, echo_request(lan6, {}))));
    b.raw_frame(frame(fragment(lan6, 17, filler(16), 0, true, 1)));
    b.raw_frame(frame(ip({lan6.from, octets{0xff, 2} + octets(14)}, 58, octets(8))));
    b.go_until([&] { return !b.messages.empty() && b.queue->fragments().bytes() > 0; });
    b.go_quiet();
    std::string report;
    b.queue->report(report, "tun");
    INFO(report);
    CHECK(report.find("tun: icmp: echo-replies=1 ") != report.npos);
    CHECK(report.find("tun: fragments: taken=1 reassembled=0 waiting=1 ") != report.npos);
    CHECK(report.find(" multicast=1") != report.npos);
}
