#include "core/engine/duration.hh"

#include <fmt/format.h>

#include <cstdint>
#include <limits>

namespace burin::engine {

namespace {

using std::chrono::nanoseconds;

struct unit {
    std::string_view name;
    std::uint64_t nanoseconds;
};
// Longer names before those they begin with.
constexpr unit units[] = {
    {"ns", 1},         {"us", 1'000},        {"\u00b5s", 1'000},    {"\u03bcs", 1'000},
    {"ms", 1'000'000}, {"s", 1'000'000'000}, {"m", 60'000'000'000}, {"h", 3'600'000'000'000},
};

bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}

// Digits of `value` as a decimal fraction of 10^places, without the zeros at the end.
std::string fraction(std::uint64_t value, int places) {
    if (value == 0) return {};
    std::string digits = fmt::format("{:0{}}", value, places);
    digits.erase(digits.find_last_not_of('0') + 1);
    return fmt::format(".{}", digits);
}

}  // namespace

std::optional<nanoseconds> parse_duration(std::string_view text) {
    constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) text.remove_prefix(1);
    if (text == "0") return nanoseconds{0};
    if (text.empty()) return std::nullopt;
    std::uint64_t total = 0;
    while (!text.empty()) {
        std::uint64_t whole = 0;
        bool digits = false;
        for (; !text.empty() && is_digit(text[0]); text.remove_prefix(1), digits = true) {
            auto digit = static_cast<std::uint64_t>(text[0] - '0');
            if (whole > (most - digit) / 10) return std::nullopt;
            whole = whole * 10 + digit;
        }
        double part = 0, scale = 1;
        if (text.starts_with('.')) {
            text.remove_prefix(1);
            for (; !text.empty() && is_digit(text[0]); text.remove_prefix(1), digits = true) {
                part = part * 10 + (text[0] - '0');
                scale *= 10;
            }
        }
        if (!digits) return std::nullopt;
        // The unit reaches to the next number.
        std::size_t end = 0;
        while (end < text.size() && !is_digit(text[end]) && text[end] != '.') ++end;
        const unit* found = nullptr;
        for (const unit& u : units)
            if (u.name == text.substr(0, end)) found = &u;
        if (found == nullptr || whole > most / found->nanoseconds) return std::nullopt;
        std::uint64_t value = whole * found->nanoseconds;
        if (part > 0)
            value += static_cast<std::uint64_t>(part *
                                                (static_cast<double>(found->nanoseconds) / scale));
        if (value > most - total) return std::nullopt;
        total += value;
        text.remove_prefix(end);
    }
    auto result = static_cast<std::int64_t>(total);
    return nanoseconds{negative ? -result : result};
}

std::string duration_text(nanoseconds duration) {
    std::int64_t count = duration.count();
    std::string sign = count < 0 ? "-" : "";
    auto n = static_cast<std::uint64_t>(count);
    if (count < 0) n = 0 - n;
    if (n == 0) return "0s";
    if (n < 1'000) return fmt::format("{}{}ns", sign, n);
    if (n < 1'000'000) return fmt::format("{}{}{}\u00b5s", sign, n / 1'000, fraction(n % 1'000, 3));
    if (n < 1'000'000'000)
        return fmt::format("{}{}{}ms", sign, n / 1'000'000, fraction(n % 1'000'000, 6));
    std::uint64_t seconds = n / 1'000'000'000;
    std::string tail = fmt::format("{}{}s", seconds % 60, fraction(n % 1'000'000'000, 9));
    if (seconds < 60) return sign + tail;
    if (seconds < 3600) return fmt::format("{}{}m{}", sign, seconds / 60, tail);
    return fmt::format("{}{}h{}m{}", sign, seconds / 3600, seconds / 60 % 60, tail);
}

}  // namespace burin::engine
