// The Internet checksum (RFC 1071): one's complement sums, kept unfolded while they are put
// together. Sums of parts add up when every part but the last has an even length.
#pragma once

#include <cstdint>

#include "crypto/wire.hh"

namespace burin::tun {

// Sum of big-endian 16-bit words, an odd last byte padded with zero, added to `sum`. Not folded.
std::uint64_t checksum_add(bytes_view bytes, std::uint64_t sum = 0) noexcept;

// Folded to 16 bits, not complemented: what a NEEDS_CSUM frame carries for its pseudo header.
constexpr std::uint16_t checksum_fold(std::uint64_t sum) noexcept {
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}
// The value of a header's checksum field; zero over a range that contains a right one.
constexpr std::uint16_t checksum_finish(std::uint64_t sum) noexcept {
    return static_cast<std::uint16_t>(~checksum_fold(sum));
}

}  // namespace burin::tun
