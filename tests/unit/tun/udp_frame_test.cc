// Datagrams larger than the device, against packets put together by hand.
#include "tun/udp_frame.hh"

#include "tests/catch.hh"
#include "tests/unit/tun/packets.hh"
#include "tun/fragments.hh"

using namespace burin;
using namespace burin::tun;

TEST_CASE("a large datagram is cut, and comes together as it was") {
    for (const hand::ends& e : {hand::lan4, hand::lan6})
        for (std::size_t size : {1u, 1472u, 1473u, 6000u, 65'507u}) {
            INFO(size << (e.v6() ? " over IPv6" : " over IPv4"));
            // The answer to what the host sent.
            parsed_frame asked;
            REQUIRE(parse_frame(hand::frame(hand::ip(e, 17, hand::udp(e, 5000, 53, {1}))), asked) ==
                    frame_kind::udp);
            const hand::octets payload = hand::filler(size);
            const bytes_view bytes = std::as_bytes(std::span(payload));
            header_buffer header;
            write_whole_udp_header(header, asked.key, bytes);
            const hand::octets want = hand::udp(e.back(), 53, 5000, payload);
            const std::size_t at = virtio_header_bytes + ip_header_bytes(asked.key);
            CHECK(hand::to_octets(header.bytes().subspan(at)) ==
                  hand::octets(want.begin(), want.begin() + 8));
            CHECK(hand::to_octets(header.bytes().first(virtio_header_bytes)) == hand::octets(10));

            fragment_cutter cutter(header, static_cast<std::uint32_t>(size), 1500, 77);
            fragment_store store;
            header_buffer part;
            std::uint32_t from = 0, count = 0;
            unsigned parts = 0;
            byte_vector space(max_frame_bytes);
            bytes_view whole;
            while (cutter.next(part, from, count)) {
                ++parts;
                byte_vector frame(part.bytes().begin(), part.bytes().end());
                frame.insert(frame.end(), bytes.begin() + from, bytes.begin() + from + count);
                CHECK(frame.size() <= 1500 + virtio_header_bytes);
                parsed_frame parsed;
                const frame_kind kind = parse_frame(frame, parsed);
                if (kind == frame_kind::udp) {
                    whole = bytes_view(space).first(frame.size());
                    std::copy(frame.begin(), frame.end(), space.begin());
                } else {
                    REQUIRE(kind == frame_kind::fragment);
                    if (store.add(parsed, 1000)) whole = store.take(space);
                }
            }
            CHECK((parts == 1) == (size + 8 + (e.v6() ? 40 : 20) <= 1500));
            parsed_frame got;
            REQUIRE(parse_frame(whole, got) == frame_kind::udp);  // its checksum is right
            CHECK(hand::to_octets(got.payload) == payload);
            CHECK(got.key.source_port == 53);
            CHECK(got.key.destination_port == 5000);
        }
}
