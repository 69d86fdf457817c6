// chacha20-poly1305 and aes-ctr with HMAC by wolfCrypt: the second opinion of the tests, and what
// serves where its GCM does.
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/chacha.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/poly1305.h>

#include "crypto/invariant.hh"
#include "crypto/stream_packet.hh"

namespace burin::crypto::wolfcrypt_provider {
namespace {

class chacha_backend {
  public:
    explicit chacha_backend(const cipher_keys& keys) {
        must_be(wc_Chacha_SetKey(&_text, octets(keys.key.data()), chacha_key), 0, "ChaCha20 key");
        must_be(wc_Chacha_SetKey(&_length, octets(keys.key.data() + chacha_key), chacha_key), 0,
                "ChaCha20 key");
    }
    chacha_backend(const chacha_backend&) = delete;
    chacha_backend& operator=(const chacha_backend&) = delete;
    ~chacha_backend() {
        wipe(&_text, sizeof _text);
        wipe(&_length, sizeof _length);
        wipe(&_mac, sizeof _mac);
    }

    void length(std::uint32_t sequence, unsigned char* out, const unsigned char* in) noexcept {
        start(_length, sequence);
        must_be(wc_Chacha_Process(&_length, out, in, packet_frame::length_size), 0, "ChaCha20");
    }
    void begin(std::uint32_t sequence) noexcept {
        std::byte block[chacha_block] = {};
        start(_text, sequence);
        update(octets(block), octets(block), sizeof block);
        must_be(wc_Poly1305SetKey(&_mac, octets(block), chacha_key), 0, "Poly1305 key");
        wipe(block);
    }
    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        must_be(wc_Chacha_Process(&_text, out, in, static_cast<word32>(size)), 0, "ChaCha20");
    }
    void tag(const unsigned char* in, std::size_t size, unsigned char* out) noexcept {
        must_be(wc_Poly1305Update(&_mac, in, static_cast<word32>(size)), 0, "Poly1305");
        must_be(wc_Poly1305Final(&_mac, out), 0, "Poly1305");
    }

  private:
    // The packet's number in 64 bits, behind four zeros; blocks are counted from 0.
    static void start(ChaCha& on, std::uint32_t sequence) noexcept {
        std::byte nonce[CHACHA_IV_BYTES] = {};
        store_u32(nonce + CHACHA_IV_BYTES - 4, sequence);
        must_be(wc_Chacha_SetIV(&on, octets(nonce), 0), 0, "nonce");
    }
    ChaCha _text{}, _length{};
    Poly1305 _mac{};
};

class ctr_backend {
  public:
    ctr_backend(protection how, const cipher_keys& keys) {
        must_be(wc_AesInit(&_aes, nullptr, INVALID_DEVID), 0, "AES");
        must_be(
            wc_AesSetKey(&_aes, octets(keys.key.data()), static_cast<word32>(key_size(how.kind)),
                         octets(keys.iv.data()), AES_ENCRYPTION),
            0, "AES key");
        const std::size_t size = mac_size(how.integrity);
        must_be(wc_HmacInit(&_hmac, nullptr, INVALID_DEVID), 0, "HMAC");
        must_be(wc_HmacSetKey(&_hmac, size == 64 ? int{WC_SHA512} : int{WC_SHA256},
                              octets(keys.mac_key.data()), static_cast<word32>(size)),
                0, "HMAC key");
    }
    ctr_backend(const ctr_backend&) = delete;
    ctr_backend& operator=(const ctr_backend&) = delete;
    ~ctr_backend() {
        wc_AesFree(&_aes);
        wc_HmacFree(&_hmac);
        wipe(&_aes, sizeof _aes);
        wipe(&_hmac, sizeof _hmac);
    }

    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        must_be(wc_AesCtrEncrypt(&_aes, out, in, static_cast<word32>(size)), 0, "AES");
    }
    // The library starts the next message by itself.
    void mac_begin(std::uint32_t sequence) noexcept {
        std::byte number[4];
        store_u32(number, sequence);
        mac_update(octets(number), sizeof number);
    }
    void mac_update(const unsigned char* in, std::size_t size) noexcept {
        if (size) must_be(wc_HmacUpdate(&_hmac, in, static_cast<word32>(size)), 0, "HMAC");
    }
    void mac_finish(unsigned char* out) noexcept { must_be(wc_HmacFinal(&_hmac, out), 0, "HMAC"); }

  private:
    Aes _aes;
    Hmac _hmac;
};

}  // namespace

std::unique_ptr<packet_sealer> make_chacha_sealer(const cipher_keys& keys) {
    return std::make_unique<chacha_sealer<chacha_backend>>(keys);
}
std::unique_ptr<packet_opener> make_chacha_opener(const cipher_keys& keys) {
    return std::make_unique<chacha_opener<chacha_backend>>(keys);
}
std::unique_ptr<packet_sealer> make_ctr_sealer(protection how, const cipher_keys& keys) {
    return std::make_unique<ctr_sealer<ctr_backend>>(how, keys);
}
std::unique_ptr<packet_opener> make_ctr_opener(protection how, const cipher_keys& keys) {
    return std::make_unique<ctr_opener<ctr_backend>>(how, keys);
}

}  // namespace burin::crypto::wolfcrypt_provider
