// SSH packets, sealed and opened (RFC 4253 section 6, RFC 5647 with OpenSSH's reading of it, RFC
// 4344, RFC 6668; docs/wire.md section 4.5). A sealer and an opener each serve one direction of one
// connection under one key; the connection owns them, makes new ones at every NEWKEYS and never
// shares them between threads.
//
// Sealing is the copy: the payload is read once and its ciphertext written straight to where the
// socket will read it. Opening is done in place. The ciphers come from libraries, one or two source
// files a provider (packet_ipsec_mb.cc, packet_openssl.cc and packet_openssl_stream.cc, the same
// for wolfCrypt); which library serves is chosen once, at run time, by what the processor can do.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::crypto {

enum class cipher : std::uint8_t {
    none,
    aes128_gcm,
    aes256_gcm,
    chacha20_poly1305,
    aes128_ctr,
    aes192_ctr,
    aes256_ctr
};

// The name in KEXINIT ("aes128-gcm@openssh.com"), and back; no cipher has an unknown name.
std::string_view name_of(cipher value);
std::optional<cipher> cipher_named(std::string_view name);

// Octets of key and of initial vector that the key derivation must supply.
std::size_t key_size(cipher value);
std::size_t iv_size(cipher value);
// The cipher says itself whether a packet is genuine; a MAC is neither negotiated nor used.
bool authenticates(cipher value);
// Octets of payload that one key may carry in a direction before a new key exchange: 2^36 for AES,
// whose blocks have 16 octets (RFC 4344 section 3.2), 2^30 for chacha20, as OpenSSH and Go do.
std::uint64_t rekey_bytes(cipher value);

// What ctr needs beside it. `etm`: the MAC covers the ciphertext, and the length stays in clear.
enum class mac : std::uint8_t {
    none,
    hmac_sha2_256,
    hmac_sha2_512,
    hmac_sha2_256_etm,
    hmac_sha2_512_etm
};
std::string_view name_of(mac value);
std::optional<mac> mac_named(std::string_view name);
// Octets of its key, and as many of the MAC itself.
std::size_t mac_size(mac value);

// What protects the packets of one direction. The MAC belongs to ctr, and to no other cipher.
struct protection {
    cipher kind = cipher::none;
    mac integrity = mac::none;

    constexpr protection() = default;
    constexpr protection(cipher kind_, mac integrity_ = mac::none)
        : kind(kind_), integrity(integrity_) {}
    friend constexpr bool operator==(const protection&, const protection&) = default;
};
// For a log line: the cipher's name, and the MAC's behind a '+' where one serves.
std::string describe(protection value);

// `automatic` takes the fastest that this processor runs.
enum class provider : std::uint8_t { automatic, ipsec_mb, openssl, wolfcrypt };
std::string_view name_of(provider value);
// Built in, and usable on this processor (its self test passed).
bool available(provider value);
// The same for one cipher: libipsec-mb serves AES-GCM alone.
bool available(provider value, cipher kind);
// What `automatic` stands for in this process, for AES-GCM and for the others.
provider chosen_provider(cipher kind = cipher::aes128_gcm);

// The key material of one direction. Unused octets stay zero; all are wiped at the end.
struct cipher_keys {
    std::array<std::byte, 64> key{};
    std::array<std::byte, 16> iv{};
    std::array<std::byte, 64> mac_key{};

    cipher_keys() = default;
    cipher_keys(const cipher_keys&) = default;
    cipher_keys& operator=(const cipher_keys&) = default;
    ~cipher_keys();
};

// Octets around a payload, at most: length, padding length, padding and MAC.
inline constexpr std::size_t max_packet_overhead = 4 + 1 + 19 + 64;
// Largest packet_length accepted unless told otherwise: the value of both x/crypto and OpenSSH.
inline constexpr std::uint32_t default_max_packet_length = 262144;

class packet_sealer {
  public:
    packet_sealer(const packet_sealer&) = delete;
    packet_sealer& operator=(const packet_sealer&) = delete;
    virtual ~packet_sealer() = default;

    // Octets on the wire of a packet with `payload` octets, all included, minimum padding.
    virtual std::size_t sealed_size(std::size_t payload) const noexcept = 0;

    // Seals the packet whose payload is `head` followed by `body` (together not empty) and returns
    // sealed_size(head.size() + body.size()), the octets written; at most 2^28 of them. `out` has
    // that much room and overlaps neither. `head` is meant to be small: the message's own fields.
    // Padding is zero (its content is free; under encryption nobody sees it). `sequence` is the
    // packet's number, which GCM does not use; for the others it must go up by one each time.
    virtual std::size_t seal(std::uint32_t sequence, bytes_view head, bytes_view body,
                             std::byte* out) noexcept = 0;

  protected:
    packet_sealer() = default;
};

class packet_opener {
  public:
    struct opened {
        enum class status : std::uint8_t { complete, need_more, broken };
        status state = status::need_more;
        // complete: octets the packet took. need_more: octets it will take in all, 0 while its
        // length is not there yet (ctr may hide it in a block of 16). broken: 0.
        std::size_t wire_bytes = 0;
        // complete: the payload, inside the input.
        bytes_span payload;
        // broken: the rule that was violated, a fixed text for the log.
        const char* rule = nullptr;
    };

    packet_opener(const packet_opener&) = delete;
    packet_opener& operator=(const packet_opener&) = delete;
    virtual ~packet_opener() = default;

    // Looks at the front of `in` and opens the first packet in place once it is whole; `in` may
    // hold more. After need_more the same octets come again, with more behind them. After `broken`
    // the connection is lost: the octets may be half opened and the opener must not be used again.
    virtual opened open(std::uint32_t sequence, bytes_span in) noexcept = 0;

    // Largest packet_length accepted from now on; a longer one is refused before its octets arrive.
    // Never more than 2^28, which every cipher library counts without overflow.
    void limit(std::uint32_t max_packet_length) noexcept {
        _max_length = max_packet_length < 1u << 28 ? max_packet_length : 1u << 28;
    }

  protected:
    packet_opener() = default;
    std::uint32_t _max_length = default_max_packet_length;
};

// Nothing is returned when the provider does not have the cipher here, or a ctr cipher comes
// without a MAC or another cipher with one. For cipher::none the provider does not matter.
std::unique_ptr<packet_sealer> make_sealer(protection how, const cipher_keys& keys,
                                           provider from = provider::automatic);
std::unique_ptr<packet_opener> make_opener(protection how, const cipher_keys& keys,
                                           provider from = provider::automatic);

}  // namespace burin::crypto
