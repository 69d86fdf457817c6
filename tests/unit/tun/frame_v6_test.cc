// IPv6 and UDP frames, in and out; IPv4 TCP is in frame_test.cc.
#include <random>

#include "tests/catch.hh"
#include "tests/unit/tun/packets.hh"
#include "tun/checksum.hh"
#include "tun/frame.hh"

using namespace burin;
using namespace burin::tun;
using namespace burin::hand;

namespace {

frame_kind kind_of(const byte_vector& frame) {
    parsed_frame parsed;
    return parse_frame(frame, parsed);
}
frame_kind kind_of(const octets& packet) {
    return kind_of(frame(packet));
}

const octets syn_options = {2, 4, 0x05, 0xa0, 1, 3, 3, 7};  // MSS 1440, window scale 7

octets syn6() {
    return tcp(lan6, 40000, 443, 0x12345678, 0, 2, {}, syn_options);
}

// What the kernel does with NEEDS_CSUM before the frame leaves.
byte_vector completed(bytes_view header, const octets& payload) {
    byte_vector out(header.begin(), header.end());
    const bytes_view bytes = std::as_bytes(std::span(payload));
    out.insert(out.end(), bytes.begin(), bytes.end());
    std::uint16_t start, offset;
    __builtin_memcpy(&start, out.data() + 6, 2);
    __builtin_memcpy(&offset, out.data() + 8, 2);
    const std::size_t at = 10u + start;
    const unsigned value = ~sum(to_octets(bytes_view(out).subspan(at))) & 0xffff;
    store_u16(out.data() + at + offset, static_cast<std::uint16_t>(value));
    out[0] = std::byte{0};
    return out;
}

flow_key key_of(const ends& e, std::uint16_t from, std::uint16_t to) {
    flow_key key;
    parsed_frame parsed;
    const auto f = frame(ip(e, 17, udp(e, from, to, {})));
    REQUIRE(parse_frame(f, parsed) == frame_kind::udp);
    key = parsed.key;
    return key;
}

}  // namespace

TEST_CASE("a SYN over IPv6") {
    const auto f = frame(ip(lan6, 6, syn6()));
    parsed_frame parsed;
    REQUIRE(parse_frame(f, parsed) == frame_kind::tcp);
    CHECK(to_text(parsed.key.source) == "fd00:5::2");
    CHECK(to_text(parsed.key.destination) == "fd00:77::1");
    CHECK(parsed.key.source_port == 40000);
    CHECK(parsed.key.destination_port == 443);
    CHECK(parsed.ip_version == 6);
    CHECK(parsed.seq.value() == 0x12345678);
    CHECK(parsed.options.mss == 1440);
    CHECK(parsed.options.window_shift == 7);
    CHECK(parsed.payload.empty());
    CHECK(parsed.packet.size() == 40 + 28);
    CHECK(parsed.protocol_at == 6);
}

TEST_CASE("IPv6 checksums: verified with the pseudo header unless the virtio header vouches") {
    octets segment = syn6();
    segment[14] ^= 1;  // the window
    CHECK(kind_of(ip(lan6, 6, segment)) == frame_kind::bad_tcp_checksum);
    CHECK(kind_of(frame(ip(lan6, 6, segment), virtio_needs_csum)) == frame_kind::tcp);
    // Addresses count too: IPv6 has no sum of its own.
    octets packet = ip(lan6, 6, syn6());
    packet[30] ^= 1;
    CHECK(kind_of(packet) == frame_kind::bad_tcp_checksum);
    octets echo = ip(lan6, 58, icmp(lan6, 128, 0, 1));
    CHECK(kind_of(echo) == frame_kind::icmp);
    echo.back() ^= 1;
    CHECK(kind_of(echo) == frame_kind::bad_icmp_checksum);
    echo = ip(lan4, 1, icmp(lan4, 8, 0, 1));
    CHECK(kind_of(echo) == frame_kind::icmp);
    echo.back() ^= 1;
    CHECK(kind_of(echo) == frame_kind::bad_icmp_checksum);
}

TEST_CASE("extension headers are stepped over to the segment") {
    const octets hop = extension(60, {5, 2, 0, 0});         // hop-by-hop: router alert
    const octets destination = extension(43, {}, 24);       // destination options
    const octets routing = extension(44, {0, 0, 0, 0});     // nothing left of the route
    const octets atomic = fragment_header(6, 0, false, 9);  // RFC 6946
    const auto f = frame(
        ip(lan6, 0,
           hop + destination + routing + atomic + tcp(lan6, 1, 2, 5, 6, 0x10, text("hello"))));
    parsed_frame parsed;
    REQUIRE(parse_frame(f, parsed) == frame_kind::tcp);
    CHECK(as_text(parsed.payload) == "hello");
    CHECK(parsed.protocol_at == 40 + 8 + 24 + 8);
}

TEST_CASE("extension headers that make no sense") {
    CHECK(kind_of(ip(lan6, 60, extension(0, {}) + extension(6, {}) + syn6())) ==
          frame_kind::bad_ip_header);  // hop-by-hop anywhere but first
    octets chain;
    for (int i = 0; i < 7; ++i) chain = chain + extension(60, {});
    CHECK(kind_of(ip(lan6, 60, chain + extension(6, {}) + syn6())) == frame_kind::tcp);
    CHECK(kind_of(ip(lan6, 60, chain + extension(60, {}) + extension(6, {}) + syn6())) ==
          frame_kind::bad_ip_header);
    octets longer = extension(6, {});
    longer[1] = 200;  // past the end
    CHECK(kind_of(ip(lan6, 60, longer + syn6())) == frame_kind::truncated);
    CHECK(kind_of(ip(lan6, 60, octets{6, 0, 0})) == frame_kind::truncated);
    CHECK(kind_of(ip(lan6, 43, extension(6, {4, 1}) + syn6())) == frame_kind::source_routed);
    CHECK(kind_of(ip(lan6, 60, extension(59, {}))) == frame_kind::other_protocol);
    CHECK(kind_of(ip(lan6, 51, extension(6, {}) + syn6())) == frame_kind::other_protocol);
    CHECK(kind_of(ip(lan6, 50, octets(32))) == frame_kind::other_protocol);
    CHECK(kind_of(ip(lan6, 1, icmp(lan4, 8, 0, 0))) == frame_kind::other_protocol);
    CHECK(kind_of(ip(lan4, 58, icmp(lan6, 128, 0, 0))) == frame_kind::other_protocol);
    parsed_frame parsed;
    const auto other = frame(ip(lan6, 60, extension(132, {}) + octets(12)));
    CHECK(parse_frame(other, parsed) == frame_kind::other_protocol);
    CHECK(parsed.protocol_at == 40);  // where 132 stands
}

TEST_CASE("a part of an IPv6 datagram tells where it belongs") {
    const auto f = frame(
        ip(lan6, 60, extension(44, {}) + fragment_header(17, 1448, true, 0xdeadbeef) + octets(16)));
    parsed_frame parsed;
    REQUIRE(parse_frame(f, parsed) == frame_kind::fragment);
    CHECK(parsed.fragment.id == 0xdeadbeef);
    CHECK(parsed.fragment.offset == 1448);
    CHECK(parsed.fragment.more);
    CHECK(parsed.key.protocol == ip_protocol::udp);
    CHECK(parsed.payload.size() == 16);
    const auto g = frame(fragment(lan4, 17, octets(16), 1480, false, 77));
    REQUIRE(parse_frame(g, parsed) == frame_kind::fragment);
    CHECK(parsed.fragment.id == 77);
    CHECK(parsed.fragment.offset == 1480);
    CHECK_FALSE(parsed.fragment.more);
}

TEST_CASE("addresses that no flow may have") {
    auto with = [](octets from, octets to) {
        from.resize(16);
        to.resize(16);
        const ends e{from, to};
        return kind_of(ip(e, 6, tcp(e, 1, 2, 0, 0, 2)));
    };
    const octets here = lan6.from, there = lan6.to;
    octets mapped(16);
    mapped[10] = mapped[11] = 0xff;
    mapped[12] = 10;
    octets loopback(16);
    loopback[15] = 1;
    CHECK(with(here, there) == frame_kind::tcp);
    CHECK(with(octets(16), there) == frame_kind::bad_address);
    CHECK(with(loopback, there) == frame_kind::bad_address);
    CHECK(with(mapped, there) == frame_kind::bad_address);
    CHECK(with(here, mapped) == frame_kind::bad_address);
    CHECK(with(here, loopback) == frame_kind::bad_address);
    CHECK(with({0xff, 2}, there) == frame_kind::bad_address);
    CHECK(with(here, {0xff, 2}) == frame_kind::multicast);
    CHECK(with(octets(16), {0xff, 2}) == frame_kind::multicast);  // listener reports
    CHECK(with({0xfe, 0x80}, {0xff, 2}) == frame_kind::multicast);
    CHECK(with({0xfe, 0x80, 1}, there) == frame_kind::link_local);
    CHECK(with(here, {0xfe, 0xbf, 1}) == frame_kind::link_local);
    const ends to_loopback{{10, 5, 0, 2}, {127, 0, 0, 1}};
    CHECK(kind_of(ip(to_loopback, 6, tcp(to_loopback, 1, 2, 0, 0, 2))) == frame_kind::bad_address);
}

TEST_CASE("UDP of both families") {
    for (const ends& e : {lan4, lan6}) {
        const auto f = frame(ip(e, 17, udp(e, 5353, 53, text("a question")) + octets(3)));
        parsed_frame parsed;
        REQUIRE(parse_frame(f, parsed) == frame_kind::udp);
        CHECK(parsed.key.source_port == 5353);
        CHECK(parsed.key.destination_port == 53);
        CHECK(parsed.key.protocol == ip_protocol::udp);
        CHECK(as_text(parsed.payload) == "a question");  // its own length decides
        CHECK(parsed.gso_size == 0);
        CHECK(kind_of(ip(e, 17, udp(e, 5353, 53, {}))) == frame_kind::udp);

        octets bad = udp(e, 5353, 53, text("a question"));
        bad.back() ^= 1;
        CHECK(kind_of(ip(e, 17, bad)) == frame_kind::bad_udp_checksum);
        CHECK(kind_of(frame(ip(e, 17, bad), virtio_needs_csum)) == frame_kind::udp);
        put16(bad, 6, 0);
        CHECK(kind_of(ip(e, 17, bad)) == (e.v6() ? frame_kind::bad_udp_checksum : frame_kind::udp));
        put16(bad, 4, 7);
        CHECK(kind_of(ip(e, 17, bad)) == frame_kind::bad_udp_header);
        put16(bad, 4, 19);
        CHECK(kind_of(ip(e, 17, bad)) == frame_kind::truncated);
        CHECK(kind_of(ip(e, 17, octets(7))) == frame_kind::truncated);
        CHECK(kind_of(ip(e, 17, udp(e, 0, 53, {}))) == frame_kind::bad_udp_header);
        CHECK(kind_of(ip(e, 17, udp(e, 53, 0, {}))) == frame_kind::bad_udp_header);

        // A superframe: its datagrams follow each other in the payload.
        const auto super = frame(ip(e, 17, udp(e, 1, 2, octets(3000))), virtio_needs_csum,
                                 virtio_gso_udp_l4, 1200);
        REQUIRE(parse_frame(super, parsed) == frame_kind::udp);
        CHECK(parsed.gso_size == 1200);
        CHECK(parsed.payload.size() == 3000);
    }
}

TEST_CASE("written UDP is the host's flow turned round") {
    for (const ends& e : {lan4, lan6}) {
        const flow_key key = key_of(e, 5353, 53);
        header_buffer header;
        const octets answer = text("an answer of odd length");
        write_udp_header(header, key, static_cast<std::uint32_t>(answer.size()), 0);
        const auto f = completed(header.bytes(), answer);
        CHECK(f[1] == std::byte{virtio_gso_none});
        const ends back = e.back();
        const octets datagram = udp(back, 53, 5353, answer);
        const std::size_t at = e.v6() ? 50 : 30;
        CHECK(to_octets(bytes_view(f).subspan(at)) == datagram);
        parsed_frame parsed;
        REQUIRE(parse_frame(f, parsed) == frame_kind::udp);
        CHECK(parsed.key.source == key.destination);
        CHECK(parsed.key.destination == key.source);

        write_udp_header(header, key, 1200, 1200);
        CHECK(header.bytes()[1] == std::byte{virtio_gso_none});
        write_udp_header(header, key, 3000, 1200);
        CHECK(header.bytes()[1] == std::byte{virtio_gso_udp_l4});
        std::uint16_t fields[4];
        __builtin_memcpy(fields, header.bytes().data() + 2, sizeof fields);
        CHECK(fields[0] == (e.v6() ? 48 : 28));  // hdr_len
        CHECK(fields[1] == 1200);                // gso_size
        CHECK(fields[2] == (e.v6() ? 40 : 20));  // csum_start
        CHECK(fields[3] == 6);                   // csum_offset
        CHECK(load_u16(header.bytes().data() + at + 4) == 3008);
    }
}

TEST_CASE("written TCP over IPv6 is the host's flow turned round") {
    const auto f = frame(ip(lan6, 6, syn6()));
    parsed_frame syn;
    REQUIRE(parse_frame(f, syn) == frame_kind::tcp);
    tcp_fields fields;
    fields.seq = sequence(1000);
    fields.ack = syn.seq + 1;
    fields.flags = tcp_syn | tcp_ack;
    fields.window = 0xfaf0;
    fields.mss = 1440;
    header_buffer header;
    write_tcp_header(header, syn.key, fields, 0, 0);
    const auto answer = completed(header.bytes(), {});
    const ends back = lan6.back();
    CHECK(to_octets(bytes_view(answer).subspan(50)) ==
          tcp(back, 443, 40000, 1000, 0x12345679, 0x12, {}, {2, 4, 0x05, 0xa0}));
    parsed_frame parsed;
    REQUIRE(parse_frame(answer, parsed) == frame_kind::tcp);
    CHECK(parsed.key.source == syn.key.destination);

    write_tcp_header(header, syn.key, fields, 60000, 1440);
    CHECK(header.bytes()[1] == std::byte{virtio_gso_tcp_v6});
    CHECK(load_u16(header.bytes().data() + 14) == 60024);
    CHECK(write_reset(header, syn));
    const auto reset = completed(header.bytes(), {});
    REQUIRE(parse_frame(reset, parsed) == frame_kind::tcp);
    CHECK(parsed.flags == (tcp_rst | tcp_ack));
    CHECK(parsed.ack == syn.seq + 1);
}

TEST_CASE("no cut or flipped IPv6 frame is read beyond its end") {
    const octets packet =
        ip(lan6, 0, extension(60, {}) + extension(43, {}, 16) + extension(6, {}) + syn6());
    const auto good = frame(packet);
    REQUIRE(kind_of(good) == frame_kind::tcp);
    for (std::size_t size = 0; size < good.size(); ++size) {
        const byte_vector cut(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size));
        if (kind_of(cut) == frame_kind::tcp) FAIL("size " << size);
    }
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const octets others[] = {packet, ip(lan6, 17, udp(lan6, 1, 2, octets(20))),
                             ip(lan4, 17, udp(lan4, 1, 2, octets(20))),
                             fragment(lan6, 17, octets(64), 8, true, 5)};
    for (int round = 0; round < 40000; ++round) {
        auto f = frame(others[random() % 4], virtio_needs_csum);
        for (int flips = 0; flips < 3; ++flips)
            f[random() % f.size()] = static_cast<std::byte>(random());
        if (random() % 4 == 0) f.resize(1 + random() % f.size());
        f.shrink_to_fit();
        parsed_frame parsed;
        const frame_kind kind = parse_frame(f, parsed);
        if (kind > frame_kind::fragment) continue;
        const std::byte* end = f.data() + f.size();
        if (parsed.payload.data() + parsed.payload.size() > end ||
            parsed.packet.data() + parsed.packet.size() > end)
            FAIL("round " << round);
    }
}
