#include "tun/icmp.hh"

#include "tests/catch.hh"
#include "tests/unit/tun/packets.hh"

using namespace burin;
using namespace burin::tun;
using namespace burin::hand;

namespace {

parsed_frame parse(const byte_vector& frame, frame_kind wanted) {
    parsed_frame parsed;
    REQUIRE(parse_frame(frame, parsed) == wanted);
    return parsed;
}

// The message as the host gets it, without the virtio header.
octets packet_of(const icmp_message& m) {
    return to_octets(m.header.bytes().subspan(virtio_header_bytes)) + to_octets(m.rest);
}

octets segment_of(const ends& e, unsigned port = 80) {
    return tcp(e, 40000, port, 1000, 0, 2);
}

// What a host says about a packet from lan.to to lan.from.
octets error_about(const ends& e, unsigned type, unsigned code, std::uint32_t second,
                   const octets& quoted) {
    return ip(e, icmp_protocol(e), icmp(e, type, code, second, quoted));
}

}  // namespace

TEST_CASE("an echo request is answered by its destination, with everything it said") {
    for (const ends& e : {lan4, lan6}) {
        const octets data = filler(57);
        const auto f =
            frame(ip(e, icmp_protocol(e), icmp(e, e.v6() ? 128 : 8, 0, 0x12340007, data)));
        const parsed_frame request = parse(f, frame_kind::icmp);
        CHECK(is_echo_request(request));
        icmp_message m;
        REQUIRE(write_echo_reply(m, request));
        const ends back = e.back();
        octets wanted = icmp(back, e.v6() ? 129 : 0, 0, 0x12340007, data);
        const octets got = packet_of(m);
        CHECK(octets(got.end() - static_cast<std::ptrdiff_t>(wanted.size()), got.end()) == wanted);
        const auto whole = frame(got);
        const parsed_frame reply = parse(whole, frame_kind::icmp);
        CHECK(reply.key.source == request.key.destination);
        CHECK(reply.key.destination == request.key.source);
        CHECK_FALSE(write_echo_reply(m, reply));
    }
    const auto coded = frame(ip(lan4, 1, icmp(lan4, 8, 1, 0)));
    icmp_message m;
    CHECK_FALSE(write_echo_reply(m, parse(coded, frame_kind::icmp)));
}

TEST_CASE("an echo's class comes back without its congestion mark") {
    octets packet = ip(lan6, 58, icmp(lan6, 128, 0, 1));
    packet[0] = 0x6b;
    packet[1] = 0xb0;  // class 0xbb: EF and CE
    const auto f = frame(packet);
    icmp_message m;
    REQUIRE(write_echo_reply(m, parse(f, frame_kind::icmp)));
    const octets got = packet_of(m);
    CHECK(octets(got.begin(), got.begin() + 2) == octets{0x6b, 0x80});
}

TEST_CASE("what is kept of a request makes the same reply, and errors that its host knows") {
    for (const ends& e : {lan4, lan6}) {
        const octets data = filler(57);
        octets packet = ip(e, icmp_protocol(e), icmp(e, e.v6() ? 128 : 8, 0, 0x12340007, data));
        // With a class, and with what the way here adds in front.
        if (e.v6()) {
            packet[0] = 0x6b;
            packet[1] = 0x80;
        } else {
            packet[1] = 0xb8;
            put16(packet, 10, 0);
            put16(packet, 10, ~sum(octets(packet.begin(), packet.begin() + 20)) & 0xffff);
        }
        icmp_message wanted, got, error;
        echo_stub kept;
        octets quoted;
        {
            const auto f = frame(packet);
            const parsed_frame request = parse(f, frame_kind::icmp);
            kept = echo_stub(request);
            REQUIRE(write_echo_reply(wanted, request));
            kept.write_reply(got, request.payload.subspan(8));
            CHECK(packet_of(got) == packet_of(wanted));
            CHECK(packet_of(got)[e.v6() ? 0 : 1] == (e.v6() ? 0x6b : 0xb8));
        }  // the request is gone
        REQUIRE(write_icmp_error(error, kept.cause(), icmp_error::host_unreachable));
        CHECK(to_octets(error.rest) == octets(packet.begin(), packet.begin() + (e.v6() ? 48 : 28)));
    }
    // Extension headers that fit are quoted as well; others leave no error.
    for (const std::size_t size : {8u, 24u, 32u, 200u}) {
        const octets message = icmp(lan6, 128, 0, 7, filler(4));
        const octets packet = ip(lan6, 60, extension(58, {}, size) + message);
        const auto f = frame(packet);
        const echo_stub kept(parse(f, frame_kind::icmp));
        icmp_message m;
        const bool fits = 40 + size + 8 <= 76;
        REQUIRE(write_icmp_error(m, kept.cause(), icmp_error::host_unreachable) == fits);
        if (!fits) continue;
        const auto end = packet.begin() + static_cast<std::ptrdiff_t>(40 + size + 8);
        CHECK(to_octets(m.rest) == octets(packet.begin(), end));
    }
}

TEST_CASE("errors have the types of their family, and quote what was their cause") {
    struct {
        icmp_error what;
        unsigned v4_type, v4_code, v6_type, v6_code;
    } const rows[] = {
        {icmp_error::protocol_unreachable, 3, 2, 4, 1},
        {icmp_error::port_unreachable, 3, 3, 1, 4},
        {icmp_error::host_unreachable, 3, 1, 1, 3},
        {icmp_error::prohibited, 3, 13, 1, 1},
        {icmp_error::too_big, 3, 4, 2, 0},
        {icmp_error::hops_exceeded, 11, 0, 3, 0},
        {icmp_error::reassembly_exceeded, 11, 1, 3, 1},
    };
    for (const ends& e : {lan4, lan6}) {
        const octets cause = ip(e, 132, filler(40));
        const auto f = frame(cause);
        for (const auto& row : rows) {
            icmp_message m;
            REQUIRE(write_icmp_error(m, parse(f, frame_kind::other_protocol), row.what, 1400));
            const octets got = packet_of(m);
            const std::size_t at = e.v6() ? 40 : 20;
            CHECK(got[at] == (e.v6() ? row.v6_type : row.v4_type));
            CHECK(got[at + 1] == (e.v6() ? row.v6_code : row.v4_code));
            std::uint32_t second = 0;
            if (row.what == icmp_error::too_big) second = 1400;
            // RFC 4443 section 3.4: where the unknown next header stands.
            if (row.what == icmp_error::protocol_unreachable && e.v6()) second = 6;
            const ends back = e.back();
            CHECK(octets(got.begin() + static_cast<std::ptrdiff_t>(at), got.end()) ==
                  icmp(back, got[at], got[at + 1], second, cause));
            const auto whole = frame(got);
            CHECK(parse(whole, frame_kind::icmp).key.source ==
                  parse(f, frame_kind::other_protocol).key.destination);
        }
    }
}

TEST_CASE("an error points behind the extension headers, and stays within its size") {
    const auto f = frame(ip(lan6, 60, extension(132, {}) + filler(3000)));
    icmp_message m;
    REQUIRE(write_icmp_error(m, parse(f, frame_kind::other_protocol),
                             icmp_error::protocol_unreachable));
    const octets got = packet_of(m);
    CHECK(got.size() == 1280);
    CHECK(octets(got.begin() + 44, got.begin() + 48) == be32(40));
    const auto g = frame(ip(lan4, 132, filler(3000)));
    REQUIRE(write_icmp_error(m, parse(g, frame_kind::other_protocol),
                             icmp_error::protocol_unreachable));
    CHECK(packet_of(m).size() == 576);
    const auto whole = frame(packet_of(m));
    parse(whole, frame_kind::icmp);
}

TEST_CASE("what no error may answer") {
    icmp_message m;
    auto answered = [&](const octets& packet, frame_kind kind) {
        const auto f = frame(packet);
        return write_icmp_error(m, parse(f, kind), icmp_error::protocol_unreachable);
    };
    for (const ends& e : {lan4, lan6}) {
        const octets quoted = ip(e.back(), 6, tcp(e.back(), 80, 40000, 1, 1, 0x12));
        CHECK(answered(ip(e, 132, filler(8)), frame_kind::other_protocol));
        CHECK(answered(fragment(e, 132, filler(8), 0, true, 1), frame_kind::fragment));
        CHECK_FALSE(answered(fragment(e, 132, filler(8), 8, true, 1), frame_kind::fragment));
        for (unsigned type = 0; type < 256; ++type) {
            const octets message = ip(e, icmp_protocol(e), icmp(e, type, 0, 0, quoted));
            const bool error = e.v6() ? type < 128 || type == 137
                                      : !(type == 0 || type == 8 || (type >= 13 && type <= 18));
            INFO(type);
            CHECK(answered(message, frame_kind::icmp) == !error);
        }
        // The first part of an error is one as well, and one cut before its type may be.
        const octets error = icmp(e, e.v6() ? 1 : 3, 0, 0, quoted);
        CHECK_FALSE(
            answered(fragment(e, icmp_protocol(e), error, 0, true, 1), frame_kind::fragment));
        CHECK_FALSE(answered(fragment(e, icmp_protocol(e), {}, 0, true, 1), frame_kind::fragment));
    }
    CHECK_FALSE(answered(ip(lan6, 59, {}), frame_kind::other_protocol));  // nothing is no protocol
}

TEST_CASE("a host's error names the flow as the host's own frames do") {
    struct {
        unsigned v4_type, v4_code, v6_type, v6_code;
        icmp_report::kind what;
    } const rows[] = {
        {3, 3, 1, 4, icmp_report::kind::hard},    {3, 2, 4, 1, icmp_report::kind::hard},
        {3, 1, 1, 3, icmp_report::kind::soft},    {3, 0, 1, 0, icmp_report::kind::soft},
        {3, 13, 1, 1, icmp_report::kind::soft},   {11, 0, 3, 0, icmp_report::kind::soft},
        {3, 4, 2, 0, icmp_report::kind::too_big},
    };
    for (const ends& e : {lan4, lan6}) {
        const ends back = e.back();
        const auto syn = frame(ip(e, 6, segment_of(e)));
        const parsed_frame flow = parse(syn, frame_kind::tcp);
        const octets quoted = ip(back, 6, tcp(back, 80, 40000, 0xcafe0001, 1, 0x12));
        for (const auto& row : rows) {
            const auto f = frame(error_about(
                e, e.v6() ? row.v6_type : row.v4_type, e.v6() ? row.v6_code : row.v4_code, 1400,
                octets(quoted.begin(), quoted.begin() + (e.v6() ? 48 : 28))));
            icmp_report report;
            REQUIRE(read_icmp_error(parse(f, frame_kind::icmp), report));
            CHECK(report.what == row.what);
            CHECK(report.key == flow.key);
            CHECK(report.has_seq);
            CHECK(report.seq.value() == 0xcafe0001);
            if (row.what == icmp_report::kind::too_big) CHECK(report.mtu == 1400);
        }
    }
}

TEST_CASE("errors that say nothing about a flow of ours") {
    auto read = [](const octets& packet) {
        const auto f = frame(packet);
        icmp_report report;
        return read_icmp_error(parse(f, frame_kind::icmp), report);
    };
    for (const ends& e : {lan4, lan6}) {
        const ends back = e.back();
        const unsigned type = e.v6() ? 1 : 3, echo = e.v6() ? 128 : 8;
        const octets good = ip(back, 17, udp(back, 53, 5353, text("x")));
        CHECK(read(error_about(e, type, 0, 0, good)));
        CHECK_FALSE(read(error_about(e, echo, 0, 0, good)));
        CHECK_FALSE(read(error_about(e, e.v6() ? 137 : 5, 0, 0, good)));
        for (std::size_t size = 0; size < (e.v6() ? 48u : 28u); ++size)
            CHECK_FALSE(read(error_about(
                e, type, 0, 0,
                octets(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)))));
        const ends other = e.v6() ? lan4 : lan6;
        CHECK_FALSE(read(error_about(e, type, 0, 0, ip(other, 17, udp(other, 53, 5353, {})))));
        CHECK_FALSE(read(error_about(e, type, 0, 0, ip(back, 1, icmp(lan4, 0, 0, 0, octets(20))))));
    }
    const octets quoted = ip(lan4.back(), 17, udp(lan4.back(), 53, 5353, text("x")));
    octets later = quoted;
    put16(later, 6, 1);  // a fragment other than the first
    CHECK_FALSE(read(error_about(lan4, 3, 3, 0, later)));
    CHECK_FALSE(read(error_about(lan4, 4, 0, 0, quoted)));   // source quench (RFC 6633)
    CHECK_FALSE(read(error_about(lan4, 3, 4, 67, quoted)));  // less than any link takes
    CHECK(read(error_about(lan4, 3, 4, 0, quoted)));         // an old router
    const octets quoted6 = ip(lan6.back(), 17, udp(lan6.back(), 53, 5353, text("x")));
    CHECK_FALSE(read(error_about(lan6, 2, 0, 1279, quoted6)));
    CHECK(read(error_about(lan6, 2, 0, 1280, quoted6)));
    // A mapped address inside IPv6 would name somebody's IPv4 flow.
    const ends mapped{octets(10) + octets{0xff, 0xff, 10, 77, 0, 1}, lan6.to};
    CHECK_FALSE(read(error_about(lan6, 1, 4, 0, ip(mapped, 17, udp(mapped, 53, 5353, {})))));
}

TEST_CASE("errors and echoes have each their own number a second") {
    const auto cause = frame(ip(lan6, 132, filler(8)));
    const auto echo = frame(ip(lan6, 58, icmp(lan6, 128, 0, 1)));
    const parsed_frame other = parse(cause, frame_kind::other_protocol);
    const parsed_frame request = parse(echo, frame_kind::icmp);
    icmp_responder r(
        {.errors_per_second = 10, .errors_burst = 3, .echoes_per_second = 1000, .echoes_burst = 2});
    icmp_message m;
    constexpr time_us start = 77'000'000'000'000;
    auto errors_at = [&](time_us now) {
        int count = 0;
        while (r.error(m, other, icmp_error::protocol_unreachable, 0, now)) ++count;
        return count;
    };
    CHECK(errors_at(start) == 3);
    CHECK(errors_at(start + 99'999) == 0);
    CHECK(errors_at(start + 100'000) == 1);
    CHECK(errors_at(start + 350'000) == 2);  // and half of one
    CHECK(errors_at(start + 400'000) == 1);
    CHECK(errors_at(start + 3'600'000'000) == 3);
    CHECK(errors_at(start) == 0);  // a clock does not go back; this one is not believed
    CHECK(r.echo_reply(m, request, start));
    CHECK(r.echo_reply(m, request, start));
    CHECK_FALSE(r.echo_reply(m, request, start));
    CHECK(r.echo_reply(m, request, start + 1000));
    CHECK(r.counters().errors == 10);
    CHECK(r.counters().echo_replies == 3);
    CHECK(r.counters().limited == 8);
    const auto nothing = frame(ip(lan6, 59, {}));
    CHECK_FALSE(r.error(m, parse(nothing, frame_kind::other_protocol),
                        icmp_error::protocol_unreachable, 0, start + 7'200'000'000));
    CHECK(r.counters().unanswerable == 1);
}
