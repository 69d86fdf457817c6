// Standard base64 (RFC 4648 section 4), padded and unpadded.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::crypto {

enum class base64_padding : std::uint8_t { padded, unpadded };

std::string base64(bytes_view bytes, base64_padding padding = base64_padding::padded);

// Strict: the alphabet only (CR and LF are skipped, as Go's decoder does), right padding for the
// kind asked for, nothing behind it. Unused trailing bits are not looked at, as in Go.
std::optional<byte_vector> from_base64(std::string_view text,
                                       base64_padding padding = base64_padding::padded);

}  // namespace burin::crypto
