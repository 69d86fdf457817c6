// The only source of chance in the simulation: one seed, one sequence of numbers, one run.
#pragma once

#include <cstdint>

namespace sim {

constexpr std::uint64_t mix(std::uint64_t value) {
    value += 0x9e3779b97f4a7c15;
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
    value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
    return value ^ (value >> 31);
}

class random {
  public:
    explicit random(std::uint64_t seed) : _state(mix(seed)) {}

    std::uint64_t next() { return mix(_state += 0x9e3779b97f4a7c15); }
    // From low to high, both possible.
    std::uint64_t between(std::uint64_t low, std::uint64_t high) {
        return low + next() % (high - low + 1);
    }
    // True `parts` times out of a million.
    bool chance(std::uint32_t parts_per_million) { return next() % 1'000'000 < parts_per_million; }
    bool coin() { return (next() & 1) != 0; }

  private:
    std::uint64_t _state;
};

// What a stream carries: every byte follows from stream and offset, so any byte can be checked
// alone. Eight of them come from one number.
inline std::uint64_t pattern_word(std::uint64_t stream, std::uint64_t word) {
    return mix(stream * 0x100000001b3 + word);
}
inline std::uint8_t pattern(std::uint64_t stream, std::uint64_t offset) {
    return static_cast<std::uint8_t>(pattern_word(stream, offset / 8) >> (offset % 8 * 8));
}
inline void fill_pattern(std::uint8_t* out, std::uint64_t count, std::uint64_t stream,
                         std::uint64_t offset) {
    std::uint64_t word = 0;
    for (std::uint64_t i = 0; i < count; ++i, ++offset) {
        if (i == 0 || offset % 8 == 0) word = pattern_word(stream, offset / 8);
        out[i] = static_cast<std::uint8_t>(word >> (offset % 8 * 8));
    }
}
inline bool is_pattern(const std::uint8_t* in, std::uint64_t count, std::uint64_t stream,
                       std::uint64_t offset) {
    std::uint64_t word = 0;
    for (std::uint64_t i = 0; i < count; ++i, ++offset) {
        if (i == 0 || offset % 8 == 0) word = pattern_word(stream, offset / 8);
        if (in[i] != static_cast<std::uint8_t>(word >> (offset % 8 * 8))) return false;
    }
    return true;
}

}  // namespace sim
