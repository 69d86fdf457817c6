// One flow of the TCP terminator without a device: frames of a host in, payload out, and payload
// in, superframes out. Payload itself is not copied.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "tun/frame.hh"
#include "tun/tcp.hh"

namespace bench {

using namespace burin;

inline constexpr std::uint32_t host_sequence = 1000;
inline constexpr std::size_t sequence_at = tun::virtio_header_bytes + tun::ipv4_header_bytes + 4;
inline constexpr std::uint32_t credit_bytes = 4u << 20;
inline constexpr std::uint32_t mss = 1460;

inline tun::flow_key host_to_server() {
    tun::flow_key flow;
    flow.source = tun::flow_address::v4(0x0a000002);
    flow.destination = tun::flow_address::v4(0xc0000201);
    flow.source_port = 40000;
    flow.destination_port = 443;
    return flow;
}

// The frame that the host's kernel writes into the TUN.
inline byte_vector host_frame(const tun::tcp_fields& fields, std::size_t payload) {
    tun::flow_key back = host_to_server();
    std::swap(back.source, back.destination);
    std::swap(back.source_port, back.destination_port);
    tun::header_buffer header;
    tun::write_tcp_header(header, back, fields, static_cast<std::uint32_t>(payload), mss);
    byte_vector frame(header.bytes().size() + payload);
    std::copy(header.bytes().begin(), header.bytes().end(), frame.begin());
    return frame;
}

// The relay's part: takes everything at once, and remembers what the flow said last.
struct relay final : tun::tcp_events {
    bool emit(tun::tcp_flow&, const tun::tcp_frame& frame) noexcept override {
        ++frames;
        said = tun::sequence(load_u32(frame.header.data() + sequence_at)) + frame.payload_bytes;
        return true;
    }
    void deliver(tun::tcp_flow& flow, bytes_view bytes, tun::payload_holder*) noexcept override {
        delivered += bytes.size();
        flow.set_receive_credit(credit_bytes);
    }
    void finished(tun::tcp_flow&) noexcept override {}
    void acked(tun::tcp_flow&, std::uint32_t bytes) noexcept override { acknowledged += bytes; }
    void arm(tun::tcp_flow&, tun::time_us) noexcept override {}
    void closed(tun::tcp_flow&, tun::tcp_close) noexcept override { over = true; }

    tun::sequence said;
    std::uint64_t frames = 0, delivered = 0, acknowledged = 0;
    bool over = false;
};

// An open flow: SYN, accept, ACK.
struct open_flow {
    open_flow() {
        tun::tcp_fields syn;
        syn.seq = tun::sequence(host_sequence);
        syn.flags = tun::tcp_syn;
        syn.window = 65535;
        syn.mss = mss;
        syn.window_shift = 8;
        syn.sack_permitted = true;
        const byte_vector frame = host_frame(syn, 0);
        tun::parsed_frame parsed;
        if (tun::parse_frame(frame, parsed) != tun::frame_kind::tcp) return;
        flow.emplace_back(std::make_unique<tun::tcp_flow>(context, parsed, now));
        flow[0]->accept(credit_bytes, now);
        context.flush(now);
        ack_fields.seq = tun::sequence(host_sequence + 1);
        ack_fields.flags = tun::tcp_ack;
        ack_fields.window = 65535;
        acknowledge(events.said + 1);
    }
    void acknowledge(tun::sequence upto) {
        ack_fields.ack = upto;
        take(host_frame(ack_fields, 0));
    }
    void take(bytes_view frame) {
        tun::parsed_frame parsed;
        if (tun::parse_frame(frame, parsed) == tun::frame_kind::tcp)
            flow[0]->on_segment(parsed, now);
    }
    bool open() const { return !flow.empty() && flow[0]->state() == tun::tcp_state::open; }

    relay events;
    tun::tcp_context context{events, {}};
    tun::tcp_fields ack_fields;
    tun::time_us now = 1'000'000;
    std::vector<std::unique_ptr<tun::tcp_flow>> flow;
};

}  // namespace bench
