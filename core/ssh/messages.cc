// Messages of the SSH connection protocol: each parser reads its fields in the order of RFC 4254
// and asks once, at the end, whether that was exactly the payload.
#include "core/ssh/messages.hh"

#include <string>

namespace burin::ssh {
namespace {

// A reader behind the number, or one that fails at once when the number is another.
wire::reader body_of(bytes_view payload, message number) {
    return wire::reader(number_of(payload) == number ? payload.subspan(1) : bytes_view{});
}

wire::writer begin(byte_vector& out, message number) {
    wire::writer write(out);
    write.byte(static_cast<std::uint8_t>(number));
    return write;
}

void build_recipient(byte_vector& out, message number, std::uint32_t recipient) {
    begin(out, number).u32(recipient);
}

}  // namespace

std::string rejection_text(open_failure_reason reason, std::string_view text) {
    std::string words = "unknown reason " + std::to_string(static_cast<std::uint32_t>(reason));
    switch (reason) {
        case open_failure_reason::prohibited: words = "administratively prohibited"; break;
        case open_failure_reason::connect_failed: words = "connect failed"; break;
        case open_failure_reason::unknown_type: words = "unknown channel type"; break;
        case open_failure_reason::shortage: words = "resource shortage"; break;
    }
    return "ssh: rejected: " + words + " (" + std::string(text) + ")";
}

bool parse(bytes_view payload, global_request& into) {
    auto read = body_of(payload, message::global_request);
    into.name = read.text();
    into.want_reply = read.boolean();
    into.rest = read.rest();
    return read.ok();
}

bool parse(bytes_view payload, channel_open& into) {
    auto read = body_of(payload, message::channel_open);
    into.type = read.text();
    into.sender = read.u32();
    into.window = read.u32();
    into.max_packet = read.u32();
    into.rest = read.rest();
    return read.ok();
}

bool parse(bytes_view payload, channel_open_confirmation& into) {
    auto read = body_of(payload, message::channel_open_confirmation);
    into.recipient = read.u32();
    into.sender = read.u32();
    into.window = read.u32();
    into.max_packet = read.u32();
    into.rest = read.rest();
    return read.ok();
}

bool parse(bytes_view payload, channel_open_failure& into) {
    auto read = body_of(payload, message::channel_open_failure);
    into.recipient = read.u32();
    into.reason = static_cast<open_failure_reason>(read.u32());
    into.text = read.text();
    into.language = read.text();
    return read.done();
}

bool parse(bytes_view payload, channel_window_adjust& into) {
    auto read = body_of(payload, message::channel_window_adjust);
    into.recipient = read.u32();
    into.bytes = read.u32();
    return read.done();
}

bool parse(bytes_view payload, channel_data& into) {
    auto read = body_of(payload, message::channel_data);
    into.recipient = read.u32();
    into.data = read.string();
    return read.done();
}

bool parse(bytes_view payload, channel_extended_data& into) {
    auto read = body_of(payload, message::channel_extended_data);
    into.recipient = read.u32();
    into.type = read.u32();
    into.data = read.string();
    return read.done();
}

bool parse(bytes_view payload, channel_request& into) {
    auto read = body_of(payload, message::channel_request);
    into.recipient = read.u32();
    into.name = read.text();
    into.want_reply = read.boolean();
    into.rest = read.rest();
    return read.ok();
}

bool parse_recipient(bytes_view payload, std::uint32_t& recipient) {
    switch (number_of(payload)) {
        case message::channel_eof:
        case message::early_eof:
        case message::channel_close:
        case message::channel_success:
        case message::channel_failure: break;
        default: return false;
    }
    wire::reader read(payload.subspan(1));
    recipient = read.u32();
    return read.done();
}

void build(byte_vector& out, const global_request& from) {
    begin(out, message::global_request).string(from.name).boolean(from.want_reply).raw(from.rest);
}

void build(byte_vector& out, const channel_open& from) {
    begin(out, message::channel_open)
        .string(from.type)
        .u32(from.sender)
        .u32(from.window)
        .u32(from.max_packet)
        .raw(from.rest);
}

void build(byte_vector& out, const channel_open_confirmation& from) {
    begin(out, message::channel_open_confirmation)
        .u32(from.recipient)
        .u32(from.sender)
        .u32(from.window)
        .u32(from.max_packet)
        .raw(from.rest);
}

void build(byte_vector& out, const channel_open_failure& from) {
    begin(out, message::channel_open_failure)
        .u32(from.recipient)
        .u32(static_cast<std::uint32_t>(from.reason))
        .string(from.text)
        .string(from.language);
}

void build(byte_vector& out, const channel_window_adjust& from) {
    begin(out, message::channel_window_adjust).u32(from.recipient).u32(from.bytes);
}

void build(byte_vector& out, const channel_request& from) {
    begin(out, message::channel_request)
        .u32(from.recipient)
        .string(from.name)
        .boolean(from.want_reply)
        .raw(from.rest);
}

void build_request_success(byte_vector& out, bytes_view rest) {
    begin(out, message::request_success).raw(rest);
}
void build_request_failure(byte_vector& out, bytes_view rest) {
    begin(out, message::request_failure).raw(rest);
}
void build_eof(byte_vector& out, std::uint32_t recipient) {
    build_recipient(out, message::channel_eof, recipient);
}
void build_early_eof(byte_vector& out, std::uint32_t sender) {
    build_recipient(out, message::early_eof, sender);
}
void build_close(byte_vector& out, std::uint32_t recipient) {
    build_recipient(out, message::channel_close, recipient);
}
void build_channel_success(byte_vector& out, std::uint32_t recipient) {
    build_recipient(out, message::channel_success, recipient);
}
void build_channel_failure(byte_vector& out, std::uint32_t recipient) {
    build_recipient(out, message::channel_failure, recipient);
}

}  // namespace burin::ssh
