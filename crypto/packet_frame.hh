// What the packets of all ciphers have in common (RFC 4253 section 6), and what the providers'
// files offer to packet_cipher.cc.
#pragma once

#include <cstdint>
#include <memory>

#include "crypto/packet_cipher.hh"

namespace burin::crypto {

// Checks that every packet needs, whatever its cipher.
namespace packet_frame {

inline constexpr std::size_t length_size = 4;
inline constexpr std::size_t min_padding = 4;
using opened = packet_opener::opened;

inline opened broken(const char* rule) noexcept {
    return {.state = opened::status::broken, .wire_bytes = 0, .payload = {}, .rule = rule};
}
inline opened need_more(std::size_t wire_bytes) noexcept {
    return {.state = opened::status::need_more,
            .wire_bytes = wire_bytes,
            .payload = {},
            .rule = nullptr};
}

// What padding_length says about the `length` octets behind the length word at the front of `in`.
inline opened unpad(bytes_span in, std::uint32_t length, std::size_t wire_bytes) noexcept {
    auto padding = std::to_integer<std::size_t>(in[length_size]);
    if (padding < min_padding) return broken("padding is shorter than 4");
    if (padding + 1 > length) return broken("padding is longer than the packet");
    if (padding + 1 == length) return broken("payload is empty");
    return {.state = opened::status::complete,
            .wire_bytes = wire_bytes,
            .payload = in.subspan(length_size + 1, length - 1 - padding),
            .rule = nullptr};
}

inline constexpr const char* too_short = "packet_length is too small";
inline constexpr const char* too_long = "packet_length is above the limit";
inline constexpr const char* not_blocks = "packet_length is not a multiple of the block size";

}  // namespace packet_frame

inline unsigned char* octets(std::byte* at) {
    return reinterpret_cast<unsigned char*>(at);
}
inline const unsigned char* octets(const std::byte* at) {
    return reinterpret_cast<const unsigned char*>(at);
}

// What each provider's files offer; the pointers are empty where the library is not to be had.
namespace ipsec_mb_provider {
bool available() noexcept;
std::unique_ptr<packet_sealer> make_gcm_sealer(cipher kind, const cipher_keys& keys);
std::unique_ptr<packet_opener> make_gcm_opener(cipher kind, const cipher_keys& keys);
}  // namespace ipsec_mb_provider
namespace openssl_provider {
std::unique_ptr<packet_sealer> make_gcm_sealer(cipher kind, const cipher_keys& keys);
std::unique_ptr<packet_opener> make_gcm_opener(cipher kind, const cipher_keys& keys);
std::unique_ptr<packet_sealer> make_chacha_sealer(const cipher_keys& keys);
std::unique_ptr<packet_opener> make_chacha_opener(const cipher_keys& keys);
std::unique_ptr<packet_sealer> make_ctr_sealer(protection how, const cipher_keys& keys);
std::unique_ptr<packet_opener> make_ctr_opener(protection how, const cipher_keys& keys);
}  // namespace openssl_provider
namespace wolfcrypt_provider {
std::unique_ptr<packet_sealer> make_gcm_sealer(cipher kind, const cipher_keys& keys);
std::unique_ptr<packet_opener> make_gcm_opener(cipher kind, const cipher_keys& keys);
std::unique_ptr<packet_sealer> make_chacha_sealer(const cipher_keys& keys);
std::unique_ptr<packet_opener> make_chacha_opener(const cipher_keys& keys);
std::unique_ptr<packet_sealer> make_ctr_sealer(protection how, const cipher_keys& keys);
std::unique_ptr<packet_opener> make_ctr_opener(protection how, const cipher_keys& keys);
}  // namespace wolfcrypt_provider

}  // namespace burin::crypto
