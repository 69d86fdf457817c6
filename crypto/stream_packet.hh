// The frames of chacha20-poly1305@openssh.com and of aes-ctr with a MAC (docs/wire.md section 4.5,
// RFC 4253 section 6, OpenSSH's PROTOCOL.chacha20poly1305), written once for all providers.
//
//   chacha20   encrypted length, encrypted (padding length, payload, padding), Poly1305 tag over
//              both; length and text under keys of their own, the packet's number is the nonce
//   ctr + mac  encrypted (length, padding length, payload, padding), MAC over number and clear text
//   ctr + etm  length in clear, encrypted (the same without it), MAC over number and what is sent
//
// A `Backend` is one library under one direction's keys. For chacha20:
//   length(sequence, out, in)     encrypts or decrypts the 4 octets of a length
//   begin(sequence)               the Poly1305 key is block 0, update() goes on from block 1
//   update(out, in, size)         the next octets of the text, in place or out of place
//   tag(octets, size, out)        Poly1305 over all of them
// For ctr:
//   update(out, in, size)         the next octets of the stream, which runs on across packets
//   mac_begin(sequence), mac_update(octets, size), mac_finish(out)
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "crypto/packet_frame.hh"
#include "crypto/secret.hh"

namespace burin::crypto {

inline constexpr std::size_t chacha_block = 64;
inline constexpr std::size_t chacha_pad_to = 8;
inline constexpr std::size_t chacha_key = 32;
inline constexpr std::size_t poly1305_tag = 16;
inline constexpr std::size_t aes_block = 16;
inline constexpr std::size_t longest_mac = 64;

inline bool is_etm(mac value) noexcept {
    return value == mac::hmac_sha2_256_etm || value == mac::hmac_sha2_512_etm;
}

namespace packet_frame {

inline constexpr const char* wrong_mac = "MAC does not match";

inline void put(std::byte* at, bytes_view bytes) noexcept {
    if (!bytes.empty()) std::memcpy(at, bytes.data(), bytes.size());
}

// Encrypts `size` octets to `text`: the first `front` stand there already, then comes the body,
// then zeros. A long body is read where it lies; both ends are rounded to cipher blocks by copying
// a few octets of it, so that the library never stops in the middle of one (gcm_packet.hh).
template <std::size_t block, class Backend>
void encrypt_through(Backend& backend, std::byte* text, std::size_t front, bytes_view body,
                     std::size_t size) noexcept {
    constexpr std::size_t gather_limit = 2048;
    const std::size_t lead = std::min((block - front % block) % block, body.size());
    const std::size_t middle = (body.size() - lead) & ~(block - 1);
    if (size <= gather_limit || middle == 0) {
        put(text + front, body);
        std::memset(text + front + body.size(), 0, size - front - body.size());
        backend.update(octets(text), octets(text), size);
        return;
    }
    const std::size_t first = front + lead;
    const std::size_t rest = body.size() - lead - middle;
    const std::size_t last = size - first - middle;
    put(text + front, body.first(lead));
    backend.update(octets(text), octets(text), first);
    backend.update(octets(text + first), octets(body.data() + lead), middle);
    std::byte* tail = text + first + middle;
    put(tail, body.last(rest));
    std::memset(tail + rest, 0, last - rest);
    backend.update(octets(tail), octets(tail), last);
}

}  // namespace packet_frame

template <class Backend>
class chacha_sealer final : public packet_sealer {
  public:
    explicit chacha_sealer(const cipher_keys& keys) : _backend(keys) {}

    std::size_t sealed_size(std::size_t payload) const noexcept override {
        return packet_frame::length_size + covered_size(payload) + poly1305_tag;
    }

    std::size_t seal(std::uint32_t sequence, bytes_view head, bytes_view body,
                     std::byte* out) noexcept override {
        using namespace packet_frame;
        const std::size_t payload = head.size() + body.size();
        const std::size_t covered = covered_size(payload);
        std::byte* text = out + length_size;
        store_u32(out, static_cast<std::uint32_t>(covered));
        text[0] = static_cast<std::byte>(covered - 1 - payload);
        put(text + 1, head);
        _backend.length(sequence, octets(out), octets(out));
        _backend.begin(sequence);
        encrypt_through<chacha_block>(_backend, text, 1 + head.size(), body, covered);
        _backend.tag(octets(out), length_size + covered, octets(text + covered));
        return length_size + covered + poly1305_tag;
    }

  private:
    static std::size_t covered_size(std::size_t payload) noexcept {
        return (1 + payload + packet_frame::min_padding + chacha_pad_to - 1) & ~(chacha_pad_to - 1);
    }
    Backend _backend;
};

template <class Backend>
class chacha_opener final : public packet_opener {
  public:
    explicit chacha_opener(const cipher_keys& keys) : _backend(keys) {}

    opened open(std::uint32_t sequence, bytes_span in) noexcept override {
        using namespace packet_frame;
        if (in.size() < length_size) return need_more(0);
        std::byte clear[length_size];
        _backend.length(sequence, octets(clear), octets(in.data()));
        const std::uint32_t length = load_u32(clear);
        if (length < chacha_pad_to) return broken(too_short);
        if (length > _max_length) return broken(too_long);
        if (length % chacha_pad_to) return broken(not_blocks);
        const std::size_t signed_size = length_size + length;
        const std::size_t whole = signed_size + poly1305_tag;
        if (in.size() < whole) return need_more(whole);
        std::byte computed[poly1305_tag];
        _backend.begin(sequence);
        _backend.tag(octets(in.data()), signed_size, octets(computed));
        if (!constant_time_equal(computed, in.subspan(signed_size, poly1305_tag)))
            return broken(wrong_mac);
        unsigned char* text = octets(in.data() + length_size);
        _backend.update(text, text, length);
        return unpad(in, length, whole);
    }

  private:
    Backend _backend;
};

template <class Backend>
class ctr_sealer final : public packet_sealer {
  public:
    ctr_sealer(protection how, const cipher_keys& keys)
        : _backend(how, keys), _etm(is_etm(how.integrity)), _mac(mac_size(how.integrity)) {}

    std::size_t sealed_size(std::size_t payload) const noexcept override {
        return packet_frame::length_size + covered_size(payload) + _mac;
    }

    std::size_t seal(std::uint32_t sequence, bytes_view head, bytes_view body,
                     std::byte* out) noexcept override {
        using namespace packet_frame;
        const std::size_t payload = head.size() + body.size();
        const std::size_t covered = covered_size(payload);
        const std::size_t padding = covered - 1 - payload;
        const std::size_t front = length_size + 1 + head.size();
        const std::size_t clear = _etm ? length_size : 0;
        store_u32(out, static_cast<std::uint32_t>(covered));
        out[length_size] = static_cast<std::byte>(padding);
        put(out + length_size + 1, head);
        if (!_etm) {
            static constexpr unsigned char zeros[256] = {};
            _backend.mac_begin(sequence);
            _backend.mac_update(octets(out), front);
            _backend.mac_update(octets(body.data()), body.size());
            _backend.mac_update(zeros, padding);
        }
        encrypt_through<aes_block>(_backend, out + clear, front - clear, body,
                                   length_size + covered - clear);
        std::byte* behind = out + length_size + covered;
        if (_etm) {
            _backend.mac_begin(sequence);
            _backend.mac_update(octets(out), length_size + covered);
        }
        _backend.mac_finish(octets(behind));
        return length_size + covered + _mac;
    }

  private:
    // What is encrypted is whole blocks; with `etm` the length is not among it.
    std::size_t covered_size(std::size_t payload) const noexcept {
        const std::size_t before = _etm ? 0 : packet_frame::length_size;
        const std::size_t least = before + 1 + payload + packet_frame::min_padding;
        return ((least + aes_block - 1) & ~(aes_block - 1)) - before;
    }
    Backend _backend;
    bool _etm;
    std::size_t _mac;
};

template <class Backend>
class ctr_opener final : public packet_opener {
  public:
    ctr_opener(protection how, const cipher_keys& keys)
        : _backend(how, keys), _etm(is_etm(how.integrity)), _mac(mac_size(how.integrity)) {}
    ~ctr_opener() override { wipe(_first); }

    opened open(std::uint32_t sequence, bytes_span in) noexcept override {
        return _etm ? open_etm(sequence, in) : open_clear(sequence, in);
    }

  private:
    opened open_etm(std::uint32_t sequence, bytes_span in) noexcept {
        using namespace packet_frame;
        if (in.size() < length_size) return need_more(0);
        const std::uint32_t length = load_u32(in.data());
        if (length < aes_block) return broken(too_short);
        if (length > _max_length) return broken(too_long);
        if (length % aes_block) return broken(not_blocks);
        const std::size_t whole = length_size + length + _mac;
        if (in.size() < whole) return need_more(whole);
        if (!genuine(sequence, in, length_size + length)) return broken(wrong_mac);
        unsigned char* text = octets(in.data() + length_size);
        _backend.update(text, text, length);
        return unpad(in, length, whole);
    }

    // The length is known once the first block is decrypted. The stream goes on behind it, so that
    // block is kept until the packet is whole.
    opened open_clear(std::uint32_t sequence, bytes_span in) noexcept {
        using namespace packet_frame;
        if (!_begun) {
            if (in.size() < aes_block) return need_more(0);
            _backend.update(octets(_first), octets(in.data()), aes_block);
            _begun = true;
        }
        const std::uint32_t length = load_u32(_first);
        if (length < aes_block - length_size) return broken(too_short);
        if (length > _max_length) return broken(too_long);
        if ((length_size + length) % aes_block) return broken(not_blocks);
        const std::size_t whole = length_size + length + _mac;
        if (in.size() < whole) return need_more(whole);
        std::memcpy(in.data(), _first, aes_block);
        unsigned char* text = octets(in.data() + aes_block);
        _backend.update(text, text, length_size + length - aes_block);
        _begun = false;
        if (!genuine(sequence, in, length_size + length)) return broken(wrong_mac);
        return unpad(in, length, whole);
    }

    bool genuine(std::uint32_t sequence, bytes_view in, std::size_t size) noexcept {
        std::byte computed[longest_mac];
        _backend.mac_begin(sequence);
        _backend.mac_update(octets(in.data()), size);
        _backend.mac_finish(octets(computed));
        return constant_time_equal(bytes_view(computed).first(_mac), in.subspan(size, _mac));
    }

    Backend _backend;
    bool _etm;
    std::size_t _mac;
    bool _begun = false;
    std::byte _first[aes_block] = {};
};

}  // namespace burin::crypto
