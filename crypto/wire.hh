// SSH's wire types (RFC 4251 section 5; docs/wire.md section 0): one reader and one writer for
// every message and key blob. It lives in crypto/, the lowest room that needs it, because key blobs
// are made of these types; core/ssh uses the same two.
//
// The reader never throws and never reads past its end: the first failure is sticky, later reads
// give zeros and empty views, and ok() tells once at the end. Views point into the bytes given.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace burin {

using bytes_view = std::span<const std::byte>;
using bytes_span = std::span<std::byte>;
using byte_vector = std::vector<std::byte>;

inline bytes_view as_bytes(std::string_view text) {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
inline std::string_view as_text(bytes_view bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Big-endian integers at an address; the caller has checked the room.
inline std::uint32_t load_u32(const std::byte* at) {
    std::uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return __builtin_bswap32(value);
}
inline void store_u32(std::byte* at, std::uint32_t value) {
    value = __builtin_bswap32(value);
    std::memcpy(at, &value, sizeof value);
}

namespace wire {

class reader {
  public:
    explicit reader(bytes_view bytes) : _left(bytes) {}

    std::uint8_t byte() {
        if (!need(1)) return 0;
        auto value = static_cast<std::uint8_t>(_left[0]);
        _left = _left.subspan(1);
        return value;
    }
    bool boolean() { return byte() != 0; }
    std::uint32_t u32() {
        if (!need(4)) return 0;
        std::uint32_t value = load_u32(_left.data());
        _left = _left.subspan(4);
        return value;
    }
    // `string`: four bytes of length, then that many bytes; a view into the input.
    bytes_view string() {
        std::uint32_t size = u32();
        if (!need(size)) return {};
        bytes_view value = _left.first(size);
        _left = _left.subspan(size);
        return value;
    }
    std::string_view text() { return as_text(string()); }
    // Everything that is left, without a length of its own.
    bytes_view rest() {
        bytes_view value = _left;
        _left = {};
        return value;
    }
    std::size_t left() const { return _left.size(); }
    bool ok() const { return _ok; }
    // True when all was read and nothing was missing.
    bool done() const { return _ok && _left.empty(); }

  private:
    bool need(std::size_t size) {
        if (_ok && _left.size() >= size) return true;
        _ok = false;
        _left = {};
        return false;
    }
    bytes_view _left;
    bool _ok = true;
};

// Appends to a vector that the caller owns.
class writer {
  public:
    explicit writer(byte_vector& out) : _out(out) {}

    writer& byte(std::uint8_t value) {
        _out.push_back(static_cast<std::byte>(value));
        return *this;
    }
    writer& boolean(bool value) { return byte(value ? 1 : 0); }
    writer& u32(std::uint32_t value) {
        std::byte four[4];
        store_u32(four, value);
        return raw(four);
    }
    writer& raw(bytes_view bytes) {
        // Not insert(): GCC 12 sees an overflow in its inlined growth that is not there.
        std::size_t before = _out.size();
        _out.resize(before + bytes.size());
        if (!bytes.empty()) std::memcpy(_out.data() + before, bytes.data(), bytes.size());
        return *this;
    }
    writer& string(bytes_view bytes) {
        u32(static_cast<std::uint32_t>(bytes.size()));
        return raw(bytes);
    }
    writer& string(std::string_view text) { return string(as_bytes(text)); }

  private:
    byte_vector& _out;
};

}  // namespace wire
}  // namespace burin
