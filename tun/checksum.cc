#include "tun/checksum.hh"

#include <bit>
#include <cstring>

namespace burin::tun {
namespace {

std::uint64_t load_native(const std::byte* at) noexcept {
    std::uint64_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

}  // namespace

std::uint64_t checksum_add(bytes_view bytes, std::uint64_t sum) noexcept {
    // A one's complement sum does not depend on the byte order it is taken in (RFC 1071 section
    // 2 B), so whole words are added as they lie, and only the folded result is swapped. Halves of
    // a word go to two accumulators: carries need no flag, and the loop vectorises.
    std::uint64_t low[4] = {};
    std::uint64_t high[4] = {};
    const std::byte* at = bytes.data();
    std::size_t left = bytes.size();
    while (left >= 32) {
        for (int lane = 0; lane < 4; ++lane) {
            std::uint64_t word = load_native(at + 8 * lane);
            low[lane] += word & 0xffffffff;
            high[lane] += word >> 32;
        }
        at += 32;
        left -= 32;
    }
    std::uint64_t native = 0;
    for (int lane = 0; lane < 4; ++lane) native += low[lane] + high[lane];
    while (left >= 2) {
        std::uint16_t word;
        std::memcpy(&word, at, sizeof word);
        native += word;
        at += 2;
        left -= 2;
    }
    if (left == 1) {
        std::uint16_t word = 0;
        std::memcpy(&word, at, 1);
        native += word;
    }
    std::uint16_t folded = checksum_fold(native);
    if constexpr (std::endian::native == std::endian::little) folded = __builtin_bswap16(folded);
    return sum + folded;
}

}  // namespace burin::tun
