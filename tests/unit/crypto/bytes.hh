// Octets in tests: hexadecimal both ways, and a seeded source whose seed is printed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::test {

inline byte_vector unhex(std::string_view text) {
    auto digit = [](char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; };
    byte_vector out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        out.push_back(static_cast<std::byte>(digit(text[i]) << 4 | digit(text[i + 1])));
    return out;
}

inline std::string hex(bytes_view bytes) {
    std::string out;
    for (std::byte b : bytes) {
        out.push_back("0123456789abcdef"[std::to_integer<unsigned>(b >> 4)]);
        out.push_back("0123456789abcdef"[std::to_integer<unsigned>(b & std::byte{15})]);
    }
    return out;
}

inline byte_vector repeated(unsigned value, std::size_t size) {
    return byte_vector(size, static_cast<std::byte>(value));
}

// A fresh seed each run, or BURIN_TEST_SEED to repeat one.
inline std::uint64_t fresh_seed() {
    if (const char* given = std::getenv("BURIN_TEST_SEED")) return std::strtoull(given, nullptr, 0);
    std::random_device device;
    return std::uint64_t{device()} << 32 | device();
}

class source {
  public:
    explicit source(std::uint64_t seed) : _engine(seed) {}
    std::size_t below(std::size_t limit) { return static_cast<std::size_t>(_engine() % limit); }
    byte_vector octets(std::size_t size) {
        byte_vector out(size);
        for (std::byte& b : out) b = static_cast<std::byte>(_engine());
        return out;
    }

  private:
    std::mt19937_64 _engine;
};

}  // namespace burin::test
