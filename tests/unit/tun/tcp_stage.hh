// A stage for one flow: a host's frames are written by hand, everything the flow says or asks is
// kept. Host numbers count from its SYN (1 is its first byte), the flow's from its SYN-ACK
// likewise.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tun/tcp.hh"

namespace burin::tun {

inline constexpr time_us millisecond = 1000;
inline constexpr time_us second = 1'000'000;

struct said {
    parsed_frame head;
    std::string data;
    std::uint32_t seq = 0;  // counted from the SYN-ACK
    std::uint32_t ack = 0;  // counted from the host's SYN
    bool superframe = false;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> sack = {};  // counted like ack
};

struct stage : tcp_events {
    explicit stage(const tcp_settings& settings = {}) : context(*this, settings) {
        key.source = flow_address::v4(0x0a090002);
        key.destination = flow_address::v4(0xc0000207);
        key.source_port = 40000;
        key.destination_port = 443;
    }
    virtual ~stage() { flow.reset(); }

    struct host {
        std::uint8_t flags = tcp_ack;
        std::uint32_t seq = 1;
        std::uint32_t ack = 1;
        std::string data = {};
        std::uint16_t window = 60000;
        std::vector<std::pair<std::uint32_t, std::uint32_t>> sack = {};  // counted like ack
        std::uint8_t ecn = ecn_none;
    };
    // The bytes live in `last_frame` until the next call.
    parsed_frame frame(const host& what, bool scaled_syn = true) {
        flow_key back = key;
        std::swap(back.source, back.destination);
        std::swap(back.source_port, back.destination_port);
        tcp_fields fields;
        fields.seq = host_first + what.seq;
        fields.ack = our_first + what.ack;
        fields.flags = what.flags;
        fields.window = what.window;
        if ((what.flags & tcp_syn) != 0) {
            fields.mss = host_mss;
            if (scaled_syn) fields.window_shift = host_shift;
            fields.sack_permitted = host_sacks;
        }
        std::vector<sack_block> blocks;
        for (auto [start, end] : what.sack) blocks.push_back({our_first + start, our_first + end});
        fields.sack = blocks;
        fields.ecn = what.ecn;
        header_buffer header;
        write_tcp_header(header, back, fields, static_cast<std::uint32_t>(what.data.size()), 1460);
        last_frame.assign(header.bytes().begin(), header.bytes().end());
        const bytes_view data = as_bytes(what.data);
        last_frame.insert(last_frame.end(), data.begin(), data.end());
        parsed_frame parsed;
        parse_frame(last_frame, parsed);
        return parsed;
    }
    void open(bool scaled = true) {
        const auto flags = static_cast<std::uint8_t>(tcp_syn | (host_ecn ? tcp_ece | tcp_cwr : 0));
        const parsed_frame syn = frame({flags, 0, 0}, scaled);
        flow = std::make_unique<tcp_flow>(context, syn, now);
    }
    // Through the handshake; nothing is kept of it.
    void establish(std::uint32_t credit = 1 << 20, bool scaled = true) {
        open(scaled);
        flow->accept(credit, now);
        context.flush(now);
        now += millisecond;
        from_host({});
        spoken.clear();
    }
    tcp_flow::segment_outcome from_host(const host& what) {
        const parsed_frame parsed = frame(what);
        return flow->on_segment(parsed, now);
    }
    // One turn's flush: what was said since the last.
    std::vector<said> turn() {
        context.flush(now);
        return std::move(spoken);
    }
    void wait_for_timer() {
        now = std::max(now, armed);
        armed = never_us;
        flow->on_timer(now);
    }

    bool emit(tcp_flow&, const tcp_frame& out) noexcept override {
        if (!room) return false;
        said s;
        parse_frame(out.header, s.head);
        // Headers alone are shorter than their total length says; read the rest by hand.
        std::vector<std::byte> whole(out.header.begin(), out.header.end());
        for (const payload_piece& piece : out.payload) {
            whole.insert(whole.end(), piece.data, piece.data + piece.length);
        }
        parse_frame(whole, s.head);
        s.data = std::string(as_text(s.head.payload));
        std::array<sack_block, most_sack_blocks> blocks;
        const std::size_t count = read_sack(s.head.options.sack_blocks(), blocks);
        for (std::size_t i = 0; i < count; ++i) {
            s.sack.emplace_back(static_cast<std::uint32_t>(blocks[i].start - host_first),
                                static_cast<std::uint32_t>(blocks[i].end - host_first));
        }
        s.head.payload = {};
        s.head.options.sack = nullptr;
        if (s.head.has(tcp_syn)) our_first = s.head.seq;
        s.seq = static_cast<std::uint32_t>(s.head.seq - our_first);
        s.ack = static_cast<std::uint32_t>(s.head.ack - host_first);
        s.superframe = s.head.gso_type == virtio_gso_tcp_v4;
        spoken.push_back(std::move(s));
        return true;
    }
    void deliver(tcp_flow&, bytes_view bytes, payload_holder* holder) noexcept override {
        delivered += as_text(bytes);
        const bool inside = !last_frame.empty() && bytes.data() >= last_frame.data() &&
                            bytes.data() < last_frame.data() + last_frame.size();
        if (inside == (holder != nullptr)) ++misplaced;
        if (abort_on_delivery) flow->abort();
    }
    void finished(tcp_flow&) noexcept override { ++fins; }
    void acked(tcp_flow&, std::uint32_t bytes) noexcept override { acknowledged += bytes; }
    void arm(tcp_flow&, time_us deadline) noexcept override { armed = deadline; }
    void established(tcp_flow&) noexcept override { ++establishments; }
    void lingers(tcp_flow&) noexcept override { ++lingerings; }
    void closed(tcp_flow&, tcp_close reason) noexcept override {
        ++closings;
        close_reason = reason;
    }

    flow_key key;
    sequence host_first{0xfffffff0};  // wraps at once
    sequence our_first;
    std::uint16_t host_mss = 1000;
    std::int8_t host_shift = 2;
    bool host_sacks = false;
    bool host_ecn = false;
    time_us now = 1000 * second;
    bool room = true;
    bool abort_on_delivery = false;
    std::vector<std::byte> last_frame;
    std::vector<said> spoken;
    std::string delivered;
    int fins = 0, closings = 0, misplaced = 0, establishments = 0, lingerings = 0;
    std::uint64_t acknowledged = 0;
    time_us armed = never_us;
    tcp_close close_reason = tcp_close::finished;
    tcp_context context;
    std::unique_ptr<tcp_flow> flow;
};

// Bytes that outlive every flow of a test.
inline payload_slice still(const std::string& text) {
    return {as_bytes(text), nullptr};
}

}  // namespace burin::tun
