#include "tools/bench/table.hh"

#include <fmt/format.h>

#include <algorithm>

#include "tools/bench/numbers.hh"

namespace burin::tools::bench {

namespace {

// Characters, counted as those of UTF-8.
std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
        return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    }));
}

std::string summary_text(const std::optional<summary>& s, double factor) {
    if (!s) return "";
    std::string text = number_text(s->median * factor);
    if (s->count > 1)
        text +=
            fmt::format(" ({}-{})", number_text(s->least * factor), number_text(s->most * factor));
    return text;
}

std::string aligned(const std::vector<std::vector<std::string>>& lines) {
    std::vector<std::size_t> widths(lines.front().size(), 3);
    for (const auto& line : lines)
        for (std::size_t i = 0; i < line.size(); ++i)
            widths[i] = std::max(widths[i], width_of(line[i]));
    std::string out;
    for (std::size_t number = 0; number < lines.size(); ++number) {
        for (std::size_t i = 0; i < widths.size(); ++i) {
            const std::string& cell = lines[number][i];
            const std::string pad(widths[i] - width_of(cell), ' ');
            out += i == 0 ? fmt::format("| {}{} ", cell, pad) : fmt::format("| {}{} ", pad, cell);
        }
        out += "|\n";
        if (number > 0) continue;
        for (std::size_t i = 0; i < widths.size(); ++i)
            out += i == 0 ? fmt::format("| {} ", std::string(widths[i], '-'))
                          : fmt::format("| {}: ", std::string(widths[i] - 1, '-'));
        out += "|\n";
    }
    return out;
}

}  // namespace

std::string samples_text(const results& all) {
    if (all.pairs == 1) return fmt::format("one sample of {} s each", all.seconds);
    return fmt::format("medians (range) of {} samples of {} s, taken in turn", all.pairs,
                       all.seconds);
}

std::string table(const results& all) {
    std::string out = "# burin bench\n\n";
    for (const auto& [name, value] : all.conditions)
        out += fmt::format("* {}: {}\n", markdown(name), markdown(value));
    out += fmt::format("* figures: {}; only figures of one run compare\n", samples_text(all));
    if (!all.cut_short.empty()) out += fmt::format("* cut short: {}\n", markdown(all.cut_short));
    const std::optional<std::size_t> reference = all.reference();
    for (const group_title& group : group_titles) {
        std::vector<std::vector<std::string>> lines(1, {std::string(group.title)});
        for (const column& c : all.columns) {
            lines[0].push_back(markdown(c.name));
            if (reference && !c.reference)
                lines[0].push_back("of " + markdown(all.columns[*reference].name));
        }
        for (const row& r : all.rows) {
            if (r.group != group.group) continue;
            const scale shown = scale_for(r.unit, largest_median(r));
            std::vector<std::string>& line = lines.emplace_back();
            line.push_back(markdown(
                fmt::format("{}{}{}, {}", r.title, r.end.empty() ? "" : ", ", r.end, shown.unit)));
            for (std::size_t i = 0; i < all.columns.size(); ++i) {
                line.push_back(summary_text(summarise(r, i), shown.factor));
                if (reference && !all.columns[i].reference)
                    line.push_back(summary_text(ratio(r, i, *reference), 1));
            }
        }
        if (lines.size() > 1) out += "\n" + aligned(lines);
    }
    return out;
}

}  // namespace burin::tools::bench
