// AES-GCM by OpenSSL's libcrypto: a context is made once a key and gets only a new nonce a packet.
// Serves wherever libipsec-mb does not.
#include <openssl/evp.h>

#include "crypto/gcm_packet.hh"
#include "crypto/invariant.hh"

namespace burin::crypto::openssl_provider {
namespace {

class backend {
  public:
    // A call costs more here than with libipsec-mb, so gathering pays for longer; memcpy must stay
    // below 2 KB all the same (packet_ipsec_mb.cc).
    static constexpr std::size_t gather_limit = 2048;

    backend(cipher kind, const cipher_keys& keys) : _context(EVP_CIPHER_CTX_new()) {
        if (!_context) library_failed("out of memory");
        const EVP_CIPHER* algorithm =
            kind == cipher::aes128_gcm ? EVP_aes_128_gcm() : EVP_aes_256_gcm();
        // The direction is set with each nonce; key and schedule serve both.
        must_be(
            EVP_CipherInit_ex(_context, algorithm, nullptr,
                              reinterpret_cast<const unsigned char*>(keys.key.data()), nullptr, 1),
            1, "AES-GCM key");
    }
    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    // Wipes the key schedule.
    ~backend() { EVP_CIPHER_CTX_free(_context); }

    void once(const unsigned char* nonce, const unsigned char* aad, unsigned char* text,
              std::size_t size, unsigned char* tag) noexcept {
        begin(nonce, aad);
        update(text, text, size);
        finish(tag);
    }
    void begin(const unsigned char* nonce, const unsigned char* aad) noexcept {
        int done;
        must_be(EVP_EncryptInit_ex(_context, nullptr, nullptr, nullptr, nonce), 1, "nonce");
        must_be(EVP_EncryptUpdate(_context, nullptr, &done, aad, packet_frame::length_size), 1,
                "additional data");
    }
    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        int done;
        if (!size) return;
        must_be(EVP_EncryptUpdate(_context, out, &done, in, static_cast<int>(size)), 1, "seal");
    }
    void finish(unsigned char* tag) noexcept {
        int done;
        unsigned char none[gcm_block];
        must_be(EVP_EncryptFinal_ex(_context, none, &done), 1, "seal");
        must_be(EVP_CIPHER_CTX_ctrl(_context, EVP_CTRL_AEAD_GET_TAG, gcm_tag, tag), 1, "tag");
    }
    bool open(const unsigned char* nonce, const unsigned char* aad, unsigned char* text,
              std::size_t size, unsigned char* tag) noexcept {
        int done;
        unsigned char none[gcm_block];
        must_be(EVP_DecryptInit_ex(_context, nullptr, nullptr, nullptr, nonce), 1, "nonce");
        must_be(EVP_DecryptUpdate(_context, nullptr, &done, aad, packet_frame::length_size), 1,
                "additional data");
        if (EVP_DecryptUpdate(_context, text, &done, text, static_cast<int>(size)) != 1)
            return false;
        must_be(EVP_CIPHER_CTX_ctrl(_context, EVP_CTRL_AEAD_SET_TAG, gcm_tag, tag), 1, "tag");
        return EVP_DecryptFinal_ex(_context, none, &done) == 1;
    }

  private:
    EVP_CIPHER_CTX* _context;
};

}  // namespace

std::unique_ptr<packet_sealer> make_gcm_sealer(cipher kind, const cipher_keys& keys) {
    return std::make_unique<gcm_sealer<backend>>(kind, keys);
}

std::unique_ptr<packet_opener> make_gcm_opener(cipher kind, const cipher_keys& keys) {
    return std::make_unique<gcm_opener<backend>>(kind, keys);
}

}  // namespace burin::crypto::openssl_provider
