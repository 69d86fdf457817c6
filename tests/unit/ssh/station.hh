// A connection layer on each end of a transport_pair, or on one end only, so that a test plays the
// other by hand. Streams are cut and held back wherever a test says; nothing runs by itself.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/ssh/connection.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {

// An end that notes what it is told.
struct flow_record : channel_end {
    void on_confirmed() noexcept override { ++confirmed; }
    void on_refused(open_failure_reason why, std::string_view words) noexcept override {
        refused = why;
        text = words;
        at = nullptr;
    }
    void on_data(bytes_span payload, const ring::buffer&) noexcept override {
        bytes += payload.size();
        after_end += eofs + closes;
        if (keep) data.insert(data.end(), payload.begin(), payload.end());
        held += static_cast<std::uint32_t>(payload.size());
        if (takes) take_held();
        if (when_data) when_data();
    }
    void on_eof() noexcept override {
        ++eofs;
        if (when_eof) when_eof();
    }
    void on_notice(std::string_view name, bytes_view rest) noexcept override {
        notices.emplace_back(name, byte_vector(rest.begin(), rest.end()));
    }
    void on_closed(close_cause why) noexcept override {
        ++closes;
        cause = why;
        at = nullptr;
        if (when_closed) when_closed();
    }
    void on_sendable() noexcept override {
        ++sendable;
        if (when_sendable) when_sendable();
    }
    std::uint32_t waiting(std::uint32_t now_held) const noexcept override {
        return under_way ? 0 : now_held;
    }
    void take_held() {
        if (at != nullptr) layer->consumed(*at, held);
        held = 0;
    }

    connection* layer = nullptr;
    channel* at = nullptr;
    bool takes = true, keep = true;
    std::vector<std::pair<std::string, byte_vector>> notices;
    bool under_way = false;  // what is held does not wait
    byte_vector data;
    std::uint64_t bytes = 0;
    std::uint32_t held = 0;
    unsigned confirmed = 0, eofs = 0, closes = 0, sendable = 0, after_end = 0;
    std::optional<open_failure_reason> refused;
    std::optional<close_cause> cause;
    std::string text;
    std::function<void()> when_data, when_eof, when_closed, when_sendable;
};

// A send buffer of limited size.
struct send_room : packet_sink {
    explicit send_room(std::size_t bytes) : memory(bytes) {}
    std::byte* room(std::size_t bytes) noexcept override {
        return used + bytes <= memory.size() ? memory.data() + used : nullptr;
    }
    void commit(std::size_t bytes) noexcept override { used += bytes; }
    byte_vector memory;
    std::size_t used = 0;
};

struct station final : connection_events {
    explicit station(link_end& on) : link(on) {}

    void begin(const connection_limits& limits, std::uint64_t memory, std::uint32_t channels) {
        budget.emplace(memory, channels);
        growth_at_start = budget->growth_left();
        layer = std::make_unique<connection>(*link.end, *this, *budget, pieces, limits);
        link.events.keep = false;
        link.events.when_message = [this](const byte_vector&) {
            layer->receive(link.events.messages.back(), {});
        };
    }

    void on_open(channel& c, const channel_open& open) noexcept override {
        asked.push_back(&c);
        extra.assign(as_text(open.rest));
        type.assign(open.type);
        if (when_open) return when_open(c, open);
        if (accepts) accept(c);
    }
    void on_global_request(const global_request& request) noexcept override {
        requests.emplace_back(request.name);
        if (request.name == cancel_open_name) return layer->take_back(request.rest);
        if (request.want_reply) layer->reply(true, as_bytes("pong"));
    }
    void on_request_reply(bool success, bytes_view payload) noexcept override {
        replies.push_back((success ? "yes " : "no ") + std::string(as_text(payload)));
    }
    void on_pending() noexcept override { ++pending_calls; }
    void on_violation(std::string_view rule) noexcept override { violations.emplace_back(rule); }
    ring::microseconds_t round_trip() noexcept override {
        ++asked_for_path;
        return path;
    }

    flow_record& accept(channel& c) {
        flow_record& flow = new_flow();
        flow.at = &c;
        layer->accept(c, flow);
        return flow;
    }
    flow_record& open(std::string_view extra_bytes = "host:1") {
        flow_record& flow = new_flow();
        flow.at = layer->open(flow, "chisel", as_bytes(extra_bytes));
        return flow;
    }
    flow_record& new_flow() {
        flow_record& flow = flows.emplace_back();
        flow.layer = layer.get();
        flow.takes = takes;
        flow.keep = keeps;
        return flow;
    }
    void send(flow_record& flow, bytes_view bytes) {
        REQUIRE(bytes.size() <= layer->sendable(*flow.at));
        layer->send(*flow.at, {}, bytes);
    }
    void close(flow_record& flow) { layer->close(*std::exchange(flow.at, nullptr)); }
    void abort(flow_record& flow) { layer->abort(*std::exchange(flow.at, nullptr)); }

    // One turn as a session does it, into a send of at most `most` bytes of payload packets.
    void flush(std::size_t most = 480 * 1024) {
        if (layer != nullptr) layer->flush_adjusts();
        drain(*link.end, link.said, most_message);
        if (layer != nullptr && !link.end->control_pending()) {
            send_room room(most);
            layer->flush_data(room);
            link.said.insert(link.said.end(), room.memory.begin(),
                             room.memory.begin() + static_cast<std::ptrdiff_t>(room.used));
            drain(*link.end, link.said, most_message);
        }
        if (layer != nullptr) layer->tell_sendable();
    }
    // Everything came back: what a session leaves behind when its last channel is gone.
    void check_empty() const {
        CHECK(layer->open_channels() == 0);
        CHECK(layer->queued_bytes() == 0);
        CHECK(budget->open_channels() == 0);
        CHECK(budget->growth_left() == growth_at_start);
        CHECK(pieces.in_use() == 0);
        CHECK(pieces.owned_bytes() == 0);
    }

    static constexpr std::size_t most_message = 64 * 1024;  // sealed

    link_end& link;
    std::optional<ring::budget> budget;
    std::uint64_t growth_at_start = 0;
    piece_pool pieces;
    std::deque<flow_record> flows;  // before the layer, which refers to them until it is gone
    std::unique_ptr<connection> layer;
    bool accepts = true, takes = true, keeps = true;
    std::function<void(channel&, const channel_open&)> when_open;
    std::vector<channel*> asked;
    std::string extra, type;
    std::vector<std::string> requests, replies, violations;
    unsigned pending_calls = 0, asked_for_path = 0;
    ring::microseconds_t path = 0;  // its round trip
};

struct station_pair : transport_pair {
    station_pair() { open_session(); }
    // Connection layers on both ends.
    void begin(const connection_limits& limits = {}, std::uint64_t memory = 64u << 20,
               std::uint32_t channels = 1000) {
        entry.begin(limits, memory, channels);
        exit.begin(limits, memory, channels);
    }
    // Until nobody has anything to say.
    void settle(const cutter& cut = whole()) {
        for (int quiet = 0; quiet < 2;) {
            entry.flush();
            exit.flush();
            const bool said = !client.said.empty() || !server.said.empty();
            carry(client, server, cut);
            carry(server, client, cut);
            quiet = said ? 0 : quiet + 1;
        }
    }
    // Messages of a test that plays the client by hand, to the connection layer of the server.
    void say(bytes_view message) {
        REQUIRE(client.end->send(message));
        entry.flush();
        carry(client, server, whole());
    }
    // What the server's layer answered, one message after the other.
    std::vector<byte_vector> heard() {
        exit.flush();
        carry(server, client, whole());
        return std::exchange(client.events.messages, {});
    }
    void check_peace() const {
        INFO(client.events.failure << " / " << server.events.failure);
        CHECK(client.events.failures == 0);
        CHECK(server.events.failures == 0);
        CHECK(entry.violations.empty());
        CHECK(exit.violations.empty());
    }

    station entry{client}, exit{server};
};

// Bytes that tell where they come from: byte `offset` of stream `stream`.
class pattern {
  public:
    static constexpr std::size_t period = 65521, longest = 128 * 1024;
    pattern() : _bytes(2 * period + longest) {
        std::uint32_t state = 1;
        for (std::size_t i = 0; i < period; ++i) {
            state = state * 1664525 + 1013904223;
            _bytes[i] = static_cast<std::byte>(state >> 24);
        }
        for (std::size_t i = period; i < _bytes.size(); ++i) _bytes[i] = _bytes[i - period];
    }
    bytes_view at(std::uint32_t stream, std::uint64_t offset, std::size_t size) const {
        return bytes_view(_bytes).subspan((offset + stream * 7919ull) % period, size);
    }

  private:
    byte_vector _bytes;
};

inline const pattern& pattern_bytes() {
    static const pattern bytes;
    return bytes;
}

// Whether `got` is the stream from its beginning.
inline bool is_prefix(const byte_vector& got, std::uint32_t stream) {
    for (std::size_t at = 0; at < got.size();) {
        const std::size_t size = std::min(pattern::longest, got.size() - at);
        const bytes_view want = pattern_bytes().at(stream, at, size);
        if (!std::equal(want.begin(), want.end(), got.begin() + static_cast<std::ptrdiff_t>(at)))
            return false;
        at += size;
    }
    return true;
}

}  // namespace burin::ssh
