// chacha20-poly1305 and aes-ctr with HMAC by OpenSSL's libcrypto. Contexts are made once a key. EVP
// has no AEAD with SSH's second key for the length, so ChaCha20 and Poly1305 come apart from it.
//
// HMAC of OpenSSL 3.0 copies its keyed digest for each message, and that allocates, twice a packet;
// that of 3.5 does not, and neither does chacha20-poly1305 in either.
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "crypto/invariant.hh"
#include "crypto/stream_packet.hh"

namespace burin::crypto::openssl_provider {
namespace {

// An EVP_CIPHER_CTX with a key; wipes the key schedule at its end.
class stream {
  public:
    stream(const EVP_CIPHER* algorithm, const std::byte* key, const unsigned char* iv)
        : _context(EVP_CIPHER_CTX_new()) {
        if (!_context) library_failed("out of memory");
        must_be(EVP_EncryptInit_ex(_context, algorithm, nullptr, octets(key), iv), 1, "cipher key");
    }
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;
    ~stream() { EVP_CIPHER_CTX_free(_context); }

    void restart(const unsigned char* iv) noexcept {
        must_be(EVP_EncryptInit_ex(_context, nullptr, nullptr, nullptr, iv), 1, "nonce");
    }
    // Both ciphers do the same in both directions.
    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        int done;
        if (!size) return;
        must_be(EVP_EncryptUpdate(_context, out, &done, in, static_cast<int>(size)), 1, "cipher");
    }

  private:
    EVP_CIPHER_CTX* _context;
};

// An EVP_MAC_CTX. HMAC keeps its key from one message to the next, Poly1305 gets one for each.
class message_mac {
  public:
    explicit message_mac(const char* name) {
        EVP_MAC* algorithm = EVP_MAC_fetch(nullptr, name, nullptr);
        if (!algorithm) library_failed(name);
        _context = EVP_MAC_CTX_new(algorithm);
        EVP_MAC_free(algorithm);
        if (!_context) library_failed("out of memory");
    }
    message_mac(const message_mac&) = delete;
    message_mac& operator=(const message_mac&) = delete;
    ~message_mac() { EVP_MAC_CTX_free(_context); }

    void key(const std::byte* key, std::size_t size, const OSSL_PARAM* parameters) noexcept {
        must_be(EVP_MAC_init(_context, octets(key), size, parameters), 1, "MAC key");
    }
    void restart() noexcept { must_be(EVP_MAC_init(_context, nullptr, 0, nullptr), 1, "MAC"); }
    void update(const unsigned char* in, std::size_t size) noexcept {
        if (size) must_be(EVP_MAC_update(_context, in, size), 1, "MAC");
    }
    void finish(unsigned char* out, std::size_t size) noexcept {
        std::size_t written = 0;
        must_be(EVP_MAC_final(_context, out, &written, size), 1, "MAC");
    }

  private:
    EVP_MAC_CTX* _context;
};

class chacha_backend {
  public:
    explicit chacha_backend(const cipher_keys& keys)
        : _text(EVP_chacha20(), keys.key.data(), nullptr),
          _length(EVP_chacha20(), keys.key.data() + chacha_key, nullptr),
          _mac("POLY1305") {}

    void length(std::uint32_t sequence, unsigned char* out, const unsigned char* in) noexcept {
        start(_length, sequence);
        _length.update(out, in, packet_frame::length_size);
    }
    void begin(std::uint32_t sequence) noexcept {
        std::byte block[chacha_block] = {};
        start(_text, sequence);
        _text.update(octets(block), octets(block), sizeof block);
        _mac.key(block, chacha_key, nullptr);
        wipe(block);
    }
    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        _text.update(out, in, size);
    }
    void tag(const unsigned char* in, std::size_t size, unsigned char* out) noexcept {
        _mac.update(in, size);
        _mac.finish(out, poly1305_tag);
    }

  private:
    // The library's 16 octets are a little-endian block counter of 32 bits, then the nonce: the
    // packet's number in 64 bits behind four zeros.
    static void start(stream& on, std::uint32_t sequence) noexcept {
        std::byte iv[16] = {};
        store_u32(iv + 12, sequence);
        on.restart(octets(iv));
    }
    stream _text, _length;
    message_mac _mac;
};

class ctr_backend {
  public:
    ctr_backend(protection how, const cipher_keys& keys)
        : _stream(algorithm(how.kind), keys.key.data(), octets(keys.iv.data())),
          _mac("HMAC"),
          _size(mac_size(how.integrity)) {
        // The library takes the name as char*, and only reads it.
        char digest[] = "SHA2-256";
        if (_size == 64) std::memcpy(digest, "SHA2-512", sizeof digest);
        const OSSL_PARAM parameters[] = {
            OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
            OSSL_PARAM_construct_end()};
        _mac.key(keys.mac_key.data(), _size, parameters);
    }

    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        _stream.update(out, in, size);
    }
    void mac_begin(std::uint32_t sequence) noexcept {
        std::byte number[4];
        store_u32(number, sequence);
        _mac.restart();
        _mac.update(octets(number), sizeof number);
    }
    void mac_update(const unsigned char* in, std::size_t size) noexcept { _mac.update(in, size); }
    void mac_finish(unsigned char* out) noexcept { _mac.finish(out, _size); }

  private:
    static const EVP_CIPHER* algorithm(cipher kind) {
        return kind == cipher::aes128_ctr   ? EVP_aes_128_ctr()
               : kind == cipher::aes192_ctr ? EVP_aes_192_ctr()
                                            : EVP_aes_256_ctr();
    }
    stream _stream;
    message_mac _mac;
    std::size_t _size;
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

}  // namespace burin::crypto::openssl_provider
