// WebSocket frames (RFC 6455 section 5; docs/wire.md section 3) as a codec without I/O.
//
// Message and frame boundaries mean nothing to SSH (docs/wire.md section 3.1): the reader takes the
// frame headers out of a buffer and leaves one contiguous run of payload in it, unmasked in place.
// The buffer belongs to the caller; the reader keeps counters only, no pointers, so the caller may
// move run and unread bytes to another buffer between two calls.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::http {

enum class opcode : std::uint8_t {
    continuation = 0,
    text = 1,
    binary = 2,
    close = 8,
    ping = 9,
    pong = 10
};

// Which end this is. Clients mask what they send, servers never do (RFC 6455 section 5.1).
enum class websocket_role : std::uint8_t { client, server };

// Two bytes, eight of length, four of mask key.
inline constexpr std::size_t max_frame_header = 14;
// What a control frame may carry (RFC 6455 section 5.5).
inline constexpr std::size_t max_control_payload = 125;

// Header bytes in front of `payload` bytes.
constexpr std::size_t frame_header_bytes(std::uint64_t payload, bool masked) noexcept {
    return 2u + (payload < 126 ? 0u : payload < 65536 ? 2u : 8u) + (masked ? 4u : 0u);
}

// Writes the header of a frame with FIN set to `out`, which has room for frame_header_bytes().
// `masked` is true for clients; the key is in memory order, and zero leaves the payload as it is: a
// receiver does not check it, and the payload is ciphertext anyway. Returns the bytes written.
std::size_t write_frame_header(std::byte* out, opcode, std::uint64_t payload, bool masked,
                               std::uint32_t mask_key = 0) noexcept;

// XORs the bytes with the key; `phase` is the offset of the first byte in its frame's payload, of
// which the lowest two bits count. `to` may lie before `from` and overlap it, never behind it.
void apply_mask(std::byte* to, const std::byte* from, std::size_t bytes, std::uint32_t mask_key,
                std::uint64_t phase = 0) noexcept;
inline void apply_mask(bytes_span bytes, std::uint32_t mask_key, std::uint64_t phase = 0) noexcept {
    apply_mask(bytes.data(), bytes.data(), bytes.size(), mask_key, phase);
}

enum class websocket_status : std::uint8_t {
    need_more,  // all was read but the beginning of a header or of a control frame
    ready,      // let the run be consumed, then call again: what follows would be moved otherwise
    closed,     // the peer's Close arrived; send take_reply(), then close
    failed,     // the peer broke a rule, error() names it; send take_reply(), then close
};

class websocket_reader {
  public:
    // Bytes of one message, before it is refused with 1009. Twice what Go sends at most
    // (docs/wire.md section 3.1): room for our own superframes, and a bound for strangers.
    static constexpr std::uint64_t default_message_limit = std::uint64_t{1} << 20;

    // Payload that SSH has not consumed yet.
    struct run {
        std::byte* begin;
        std::byte* end;
    };

    // `ours`: which end we are. A limit of 0 is none.
    explicit websocket_reader(websocket_role ours,
                              std::uint64_t message_limit = default_message_limit) noexcept
        : _limit(message_limit == 0 ? ~std::uint64_t{0} : message_limit),
          _mask_bit(ours == websocket_role::server ? 0x80 : 0),
          _ours(ours) {}

    // Reads frames from [raw, raw_end), which lies behind the run in the same buffer, and extends
    // the run by their payload. Afterwards `raw` points to what is unread: at most 130 bytes with
    // need_more; the next bytes from the network go behind raw_end. The run keeps its bytes but may
    // have moved: payload that follows it directly joins for free, an empty run restarts behind the
    // header, otherwise the shorter of the two is moved.
    websocket_status advance(run& ready, std::byte*& raw, std::byte* raw_end) noexcept;

    // A Pong or Close to send as it is; empty when there is none. Only the last of several pings is
    // answered (RFC 6455 section 5.5.3), so this is bounded. Valid until the next advance(), and
    // given out once.
    bytes_view take_reply() noexcept;

    // Why advance() failed; static text.
    std::string_view error() const noexcept { return _error; }

  private:
    struct header;
    websocket_status control(const header&, bytes_view payload) noexcept;
    websocket_status fail(std::uint16_t close_code, std::string_view rule) noexcept;
    void reply(opcode, bytes_view payload) noexcept;

    std::uint64_t _left = 0;     // payload bytes of the current data frame still to come
    std::uint64_t _phase = 0;    // payload bytes of the current frame already seen
    std::uint64_t _message = 0;  // payload bytes of the current message, as announced
    std::uint64_t _limit;
    std::uint32_t _key = 0;
    std::uint8_t _mask_bit;  // what the peer's frames must show
    websocket_role _ours;
    bool _in_message = false;  // FIN not seen yet: a continuation follows
    std::uint16_t _pong_bytes = 0;
    std::uint16_t _reply_bytes = 0;
    // A Pong and behind it a Close.
    std::array<std::byte, 2 * (6 + max_control_payload)> _reply;
    std::string_view _error;
};

}  // namespace burin::http
