// The page: that it has what it should, in every shape of results, and nothing from outside as
// markup. How it looks is for eyes.
#include "tools/bench/page.hh"

#include <array>
#include <cmath>
#include <limits>

#include "tests/catch.hh"
#include "tools/bench/page_charts.hh"
#include "tools/bench/table.hh"

using namespace burin::tools::bench;

namespace {

std::size_t count(std::string_view text, std::string_view what) {
    std::size_t found = 0;
    for (std::size_t at = text.find(what); at != text.npos; at = text.find(what, at + 1)) ++found;
    return found;
}

results measured(std::size_t columns, unsigned pairs, std::string name = "tunnel") {
    results all;
    all.pairs = pairs;
    all.seconds = 2;
    all.conditions = {{"date", "2026-01-01"}, {"kernel", name}};
    for (std::size_t i = 0; i < columns; ++i)
        all.columns.push_back({name + std::to_string(i), i == 0, {}});
    for (std::size_t i = 0; i < columns; ++i)
        for (unsigned pair = 0; pair < pairs; ++pair) {
            all.add({"throughput", "throughput.up.1", "up, 1 stream", "bit/s", "", {}}, i, pair,
                    1e9 * static_cast<double>(i + pair + 1));
            all.add({"idle", "idle.p50", "p50", "us", "", {}}, i, pair, 100);
            if (i == 0) continue;
            all.add({"cpu", "cpu.up.1", "up, 1 stream", "CPU-s/GB", "", {}}, i, pair, 0.6);
        }
    curve& c = all.curves.emplace_back(curve{"idle", "idle", {}});
    for (std::size_t i = 0; i < columns; ++i) {
        std::vector<double> values(2000);
        for (std::size_t at = 0; at < values.size(); ++at)
            values[at] = 50 + static_cast<double>(at * (i + 1));
        c.lines.push_back(make_line({values}));
    }
    return all;
}

// Elements that must be closed are, in order.
bool balanced(std::string_view text) {
    static constexpr std::array<std::string_view, 6> empty = {"meta", "!DOCTYPE", "line",
                                                              "rect", "polygon",  "polyline"};
    std::vector<std::string> open;
    for (std::size_t at = text.find('<'); at != text.npos; at = text.find('<', at)) {
        const std::size_t end = text.find('>', at);
        if (end == text.npos) return false;
        std::string_view tag = text.substr(at + 1, end - at - 1);
        at = end;
        const bool closes = tag.starts_with('/');
        if (closes) tag.remove_prefix(1);
        const std::string_view name = tag.substr(0, tag.find_first_of(" \n/"));
        if (std::find(empty.begin(), empty.end(), name) != empty.end()) continue;
        if (!closes) {
            open.emplace_back(name);
        } else if (open.empty() || open.back() != name) {
            return false;
        } else {
            open.pop_back();
        }
    }
    return open.empty();
}

}  // namespace

TEST_CASE("a page is whole and fetches nothing, whatever was measured") {
    for (const std::size_t columns : {1, 2, 7, 12})
        for (const unsigned pairs : {1, 5}) {
            const std::string text = page(measured(columns, pairs));
            CAPTURE(columns, pairs);
            CHECK(balanced(text));
            CHECK(count(text, "http:") + count(text, "https:") + count(text, "url(") == 0);
            CHECK(count(text, "src=") + count(text, "href=") + count(text, "@import") == 0);
            CHECK(count(text, "default-src 'none'") == 1);
            CHECK(count(text, "class=\"card ") == (columns > 3 ? 0 : columns));
            CHECK(count(text, "<polyline ") == columns);
            CHECK(count(text, "role=\"img\" aria-label=\"Round trip") == 1);
            CHECK(count(text, "class=\"halo\"") == (pairs > 1 ? columns : 0));
        }
    results nothing;
    nothing.pairs = 1;
    CHECK(balanced(page(nothing)));
    nothing.columns = {{"alone", false, {}}};
    CHECK(balanced(page(nothing)));
    CHECK(count(page(nothing), "<figure>") == 0);
}

TEST_CASE("names and conditions are never markup") {
    const std::string evil = "</script><script>alert(1)</script><img src=x onerror=\"y\">'";
    results all = measured(2, 2, evil);
    all.cut_short = evil;
    const std::string text = page(all);
    CHECK(balanced(text));
    CHECK(count(text, "<script") == 1);
    CHECK(count(text, "</script") == 1);
    CHECK(count(text, "<img") == 0);
    CHECK(count(text, "onerror=\"") == 0);
    CHECK(count(table(all), "<script") == count(table(all), "\\<script"));
}

TEST_CASE("the page carries its results") {
    const results all = measured(2, 3, "<a&b>");
    const std::string text = page(all);
    const std::string_view begin = "id=\"results\">\n";
    const std::size_t from = text.find(begin) + begin.size();
    const std::size_t to = text.find("</script>", from);
    CHECK(to_json(from_json(text.substr(from, to - from))) == to_json(all));
}

TEST_CASE("huge, tiny, zero and missing samples make no broken figure") {
    for (const double value : {0.0, 1e-9, 1e18, std::numeric_limits<double>::quiet_NaN()}) {
        results all = measured(3, 2);
        for (row& r : all.rows) r.samples[1].assign(2, value);
        for (curve_point& p : all.curves[0].lines[1].points)
            p.least = p.pooled = p.most = std::isnan(value) ? 0 : value;
        const std::string text = page(all);
        CAPTURE(value);
        CHECK(balanced(text));
        CHECK(count(text, "nan") == 0);
        CHECK(count(text, "inf") == 0);
        CHECK(count(text, "%\" y=\"10\" width=\"-") == 0);
    }
}

TEST_CASE("axes end beyond what they show, in few round steps") {
    for (double most = 1e-7; most < 1e9; most *= 1.37) {
        const std::vector<double> ticks = linear_ticks(most);
        CAPTURE(most);
        CHECK(ticks.front() == 0);
        CHECK(ticks.back() >= most * (1 - 1e-9));
        CHECK(ticks.back() <= most * 2);
        CHECK(ticks.size() >= 3);
        CHECK(ticks.size() <= 6);
        for (double wider = 1; wider < 1e7; wider *= 11) {
            const std::vector<double> times = logarithmic_ticks(most, most * wider);
            CHECK(times.front() <= std::max(most, 0.001) * (1 + 1e-9));
            CHECK(times.back() >= most * wider * (1 - 1e-9));
            CHECK(times.size() >= 2);
        }
    }
    CHECK(linear_ticks(0).back() > 0);
    CHECK(logarithmic_ticks(0, 0).size() >= 2);
}

TEST_CASE("labels do not cover each other while there is room") {
    CHECK(spread_labels({}, 20, 300).empty());
    CHECK(spread_labels({100}, 20, 300) == std::vector<double>{100});
    CHECK(spread_labels({400}, 20, 300) == std::vector<double>{280});
    const std::vector<double> placed = spread_labels({100, 101, 99, 290, 295}, 20, 300);
    std::vector<double> sorted = placed;
    std::sort(sorted.begin(), sorted.end());
    for (std::size_t i = 1; i < sorted.size(); ++i) CHECK(sorted[i] - sorted[i - 1] >= 20 - 1e-9);
    CHECK(sorted.front() >= 0);
    CHECK(sorted.back() <= 280);
    // The order stays: the third was highest.
    CHECK(placed[2] < placed[0]);
    CHECK(placed[0] < placed[1]);
    const std::vector<double> pressed = spread_labels(std::vector<double>(40, 10), 20, 300);
    CHECK(*std::max_element(pressed.begin(), pressed.end()) <= 280 + 1e-9);
    CHECK(*std::min_element(pressed.begin(), pressed.end()) >= -1e-9);
}
