#include "core/engine/processors.hh"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cerrno>
#include <charconv>
#include <climits>

namespace burin::engine {

namespace {

// The kernel's sets of processors are arrays of longs; glibc's cpu_set_t ends at 1024.
constexpr unsigned bits_of_word = sizeof(unsigned long) * CHAR_BIT;
using processor_set = std::array<unsigned long, most_processors / bits_of_word>;

cpu_set_t* as_cpu_set(processor_set& set) noexcept {
    return reinterpret_cast<cpu_set_t*>(set.data());
}

// A number at the beginning of `text`, which it is taken off.
std::optional<unsigned> take_number(std::string_view& text) {
    unsigned value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || value >= most_processors) return std::nullopt;
    text.remove_prefix(static_cast<std::size_t>(end - text.data()));
    return value;
}

}  // namespace

std::optional<std::vector<unsigned>> parse_processors(std::string_view text) {
    std::vector<unsigned> list;
    std::bitset<most_processors> seen;
    for (;;) {
        const std::optional<unsigned> first = take_number(text);
        std::optional<unsigned> last = first;
        if (text.starts_with('-')) {
            text.remove_prefix(1);
            last = take_number(text);
        }
        if (!first || !last || *last < *first) return std::nullopt;
        for (unsigned number = *first; number <= *last; ++number) {
            if (seen[number]) return std::nullopt;
            seen[number] = true;
            list.push_back(number);
        }
        if (text.empty()) return list;
        if (!text.starts_with(',')) return std::nullopt;
        text.remove_prefix(1);
    }
}

std::string processors_text(std::span<const unsigned> sorted) {
    std::string text;
    for (std::size_t i = 0; i < sorted.size();) {
        std::size_t next = i + 1;
        while (next < sorted.size() && sorted[next] == sorted[next - 1] + 1) ++next;
        if (!text.empty()) text += ',';
        text += fmt::format("{}", sorted[i]);
        if (next > i + 1) text += fmt::format("-{}", sorted[next - 1]);
        i = next;
    }
    return text;
}

std::vector<unsigned> allowed_processors() {
    processor_set set{};
    std::vector<unsigned> list;
    if (sched_getaffinity(0, sizeof set, as_cpu_set(set)) != 0) return list;
    for (unsigned number = 0; number < most_processors; ++number)
        if ((set[number / bits_of_word] >> number % bits_of_word & 1) != 0) list.push_back(number);
    return list;
}

std::string why_not_allowed(std::span<const unsigned> wanted, std::span<const unsigned> allowed) {
    std::vector<unsigned> others;
    for (unsigned number : wanted)
        if (std::find(allowed.begin(), allowed.end(), number) == allowed.end())
            others.push_back(number);
    if (others.empty()) return {};
    std::sort(others.begin(), others.end());
    return fmt::format("--cpu-affinity: this process may not run on CPU {}, only on {}",
                       processors_text(others), processors_text(allowed));
}

int run_on(std::span<const unsigned> processors) noexcept {
    processor_set set{};
    for (unsigned number : processors) {
        if (number >= most_processors) return EINVAL;
        set[number / bits_of_word] |= 1ul << number % bits_of_word;
    }
    return sched_setaffinity(0, sizeof set, as_cpu_set(set)) == 0 ? 0 : errno;
}

}  // namespace burin::engine
