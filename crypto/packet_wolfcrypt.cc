// AES-GCM by wolfCrypt: needs nothing but C, so it runs anywhere; the distributions' builds are
// slow (0.13 GB/s), which is why the other two exist. It also is the third opinion of the tests.
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/aes.h>

#include "crypto/gcm_packet.hh"
#include "crypto/invariant.hh"

namespace burin::crypto::wolfcrypt_provider {
namespace {

constexpr std::size_t nonce_size = 12;

class backend {
  public:
    // Not every build has wolfCrypt's calls for parts, and beside this cipher a copy costs nothing.
    static constexpr std::size_t gather_limit = gather_always;

    backend(cipher kind, const cipher_keys& keys) {
        must_be(wc_AesInit(&_aes, nullptr, INVALID_DEVID), 0, "AES");
        must_be(
            wc_AesGcmSetKey(&_aes, octets(keys.key.data()), static_cast<word32>(key_size(kind))), 0,
            "AES-GCM key");
    }
    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() {
        wc_AesFree(&_aes);
        wipe(&_aes, sizeof _aes);
    }

    void once(const unsigned char* nonce, const unsigned char* aad, unsigned char* text,
              std::size_t size, unsigned char* tag) noexcept {
        must_be(wc_AesGcmEncrypt(&_aes, text, text, static_cast<word32>(size), nonce, nonce_size,
                                 tag, gcm_tag, aad, packet_frame::length_size),
                0, "seal");
    }
    bool open(const unsigned char* nonce, const unsigned char* aad, unsigned char* text,
              std::size_t size, const unsigned char* tag) noexcept {
        return wc_AesGcmDecrypt(&_aes, text, text, static_cast<word32>(size), nonce, nonce_size,
                                tag, gcm_tag, aad, packet_frame::length_size) == 0;
    }

  private:
    Aes _aes;
};

}  // namespace

std::unique_ptr<packet_sealer> make_gcm_sealer(cipher kind, const cipher_keys& keys) {
    return std::make_unique<gcm_sealer<backend>>(kind, keys);
}

std::unique_ptr<packet_opener> make_gcm_opener(cipher kind, const cipher_keys& keys) {
    return std::make_unique<gcm_opener<backend>>(kind, keys);
}

}  // namespace burin::crypto::wolfcrypt_provider
