#include "tools/bench/page_charts.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tools/bench/numbers.hh"

namespace burin::tools::bench {

namespace {

constexpr std::size_t palette = 6;
constexpr double plot_height = 300, label_height = 20;
constexpr double named_shares[] = {0.5, 0.9, 0.99, 0.999, 0.9999};
constexpr double same_share = 1e-9;

std::string percent(double share) {
    return fmt::format("{:.2f}%", 100 * share);
}

// ---- bars ---------------------------------------------------------------------------------------

struct part {
    std::string name;
    double value;
};

// One bar: what a column reached in a row.
struct bar {
    std::size_t of_column;
    summary all;
    std::vector<part> parts;
};

std::string range_text(const summary& s, double factor) {
    if (s.count < 2) return {};
    return fmt::format("{}\xE2\x80\x93{}", number_text(s.least * factor),
                       number_text(s.most * factor));
}

std::string track(const results& all, const bar& b, const std::vector<double>& ticks,
                  double factor) {
    const double end = ticks.back();
    const auto at = [&](double kept) { return percent(kept * factor / end); };
    std::string out = fmt::format("<svg class=\"track {}\" aria-hidden=\"true\">",
                                  colour_class(all, b.of_column));
    for (const double tick : ticks)
        out += fmt::format("<line class=\"grid\" x1=\"{0}\" x2=\"{0}\" y1=\"0\" y2=\"100%\"/>",
                           percent(tick / end));
    double from = 0;
    for (std::size_t i = 0; i < b.parts.size(); ++i) {
        out += fmt::format("<rect class=\"fill{}\" x=\"{}\" y=\"10\" width=\"{}\" height=\"18\"/>",
                           i % 2 == 0 ? "" : " second", at(from), at(b.parts[i].value));
        from += b.parts[i].value;
    }
    if (b.all.count > 1 && b.all.most > b.all.least)
        for (const char* kind : {"halo", "whisker"})
            out += fmt::format(
                "<g class=\"{2}\"><line x1=\"{0}\" x2=\"{1}\" y1=\"19\" y2=\"19\"/>"
                "<line x1=\"{0}\" x2=\"{0}\" y1=\"14\" y2=\"24\"/>"
                "<line x1=\"{1}\" x2=\"{1}\" y1=\"14\" y2=\"24\"/></g>",
                at(b.all.least), at(b.all.most), kind);
    return out + "</svg>";
}

std::string bar_line(const results& all, const bar& b, const std::vector<double>& ticks,
                     const scale& shown) {
    std::string under = range_text(b.all, shown.factor);
    if (b.parts.size() > 1) {
        under.clear();
        for (const part& p : b.parts)
            under += (under.empty() ? "" : " + ") + number_text(p.value * shown.factor);
    }
    return fmt::format(
        "<div class=\"bar\"><span class=\"who {0}\">{1}</span>{2}<span class=\"value\"><b>{3}</b>"
        "<span class=\"unit\"> {4}</span><small>{5}</small></span></div>\n",
        colour_class(all, b.of_column), html(all.columns[b.of_column].name),
        track(all, b, ticks, shown.factor), number_text(b.all.median * shown.factor),
        html(shown.unit), under);
}

std::vector<bar> bars_of(const results& all, const row& r) {
    std::vector<bar> out;
    for (std::size_t i = 0; i < all.columns.size(); ++i) {
        const std::optional<summary> s = summarise(r, i);
        if (!s) continue;
        bar& made = out.emplace_back(bar{i, *s, {}});
        for (const std::string& end : all.columns[i].ends)
            if (const row* of_end = all.find(r.id + "." + end))
                if (const std::optional<summary> p = summarise(*of_end, i))
                    made.parts.push_back({end, p->median});
        // The median of sums is not the sum of medians: parts share what the whole is.
        const double sum = std::accumulate(made.parts.begin(), made.parts.end(), 0.0,
                                           [](double a, const part& p) { return a + p.value; });
        for (part& p : made.parts) p.value *= sum > 0 ? s->median / sum : 0;
        if (made.parts.empty()) made.parts.push_back({"", s->median});
    }
    return out;
}

// ---- curves -------------------------------------------------------------------------------------

double place(double share) {
    return -std::log10(1 - share);
}

struct plot {
    double last_share = 0;  // where the axis of percentiles ends
    std::vector<double> ticks;

    double x(double share) const {
        return (place(share) - place(0.5)) / (place(last_share) - place(0.5));
    }
    double y(double us) const {
        const double low = std::log10(ticks.front()), high = std::log10(ticks.back());
        return 1 - (std::log10(std::max(us, ticks.front())) - low) / (high - low);
    }
};

// What a reader who does not see the picture is told of it.
std::string words_of(const results& all, const curve& c) {
    std::string out = fmt::format("Round trip, {}, by percentile.", c.title);
    for (std::size_t i = 0; i < c.lines.size(); ++i) {
        std::string line;
        for (const curve_point& p : c.lines[i].points)
            for (const double share : named_shares)
                if (std::abs(p.share - share) < same_share)
                    line += fmt::format("{} {} within {}", line.empty() ? "" : ",",
                                        share_text(share), quantity(p.pooled, microseconds));
        if (!line.empty()) out += fmt::format(" {}:{}.", all.columns[i].name, line);
    }
    return html(out);
}

std::string polygon(const plot& axes, const curve::line& line) {
    std::string out = "<polygon class=\"band\" points=\"";
    const auto add = [&](const curve_point& p, double us) {
        out += fmt::format("{:.1f},{:.1f} ", 1000 * axes.x(p.share), 1000 * axes.y(us));
    };
    for (const curve_point& p : line.points) add(p, p.most);
    for (auto p = line.points.rbegin(); p != line.points.rend(); ++p) add(*p, p->least);
    return out + "\"/>";
}

std::string stroke(const plot& axes, const curve::line& line) {
    std::string out = "<polyline class=\"line\" points=\"";
    for (const curve_point& p : line.points)
        out += fmt::format("{:.1f},{:.1f} ", 1000 * axes.x(p.share), 1000 * axes.y(p.pooled));
    out += "\"/>";
    // To the name at the right, where the line ends before.
    const curve_point& end = line.points.back();
    if (end.share < axes.last_share - same_share)
        out += fmt::format(
            "<line class=\"leader\" x1=\"{0:.1f}\" x2=\"1000\" y1=\"{1:.1f}\" y2=\"{1:.1f}\"/>",
            1000 * axes.x(end.share), 1000 * axes.y(end.pooled));
    return out;
}

std::string time_text(double tick) {
    const scale shown = scale_for(microseconds, tick);
    return fmt::format("{} {}", tick_text(tick * shown.factor), shown.unit);
}

std::string axis_labels(const plot& axes) {
    std::string out;
    for (const double tick : axes.ticks) {
        // 1, 10, 100: all of a long axis; 2 and 5 as well where there is room.
        const double digit = tick / std::pow(10, std::floor(std::log10(tick) + 1e-9));
        if (axes.ticks.size() > 8 && digit > 1.5) continue;
        out += fmt::format("<span class=\"y\" style=\"top:{}\">{}</span>", percent(axes.y(tick)),
                           html(time_text(tick)));
    }
    for (const double share : named_shares)
        if (share <= axes.last_share + same_share)
            out += fmt::format("<span class=\"x\" style=\"left:{}\">{}</span>",
                               percent(axes.x(share)), share_text(share));
    return out;
}

std::string panel(const results& all, const curve& c, const plot& axes) {
    std::string lines, dots, names;
    for (const double tick : axes.ticks)
        lines +=
            fmt::format("<line class=\"grid\" x1=\"0\" x2=\"1000\" y1=\"{0:.1f}\" y2=\"{0:.1f}\"/>",
                        1000 * axes.y(tick));
    for (const double share : named_shares)
        if (share <= axes.last_share + same_share)
            lines += fmt::format(
                "<line class=\"grid\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"0\" y2=\"1000\"/>",
                1000 * axes.x(share));
    std::vector<std::size_t> drawn;
    for (std::size_t i = 0; i < c.lines.size() && i < all.columns.size(); ++i)
        if (!c.lines[i].points.empty()) drawn.push_back(i);
    for (const std::size_t i : drawn) {
        const curve::line& line = c.lines[i];
        lines += fmt::format("<g class=\"{}{}\">{}{}</g>", colour_class(all, i),
                             all.columns[i].reference ? " reference" : "", polygon(axes, line),
                             stroke(axes, line));
        for (const curve_point& p : line.points)
            for (const double share : named_shares)
                if (std::abs(p.share - share) < same_share)
                    dots += fmt::format(
                        "<i class=\"dot {}\" style=\"left:{};top:{}\" title=\"{}: {} within "
                        "{}\"></i>",
                        colour_class(all, i), percent(axes.x(share)), percent(axes.y(p.pooled)),
                        html(all.columns[i].name), share_text(share),
                        html(quantity(p.pooled, microseconds)));
    }
    std::sort(drawn.begin(), drawn.end(), [&](std::size_t a, std::size_t b) {
        return c.lines[a].points.back().pooled > c.lines[b].points.back().pooled;
    });
    std::vector<double> tops;
    for (const std::size_t i : drawn)
        tops.push_back(axes.y(c.lines[i].points.back().pooled) * plot_height - label_height / 2);
    tops = spread_labels(std::move(tops), label_height, plot_height + label_height);
    for (std::size_t n = 0; n < drawn.size(); ++n)
        names +=
            fmt::format("<span class=\"end {0}\" style=\"top:{1:.0f}px\" title=\"{2}\">{2}</span>",
                        colour_class(all, drawn[n]), tops[n], html(all.columns[drawn[n]].name));
    return fmt::format(
        "<div class=\"panel\"><h3>{}</h3><div class=\"plot\"><svg viewBox=\"0 0 1000 1000\" "
        "preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">{}</svg>"
        "<div aria-hidden=\"true\">{}{}{}</div></div></div>\n",
        html(c.title), words_of(all, c), lines, axis_labels(axes), dots, names);
}

}  // namespace

std::string colour_class(const results& all, std::size_t of_column) {
    if (all.columns[of_column].reference) return "k0";
    std::size_t before = 0;
    for (std::size_t i = 0; i < of_column; ++i) before += all.columns[i].reference ? 0 : 1;
    return fmt::format("k{}", before % palette + 1);
}

std::string bar_chart(const results& all, std::string_view group) {
    double largest = 0, most = 0;
    std::string unit;
    std::vector<std::pair<const row*, std::vector<bar>>> sets;
    for (const row& r : all.rows) {
        if (r.group != group || !r.end.empty()) continue;
        std::vector<bar> bars = bars_of(all, r);
        if (bars.empty()) continue;
        for (const bar& b : bars) {
            largest = std::max(largest, b.all.median);
            most = std::max(most, b.all.most);
        }
        unit = r.unit;
        sets.emplace_back(&r, std::move(bars));
    }
    if (sets.empty()) return {};
    const scale shown = scale_for(unit, largest);
    const std::vector<double> ticks = linear_ticks(most * shown.factor);
    std::string out = "<div class=\"bars\">\n";
    for (const auto& [r, bars] : sets) {
        out += fmt::format("<h3>{}</h3>\n", html(r->title));
        for (const bar& b : bars) out += bar_line(all, b, ticks, shown);
    }
    out += "<div class=\"bar axis\" aria-hidden=\"true\"><span></span><div>";
    for (const double tick : ticks)
        out += fmt::format("<span style=\"left:{}\">{}</span>", percent(tick / ticks.back()),
                           tick_text(tick));
    return out + "</div></div></div>\n";
}

std::string curve_chart(const results& all) {
    plot axes;
    double least = std::numeric_limits<double>::infinity(), most = 0;
    for (const curve& c : all.curves)
        for (const curve::line& line : c.lines)
            for (const curve_point& p : line.points) {
                axes.last_share = std::max(axes.last_share, p.share);
                least = std::min({least, p.least, p.pooled});
                most = std::max({most, p.most, p.pooled});
            }
    if (most <= 0) return {};
    // One point alone has no axis.
    axes.last_share = std::max(axes.last_share, 0.9);
    axes.ticks = logarithmic_ticks(least, most);
    std::string out = "<div class=\"panels\">\n";
    for (const curve& c : all.curves)
        if (std::any_of(c.lines.begin(), c.lines.end(),
                        [](const curve::line& line) { return !line.points.empty(); }))
            out += panel(all, c, axes);
    return out + "</div>\n";
}

std::vector<double> linear_ticks(double most) {
    if (!(most > 0)) return {0, 1};
    // Steps of 1, 2 or 5 times a power of ten: the smallest that needs no more than five.
    double step = std::pow(10, std::floor(std::log10(most)) - 1);
    for (const double wider : {2.0, 2.5, 2.0, 2.0, 2.5, 2.0})
        if (most / step > 5) step *= wider;
    std::vector<double> ticks = {0};
    for (int i = 1; ticks.back() < most * (1 - 1e-9); ++i) ticks.push_back(step * i);
    return ticks;
}

std::vector<double> logarithmic_ticks(double least, double most) {
    // Times of nothing are drawn at the foot of the axis.
    least = std::max(least, 0.001);
    most = std::max(most, least);
    std::vector<double> all;
    const int first = static_cast<int>(std::floor(std::log10(least)));
    const int last = static_cast<int>(std::floor(std::log10(most))) + 1;
    for (int decade = first; decade <= last; ++decade)
        for (const double digit : {1.0, 2.0, 5.0}) all.push_back(digit * std::pow(10, decade));
    const auto above = [&](double value) {
        return std::lower_bound(all.begin(), all.end(), value * (1 - 1e-9));
    };
    auto begin = above(least), end = above(most);
    if (begin != all.begin() && *begin > least * (1 + 1e-9)) --begin;
    if (begin == end) ++end;
    return {begin, end + 1};
}

std::vector<double> spread_labels(std::vector<double> wanted, double size, double height) {
    if (wanted.empty()) return wanted;
    std::vector<std::size_t> order(wanted.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });
    const double count = static_cast<double>(wanted.size());
    const double step = std::min(size, count > 1 ? (height - size) / (count - 1) : size);
    const double lowest = height - size;
    std::vector<double> placed(wanted.size());
    double next = 0;
    for (const std::size_t i : order) {
        placed[i] = std::max(wanted[i], next);
        next = placed[i] + step;
    }
    double limit = lowest;
    for (auto i = order.rbegin(); i != order.rend(); ++i) {
        placed[*i] = std::min(placed[*i], limit);
        limit = placed[*i] - step;
    }
    return placed;
}

}  // namespace burin::tools::bench
