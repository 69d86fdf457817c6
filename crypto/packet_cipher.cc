#include "crypto/packet_cipher.hh"

#include "crypto/gcm_packet.hh"
#include "crypto/random.hh"

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

}  // namespace

cipher_keys::~cipher_keys() {
    wipe(key);
    wipe(iv);
}

std::string_view name_of(cipher value) {
    switch (value) {
        case cipher::none: return "none";
        case cipher::aes128_gcm: return "aes128-gcm@openssh.com";
        case cipher::aes256_gcm: return "aes256-gcm@openssh.com";
    }
    return {};
}

std::optional<cipher> cipher_named(std::string_view name) {
    for (cipher value : {cipher::none, cipher::aes128_gcm, cipher::aes256_gcm})
        if (name == name_of(value)) return value;
    return {};
}

std::size_t key_size(cipher value) {
    switch (value) {
        case cipher::none: return 0;
        case cipher::aes128_gcm: return 16;
        case cipher::aes256_gcm: return 32;
    }
    return 0;
}

std::size_t iv_size(cipher value) {
    return value == cipher::none ? 0 : 12;
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

provider chosen_provider() {
    return ipsec_mb_provider::available() ? provider::ipsec_mb : provider::openssl;
}

std::unique_ptr<packet_sealer> make_sealer(cipher kind, const cipher_keys& keys, provider from) {
    if (kind == cipher::none) return std::make_unique<clear_sealer>();
    if (from == provider::automatic) from = chosen_provider();
    switch (from) {
        case provider::ipsec_mb: return ipsec_mb_provider::make_sealer(kind, keys);
        case provider::openssl: return openssl_provider::make_sealer(kind, keys);
        case provider::wolfcrypt: return wolfcrypt_provider::make_sealer(kind, keys);
        case provider::automatic: break;
    }
    return nullptr;
}

std::unique_ptr<packet_opener> make_opener(cipher kind, const cipher_keys& keys, provider from) {
    if (kind == cipher::none) return std::make_unique<clear_opener>();
    if (from == provider::automatic) from = chosen_provider();
    switch (from) {
        case provider::ipsec_mb: return ipsec_mb_provider::make_opener(kind, keys);
        case provider::openssl: return openssl_provider::make_opener(kind, keys);
        case provider::wolfcrypt: return wolfcrypt_provider::make_opener(kind, keys);
        case provider::automatic: break;
    }
    return nullptr;
}

}  // namespace burin::crypto
