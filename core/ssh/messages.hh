// Messages of the SSH connection protocol (RFC 4254; docs/wire.md sections 7, 8 and 11): their
// numbers, a plain struct for each, parsers and builders.
//
// Parsers take the whole payload, number included, and are exact: false when the number is another,
// something is missing or something is left over. Views point into the payload. Builders append a
// whole payload to a vector of the caller's.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::ssh {

// RFC 4253 section 12, RFC 4252 section 6, RFC 4254 section 9, RFC 8308; 192 and 193 are
// ping@openssh.com, 194 and 195 our own (docs/wire.md section 13.4).
enum class message : std::uint8_t {
    disconnect = 1,
    ignore = 2,
    unimplemented = 3,
    debug = 4,
    service_request = 5,
    service_accept = 6,
    ext_info = 7,
    kexinit = 20,
    newkeys = 21,
    ecdh_init = 30,
    ecdh_reply = 31,
    userauth_request = 50,
    userauth_failure = 51,
    userauth_success = 52,
    userauth_banner = 53,
    userauth_pk_ok = 60,
    global_request = 80,
    request_success = 81,
    request_failure = 82,
    channel_open = 90,
    channel_open_confirmation = 91,
    channel_open_failure = 92,
    channel_window_adjust = 93,
    channel_data = 94,
    channel_extended_data = 95,
    channel_eof = 96,
    channel_close = 97,
    channel_request = 98,
    channel_success = 99,
    channel_failure = 100,
    ping = 192,
    pong = 193,
    early_data = 194,
    early_eof = 195,
};

// Of a channel that is not answered yet, and so of the connection protocol.
inline bool is_early(message number) {
    return number == message::early_data || number == message::early_eof;
}

// The number of a payload; 0, which no message has, when it is empty.
inline message number_of(bytes_view payload) {
    return payload.empty() ? message{0} : static_cast<message>(payload[0]);
}

// RFC 4254 section 5.1. Go uses prohibited for all refusals and connect_failed for failed dials.
enum class open_failure_reason : std::uint32_t {
    prohibited = 1,
    connect_failed = 2,
    unknown_type = 3,
    shortage = 4,
};
// "ssh: rejected: connect failed (text)": how Go's peers word a refusal, and so their logs. The
// text is the peer's and not escaped.
std::string rejection_text(open_failure_reason reason, std::string_view text);

struct global_request {
    std::string_view name;
    bool want_reply = false;
    bytes_view rest;
};

struct channel_open {
    std::string_view type;
    std::uint32_t sender = 0;
    std::uint32_t window = 0;
    std::uint32_t max_packet = 0;
    bytes_view rest;
};

struct channel_open_confirmation {
    std::uint32_t recipient = 0;
    std::uint32_t sender = 0;
    std::uint32_t window = 0;
    std::uint32_t max_packet = 0;
    bytes_view rest;
};

struct channel_open_failure {
    std::uint32_t recipient = 0;
    open_failure_reason reason = open_failure_reason::prohibited;
    std::string_view text;
    std::string_view language = "en";
};

struct channel_window_adjust {
    std::uint32_t recipient = 0;
    std::uint32_t bytes = 0;
};

struct channel_data {
    std::uint32_t recipient = 0;
    bytes_view data;
};

struct channel_extended_data {
    std::uint32_t recipient = 0;
    std::uint32_t type = 0;
    bytes_view data;
};

struct channel_request {
    std::uint32_t recipient = 0;
    std::string_view name;
    bool want_reply = false;
    bytes_view rest;
};

bool parse(bytes_view payload, global_request& into);
bool parse(bytes_view payload, channel_open& into);
bool parse(bytes_view payload, channel_open_confirmation& into);
bool parse(bytes_view payload, channel_open_failure& into);
bool parse(bytes_view payload, channel_window_adjust& into);
bool parse(bytes_view payload, channel_data& into);
bool parse(bytes_view payload, channel_extended_data& into);
bool parse(bytes_view payload, channel_request& into);
// EOF, early EOF, CLOSE, CHANNEL_SUCCESS and CHANNEL_FAILURE are a number and a channel, nothing
// else.
bool parse_recipient(bytes_view payload, std::uint32_t& recipient);

void build(byte_vector& out, const global_request&);
void build(byte_vector& out, const channel_open&);
void build(byte_vector& out, const channel_open_confirmation&);
void build(byte_vector& out, const channel_open_failure&);
void build(byte_vector& out, const channel_window_adjust&);
void build(byte_vector& out, const channel_request&);
void build_request_success(byte_vector& out, bytes_view rest);
void build_request_failure(byte_vector& out, bytes_view rest);
void build_eof(byte_vector& out, std::uint32_t recipient);
void build_early_eof(byte_vector& out, std::uint32_t sender);
void build_close(byte_vector& out, std::uint32_t recipient);
void build_channel_success(byte_vector& out, std::uint32_t recipient);
void build_channel_failure(byte_vector& out, std::uint32_t recipient);

// What stands before the bytes of a CHANNEL_DATA packet, and of one with early data: number,
// channel, length. The data path seals it as the head.
inline constexpr std::size_t data_header_bytes = 9;
using data_header = std::array<std::byte, data_header_bytes>;
inline data_header make_data_header(std::uint32_t channel, std::uint32_t size,
                                    message number = message::channel_data) noexcept {
    data_header head;
    head[0] = static_cast<std::byte>(number);
    store_u32(head.data() + 1, channel);
    store_u32(head.data() + 5, size);
    return head;
}

}  // namespace burin::ssh
