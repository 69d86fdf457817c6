// The key by which a server is known (docs/wire.md sections 4.4, 6.1-6.3): ECDSA P-256 or Ed25519,
// made at random, from chisel's seed, from a `ck-` text or from a key file. The object owns the
// private half and wipes it at the end; one is shared read-only by all workers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/secret.hh"
#include "crypto/wire.hh"

namespace burin::crypto {

enum class host_key_kind : std::uint8_t { ecdsa_p256, ed25519 };

class host_key {
  public:
    // A random key; chisel's default kind is P-256. Aborts only where there is no entropy.
    static host_key generate(host_key_kind kind = host_key_kind::ecdsa_p256);
    // Chisel's deterministic key for --key SEED (docs/wire.md section 6.2), always P-256.
    static host_key from_seed(std::string_view seed);
    // From the private scalar (P-256, 32 octets big-endian, 1..n-1) or the seed (Ed25519, 32
    // octets). Nothing when it is not a valid key.
    static std::optional<host_key> from_private(host_key_kind kind, bytes_view secret);

    host_key_kind kind() const { return _kind; }
    // Name of the key type, which is also that of its signatures.
    std::string_view algorithm() const;
    // K_S: the public key blob.
    bytes_view blob() const { return _blob; }
    // Signature blob (string algorithm, string signature) over `data`, which is H in key exchange.
    byte_vector sign(bytes_view data) const;
    // The `ck-` form: SEC1 DER for P-256. Empty for Ed25519, for which chisel has none.
    std::string to_ck() const;

  private:
    host_key(host_key_kind kind, bytes_view secret, byte_vector blob);
    host_key_kind _kind;
    secret_bytes _secret;
    byte_vector _blob;
};

// The result of reading a key: the key, or else one sentence that says why not.
struct host_key_reading {
    std::optional<host_key> key;
    std::string error;
};

// Text of a `ck-` key or of a PEM file: EC PRIVATE KEY, PRIVATE KEY, OPENSSH PRIVATE KEY, without a
// pass phrase, P-256 or Ed25519. White space around it is tolerated.
host_key_reading parse_host_key(std::string_view text);

// --keyfile and CHISEL_KEY_FILE: an inline `ck-` key, or the name of a file with one of the above.
host_key_reading load_host_key(const std::string& name_or_key);

}  // namespace burin::crypto
