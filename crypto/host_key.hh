// The key by which a server is known (docs/wire.md sections 4.4, 6.1-6.3): ECDSA, Ed25519 or RSA,
// made at random, from chisel's seed, from a `ck-` text or from a key file. The object owns the
// private half and wipes it at the end; one is shared read-only by all workers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/rsa_key.hh"
#include "crypto/secret.hh"
#include "crypto/wire.hh"

namespace burin::crypto {

enum class host_key_kind : std::uint8_t { ecdsa_p256, ecdsa_p384, ecdsa_p521, ed25519, rsa };

class host_key {
  public:
    // A random key; chisel's default kind is P-256. RSA keys are not made here. Aborts only where
    // there is no entropy.
    static host_key generate(host_key_kind kind = host_key_kind::ecdsa_p256);
    // Chisel's deterministic key for --key SEED (docs/wire.md section 6.2), always P-256.
    static host_key from_seed(std::string_view seed);
    // From the private scalar (ECDSA, big-endian, 1..n-1, in 32, 48 or 66 octets) or the seed
    // (Ed25519, 32 octets). Nothing when it is not a valid key.
    static std::optional<host_key> from_private(host_key_kind kind, bytes_view secret);
    explicit host_key(rsa_private_key key);

    host_key_kind kind() const { return _kind; }
    // Name of the key type.
    std::string_view algorithm() const;
    // Names of the signatures that it makes, joined by commas: but for RSA that of the type.
    std::string_view signature_algorithms() const;
    // K_S: the public key blob.
    bytes_view blob() const { return _blob; }
    // Signature blob (string algorithm, string signature) over `data`, which is H in key exchange.
    // `with` is one of signature_algorithms(); by default the first.
    byte_vector sign(bytes_view data, std::string_view with = {}) const;
    // The `ck-` form: SEC1 DER for P-256. Empty for the others, for which chisel has none.
    std::string to_ck() const;

  private:
    host_key(host_key_kind kind, bytes_view secret, byte_vector blob);
    host_key_kind _kind;
    secret_bytes _secret;
    byte_vector _blob;
    // Instead of the secret.
    std::optional<rsa_private_key> _rsa;
};

// The result of reading a key: the key, or else one sentence that says why not.
struct host_key_reading {
    std::optional<host_key> key;
    std::string error;
};

// Text of a `ck-` key or of a PEM file: PRIVATE KEY, EC PRIVATE KEY, RSA PRIVATE KEY or OPENSSH
// PRIVATE KEY, without a pass phrase; ECDSA on the three NIST curves, Ed25519, or RSA of 2048 to
// 16384 bits. White space around it is tolerated.
host_key_reading parse_host_key(std::string_view text);

// --keyfile and CHISEL_KEY_FILE: an inline `ck-` key, or the name of a file with one of the above.
host_key_reading load_host_key(const std::string& name_or_key);

}  // namespace burin::crypto
