// Fragments of IP datagrams in any order, doubled, overlapping and forged, of both families, and a
// clock that moves: what comes out whole is what some sender's parts say. And datagrams cut here
// are put together there.
#include <map>
#include <tuple>

#include "tests/fuzz/target.hh"
#include "tests/unit/tun/packets.hh"
#include "tun/fragments.hh"
#include "tun/udp_frame.hh"

namespace {

using namespace burin::tun;
namespace hand = burin::hand;
using burin::byte_vector;
using fuzz::check;

constexpr fragment_limits limits{.most_bytes = 20'000,
                                 .most_source_bytes = 8'000,
                                 .most_datagrams = 8,
                                 .most_source_datagrams = 3,
                                 .most_parts = 6,
                                 .timeout = 1'000'000};

// Every octet tells where in its datagram it belongs; liars shift theirs.
hand::octets data_at(std::size_t offset, std::size_t size, unsigned lie) {
    hand::octets out(size);
    for (std::size_t i = 0; i < size; ++i) {
        const std::size_t at = offset + i;
        out[i] = static_cast<std::uint8_t>(at * 7 + (at >> 8) * 13 + lie);
    }
    return out;
}

hand::ends host(unsigned number, bool v6) {
    hand::ends e = v6 ? hand::lan6 : hand::lan4;
    e.from.back() = static_cast<std::uint8_t>(2 + number);
    return e;
}

void check_bounds(const fragment_store& store) {
    check(store.bytes() <= limits.most_bytes, "what waits is bounded");
    check(store.datagrams() <= limits.most_datagrams, "so are datagrams");
    check((store.datagrams() == 0) == (store.deadline() == never_us), "what waits has a deadline");
    if (store.datagrams() == 0) check(store.bytes() == 0, "nothing waits for nothing");
}

void take_whole(fragment_store& store) {
    byte_vector room(max_frame_bytes);
    const byte_vector whole = fuzz::exact(store.take(room));
    parsed_frame f;
    parse_frame(whole, f);
    check(f.packet.size() == whole.size() - virtio_header_bytes, "a datagram has its length");
    const std::size_t headers = f.ip_version == 6 ? 40 : 20;
    const hand::octets got = hand::to_octets(f.packet.subspan(headers));
    // Of one sender's story in each part: no octet out of its place, whoever lied.
    for (std::size_t at = 0; at < got.size(); ++at) {
        const auto truth = data_at(at, 1, 0)[0];
        check(static_cast<std::uint8_t>(got[at] - truth) < 3, "every octet is in its place");
    }
}

void play(fuzz::script& in) {
    fragment_store store(limits);
    time_us now = 1'000'000;
    std::uint64_t added = 0, expired = 0;
    byte_vector room(virtio_header_bytes + 40 + 64);
    while (!in.over()) {
        const unsigned what = in.pick(16);
        if (what == 0) {
            now += std::uint64_t{in.byte()} * 10'000;
            fuzz::bytes_view first;
            while (store.expire(now, room, first)) {
                ++expired;
                parsed_frame f;
                if (!first.empty()) parse_frame(first, f);
            }
            check(store.datagrams() == 0 || store.deadline() > now, "time ends what waits");
            continue;
        }
        const unsigned who = in.byte();
        const unsigned offset = in.u16() % 8190 * 8 % (what == 1 ? 65528 : 6000);
        std::size_t size = 8 * (std::size_t{in.byte()} + 1);
        if (what == 2) size += in.pick(8);
        const bool more = (who & 1) != 0;
        const unsigned lie = what == 3 ? 1 + in.pick(2) : 0;
        const unsigned protocol = (who & 2) != 0 ? 6 : (who & 4) != 0 ? 17 : 132;
        const hand::ends ends = host(who >> 3 & 3, (who & 32) != 0);
        const hand::octets packet =
            hand::fragment(ends, protocol, data_at(offset, size, lie), offset, more, who >> 6);
        byte_vector frame = hand::frame(packet);
        parsed_frame part;
        const frame_kind kind = parse_frame(frame, part);
        if (kind != frame_kind::fragment) continue;  // the whole datagram in one
        ++added;
        if (store.add(part, now)) take_whole(store);
        check_bounds(store);
    }
    const fragment_counters& c = store.counters();
    check(c.fragments == added && c.timed_out <= expired, "everything is counted");
}

// A datagram towards a host, in parts that fit a device, put together as the host would.
void cut_and_join(fuzz::script& in) {
    const bool v6 = in.pick(2) == 0;
    const auto mtu = static_cast<std::uint16_t>((v6 ? 1280 : 68) + in.u16() % 1500);
    const std::size_t size = in.u16() % 9000;
    const byte_vector payload = [&] {
        const hand::octets data = data_at(0, size, 0);
        return fuzz::exact(std::as_bytes(std::span(data)));
    }();
    parsed_frame asked;
    const hand::ends ends = host(0, v6);
    check(parse_frame(hand::frame(hand::ip(ends, 17, hand::udp(ends, 9, 53, {1}))), asked) ==
              frame_kind::udp,
          "a datagram is one");
    header_buffer whole;
    write_whole_udp_header(whole, asked.key, payload);
    fragment_cutter cutter(whole, static_cast<std::uint32_t>(size), mtu, 77);
    fragment_store store({.most_bytes = 1 << 20, .most_source_bytes = 1 << 20, .most_parts = 1000});
    header_buffer headers;
    std::uint32_t from = 0, bytes = 0, parts = 0;
    bool complete = false;
    byte_vector datagram;
    while (cutter.next(headers, from, bytes)) {
        ++parts;
        check(!complete && from + bytes <= size, "parts lie in the datagram");
        byte_vector part(headers.bytes().begin(), headers.bytes().end());
        part.insert(part.end(), payload.begin() + from, payload.begin() + from + bytes);
        check(part.size() - virtio_header_bytes <= mtu, "parts fit the device");
        parsed_frame f;
        const frame_kind kind = parse_frame(part, f);
        if (kind == frame_kind::udp) {
            datagram = part;
            complete = true;
        } else {
            check(kind == frame_kind::fragment, "parts are fragments");
            complete = store.add(f, 1);
            byte_vector room(max_frame_bytes);
            if (complete) datagram = fuzz::exact(store.take(room));
        }
    }
    check(complete && store.datagrams() == 0, "the parts are the datagram");
    parsed_frame f;
    check(parse_frame(datagram, f) == frame_kind::udp && fuzz::equal(f.payload, payload),
          "with its checksum right");
    check((parts == 1) == (size + 8 + (v6 ? 40 : 20) <= mtu), "what fits is not cut");
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    if (in.pick(8) == 7)
        cut_and_join(in);
    else
        play(in);
}

const fuzz::target registered("tun_fragments", run, "tun/fragments.cc");

}  // namespace
