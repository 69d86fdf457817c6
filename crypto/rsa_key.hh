// RSA keys (RFC 4253 section 6.6) and their signatures rsa-sha2-256 and rsa-sha2-512 (RFC 8332), by
// OpenSSL: distributions' builds of wolfCrypt stop at 4096 bits. Signatures with SHA-1, which bear
// the name `ssh-rsa`, are neither made nor accepted.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

#include "crypto/secret.hh"
#include "crypto/wire.hh"

struct evp_pkey_st;

namespace burin::crypto {

// The name of the key type, in blobs.
inline constexpr std::string_view rsa_type = "ssh-rsa";
inline constexpr std::string_view rsa_sha2_256 = "rsa-sha2-256";
inline constexpr std::string_view rsa_sha2_512 = "rsa-sha2-512";

// OpenSSH's bounds; shorter ones can be factored, longer ones only cost time.
inline constexpr std::size_t min_rsa_bits = 2048;
inline constexpr std::size_t max_rsa_bits = 16384;
inline constexpr const char* rsa_out_of_bounds = "an RSA key must have 2048 to 16384 bits";

// Why a blob of type ssh-rsa is refused, a fixed text; null when it is fine.
const char* rsa_problem(bytes_view blob);

// `algorithm` is one of the two names above; anything else, and malformed input, is just false.
bool rsa_verify(bytes_view blob, std::string_view algorithm, bytes_view signature, bytes_view data);

struct free_rsa {
    void operator()(evp_pkey_st* key) const;
};
// OpenSSL wipes the private parts when it frees the key.
using rsa_handle = std::unique_ptr<evp_pkey_st, free_rsa>;

// A whole key pair; may sign from several threads at once.
class rsa_private_key {
  public:
    // An OpenSSL key of type RSA. Nothing, and `problem` says why, when it is out of bounds, or
    // what it signs does not hold against its own public half.
    static std::optional<rsa_private_key> adopt(rsa_handle key, const char*& problem);
    // The parts, big-endian, as OpenSSH's key files hold them.
    struct parts {
        bytes_view n, e, d, p, q, q_inverse;
    };
    static std::optional<rsa_private_key> from_parts(const parts& from, const char*& problem);

    // K_S, or a user's key: string type, mpint e, mpint n.
    bytes_view blob() const { return _blob; }
    // The octets of the signature, as long as the modulus.
    byte_vector sign(std::string_view algorithm, bytes_view data) const;

  private:
    rsa_private_key(rsa_handle key, byte_vector blob);
    rsa_handle _key;
    byte_vector _blob;
};

}  // namespace burin::crypto
