#include "crypto/packet_cipher.hh"

#include <cstring>

#include "crypto/stream_packet.hh"

namespace burin::crypto {
namespace {

// Packets before the first NEWKEYS. The whole packet is a multiple of 16, as x/crypto makes it
// (8 would do); a received one must be a multiple of 8 (RFC 4253 section 6).
constexpr std::size_t clear_pad_to = 16;
constexpr std::size_t clear_block = 8;

std::size_t clear_size(std::size_t payload) {
    using namespace packet_frame;
    return (length_size + 1 + payload + min_padding + clear_pad_to - 1) & ~(clear_pad_to - 1);
}

class clear_sealer final : public packet_sealer {
  public:
    std::size_t sealed_size(std::size_t payload) const noexcept override {
        return clear_size(payload);
    }
    std::size_t seal(std::uint32_t, bytes_view head, bytes_view body,
                     std::byte* out) noexcept override {
        using packet_frame::length_size;
        std::size_t payload = head.size() + body.size();
        std::size_t whole = clear_size(payload);
        std::size_t padding = whole - length_size - 1 - payload;
        store_u32(out, static_cast<std::uint32_t>(whole - length_size));
        out[length_size] = static_cast<std::byte>(padding);
        std::byte* at = out + length_size + 1;
        for (bytes_view part : {head, body}) {
            if (part.empty()) continue;
            std::memcpy(at, part.data(), part.size());
            at += part.size();
        }
        std::memset(at, 0, padding);
        return whole;
    }
};

class clear_opener final : public packet_opener {
  public:
    opened open(std::uint32_t, bytes_span in) noexcept override {
        using namespace packet_frame;
        if (in.size() < length_size) return need_more(0);
        std::uint32_t length = load_u32(in.data());
        // Padding length, one octet of payload and the least padding.
        if (length < 1 + 1 + min_padding) return broken(too_short);
        if (length > _max_length) return broken(too_long);
        if ((length_size + length) % clear_block) return broken(not_blocks);
        std::size_t whole = length_size + length;
        if (in.size() < whole) return need_more(whole);
        return unpad(in, length, whole);
    }
};

// A ctr cipher wants a MAC, the others have none; and the provider must have the cipher.
bool possible(protection how, provider from) {
    return authenticates(how.kind) == (how.integrity == mac::none) && available(from, how.kind);
}

}  // namespace

cipher_keys::~cipher_keys() {
    wipe(key);
    wipe(iv);
    wipe(mac_key);
}

std::string_view name_of(cipher value) {
    switch (value) {
        case cipher::none: return "none";
        case cipher::aes128_gcm: return "aes128-gcm@openssh.com";
        case cipher::aes256_gcm: return "aes256-gcm@openssh.com";
        case cipher::chacha20_poly1305: return "chacha20-poly1305@openssh.com";
        case cipher::aes128_ctr: return "aes128-ctr";
        case cipher::aes192_ctr: return "aes192-ctr";
        case cipher::aes256_ctr: return "aes256-ctr";
    }
    return {};
}

std::optional<cipher> cipher_named(std::string_view name) {
    for (cipher value :
         {cipher::none, cipher::aes128_gcm, cipher::aes256_gcm, cipher::chacha20_poly1305,
          cipher::aes128_ctr, cipher::aes192_ctr, cipher::aes256_ctr})
        if (name == name_of(value)) return value;
    return {};
}

std::size_t key_size(cipher value) {
    switch (value) {
        case cipher::none: return 0;
        case cipher::aes128_gcm:
        case cipher::aes128_ctr: return 16;
        case cipher::aes192_ctr: return 24;
        case cipher::aes256_gcm:
        case cipher::aes256_ctr: return 32;
        case cipher::chacha20_poly1305: return 2 * chacha_key;
    }
    return 0;
}

std::size_t iv_size(cipher value) {
    switch (value) {
        case cipher::none:
        case cipher::chacha20_poly1305: return 0;
        case cipher::aes128_gcm:
        case cipher::aes256_gcm: return 12;
        case cipher::aes128_ctr:
        case cipher::aes192_ctr:
        case cipher::aes256_ctr: return aes_block;
    }
    return 0;
}

bool authenticates(cipher value) {
    return value != cipher::aes128_ctr && value != cipher::aes192_ctr &&
           value != cipher::aes256_ctr;
}

std::uint64_t rekey_bytes(cipher value) {
    return std::uint64_t{1} << (value == cipher::chacha20_poly1305 ? 30 : 36);
}

std::string_view name_of(mac value) {
    switch (value) {
        case mac::none: return "none";
        case mac::hmac_sha2_256: return "hmac-sha2-256";
        case mac::hmac_sha2_512: return "hmac-sha2-512";
        case mac::hmac_sha2_256_etm: return "hmac-sha2-256-etm@openssh.com";
        case mac::hmac_sha2_512_etm: return "hmac-sha2-512-etm@openssh.com";
    }
    return {};
}

std::optional<mac> mac_named(std::string_view name) {
    for (mac value :
         {mac::hmac_sha2_256, mac::hmac_sha2_512, mac::hmac_sha2_256_etm, mac::hmac_sha2_512_etm})
        if (name == name_of(value)) return value;
    return {};
}

std::size_t mac_size(mac value) {
    switch (value) {
        case mac::none: return 0;
        case mac::hmac_sha2_256:
        case mac::hmac_sha2_256_etm: return 32;
        case mac::hmac_sha2_512:
        case mac::hmac_sha2_512_etm: return 64;
    }
    return 0;
}

std::string describe(protection value) {
    std::string out(name_of(value.kind));
    if (value.integrity != mac::none) out.append("+").append(name_of(value.integrity));
    return out;
}

std::string_view name_of(provider value) {
    switch (value) {
        case provider::automatic: return "automatic";
        case provider::ipsec_mb: return "ipsec-mb";
        case provider::openssl: return "openssl";
        case provider::wolfcrypt: return "wolfcrypt";
    }
    return {};
}

bool available(provider value) {
    return value != provider::ipsec_mb || ipsec_mb_provider::available();
}

bool available(provider value, cipher kind) {
    const bool gcm = kind == cipher::aes128_gcm || kind == cipher::aes256_gcm;
    return available(value) && (value != provider::ipsec_mb || gcm);
}

provider chosen_provider(cipher kind) {
    return available(provider::ipsec_mb, kind) ? provider::ipsec_mb : provider::openssl;
}

std::unique_ptr<packet_sealer> make_sealer(protection how, const cipher_keys& keys, provider from) {
    if (how == protection{}) return std::make_unique<clear_sealer>();
    if (from == provider::automatic) from = chosen_provider(how.kind);
    if (!possible(how, from)) return nullptr;
    const bool chacha = how.kind == cipher::chacha20_poly1305;
    const bool ctr = !authenticates(how.kind);
    switch (from) {
        case provider::ipsec_mb: return ipsec_mb_provider::make_gcm_sealer(how.kind, keys);
        case provider::openssl:
            return chacha ? openssl_provider::make_chacha_sealer(keys)
                   : ctr  ? openssl_provider::make_ctr_sealer(how, keys)
                          : openssl_provider::make_gcm_sealer(how.kind, keys);
        case provider::wolfcrypt:
            return chacha ? wolfcrypt_provider::make_chacha_sealer(keys)
                   : ctr  ? wolfcrypt_provider::make_ctr_sealer(how, keys)
                          : wolfcrypt_provider::make_gcm_sealer(how.kind, keys);
        case provider::automatic: break;
    }
    return nullptr;
}

std::unique_ptr<packet_opener> make_opener(protection how, const cipher_keys& keys, provider from) {
    if (how == protection{}) return std::make_unique<clear_opener>();
    if (from == provider::automatic) from = chosen_provider(how.kind);
    if (!possible(how, from)) return nullptr;
    const bool chacha = how.kind == cipher::chacha20_poly1305;
    const bool ctr = !authenticates(how.kind);
    switch (from) {
        case provider::ipsec_mb: return ipsec_mb_provider::make_gcm_opener(how.kind, keys);
        case provider::openssl:
            return chacha ? openssl_provider::make_chacha_opener(keys)
                   : ctr  ? openssl_provider::make_ctr_opener(how, keys)
                          : openssl_provider::make_gcm_opener(how.kind, keys);
        case provider::wolfcrypt:
            return chacha ? wolfcrypt_provider::make_chacha_opener(keys)
                   : ctr  ? wolfcrypt_provider::make_ctr_opener(how, keys)
                          : wolfcrypt_provider::make_gcm_opener(how.kind, keys);
        case provider::automatic: break;
    }
    return nullptr;
}

}  // namespace burin::crypto
