// AES-GCM by Intel's multi-buffer library, through its direct calls: a key schedule, a context and
// plain functions, which the library picks for the processor once. Nothing is queued.
#include "crypto/gcm_packet.hh"

#ifdef BURIN_HAVE_IPSEC_MB

#include <intel-ipsec-mb.h>

namespace burin::crypto::ipsec_mb_provider {
namespace {

// The functions for one key size. Copied out of the manager, which is never touched again: all
// threads may call them at once, each on its own key and context.
struct functions {
    aes_gcm_pre_t schedule;
    aes_gcm_enc_dec_t seal;
    aes_gcm_enc_dec_t open;
    aes_gcm_init_t begin;
    aes_gcm_enc_dec_update_t update;
    aes_gcm_enc_dec_finalize_t finish;
};

struct library {
    bool usable = false;
    functions aes128{};
    functions aes256{};
};

library load() noexcept {
    // Lives as long as the process: threads may still be sealing while it exits.
    static IMB_MGR* manager = alloc_mb_mgr(0);
    if (!manager) return {};
    init_mb_mgr_auto(manager, nullptr);
    if (imb_get_errno(manager) != 0) return {};
    if (!(manager->features & IMB_FEATURE_AESNI)) return {};
#ifdef IMB_FEATURE_SELF_TEST
    if ((manager->features & IMB_FEATURE_SELF_TEST) &&
        !(manager->features & IMB_FEATURE_SELF_TEST_PASS))
        return {};
#endif
    return {
        .usable = true,
        .aes128 = {manager->gcm128_pre, manager->gcm128_enc, manager->gcm128_dec,
                   manager->gcm128_init, manager->gcm128_enc_update, manager->gcm128_enc_finalize},
        .aes256 = {manager->gcm256_pre, manager->gcm256_enc, manager->gcm256_dec,
                   manager->gcm256_init, manager->gcm256_enc_update, manager->gcm256_enc_finalize}};
}

const library& loaded() noexcept {
    static const library instance = load();
    return instance;
}

class backend {
  public:
    // Up to here one call over a gathered copy beats five calls over the parts: 63 against 90 ns at
    // 64 octets, 278 against 315 at 512, 514 against 548 at 1024; at 2048 they are equal, from 4096
    // on the parts win. And memcpy must stay below 2 KB: beyond, it becomes `rep movsb`, which on
    // AMD drops from 50 to 2 GB/s when the target lies 1 to 31 octets behind the source, modulo
    // 4096.
    static constexpr std::size_t gather_limit = 1024;

    backend(cipher kind, const cipher_keys& keys)
        : _functions(kind == cipher::aes128_gcm ? loaded().aes128 : loaded().aes256) {
        _functions.schedule(keys.key.data(), &_key);
    }
    backend(const backend&) = delete;
    backend& operator=(const backend&) = delete;
    ~backend() {
        wipe(&_key, sizeof _key);
        wipe(&_context, sizeof _context);
    }

    void once(const unsigned char* nonce, const unsigned char* aad, unsigned char* text,
              std::size_t size, unsigned char* tag) noexcept {
        _functions.seal(&_key, &_context, text, text, size, nonce, aad, packet_frame::length_size,
                        tag, gcm_tag);
    }
    void begin(const unsigned char* nonce, const unsigned char* aad) noexcept {
        _functions.begin(&_key, &_context, nonce, aad, packet_frame::length_size);
    }
    void update(unsigned char* out, const unsigned char* in, std::size_t size) noexcept {
        _functions.update(&_key, &_context, out, in, size);
    }
    void finish(unsigned char* tag) noexcept { _functions.finish(&_key, &_context, tag, gcm_tag); }
    bool open(const unsigned char* nonce, const unsigned char* aad, unsigned char* text,
              std::size_t size, const unsigned char* tag) noexcept {
        std::byte computed[gcm_tag];
        _functions.open(&_key, &_context, text, text, size, nonce, aad, packet_frame::length_size,
                        octets(computed), gcm_tag);
        return constant_time_equal(computed,
                                   bytes_view{reinterpret_cast<const std::byte*>(tag), gcm_tag});
    }

  private:
    // The library reads the schedule with aligned loads.
    alignas(64) gcm_key_data _key;
    alignas(64) gcm_context_data _context;
    functions _functions;
};

}  // namespace

bool available() noexcept {
    return loaded().usable;
}

std::unique_ptr<packet_sealer> make_gcm_sealer(cipher kind, const cipher_keys& keys) {
    if (!available()) return nullptr;
    return std::make_unique<gcm_sealer<backend>>(kind, keys);
}

std::unique_ptr<packet_opener> make_gcm_opener(cipher kind, const cipher_keys& keys) {
    if (!available()) return nullptr;
    return std::make_unique<gcm_opener<backend>>(kind, keys);
}

}  // namespace burin::crypto::ipsec_mb_provider

#else

namespace burin::crypto::ipsec_mb_provider {

bool available() noexcept {
    return false;
}
std::unique_ptr<packet_sealer> make_gcm_sealer(cipher, const cipher_keys&) {
    return nullptr;
}
std::unique_ptr<packet_opener> make_gcm_opener(cipher, const cipher_keys&) {
    return nullptr;
}

}  // namespace burin::crypto::ipsec_mb_provider

#endif
