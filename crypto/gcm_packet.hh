// The frame of an AES-GCM packet (docs/wire.md section 4.5), written once for all providers: a
// 4-octet length in clear that is also the additional data, then padding length, payload and
// padding under the cipher, then the 16-octet tag. The nonce is 12 octets whose last 8 count
// packets.
//
// A `Backend` is one library's AES-GCM under one key:
//   constexpr gather_limit             up to how many covered octets to gather before one call
//   once(nonce, aad, text, size, tag)  seals in place with one call
//   begin, update, finish              the same in parts; update works in place or out of place
//   open(nonce, aad, text, size, tag)  opens in place; false when the tag does not match
// A backend without parts sets gather_limit to gather_always.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "crypto/packet_frame.hh"
#include "crypto/secret.hh"

namespace burin::crypto {

inline constexpr std::size_t gcm_block = 16;
inline constexpr std::size_t gcm_tag = 16;
inline constexpr std::size_t gather_always = std::numeric_limits<std::size_t>::max();

// 4 fixed octets, then a 64-bit big-endian counter (RFC 5647 section 7.1).
class gcm_nonce {
  public:
    explicit gcm_nonce(const cipher_keys& keys) { std::memcpy(_octets, keys.iv.data(), 12); }
    const unsigned char* octets() const { return _octets; }
    void advance() {
        std::uint64_t count;
        std::memcpy(&count, _octets + 4, sizeof count);
        count = __builtin_bswap64(__builtin_bswap64(count) + 1);
        std::memcpy(_octets + 4, &count, sizeof count);
    }

  private:
    unsigned char _octets[12];
};

template <class Backend>
class gcm_sealer final : public packet_sealer {
  public:
    gcm_sealer(cipher kind, const cipher_keys& keys) : _backend(kind, keys), _nonce(keys) {}

    std::size_t sealed_size(std::size_t payload) const noexcept override {
        return packet_frame::length_size + covered_size(payload) + gcm_tag;
    }

    std::size_t seal(std::uint32_t, bytes_view head, bytes_view body,
                     std::byte* out) noexcept override {
        std::size_t payload = head.size() + body.size();
        std::size_t covered = covered_size(payload);
        std::size_t padding = covered - 1 - payload;
        store_u32(out, static_cast<std::uint32_t>(covered));
        std::byte* text = out + packet_frame::length_size;
        text[0] = static_cast<std::byte>(padding);
        put(text + 1, head);

        if constexpr (Backend::gather_limit != gather_always) {
            if (covered > Backend::gather_limit) {
                seal_in_parts(head.size(), body, out, covered);
                _nonce.advance();
                return packet_frame::length_size + covered + gcm_tag;
            }
        }
        put(text + 1 + head.size(), body);
        std::memset(text + 1 + payload, 0, padding);
        _backend.once(_nonce.octets(), octets(out), octets(text), covered, octets(text + covered));
        _nonce.advance();
        return packet_frame::length_size + covered + gcm_tag;
    }

  private:
    static std::size_t covered_size(std::size_t payload) noexcept {
        return (1 + payload + packet_frame::min_padding + gcm_block - 1) & ~(gcm_block - 1);
    }
    static void put(std::byte* at, bytes_view bytes) noexcept {
        if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
    }

    // The body is read where it lies. Both ends are rounded to cipher blocks by copying a few
    // octets of it, so that the library never stops in the middle of a block: it comes within 1 to
    // 10 % of one call over contiguous text, which calls split where the head ends do not always.
    void seal_in_parts(std::size_t head, bytes_view body, std::byte* out,
                       std::size_t covered) noexcept {
        std::byte* text = out + packet_frame::length_size;
        std::size_t first = (1 + head + gcm_block - 1) & ~(gcm_block - 1);
        std::size_t lead = std::min(first - 1 - head, body.size());
        std::size_t middle = (body.size() - lead) & ~(gcm_block - 1);
        std::size_t rest = body.size() - lead - middle;
        std::size_t last = covered - first - middle;
        put(text + 1 + head, body.first(lead));
        // A body that ends within the first block leaves padding there.
        std::memset(text + 1 + head + lead, 0, first - 1 - head - lead);

        _backend.begin(_nonce.octets(), octets(out));
        _backend.update(octets(text), octets(text), first);
        _backend.update(octets(text + first), octets(body.data() + lead), middle);
        std::byte* tail = text + first + middle;
        put(tail, body.last(rest));
        std::memset(tail + rest, 0, last - rest);
        _backend.update(octets(tail), octets(tail), last);
        _backend.finish(octets(text + covered));
    }

    Backend _backend;
    gcm_nonce _nonce;
};

template <class Backend>
class gcm_opener final : public packet_opener {
  public:
    gcm_opener(cipher kind, const cipher_keys& keys) : _backend(kind, keys), _nonce(keys) {}

    opened open(std::uint32_t, bytes_span in) noexcept override {
        using namespace packet_frame;
        if (in.size() < length_size) return need_more(0);
        std::uint32_t length = load_u32(in.data());
        if (length < gcm_block) return broken(too_short);
        if (length > _max_length) return broken(too_long);
        if (length % gcm_block) return broken(not_blocks);
        std::size_t whole = length_size + length + gcm_tag;
        if (in.size() < whole) return need_more(whole);
        std::byte* text = in.data() + length_size;
        if (!_backend.open(_nonce.octets(), octets(in.data()), octets(text), length,
                           octets(text + length)))
            return broken("MAC does not match");
        _nonce.advance();
        return unpad(in, length, whole);
    }

  private:
    Backend _backend;
    gcm_nonce _nonce;
};

}  // namespace burin::crypto
