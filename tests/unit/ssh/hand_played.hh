// A connection layer whose peer is the test itself: messages of the connection protocol one by one,
// in both directions.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/ssh/connection.hh"
#include "core/ssh/messages.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::ssh {

template <class Message>
inline byte_vector built(const Message& message) {
    byte_vector out;
    build(out, message);
    return out;
}

inline byte_vector open_message(std::uint32_t sender, std::uint32_t window = 2097152,
                                std::uint32_t max_packet = 32768) {
    return built(channel_open{"chisel", sender, window, max_packet, as_bytes("host:1")});
}

inline byte_vector confirmation(std::uint32_t recipient, std::uint32_t sender,
                                std::uint32_t window = 2097152, std::uint32_t max_packet = 32768) {
    return built(channel_open_confirmation{recipient, sender, window, max_packet, {}});
}

inline byte_vector data_message(std::uint32_t recipient, bytes_view bytes) {
    byte_vector out;
    wire::writer(out)
        .byte(static_cast<std::uint8_t>(message::channel_data))
        .u32(recipient)
        .string(bytes);
    return out;
}

inline byte_vector data_message(std::uint32_t recipient, std::size_t size) {
    return data_message(recipient, byte_vector(size, std::byte{'x'}));
}

inline byte_vector extended_message(std::uint32_t recipient, std::size_t size) {
    byte_vector out;
    wire::writer(out)
        .byte(static_cast<std::uint8_t>(message::channel_extended_data))
        .u32(recipient)
        .u32(1)
        .string(byte_vector(size));
    return out;
}

inline byte_vector adjust_message(std::uint32_t recipient, std::uint32_t bytes) {
    return built(channel_window_adjust{recipient, bytes});
}

inline byte_vector failure_message(std::uint32_t recipient) {
    return built(channel_open_failure{recipient, open_failure_reason::connect_failed, ""});
}

inline byte_vector eof_message(std::uint32_t recipient) {
    byte_vector out;
    build_eof(out, recipient);
    return out;
}

inline byte_vector close_message(std::uint32_t recipient) {
    byte_vector out;
    build_close(out, recipient);
    return out;
}

inline byte_vector reply_message(std::uint32_t recipient) {
    byte_vector out;
    build_channel_success(out, recipient);
    return out;
}

// The numbers of the messages, for a look at order.
inline std::vector<int> numbers(const std::vector<byte_vector>& messages) {
    std::vector<int> out;
    for (const byte_vector& m : messages) out.push_back(static_cast<int>(number_of(m)));
    return out;
}
using order = std::vector<int>;

// One end has a connection layer, the server unless told otherwise; the other is this test.
struct hand_played : station_pair {
    explicit hand_played(const connection_limits& limits = {}, std::uint64_t memory = 64u << 20,
                         role ours = role::server)
        : own(ours == role::server ? exit : entry), _other(ours == role::server ? entry : exit) {
        own.begin(limits, memory, 1000);
        layer = own.layer.get();
    }
    void say(bytes_view message) {
        REQUIRE(_other.link.end->send(message));
        _other.flush();
        carry(_other.link, own.link, whole());
    }
    std::vector<byte_vector> heard() {
        own.flush();
        carry(own.link, _other.link, whole());
        return std::exchange(_other.link.events.messages, {});
    }
    // A channel that the peer opened under id `sender`.
    flow_record& opened(std::uint32_t sender, std::uint32_t window = 2097152,
                        std::uint32_t max_packet = 32768) {
        say(open_message(sender, window, max_packet));
        const auto answer = heard();
        REQUIRE(numbers(answer) == order{91});
        return own.flows.back();
    }
    // The same with a rule broken at the end: named once, and nothing is heard afterwards.
    void breaks(bytes_view message, std::string_view rule) {
        say(message);
        CHECK(own.violations == std::vector<std::string>{std::string(rule)});
        say(message);
        say(open_message(99));
        CHECK(own.violations.size() == 1);
        CHECK(heard().empty());
    }
    station& own;
    connection* layer;

  private:
    station& _other;
};

}  // namespace burin::ssh
