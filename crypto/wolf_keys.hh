// wolfCrypt's key objects, initialised and freed with their scope. For the sources of this room
// only.
#pragma once

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/ed25519.h>

#include "crypto/invariant.hh"
#include "crypto/wire.hh"

namespace burin::crypto {

inline ::byte* wolf_octets(std::byte* at) {
    return reinterpret_cast<::byte*>(at);
}
inline const ::byte* wolf_octets(const std::byte* at) {
    return reinterpret_cast<const ::byte*>(at);
}
// wolfCrypt refuses a null pointer even for an empty message.
inline const ::byte* wolf_message(bytes_view message) {
    static constexpr ::byte none = 0;
    return message.empty() ? &none : wolf_octets(message.data());
}
inline word32 wolf_size(std::size_t size) {
    return static_cast<word32>(size);
}

class wolf_ecc {
  public:
    wolf_ecc() { must_be(wc_ecc_init(&_key), 0, "ECC key"); }
    ~wolf_ecc() { wc_ecc_free(&_key); }
    wolf_ecc(const wolf_ecc&) = delete;
    wolf_ecc& operator=(const wolf_ecc&) = delete;
    ecc_key* get() { return &_key; }

  private:
    ecc_key _key;
};

class wolf_ed25519 {
  public:
    wolf_ed25519() { must_be(wc_ed25519_init(&_key), 0, "Ed25519 key"); }
    ~wolf_ed25519() { wc_ed25519_free(&_key); }
    wolf_ed25519(const wolf_ed25519&) = delete;
    wolf_ed25519& operator=(const wolf_ed25519&) = delete;
    ed25519_key* get() { return &_key; }

  private:
    ed25519_key _key;
};

}  // namespace burin::crypto
