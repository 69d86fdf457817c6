#include "core/engine/byte_count.hh"

#include <fmt/format.h>

#include <cctype>
#include <cmath>
#include <limits>

namespace burin::engine {

std::string byte_count(std::uint64_t bytes) {
    constexpr std::string_view units[] = {"B", "KB", "MB", "GB", "TB", "PB", "XB"};
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1000 && unit + 1 < std::size(units)) {
        value /= 1000;
        ++unit;
    }
    // Rounded half up at the third digit: 999.5 KB and more is the next unit's 1.
    double step = value >= 100 ? 1 : value >= 10 ? 10 : 100;
    value = std::floor(value * step + 0.5) / step;
    if (value >= 1000 && unit + 1 < std::size(units)) {
        value /= 1000;
        ++unit;
    }
    return fmt::format("{}{}", value, units[unit]);
}

std::optional<std::uint64_t> parse_byte_count(std::string_view text) {
    std::uint64_t number = 0;
    std::size_t at = 0;
    constexpr auto most = std::numeric_limits<std::uint64_t>::max();
    for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
        auto digit = static_cast<std::uint64_t>(text[at] - '0');
        if (number > (most - digit) / 10) return std::nullopt;
        number = number * 10 + digit;
    }
    if (at == 0) return std::nullopt;
    std::string unit;
    for (char c : text.substr(at)) unit += static_cast<char>(std::toupper(c));
    std::uint64_t factor = 1;
    if (!unit.empty() && unit != "B") {
        std::size_t power = std::string_view("KMGT").find(unit[0]);
        std::string_view rest = std::string_view(unit).substr(1);
        if (power == std::string_view::npos || (rest != "" && rest != "B" && rest != "IB"))
            return std::nullopt;
        std::uint64_t base = rest == "B" ? 1000 : 1024;
        for (std::size_t i = 0; i <= power; ++i) factor *= base;
    }
    if (number > most / factor) return std::nullopt;
    return number * factor;
}

}  // namespace burin::engine
