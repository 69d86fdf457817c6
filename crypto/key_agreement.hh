// The methods of key exchange that are implemented (docs/wire.md section 4.4; RFC 8731, RFC 5656
// section 4, draft-ietf-sshm-mlkem-hybrid-kex), behind one face: what the client sends, what the
// server answers, and K, encoded as the exchange hash and the key derivation take it. All of them
// hash with SHA-256.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/secret.hh"
#include "crypto/wire.hh"

namespace burin::crypto {

enum class key_exchange_method : std::uint8_t { mlkem768_x25519, curve25519, ecdh_nistp256 };

// Nothing for a name that is not known, or whose method is not at hand.
std::optional<key_exchange_method> key_exchange_named(std::string_view name);
// ML-KEM-768 is at hand where OpenSSL has it (3.5 and later), found at run time.
bool available(key_exchange_method method);
// The names of all that are at hand, joined by commas: ML-KEM first, as Go and OpenSSH have it.
const std::string& key_exchange_names();

// The client's half: an ephemeral key pair, or two. Wiped at its end.
class key_offer {
  public:
    // For a method that is at hand. Aborts only where there is no entropy.
    static std::unique_ptr<key_offer> make(key_exchange_method method);

    key_offer(const key_offer&) = delete;
    key_offer& operator=(const key_offer&) = delete;
    virtual ~key_offer() = default;

    // client_value, as it travels.
    virtual bytes_view value() const = 0;
    // K. Nothing when the server's value is none of this method.
    virtual std::optional<secret_bytes> finish(bytes_view server_value) const = 0;

  protected:
    key_offer() = default;
};

// The server's half, at once.
struct key_answer {
    byte_vector value;
    secret_bytes secret;
};
// Nothing when the client's value is none of this method, or the method is not at hand.
std::optional<key_answer> answer_key_offer(key_exchange_method method, bytes_view client_value);

// K of the hybrid: a `string` with the hash of both secrets.
secret_bytes hybrid_secret(bytes_view mlkem_secret, bytes_view x25519_secret);

}  // namespace burin::crypto
