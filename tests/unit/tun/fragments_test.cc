#include "tun/fragments.hh"

#include <algorithm>
#include <map>
#include <random>

#include "tests/catch.hh"
#include "tests/unit/tun/packets.hh"

using namespace burin;
using namespace burin::tun;
using namespace burin::hand;

namespace {

constexpr time_us start = 1'000'000'000;

struct bench {
    explicit bench(const fragment_limits& limits = {}) : store(limits) {}

    // The datagram that this completes, without its headers; empty: it completes none.
    octets add(const octets& packet) {
        auto f = frame(packet);
        parsed_frame part;
        REQUIRE(parse_frame(f, part) == frame_kind::fragment);
        if (!store.add(part, now)) return {};
        f.resize(max_frame_bytes);  // where the last part lay, as in a slot
        const bytes_view whole = store.take(f);
        kind = parse_frame(whole, last);
        key = last.key;
        const std::size_t headers = last.ip_version == 6 ? 40 : 20;
        CHECK(last.packet.size() == whole.size() - 10);
        return to_octets(last.packet.subspan(headers));
    }
    octets add(const ends& e, const octets& part, unsigned offset, bool more, std::uint32_t id = 9,
               unsigned protocol = 17) {
        return add(fragment(e, protocol, part, offset, more, id));
    }

    fragment_store store;
    time_us now = start;
    frame_kind kind = frame_kind::kinds;
    parsed_frame last;
    flow_key key;
};

octets part_of(const octets& whole, std::size_t from, std::size_t size) {
    return {whole.begin() + static_cast<std::ptrdiff_t>(from),
            whole.begin() + static_cast<std::ptrdiff_t>(std::min(from + size, whole.size()))};
}

ends from_host(const ends& e, unsigned number) {
    ends out = e;
    out.from[out.from.size() - 1] = static_cast<std::uint8_t>(number);
    out.from[out.from.size() - 2] = static_cast<std::uint8_t>(number >> 8);
    return out;
}

}  // namespace

TEST_CASE("parts in any order become the datagram again") {
    for (const ends& e : {lan4, lan6}) {
        const octets whole = udp(e, 5353, 53, filler(4000));
        for (int order = 0; order < 6; ++order) {
            bench b;
            unsigned places[] = {0, 1, 2};
            for (int i = 0; i < order; ++i) std::next_permutation(places, places + 3);
            for (int i = 0; i < 3; ++i) {
                const std::size_t from = places[i] * 1448;
                const octets got = b.add(e, part_of(whole, from, 1448), static_cast<unsigned>(from),
                                         places[i] != 2);
                if (i < 2) {
                    CHECK(got.empty());
                    continue;
                }
                CHECK(got == whole);
                CHECK(b.kind == frame_kind::udp);
                CHECK(b.key.source_port == 5353);
                CHECK(b.last.payload.size() == 4000);
            }
            CHECK(b.store.bytes() == 0);
            CHECK(b.store.datagrams() == 0);
            CHECK(b.store.deadline() == never_us);
            CHECK(b.store.counters().reassembled == 1);
        }
    }
}

TEST_CASE("the largest datagram, and one byte more") {
    for (const ends& e : {lan4, lan6}) {
        const std::size_t most = e.v6() ? 65535 : 65515;
        const octets whole = filler(most);
        bench b;
        octets got;
        for (std::size_t from = 0; from < most; from += 1448)
            got = b.add(e, part_of(whole, from, 1448), static_cast<unsigned>(from),
                        from + 1448 < most, 9, 132);
        CHECK(got == whole);
        CHECK(b.kind == frame_kind::other_protocol);
        const auto last = static_cast<unsigned>(most / 8 * 8);
        b.add(e, filler(most - last + 1), last, false);
        CHECK(b.store.counters().malformed == 1);
        CHECK(b.store.datagrams() == 0);
    }
}

TEST_CASE("datagrams are told apart by addresses and identification") {
    bench b;
    const octets x = udp(lan6, 1, 2, text("0123456789abcdef"));
    b.add(lan6, part_of(x, 0, 16), 0, true, 1);
    CHECK(b.add(lan6, part_of(x, 16, 8), 16, false, 0x10001).empty());
    CHECK(b.add(from_host(lan6, 7), part_of(x, 16, 8), 16, false, 1).empty());
    // Of IPv6 only the first part's word on the protocol counts.
    CHECK(b.add(lan6, part_of(x, 16, 8), 16, false, 1, 6).empty() == true);
    CHECK(b.store.counters().malformed == 1);  // TCP's first bytes may not be written over
    CHECK(b.add(lan6, part_of(x, 16, 8), 16, false, 1, 132) == x);
    CHECK(b.kind == frame_kind::udp);
    // IPv4 counts per protocol (RFC 791).
    b.add(lan4, filler(16), 0, true, 1, 17);
    CHECK(b.add(lan4, filler(8), 16, false, 1, 132).empty());
}

TEST_CASE("an exact repetition changes nothing, any other overlap ends the datagram") {
    for (const ends& e : {lan4, lan6}) {
        const octets whole = udp(e, 1, 2, filler(88));
        struct {
            std::size_t from, size;
            unsigned salt;
            bool more;
        } const overlaps[] = {
            {32, 32, 1, true}, {32, 16, 0, true}, {40, 32, 0, true}, {24, 16, 0, true},
            {0, 96, 0, true},  {40, 8, 0, true},  {0, 64, 0, true},  {32, 40, 0, true},
        };
        for (const auto& o : overlaps) {
            bench b;
            b.add(e, part_of(whole, 0, 32), 0, true);
            b.add(e, part_of(whole, 32, 32), 32, true);
            CHECK(b.add(e, part_of(whole, 32, 32), 32, true).empty());
            CHECK(b.store.counters().repeated == 1);
            octets bad = part_of(whole, o.from, o.size);
            for (auto& byte : bad) byte = static_cast<std::uint8_t>(byte + o.salt);
            CHECK(b.add(e, bad, static_cast<unsigned>(o.from), o.more).empty());
            CHECK(b.store.counters().overlapping == 1);
            // And nothing of it is taken any more (RFC 5722 section 4).
            b.add(e, part_of(whole, 0, 32), 0, true);
            b.add(e, part_of(whole, 32, 32), 32, true);
            CHECK(b.add(e, part_of(whole, 64, 32), 64, false).empty());
            CHECK(b.store.counters().reassembled == 0);
            CHECK(b.store.datagrams() == 1);
            CHECK(b.store.bytes() < 200);
        }
    }
}

TEST_CASE("two ends, and parts behind the end, end the datagram") {
    for (const ends& e : {lan4, lan6}) {
        auto ended = [&](auto&& play) {
            bench b;
            b.add(e, filler(32), 0, true);
            play(b);
            return b.store.counters().overlapping == 1;
        };
        CHECK(ended([&](bench& b) {
            b.add(e, filler(8), 64, false);
            b.add(e, filler(16), 72, false);
        }));
        CHECK(ended([&](bench& b) {
            b.add(e, filler(8), 64, false);
            b.add(e, filler(8), 72, true);
        }));
        CHECK(ended([&](bench& b) {
            b.add(e, filler(8), 64, true);
            b.add(e, filler(8), 56, false);
        }));
        CHECK(ended([&](bench& b) {  // the end itself is no part that others follow
            b.add(e, filler(3), 64, false);
            b.add(e, filler(16), 48, true);
            b.add(e, filler(8), 64, true);
        }));
    }
}

TEST_CASE("fragments that no honest sender makes") {
    for (const ends& e : {lan4, lan6}) {
        bench b;
        b.add(e, filler(16), 0, true, 1, 6);  // a TCP header cut in two (RFC 1858)
        b.add(e, filler(24), 8, true, 2, 6);  // over its flags (RFC 3128)
        b.add(e, filler(20), 0, true, 3);     // not in units of 8
        b.add(e, {}, 64, false, 4);
        b.add(e, {}, 64, true, 5);
        b.add(e, filler(7), 65528, false, 6, 132);
        const unsigned sound = e.v6() ? 1 : 0;  // 65535 bytes are IPv6's to have
        CHECK(b.store.counters().malformed == 6 - sound);
        CHECK(b.store.datagrams() == sound);
        b.add(e, filler(24), 0, true, 7, 6);
        CHECK(b.store.datagrams() == 1 + sound);
    }
}

TEST_CASE("what waits goes when its time is over, and its first part can be quoted") {
    for (const ends& e : {lan4, lan6}) {
        bench b({.timeout = 1000});
        const octets whole = udp(e, 5353, 53, filler(2000));
        b.add(e, part_of(whole, 0, 1448), 0, true, 1);
        b.now = start + 10;
        b.add(e, part_of(whole, 1448, 560), 1448, false, 2);
        CHECK(b.store.deadline() == start + 1000);
        byte_vector space(600);
        bytes_view first;
        CHECK_FALSE(b.store.expire(start + 999, space, first));
        REQUIRE(b.store.expire(start + 1000, space, first));
        CHECK(first.size() == 600);
        parsed_frame quoted;
        CHECK(parse_frame(first, quoted) == frame_kind::truncated);
        CHECK(quoted.packet.size() == 590);
        CHECK(to_octets(quoted.packet.subspan(e.v6() ? 40 : 20, 8)) == part_of(whole, 0, 8));
        CHECK(to_octets(quoted.packet.subspan(e.v6() ? 8 : 12, e.from.size())) == e.from);
        CHECK_FALSE(b.store.expire(start + 1000, space, first));
        REQUIRE(b.store.expire(start + 1010, space, first));
        CHECK(first.empty());  // only the end of it had come
        CHECK(b.store.counters().timed_out == 2);
        CHECK(b.store.bytes() == 0);
        CHECK(b.store.deadline() == never_us);
        // Too late: the other half starts another datagram.
        CHECK(b.add(e, part_of(whole, 1448, 560), 1448, false, 1).empty());
    }
}

TEST_CASE("a source that sends too much loses its own, the oldest first") {
    const fragment_limits limits{.most_bytes = 64 * 1024,
                                 .most_source_bytes = 16 * 1024,
                                 .most_datagrams = 40,
                                 .most_source_datagrams = 8};
    for (const ends& e : {lan4, lan6}) {
        bench b(limits);
        const ends other = from_host(e, 99);
        const octets whole = udp(other, 1, 2, filler(56));
        b.add(other, part_of(whole, 0, 32), 0, true);
        for (std::uint32_t id = 0; id < 100; ++id) b.add(e, filler(32), 0, true, id);
        CHECK(b.store.datagrams() == 9);
        CHECK(b.store.counters().evicted == 92);
        for (std::uint32_t id = 100; id < 200; ++id) {
            b.add(e, filler(4096), 0, true, id);
            CHECK(b.store.bytes() <= limits.most_source_bytes + 1024);
        }
        CHECK(b.add(other, part_of(whole, 32, 32), 32, false) == whole);
        // One datagram alone that is too large: its next part is refused.
        for (unsigned i = 0; i < 5; ++i) b.add(e, filler(4096), i * 4096, true, 1000);
        CHECK(b.store.counters().refused > 0);
        CHECK(b.store.bytes() <= limits.most_source_bytes);
    }
}

TEST_CASE("many sources share what there is") {
    const fragment_limits limits{.most_bytes = 64 * 1024,
                                 .most_source_bytes = 16 * 1024,
                                 .most_datagrams = 40,
                                 .most_source_datagrams = 8};
    bench b(limits);
    for (unsigned host = 1; host < 1000; ++host) {
        b.add(from_host(lan6, host), filler(host % 7 * 512 + 8), 0, true);
        CHECK(b.store.bytes() <= limits.most_bytes);
        CHECK(b.store.datagrams() <= limits.most_datagrams);
    }
    CHECK(b.store.datagrams() > 20);
    bench parts({.most_parts = 16});
    for (unsigned i = 0; i < 17; ++i) parts.add(lan6, filler(8), 8 * i, true);
    CHECK(parts.store.counters().refused == 1);
    CHECK(parts.store.bytes() < 200);
}

TEST_CASE("a storm of fragments gives back what was sent, or nothing") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const fragment_limits limits{.most_bytes = 256 * 1024,
                                 .most_source_bytes = 64 * 1024,
                                 .most_datagrams = 64,
                                 .most_source_datagrams = 16,
                                 .timeout = 100'000};
    bench b(limits);
    std::map<std::pair<octets, std::uint32_t>, octets> sent;
    std::vector<octets> under_way;
    unsigned whole_ones = 0;
    std::uint32_t id = 0;
    for (int round = 0; round < 1500; ++round) {
        const ends e = from_host(random() % 2 ? lan4 : lan6, random() % 12);
        const octets data = filler(random() % 6000 + 8, random());
        sent[{e.from, ++id & 0xffff}] = data;
        const std::size_t unit = 8 * (1 + random() % 200);
        const bool spoiled = random() % 4 == 0;
        for (std::size_t from = 0; from < data.size(); from += unit) {
            octets part = part_of(data, from, unit);
            if (random() % 50 == 0) continue;  // lost
            auto place = static_cast<unsigned>(from);
            if (spoiled && random() % 3 == 0) {
                place = static_cast<unsigned>(8 * (random() % 900));
                part[random() % part.size()] ^= 0x55;
            }
            const octets packet =
                fragment(e, 132, part, place, from + unit < data.size(), id & 0xffff);
            if (packet.size() < (e.v6() ? 49 : 21)) continue;
            under_way.insert(
                under_way.begin() + static_cast<std::ptrdiff_t>(random() % (under_way.size() + 1)),
                packet);
            if (random() % 30 == 0) under_way.push_back(packet);
        }
        while (under_way.size() > 60) {
            const octets packet = under_way.front();
            under_way.erase(under_way.begin());
            b.now += random() % 100;
            parsed_frame part;
            const auto f = frame(packet);
            if (parse_frame(f, part) != frame_kind::fragment) continue;  // all of a small one
            const octets got = b.add(packet);
            CHECK(b.store.bytes() <= limits.most_bytes);
            if (got.empty()) continue;
            const auto original =
                sent.find({octets(part.ip_version == 6 ? packet.begin() + 8 : packet.begin() + 12,
                                  part.ip_version == 6 ? packet.begin() + 24 : packet.begin() + 16),
                           part.fragment.id});
            REQUIRE(original != sent.end());
            if (got == original->second) ++whole_ones;
            // What was spoiled on its way may come out wrong (checksums are for that), but never
            // of another size than its parts say.
            if (got.size() > 65535) FAIL("too long");
        }
        byte_vector space(1300);
        bytes_view first;
        while (b.store.expire(b.now, space, first)) continue;
    }
    CHECK(whole_ones > 200);
    byte_vector space(1300);
    bytes_view first;
    while (b.store.expire(b.now + limits.timeout, space, first)) continue;
    CHECK(b.store.bytes() == 0);
    CHECK(b.store.datagrams() == 0);
}

TEST_CASE("what is cut can be put together again") {
    for (const ends& e : {lan4, lan6}) {
        const std::uint32_t ip_bytes = e.v6() ? 40 : 20;
        for (const std::uint32_t size : {0u, 1u, 1500 - ip_bytes - 8, 1500 - ip_bytes - 7, 1472u,
                                         2000u, 2888u, 2889u, 9000u, 65487u}) {
            const octets payload = filler(size);
            const octets whole = udp(e, 53, 5353, payload);
            header_buffer header;
            const auto f = frame(ip(e, 17, whole));
            std::copy_n(f.begin(), 10 + ip_bytes + 8, header.data());
            header.resize(10 + ip_bytes + 8);
            fragment_cutter cutter(header, size, 1500, 0xabcd1234);
            header_buffer out;
            std::uint32_t from = 0, bytes = 0, next = 0;
            bench b;
            octets got;
            unsigned parts = 0;
            while (cutter.next(out, from, bytes)) {
                CHECK(from == next);
                next = from + bytes;
                const octets packet =
                    to_octets(out.bytes().subspan(10)) + part_of(payload, from, bytes);
                CHECK(packet.size() <= 1500);
                ++parts;
                if (size + 8 + ip_bytes <= 1500) {
                    CHECK(packet == ip(e, 17, whole));
                } else {
                    CHECK(got.empty());
                    got = b.add(packet);
                }
            }
            CHECK(next == size);
            if (size + 8 + ip_bytes <= 1500) {
                CHECK(parts == 1);
            } else {
                CHECK(got == whole);
                CHECK(b.kind == frame_kind::udp);
            }
        }
    }
}
