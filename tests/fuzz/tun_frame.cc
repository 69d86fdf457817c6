// Frames of the TUN: parsed, and what is written in answer to them. Checksums hide everything
// behind them from a fuzzer, so an input may ask for them to be made right first; what is written
// is read again here, and TCP over IPv4 by the model of tests/sim, which shares no code with it.
#include <cstring>

#include "tests/fuzz/target.hh"
#include "tests/sim/model_wire.hh"
#include "tests/unit/tun/packets.hh"
#include "tun/frame.hh"
#include "tun/icmp.hh"
#include "tun/udp_frame.hh"

namespace {

using namespace burin::tun;
namespace hand = burin::hand;
using burin::byte_vector;
using fuzz::check;

constexpr std::size_t virtio = 10;

// RFC 1071, and the places of the checksums in RFC 791, 9293, 768, 792 and 4443.
void repair(byte_vector& frame, bool header, bool transport) {
    hand::octets p =
        hand::to_octets(fuzz::bytes_view(frame).subspan(std::min(virtio, frame.size())));
    if (p.size() < 20) return;
    const bool v4 = p[0] >> 4 == 4, v6 = p[0] >> 4 == 6;
    const std::size_t ip = v4 ? (p[0] & 15u) * 4u : 40;
    if ((!v4 && !v6) || ip < 20 || p.size() < ip) return;
    if (v4 && header) {
        hand::put16(p, 10, 0);
        hand::octets head(p.begin(), p.begin() + static_cast<std::ptrdiff_t>(ip));
        hand::put16(p, 10, ~hand::sum(head));
    }
    const std::size_t total = v4 ? p[2] * 256u + p[3] : 40 + p[4] * 256u + p[5];
    const unsigned protocol = v4 ? p[9] : p[6];
    const std::size_t place = protocol == 6                     ? 16
                              : protocol == 17                  ? 6
                              : protocol == 1 || protocol == 58 ? 2
                                                                : 0;
    if (transport && place != 0 && total <= p.size() && total >= ip + place + 2) {
        std::size_t end = total;
        // UDP has a length of its own.
        if (protocol == 17) end = std::min(end, ip + p[ip + 4] * 256u + p[ip + 5]);
        if (end < ip + place + 2) return;
        hand::put16(p, ip + place, 0);
        const hand::octets segment(p.begin() + static_cast<std::ptrdiff_t>(ip),
                                   p.begin() + static_cast<std::ptrdiff_t>(end));
        const std::ptrdiff_t source = v4 ? 12 : 8, size = v4 ? 4 : 16;
        const hand::ends ends{{p.begin() + source, p.begin() + source + size},
                              {p.begin() + source + size, p.begin() + source + 2 * size}};
        const bool bare = protocol == 1;
        const unsigned start = bare ? 0 : hand::pseudo(ends, protocol, segment.size());
        unsigned value = ~hand::sum(segment, start) & 0xffff;
        if (value == 0 && protocol == 17) value = 0xffff;
        hand::put16(p, ip + place, value);
    }
    const fuzz::bytes_view bytes = std::as_bytes(std::span(p));
    std::copy(bytes.begin(), bytes.end(), frame.begin() + virtio);
}

bool inside(fuzz::bytes_view part, fuzz::bytes_view whole) {
    return part.empty() || (part.data() >= whole.data() &&
                            part.data() + part.size() <= whole.data() + whole.size());
}

byte_vector joined(fuzz::bytes_view a, fuzz::bytes_view b) {
    byte_vector out(a.begin(), a.end());
    out.insert(out.end(), b.begin(), b.end());
    return out;
}

// From the other end of the flow.
bool answers(const flow_key& answer, const flow_key& cause) {
    return answer.source == cause.destination && answer.destination == cause.source;
}

void answer_tcp(const parsed_frame& f, fuzz::script& in) {
    header_buffer out;
    check(write_reset(out, f) != f.has(tcp_rst), "a RST is answered by none, all else by one");
    const unsigned flags = in.byte();
    tcp_fields fields;
    fields.seq = sequence(in.u32());
    fields.ack = f.seq + f.length();
    fields.flags = static_cast<std::uint8_t>(tcp_ack | (flags & tcp_psh));
    fields.window = static_cast<std::uint16_t>(in.u16());
    sack_block blocks[3] = {};
    if ((flags & 1) != 0) {
        fields.flags = tcp_syn | tcp_ack;
        fields.mss = static_cast<std::uint16_t>(in.u16());
        fields.window_shift = static_cast<std::int8_t>(static_cast<int>(in.pick(16)) - 1);
        fields.sack_permitted = (flags & 2) != 0;
    } else if ((flags & 2) != 0) {
        for (sack_block& b : blocks) b = {sequence(in.u32()), sequence(in.u32())};
        fields.sack = std::span(blocks).first(in.pick(4));
    }
    const byte_vector payload((flags & 1) != 0 ? 0 : in.u16() % 3000, std::byte{7});
    const std::uint16_t gso = (flags & 4) != 0 ? 1000 : 0;
    write_tcp_header(out, f.key, fields, static_cast<std::uint32_t>(payload.size()), gso);
    check(out.bytes().size() <= header_buffer::capacity, "headers fit their buffer");
    const byte_vector written = joined(out.bytes(), payload);
    parsed_frame again;
    check(parse_frame(written, again) == frame_kind::tcp, "what we write can be read");
    check(answers(again.key, f.key) && again.key.source_port == f.key.destination_port &&
              again.key.destination_port == f.key.source_port,
          "it goes to who is answered");
    check(again.seq == fields.seq && again.ack == fields.ack && again.flags == fields.flags &&
              again.window == fields.window && again.options.mss == fields.mss &&
              again.options.sack_permitted == fields.sack_permitted &&
              again.options.sack_bytes == 8 * fields.sack.size() &&
              again.payload.size() == payload.size(),
          "and says what was meant");
    if (f.ip_version != 4) return;
    const sim::segment model = sim::read_frame(hand::to_octets(written));
    check(model.seq == fields.seq.value() && model.ack == fields.ack.value() &&
              model.window == fields.window && model.data.size() == payload.size() &&
              model.sack.size() == fields.sack.size() && model.shift == int{fields.window_shift} &&
              model.gso_size == (payload.size() > gso ? gso : 0),
          "to others as well");
}

void answer_udp(const parsed_frame& f) {
    is_trace_probe(f);
    if (f.payload.size() > max_udp_payload_bytes) return;
    for (int whole = 0; whole < 2; ++whole) {
        header_buffer out;
        if (whole == 1)
            write_whole_udp_header(out, f.key, f.payload);
        else
            write_udp_header(out, f.key, static_cast<std::uint32_t>(f.payload.size()), 0);
        const byte_vector written = joined(out.bytes(), f.payload);
        parsed_frame again;
        check(parse_frame(written, again) == frame_kind::udp, "a datagram can be read");
        check(answers(again.key, f.key) && fuzz::equal(again.payload, f.payload),
              "and is what was meant");
    }
}

void answer_by_error(const parsed_frame& f, fuzz::script& in) {
    const auto what = static_cast<icmp_error>(in.pick(7));
    const std::uint32_t mtu = 1280 + in.u16();
    icmp_message out;
    if (!write_icmp_error(out, f, what, mtu)) return;
    check(may_be_answered(f), "an error about what may be answered only");
    const byte_vector written = joined(out.header.bytes(), out.rest);
    check(written.size() - virtio <= (f.ip_version == 4 ? 576u : 1280u), "an error is short");
    parsed_frame again;
    check(parse_frame(written, again) == frame_kind::icmp, "an error can be read");
    check(answers(again.key, f.key), "it goes to who caused it");
    check(!may_be_answered(again), "and is answered by none");
    icmp_report report;
    if (!read_icmp_error(again, report)) return;
    // A quote of what went the other way: the report is of a flow to the destination.
    check(report.key.source == f.key.destination && report.key.destination == f.key.source,
          "an error quotes its cause");
    if (what == icmp_error::too_big)
        check(report.mtu == (f.ip_version == 4 ? std::min(mtu, 0xffffu) : mtu),
              "and tells the MTU");
}

void answer_echo(const parsed_frame& f) {
    icmp_report report;
    read_icmp_error(f, report);
    icmp_message out;
    const bool request = is_echo_request(f);
    check(write_echo_reply(out, f) == request, "requests have replies, nothing else");
    if (!request) return;
    const std::size_t bytes = f.payload.size() - icmp_header_bytes;
    const byte_vector written = joined(out.header.bytes(), out.rest);
    const echo_stub stub(f);
    icmp_message later;
    stub.write_reply(later, f.payload.subspan(icmp_header_bytes));
    check(fuzz::equal(joined(later.header.bytes(), later.rest), written),
          "a stub answers as the request itself");
    parsed_frame again;
    if (written.size() - virtio > max_packet_bytes) return;
    check(parse_frame(written, again) == frame_kind::icmp && answers(again.key, f.key),
          "a reply can be read");
    check(again.payload.size() == bytes + icmp_header_bytes, "and has all the data");
    const parsed_frame cause = stub.cause();
    icmp_message error;
    if (!cause.payload.empty())
        check(write_icmp_error(error, cause, icmp_error::host_unreachable), "or an error");
}

// The responder never gives more than its limits, whenever it is asked.
void respond(const parsed_frame& f, fuzz::script& in) {
    icmp_responder responder(
        {.errors_per_second = 2, .errors_burst = 3, .echoes_per_second = 2, .echoes_burst = 3});
    time_us now = 1'000'000;
    const time_us begun = now;
    for (int i = 0; i < 12; ++i) {
        now += std::uint64_t{in.byte()} << in.pick(32);
        icmp_message out;
        responder.error(out, f, icmp_error::port_unreachable, 0, now);
        responder.echo_reply(out, f, now);
    }
    const std::uint64_t most = 3 + 2 * ((now - begun) / 1'000'000 + 1);
    check(responder.counters().errors <= most && responder.counters().echo_replies <= most,
          "answers are limited");
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    const unsigned how = in.byte();
    fuzz::script choice(in.take(24));
    byte_vector frame = fuzz::exact(in.rest());
    if (frame.size() > max_frame_bytes) frame.resize(max_frame_bytes);
    repair(frame, (how & 1) != 0, (how & 2) != 0);
    parsed_frame f;
    const frame_kind kind = parse_frame(frame, f);
    check(kind < frame_kind::kinds && to_text(kind) != "unknown", "a frame is of a kind");
    const fuzz::bytes_view whole = frame;
    check(inside(f.payload, whole) && inside(f.packet, whole) &&
              inside(f.options.sack_blocks(), whole),
          "what was found lies in the frame");
    if (kind >= frame_kind::multicast) return;
    check(inside(f.payload, f.packet), "payload is part of the packet");
    check(f.key.source.is_v4() == (f.ip_version == 4) &&
              f.key.destination.is_v4() == (f.ip_version == 4),
          "addresses are of the packet's family");
    if (kind == frame_kind::tcp) {
        check(f.options.sack_bytes % 8 == 0 && f.options.window_shift <= 14, "options make sense");
        check(f.key.source_port != 0 && f.key.destination_port != 0, "ports are some");
        answer_tcp(f, choice);
    }
    if (kind == frame_kind::udp) answer_udp(f);
    if (kind == frame_kind::icmp) answer_echo(f);
    answer_by_error(f, choice);
    respond(f, choice);
}

const fuzz::target registered("tun_frame", run,
                              "tun/frame.cc tun/frame_output.cc tun/icmp.cc tun/ip_header.cc "
                              "tun/udp_frame.cc tun/checksum.cc");

}  // namespace
