#include "tun/checksum.hh"

#include <vector>

#include "tests/catch.hh"

using namespace burin;
using namespace burin::tun;

namespace {

// RFC 1071 section 4.1, byte by byte.
std::uint16_t reference(bytes_view bytes) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) {
        const auto value = static_cast<std::uint32_t>(bytes[i]);
        sum += i % 2 == 0 ? value << 8 : value;
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(sum);
}

}  // namespace

TEST_CASE("the example of RFC 1071 section 3") {
    const unsigned char raw[] = {0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7};
    const bytes_view bytes = std::as_bytes(std::span(raw));
    REQUIRE(checksum_fold(checksum_add(bytes)) == 0xddf2);
    REQUIRE(checksum_finish(checksum_add(bytes)) == 0x220d);
}

TEST_CASE("sums of every length and alignment equal the plain loop") {
    std::vector<std::byte> all(2100);
    std::uint32_t state = 12345;
    for (std::byte& byte : all) {
        state = state * 1664525 + 1013904223;
        byte = static_cast<std::byte>(state >> 24);
    }
    for (std::size_t offset = 0; offset < 9; ++offset) {
        for (std::size_t length = 0; length < 300; ++length) {
            const bytes_view part = bytes_view(all).subspan(offset, length);
            if (checksum_fold(checksum_add(part)) != reference(part)) {
                FAIL("offset " << offset << " length " << length);
            }
        }
    }
    REQUIRE(checksum_fold(checksum_add(all)) == reference(all));
    const bytes_view front = bytes_view(all).first(1000);
    const bytes_view rest = bytes_view(all).subspan(1000);
    REQUIRE(checksum_fold(checksum_add(rest, checksum_add(front))) == reference(all));
}

TEST_CASE("a superframe of ones does not overflow") {
    const std::vector<std::byte> ones(65535, std::byte{0xff});
    REQUIRE(checksum_fold(checksum_add(ones)) == reference(ones));
}
