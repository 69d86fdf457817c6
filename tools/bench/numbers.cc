#include "tools/bench/numbers.hh"

#include <fmt/format.h>

#include <cmath>

namespace burin::tools::bench {

namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";  // U+FFFD

// Bytes of the character at the front of `text`, 0 where that is no UTF-8 (RFC 3629 section 4).
std::size_t character(std::string_view text) {
    const auto byte = [&](std::size_t at) {
        return at < text.size() ? static_cast<unsigned char>(text[at]) : 0u;
    };
    const unsigned first = byte(0);
    if (first < 0x80) return 1;
    const std::size_t size = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4) return 0;
    for (std::size_t at = 1; at < size; ++at)
        if ((byte(at) & 0xC0) != 0x80) return 0;
    const unsigned second = byte(1);
    if ((first == 0xE0 && second < 0xA0) || (first == 0xED && second > 0x9F) ||
        (first == 0xF0 && second < 0x90) || (first == 0xF4 && second > 0x8F))
        return 0;
    return size;
}

std::string_view entity(char c) {
    switch (c) {
        case '&': return "&amp;";
        case '<': return "&lt;";
        case '>': return "&gt;";
        case '"': return "&quot;";
        case '\'': return "&#39;";
        default: return {};
    }
}

std::string grouped(double value) {
    std::string digits = fmt::format("{:.0f}", value);
    for (std::size_t at = digits.size(); at > 3;) {
        at -= 3;
        digits.insert(at, ",");
    }
    return digits;
}

}  // namespace

scale scale_for(std::string_view unit, double largest) {
    if (unit == "bit/s") {
        if (largest >= 0.9995e9) return {1e-9, "Gbit/s"};
        if (largest >= 0.9995e6) return {1e-6, "Mbit/s"};
        return {1e-3, "kbit/s"};
    }
    if (unit == "us") {
        if (largest >= 0.9995e6) return {1e-6, "s"};
        if (largest >= 0.9995e3) return {1e-3, "ms"};
        return {1, "\xC2\xB5s"};
    }
    if (unit == "1/s") return {1, "per second"};
    return {1, std::string(unit)};
}

std::string number_text(double value) {
    if (!std::isfinite(value)) return "-";
    const double size = std::abs(value);
    if (size == 0) return "0";
    if (size >= 999.5) return grouped(value);
    if (size >= 99.95) return fmt::format("{:.0f}", value);
    if (size >= 9.995) return fmt::format("{:.1f}", value);
    if (size >= 0.9995) return fmt::format("{:.2f}", value);
    if (size >= 0.0995) return fmt::format("{:.3f}", value);
    return fmt::format("{:.2g}", value);
}

std::string tick_text(double value) {
    return value >= 1000 ? grouped(value) : fmt::format("{:.6g}", value);
}

std::string quantity(double kept, std::string_view unit) {
    const scale shown = scale_for(unit, kept);
    return fmt::format("{} {}", number_text(kept * shown.factor), shown.unit);
}

std::string share_text(double share) {
    std::string text = fmt::format("{:.3f}", share * 100);
    text.erase(text.find_last_not_of('0') + 1);
    if (text.ends_with('.')) text.pop_back();
    return text + " %";
}

std::string clean(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t size = character(text);
        const auto first = static_cast<unsigned char>(text[0]);
        const bool second_set =
            size == 2 && first == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
        if (size == 0 || first < 0x20 || first == 0x7F || second_set)
            out += replacement;
        else
            out += text.substr(0, size);
        text.remove_prefix(size == 0 ? 1 : size);
    }
    return out;
}

std::string html(std::string_view text) {
    std::string out;
    for (const char c : clean(text)) {
        const std::string_view named = entity(c);
        if (named.empty())
            out += c;
        else
            out += named;
    }
    return out;
}

std::string markdown(std::string_view text) {
    std::string out;
    for (const char c : clean(text)) {
        if (std::string_view("|\\`*<[").find(c) != std::string_view::npos) out += '\\';
        out += c;
    }
    return out;
}

}  // namespace burin::tools::bench
