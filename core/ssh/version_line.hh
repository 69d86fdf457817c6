// The line with which each side opens SSH (RFC 4253 section 4.2; docs/wire.md sections 4.1 and
// 11.1). chisel's lines are not `SSH-2.0-...`, and OpenSSH takes nothing else: hence the dialects.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/ssh/transport.hh"
#include "crypto/wire.hh"

namespace burin::ssh {

// The longest line accepted, CR LF included.
inline constexpr std::size_t max_version_line_bytes = 255;

// What we send, without CR LF; this form goes into the exchange hash.
std::string_view own_version(role side, dialect speaks);

struct version_reading {
    enum class status : std::uint8_t { complete, need_more, broken };
    status state = status::need_more;
    // complete: the bytes that the line took, its end included.
    std::size_t taken = 0;
    // complete: without CR LF, inside the input. broken: what there was of it.
    std::string_view line;
    // broken: the rule that was violated.
    const char* rule = nullptr;
};

// Reads the peer's line from the front of the input, which may hold more. Lines before it are
// refused: servers may send some (RFC 4253), but neither chisel nor OpenSSH does.
version_reading read_version(bytes_view in, dialect speaks);

}  // namespace burin::ssh
