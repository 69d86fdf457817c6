// The arithmetic of SSH's key exchange (RFC 4253 sections 7.2 and 8, RFC 8731; docs/wire.md section
// 4.4): an ephemeral curve25519 key, the exchange hash and the keys derived from both. The messages
// and their order are core/ssh's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "crypto/digest.hh"
#include "crypto/packet_cipher.hh"
#include "crypto/secret.hh"
#include "crypto/wire.hh"

namespace burin::crypto {

// An ephemeral X25519 key pair; serves one key exchange, its private half is wiped at the end.
class curve25519_key {
  public:
    static constexpr std::size_t size = 32;
    using public_bytes = std::array<std::byte, size>;

    // A fresh pair; aborts only where there is no entropy.
    static curve25519_key generate();
    // From a private scalar of 32 octets (RFC 7748; clamped here), else nothing; for published
    // vectors.
    static std::optional<curve25519_key> from_private(bytes_view scalar);

    // What travels as client_value or server_value.
    const public_bytes& public_key() const { return _public; }

    // The 32 octets of X25519. Nothing when the peer's value is not 32 octets long or the result is
    // all zero (RFC 8731 section 3: abort the exchange).
    std::optional<secret_bytes> agree(bytes_view peer) const;

  private:
    explicit curve25519_key(bytes_view scalar);
    secret_bytes _scalar;
    public_bytes _public{};
};

// `mpint` with its length word, of a non-negative big-endian number (RFC 4251 section 5).
void append_mpint(byte_vector& out, bytes_view magnitude);
// The same for a secret: K as the exchange hash and the key derivation take it.
secret_bytes encode_mpint(bytes_view magnitude);

// What both sides hash. Views only; version lines without CR LF, KEXINIT payloads from the byte 20
// on.
struct exchange_transcript {
    bytes_view client_version;
    bytes_view server_version;
    bytes_view client_kexinit;
    bytes_view server_kexinit;
    bytes_view host_key;
    bytes_view client_value;
    bytes_view server_value;
    // Already encoded, mpint or string as the method wants.
    bytes_view shared_secret;
};
// H with SHA-256, as every method implemented here has it.
sha256_digest exchange_hash(const exchange_transcript& transcript) noexcept;

// Key material of RFC 4253 section 7.2 for one letter 'A'..'F', any length, with SHA-256.
// `shared_secret` is encoded as above.
void derive(bytes_view shared_secret, bytes_view hash, bytes_view session_id, char letter,
            bytes_span out) noexcept;

enum class direction : std::uint8_t { client_to_server, server_to_client };
// Keys and initial vector for one direction, as long as the cipher and its MAC want them.
cipher_keys derive_keys(protection how, direction way, bytes_view shared_secret, bytes_view hash,
                        bytes_view session_id) noexcept;

}  // namespace burin::crypto
