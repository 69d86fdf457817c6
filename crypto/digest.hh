// Digests by wolfCrypt: SHA-256, SHA-384 and SHA-512 for SSH and seeds, SHA-1 for WebSocket's
// accept value (RFC 6455 section 4.2.2), MD5 for the legacy form of fingerprints only.
#pragma once

#include <array>
#include <cstddef>
#include <initializer_list>

#include "crypto/wire.hh"

namespace burin::crypto {

using sha1_digest = std::array<std::byte, 20>;
using sha256_digest = std::array<std::byte, 32>;
using sha384_digest = std::array<std::byte, 48>;
using sha512_digest = std::array<std::byte, 64>;
using md5_digest = std::array<std::byte, 16>;

// Each over the pieces in order, as if they were one. They cannot fail short of a broken library,
// which aborts.
sha1_digest sha1(std::initializer_list<bytes_view> pieces) noexcept;
sha256_digest sha256(std::initializer_list<bytes_view> pieces) noexcept;
sha384_digest sha384(std::initializer_list<bytes_view> pieces) noexcept;
sha512_digest sha512(std::initializer_list<bytes_view> pieces) noexcept;
md5_digest md5(bytes_view bytes) noexcept;

inline sha1_digest sha1(bytes_view bytes) noexcept {
    return sha1({bytes});
}
inline sha256_digest sha256(bytes_view bytes) noexcept {
    return sha256({bytes});
}
inline sha384_digest sha384(bytes_view bytes) noexcept {
    return sha384({bytes});
}
inline sha512_digest sha512(bytes_view bytes) noexcept {
    return sha512({bytes});
}

}  // namespace burin::crypto
