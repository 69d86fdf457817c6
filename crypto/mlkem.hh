// ML-KEM-768 (FIPS 203) by OpenSSL, which has it from 3.5 on: fetched by its name at run time, so
// that one source builds with every OpenSSL 3. Half of mlkem768x25519-sha256 (docs/wire.md
// section 4.4).
#pragma once

#include <cstddef>
#include <memory>
#include <optional>

#include "crypto/secret.hh"
#include "crypto/wire.hh"

struct evp_pkey_st;

namespace burin::crypto {

// An ephemeral key pair of the side that decapsulates.
class mlkem768 {
  public:
    static constexpr std::size_t public_size = 1184;
    static constexpr std::size_t ciphertext_size = 1088;
    static constexpr std::size_t secret_size = 32;

    // Everything below is for where this holds; it stays as it is while the process lives.
    static bool available();

    // A fresh pair.
    mlkem768();

    bytes_view public_key() const { return _public; }
    // Nothing when the ciphertext has a wrong size. A ciphertext that belongs to another key gives
    // a secret that nobody else has (FIPS 203 section 6.3).
    std::optional<secret_bytes> decapsulate(bytes_view ciphertext) const;

    struct enclosed {
        byte_vector ciphertext;
        secret_bytes secret;
    };
    // A fresh secret for whoever has the private half. Nothing when the public key is not valid
    // (its size, and the check of FIPS 203 section 7.2).
    static std::optional<enclosed> encapsulate(bytes_view public_key);

  private:
    struct free_key {
        void operator()(evp_pkey_st*) const;
    };
    std::unique_ptr<evp_pkey_st, free_key> _key;
    byte_vector _public;
};

}  // namespace burin::crypto
