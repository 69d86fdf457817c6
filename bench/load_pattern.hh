// The bytes that the load generator sends: one seeded pattern, repeated without end, so that a
// receiver can check every byte with a memcmp at memory speed. The period is a prime, so a piece
// that is lost, doubled, moved by a packet, a buffer or a page, or that belongs to another stream
// (each stream starts elsewhere) does not match.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

namespace load {

inline constexpr std::size_t pattern_period = 262139;  // the largest prime below 256 KiB
inline constexpr std::size_t largest_piece = 262144;   // bytes of one send or one recv
inline constexpr std::uint64_t no_position = ~std::uint64_t{0};

// splitmix64: a seed becomes well-mixed words.
inline std::uint64_t mix(std::uint64_t& state) noexcept {
    std::uint64_t word = (state += 0x9e3779b97f4a7c15);
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
    word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
    return word ^ (word >> 31);
}

// Owns the pattern of one seed, laid out so that any piece of up to largest_piece bytes is
// contiguous.
class pattern {
  public:
    explicit pattern(std::uint64_t seed)
        : _bytes(std::make_unique<std::uint8_t[]>(pattern_period + largest_piece)), _seed(seed) {
        std::uint64_t state = seed;
        std::uint8_t* out = _bytes.get();
        for (std::size_t at = 0; at < pattern_period; at += 8) {
            const std::uint64_t word = mix(state);
            std::memcpy(out + at, &word, std::min<std::size_t>(8, pattern_period - at));
        }
        for (std::size_t at = pattern_period; at < pattern_period + largest_piece;) {
            const std::size_t piece = std::min(pattern_period, pattern_period + largest_piece - at);
            std::memcpy(out + at, out, piece);
            at += piece;
        }
    }

    std::uint64_t seed() const noexcept { return _seed; }

    // The bytes of the endless stream from `position` on; at least largest_piece of them may be
    // read.
    const std::uint8_t* at(std::uint64_t position) const noexcept {
        return _bytes.get() + position % pattern_period;
    }

    // The first position in [position, position + size) whose byte in `data` differs, or
    // no_position.
    std::uint64_t first_difference(std::uint64_t position, const std::uint8_t* data,
                                   std::size_t size) const noexcept {
        while (size > 0) {
            const std::size_t piece = std::min(size, largest_piece);
            const std::uint8_t* want = at(position);
            if (std::memcmp(want, data, piece) != 0)
                return position + static_cast<std::uint64_t>(
                                      std::mismatch(data, data + piece, want).first - data);
            position += piece;
            data += piece;
            size -= piece;
        }
        return no_position;
    }

  private:
    std::unique_ptr<std::uint8_t[]> _bytes;
    std::uint64_t _seed;
};

}  // namespace load
