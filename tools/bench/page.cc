#include "tools/bench/page.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/bench/numbers.hh"
#include "tools/bench/page_charts.hh"
#include "tools/bench/page_style.hh"
#include "tools/bench/table.hh"

namespace burin::tools::bench {

namespace {

constexpr std::size_t most_cards = 3;
constexpr double told_shares[] = {0.5, 0.9, 0.99, 0.999, 0.9999};

std::string condition(const results& all, std::string_view name) {
    for (const auto& [known, value] : all.conditions)
        if (known == name) return value;
    return {};
}

std::string title_of(const results& all) {
    std::vector<std::string> names;
    for (const column& c : all.columns)
        if (!c.reference) names.push_back(c.name);
    if (names.empty() || names.size() > 3) return "Tunnel benchmark";
    return fmt::format("Tunnel benchmark: {}", fmt::join(names, ", "));
}

// The reference's name, for "compared with".
std::string reference_name(const results& all) {
    const std::optional<std::size_t> at = all.reference();
    return at ? all.columns[*at].name : "";
}

// ---- what each column reached, and in which colour ----------------------------------------------

struct headline {
    std::string title, id;
};

std::vector<headline> headlines(const results& all) {
    std::vector<headline> out;
    // Of each group the first rows: the fewest streams, one caller.
    const auto first_of = [&](std::string_view group, std::size_t most, std::string_view before) {
        std::size_t found = 0;
        for (const row& r : all.rows)
            if (r.group == group && r.end.empty() && found++ < most)
                out.push_back({std::string(before) + r.title, r.id});
    };
    first_of("throughput", 2, "");
    for (const auto& [id, title] : {std::pair{"idle.p50", "round trip, p50"},
                                    {"idle.p99", "round trip, p99"},
                                    {"loaded.p50", "\xE2\x80\xA6 under load, p50"},
                                    {"loaded.p99", "\xE2\x80\xA6 under load, p99"}})
        if (all.find(id) != nullptr) out.push_back({title, id});
    first_of("connections", 1, "connections, ");
    first_of("cpu", 1, "CPU, ");
    return out;
}

std::string card(const results& all, std::size_t of_column) {
    const column& c = all.columns[of_column];
    const std::optional<std::size_t> reference = all.reference();
    std::string out = fmt::format("<div class=\"card {}\"><h2>{}</h2><dl>",
                                  colour_class(all, of_column), html(c.name));
    for (const headline& h : headlines(all)) {
        const row& r = *all.find(h.id);
        const std::optional<summary> s = summarise(r, of_column);
        if (!s) continue;
        const scale shown = scale_for(r.unit, s->median);
        out += fmt::format("<dt>{}</dt><dd><b>{}</b> <span class=\"unit\">{}</span></dd>",
                           html(h.title), number_text(s->median * shown.factor),
                           r.unit == per_second ? "/s" : html(shown.unit));
        std::optional<summary> q;
        if (reference && !c.reference) q = ratio(r, of_column, *reference);
        out += q ? fmt::format("<dd class=\"soft\">\xC3\x97 {}</dd>", number_text(q->median))
                 : "<dd></dd>";
    }
    return out + "</dl></div>\n";
}

// The same of many columns: below each other, where the eye compares them.
std::string overview(const results& all) {
    const std::vector<headline> told = headlines(all);
    std::string out =
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Overview\"><table>"
        "<thead><tr><th scope=\"col\"></th>";
    std::vector<scale> shown;
    for (const headline& h : told) {
        const row& r = *all.find(h.id);
        shown.push_back(scale_for(r.unit, largest_median(r)));
        out += fmt::format("<th scope=\"col\">{} <span class=\"unit\">{}</span></th>",
                           html(h.title), html(shown.back().unit));
    }
    out += "</tr></thead><tbody>\n";
    for (std::size_t i = 0; i < all.columns.size(); ++i) {
        out += fmt::format("<tr><th scope=\"row\"><span class=\"who {}\">{}</span></th>",
                           colour_class(all, i), html(all.columns[i].name));
        for (std::size_t n = 0; n < told.size(); ++n) {
            const std::optional<summary> s = summarise(*all.find(told[n].id), i);
            out += s ? fmt::format("<td><b>{}</b></td>", number_text(s->median * shown[n].factor))
                     : "<td></td>";
        }
        out += "</tr>\n";
    }
    return out + "</tbody></table></div>\n";
}

// ---- tables -------------------------------------------------------------------------------------

std::string cell(const std::optional<summary>& s, double factor, std::string_view kind) {
    std::string open = kind.empty() ? "<td>" : fmt::format("<td class=\"{}\">", kind);
    if (!s) return open + "</td>";
    open += number_text(s->median * factor);
    if (s->count > 1)
        open += fmt::format("<small>{}\xE2\x80\x93{}</small>", number_text(s->least * factor),
                            number_text(s->most * factor));
    return open + "</td>";
}

std::string figures(const results& all) {
    const std::optional<std::size_t> reference = all.reference();
    const std::size_t width = 1 + all.columns.size() + (reference ? all.columns.size() - 1 : 0);
    std::string out =
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"All figures\">"
        "<table><thead><tr><th scope=\"col\"></th>";
    for (const column& c : all.columns) {
        out += fmt::format("<th scope=\"col\">{}</th>", html(c.name));
        if (reference && !c.reference)
            out += fmt::format("<th scope=\"col\" class=\"ratio\">\xC3\x97 {}</th>",
                               html(reference_name(all)));
    }
    out += "</tr></thead>";
    for (const group_title& group : group_titles) {
        std::string lines;
        for (const row& r : all.rows) {
            if (r.group != group.group) continue;
            const scale shown = scale_for(r.unit, largest_median(r));
            lines += fmt::format("<tr><th scope=\"row\">{}{}{} <span class=\"unit\">{}</span></th>",
                                 html(r.title), r.end.empty() ? "" : ", ", html(r.end),
                                 html(shown.unit));
            for (std::size_t i = 0; i < all.columns.size(); ++i) {
                lines += cell(summarise(r, i), shown.factor, "");
                if (reference && !all.columns[i].reference)
                    lines += cell(ratio(r, i, *reference), 1, "ratio");
            }
            lines += "</tr>\n";
        }
        if (!lines.empty())
            out += fmt::format(
                "<tbody><tr class=\"group\"><th scope=\"rowgroup\" "
                "colspan=\"{}\">{}</th></tr>\n{}</tbody>",
                width, html(group.title), lines);
    }
    return out + "</table></div>\n";
}

std::string percentiles(const results& all) {
    if (all.curves.empty()) return {};
    std::string out =
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Percentiles\"><table>"
        "<thead><tr><th scope=\"col\">round trips within</th>";
    for (const column& c : all.columns)
        out += fmt::format("<th scope=\"col\">{}</th>", html(c.name));
    out += "</tr></thead>";
    for (const curve& c : all.curves) {
        out += fmt::format(
            "<tbody><tr class=\"group\"><th scope=\"rowgroup\" colspan=\"{}\">{}</th></tr>",
            all.columns.size() + 1, html(c.title));
        for (const double share : told_shares) {
            std::string cells;
            bool any = false;
            for (const curve::line& line : c.lines) {
                const auto at = std::find_if(
                    line.points.begin(), line.points.end(),
                    [&](const curve_point& p) { return std::abs(p.share - share) < 1e-9; });
                any = any || at != line.points.end();
                cells += at == line.points.end()
                             ? "<td></td>"
                             : fmt::format("<td>{}</td>", html(quantity(at->pooled, microseconds)));
            }
            if (any)
                out +=
                    fmt::format("<tr><th scope=\"row\">{}</th>{}</tr>\n", share_text(share), cells);
        }
        out += "<tr><th scope=\"row\">round trips</th>";
        for (const curve::line& line : c.lines)
            out += fmt::format("<td>{}</td>", number_text(static_cast<double>(line.count)));
        out += "</tr></tbody>\n";
    }
    return out + "</table></div>\n";
}

std::string capital(std::string text) {
    if (!text.empty() && text[0] >= 'a' && text[0] <= 'z')
        text[0] = static_cast<char>(text[0] - 'a' + 'A');
    return text;
}

// ---- the page -----------------------------------------------------------------------------------

std::string figure(std::string_view title, std::string note, std::string_view chart) {
    if (chart.empty()) return {};
    return fmt::format("<figure><figcaption><h2>{}</h2><p>{}</p></figcaption>\n{}</figure>\n",
                       html(title), html(note), chart);
}

// What the parts of a bar are.
std::string ends_text(const results& all) {
    for (const column& c : all.columns)
        if (c.ends.size() > 1) {
            std::string rest = fmt::format("{}", fmt::join(c.ends.begin() + 1, c.ends.end(), ", "));
            return fmt::format(" Left: {}, right: {}.", c.ends[0], rest);
        }
    return {};
}

std::string charts(const results& all) {
    const std::string bars =
        all.pairs > 1 ? " Whiskers: the least and the most of the samples." : "";
    std::string out;
    for (const group_title& group : group_titles) {
        const std::string note(group.note);
        if (group.group == "idle")
            out +=
                figure("Round trips by percentile",
                       fmt::format("One byte there and back: so many of all round trips came back "
                                   "within this time. Both axes are logarithmic{}.",
                                   all.pairs > 1 ? "; bands show the range of single samples" : ""),
                       curve_chart(all));
        if (group.group == "idle" || group.group == "loaded") continue;
        std::string more;
        if (group.group == "cpu") more = ends_text(all);
        out += figure(group.title, capital(note) + "." + more + bars, bar_chart(all, group.group));
    }
    return out;
}

std::string facts(const results& all) {
    std::string out = "<dl class=\"facts\">";
    for (const auto& [name, value] : all.conditions)
        out += fmt::format("<dt>{}</dt><dd>{}</dd>", html(name), html(value));
    return out + fmt::format("<dt>figures</dt><dd>{}</dd></dl>\n", html(samples_text(all)));
}

// JSON as text of a script element that is never run: only "<" could end it.
std::string embedded(const results& all) {
    std::string out;
    for (const char c : to_json(all)) {
        if (c == '<')
            out += "\\u003c";
        else
            out += c;
    }
    return out;
}

}  // namespace

std::string page(const results& all) {
    std::string lead;
    for (const char* name : {"date", "processor", "kernel"})
        if (const std::string value = condition(all, name); !value.empty())
            lead += (lead.empty() ? "" : " \xC2\xB7 ") + value;
    std::string out = fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        // Nothing is fetched and nothing runs, whatever a name in here says.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'\">\n<title>{0}</title>\n<style>{1}</style>\n</head>\n<body>\n<main>\n"
        "<header><h1>{0}</h1><p class=\"lead soft\">{2}</p></header>\n",
        html(title_of(all)), page_style, html(lead));
    if (!all.cut_short.empty())
        out += fmt::format("<p class=\"alarm\">This run was cut short after {} pairs: {}</p>\n",
                           all.pairs, html(all.cut_short));
    if (all.columns.size() > most_cards) {
        out += overview(all);
    } else {
        out += "<div class=\"cards\">\n";
        for (std::size_t i = 0; i < all.columns.size(); ++i) out += card(all, i);
        out += "</div>\n";
    }
    if (const std::string name = reference_name(all);
        !name.empty() && all.columns.size() <= most_cards)
        out += fmt::format(
            "<p class=\"soft\"><small>\xC3\x97: compared with {}, within pairs of "
            "samples.</small></p>\n",
            html(name));
    out += charts(all);
    out += fmt::format("<section><h2>All figures</h2><p class=\"soft\">{}.</p>\n{}{}</section>\n",
                       html(capital(samples_text(all))), figures(all), percentiles(all));
    out += fmt::format(
        "<section><h2>Conditions</h2>\n{}<p class=\"soft\" style=\"margin-top:1rem\">Machines "
        "swing by 10 to 20 % between times of "
        "day, so only figures of one run compare. Throughput counts payload that the far end has "
        "confirmed, every byte compared. Percentiles are of all round trips of all samples "
        "together "
        "and end where fewer than five lie beyond.</p></section>\n",
        facts(all));
    out += fmt::format(
        "<script type=\"application/json\" "
        "id=\"results\">\n{}</script>\n</main>\n</body>\n</html>\n",
        embedded(all));
    return out;
}

}  // namespace burin::tools::bench
