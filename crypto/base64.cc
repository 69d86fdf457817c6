#include "crypto/base64.hh"

#include <algorithm>
#include <array>

namespace burin::crypto {
namespace {

constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_digit = 64;

constexpr std::array<std::uint8_t, 256> digit_values = [] {
    std::array<std::uint8_t, 256> values{};
    values.fill(no_digit);
    for (std::size_t i = 0; i < alphabet.size(); ++i)
        values[static_cast<std::uint8_t>(alphabet[i])] = static_cast<std::uint8_t>(i);
    return values;
}();

}  // namespace

std::string base64(bytes_view bytes, base64_padding padding) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        std::size_t have = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k)
            group = group << 8 | (k < have ? std::to_integer<std::uint32_t>(bytes[i + k]) : 0);
        for (std::size_t k = 0; k < 4; ++k) {
            if (k <= have)
                out.push_back(alphabet[group >> (18 - 6 * k) & 63]);
            else if (padding == base64_padding::padded)
                out.push_back('=');
        }
    }
    return out;
}

std::optional<byte_vector> from_base64(std::string_view text, base64_padding padding) {
    byte_vector out;
    out.reserve(text.size() / 4 * 3 + 2);
    std::uint32_t group = 0;
    unsigned digits = 0, pads = 0;
    for (char c : text) {
        if (c == '\r' || c == '\n') continue;
        if (c == '=' && padding == base64_padding::padded) {
            if (digits < 2 || digits + ++pads > 4) return {};
            continue;
        }
        std::uint8_t value = digit_values[static_cast<std::uint8_t>(c)];
        if (value == no_digit || pads) return {};
        group = group << 6 | value;
        if (++digits == 4) {
            for (int shift : {16, 8, 0}) out.push_back(static_cast<std::byte>(group >> shift));
            group = 0;
            digits = 0;
        }
    }
    if (digits == 1) return {};
    if (padding == base64_padding::padded && digits && digits + pads != 4) return {};
    if (digits >= 2) out.push_back(static_cast<std::byte>(group >> (digits == 2 ? 4 : 10)));
    if (digits == 3) out.push_back(static_cast<std::byte>(group >> 2));
    return out;
}

}  // namespace burin::crypto
