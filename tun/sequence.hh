// A TCP sequence number: 32 bits that wrap around (RFC 9293 section 3.4). Comparisons hold for two
// numbers less than 2^31 apart, which is what the window rules guarantee; a plain integer never
// takes part in one by accident.
#pragma once

#include <cstdint>

namespace burin::tun {

class sequence {
  public:
    constexpr sequence() noexcept = default;
    constexpr explicit sequence(std::uint32_t value) noexcept : _value(value) {}

    constexpr std::uint32_t value() const noexcept { return _value; }

    constexpr sequence& operator+=(std::uint32_t bytes) noexcept {
        _value += bytes;
        return *this;
    }
    friend constexpr sequence operator+(sequence at, std::uint32_t bytes) noexcept {
        return sequence(at._value + bytes);
    }
    friend constexpr sequence operator-(sequence at, std::uint32_t bytes) noexcept {
        return sequence(at._value - bytes);
    }
    // Bytes from b to a; negative when a lies before b.
    friend constexpr std::int32_t operator-(sequence a, sequence b) noexcept {
        return static_cast<std::int32_t>(a._value - b._value);
    }
    friend constexpr bool operator==(sequence a, sequence b) noexcept = default;
    friend constexpr bool operator<(sequence a, sequence b) noexcept { return a - b < 0; }
    friend constexpr bool operator>(sequence a, sequence b) noexcept { return a - b > 0; }
    friend constexpr bool operator<=(sequence a, sequence b) noexcept { return a - b <= 0; }
    friend constexpr bool operator>=(sequence a, sequence b) noexcept { return a - b >= 0; }

  private:
    std::uint32_t _value = 0;
};

}  // namespace burin::tun
