// Fuzz targets: functions from bytes to nothing that end the process when a promise is broken. A
// target is one file of this folder; how it is driven is another's: libFuzzer (libfuzzer.cc, a
// program a target, with clang) looks for inputs, replay.cc (one program of all, with any compiler)
// runs those that are kept.
//
// A target gives the same result for the same input, whatever ran before, and checks more than that
// nothing crashes: that chunks of any size come to the same, that what was written is read again,
// that what is refused is refused for a reason.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string_view>

#include "crypto/wire.hh"

namespace fuzz {

using burin::byte_vector;
using burin::bytes_span;
using burin::bytes_view;

struct target {
    using function = void (*)(bytes_view input);

    // `covers`: the sources, from the top, of which the kept inputs must reach most lines; with
    // blanks between. Registers itself; lives as long as the program.
    target(std::string_view name_, function run_, std::string_view covers_);

    std::string_view name;
    function run;
    std::string_view covers;
};
std::span<const target* const> targets();

// A promise of the code under test. `what` says what was promised.
inline void check(bool holds, const char* what) {
    if (holds) [[likely]]
        return;
    std::fprintf(stderr, "fuzz: broken promise: %s\n", what);
    std::abort();
}

// An input as a script: numbers and pieces off its front. When it is at its end, zeros and nothing.
class script {
  public:
    explicit script(bytes_view input) : _left(input) {}

    bool over() const { return _left.empty(); }
    std::uint8_t byte() {
        if (_left.empty()) return 0;
        const auto value = static_cast<std::uint8_t>(_left[0]);
        _left = _left.subspan(1);
        return value;
    }
    // Below `count`, which is 1 to 256.
    unsigned pick(unsigned count) { return byte() % count; }
    std::uint32_t u16() {
        const std::uint32_t high = byte();
        return high << 8 | byte();
    }
    std::uint32_t u32() {
        const std::uint32_t high = u16();
        return high << 16 | u16();
    }
    // At most so many bytes.
    bytes_view take(std::size_t most) {
        const bytes_view part = _left.first(std::min(most, _left.size()));
        _left = _left.subspan(part.size());
        return part;
    }
    bytes_view rest() { return take(_left.size()); }

  private:
    bytes_view _left;
};

// A copy in memory of exactly its size, so that a sanitizer sees every step beyond its ends.
inline byte_vector exact(bytes_view bytes) {
    byte_vector out(bytes.begin(), bytes.end());
    out.shrink_to_fit();
    return out;
}

// Cuts bytes into chunks whose sizes follow from a number: all at once, one by one, or mixed.
class cutter {
  public:
    explicit cutter(std::uint32_t seed) : _state(seed) {}
    std::size_t next(std::size_t left) {
        if (left == 0) return 0;
        switch (_state & 3) {
            case 0: return left;
            case 1: return 1;
            default: break;
        }
        _mixed = _mixed * 1664525 + (_state | 1);
        const std::size_t most = (_mixed >> 28) == 0 ? 5000 : 1 + (_mixed >> 24) % 64;
        return std::min<std::size_t>(left, 1 + (_mixed >> 8) % most);
    }

  private:
    std::uint32_t _state;
    std::uint32_t _mixed = 1;
};

inline bool equal(bytes_view a, bytes_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace fuzz
