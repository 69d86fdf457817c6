// Echo requests and what came of them, as they travel between our own ends (docs/wire.md section
// 13.2): one writer and one reader for both directions. Without I/O.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crypto/wire.hh"
#include "tun/flow_key.hh"

namespace burin::relay {

// The longest data of an echo that is carried, in bytes: that of a jumbo frame.
inline constexpr std::size_t most_echo_bytes = 9000;
// A whole message, its length included.
inline constexpr std::size_t most_echo_message_bytes = 2 + 1 + 4 + 16 + most_echo_bytes;

struct echo_message {
    enum class kind : std::uint8_t {
        malformed,      // breaks the rules of the wire; nothing else counts
        unknown,        // of a later version: ignored
        request,        // `to`, `data`
        answered,       // by the destination, with `data`
        unreachable,    // a router, or the server's own routes, know no way
        prohibited,     // the same: it is forbidden
        hops_exceeded,  // on the way
    };
    kind what = kind::malformed;
    std::uint32_t number = 0;  // the client's name for the request, in the answer too
    tun::flow_address to;
    bytes_view data;
};

// What write_echo() fills. `message` is neither malformed nor unknown, its data at most
// most_echo_bytes.
std::size_t echo_message_bytes(const echo_message&) noexcept;
void write_echo(std::byte* at, const echo_message&) noexcept;

// Finds messages in a stream that is cut anywhere.
class echo_reader {
  public:
    // False: there is no whole message yet. The message's data points into `left`, which is moved
    // behind it, or, when assembled() says so, into the reader until the next call. After one that
    // is malformed the stream has no further meaning.
    bool next(bytes_view& left, echo_message& out) noexcept;
    bool assembled() const noexcept { return _whole; }

  private:
    // What is missing of the first `wanted` bytes of a cut message; false: there are not enough.
    bool take(std::size_t wanted, bytes_view& left) noexcept;

    byte_vector _part;
    bool _whole = false;  // `_part` is a message that was given out
};

}  // namespace burin::relay
