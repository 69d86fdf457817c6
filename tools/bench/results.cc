#include "tools/bench/results.hh"

#include <algorithm>
#include <cmath>
#include <limits>

namespace burin::tools::bench {

namespace {

constexpr double absent = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t least_beyond = 5;

// The nearest rank, as the load generator's percentiles.
double at_share(const std::vector<double>& sorted, double share) {
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

}  // namespace

row& results::at(const row& like) {
    for (row& known : rows)
        if (known.id == like.id) return known;
    row fresh = like;
    fresh.samples.assign(columns.size(), std::vector<double>(pairs, absent));
    rows.push_back(std::move(fresh));
    return rows.back();
}

const row* results::find(std::string_view id) const noexcept {
    for (const row& known : rows)
        if (known.id == id) return &known;
    return nullptr;
}

void results::add(const row& like, std::size_t of_column, unsigned pair, double value) {
    at(like).samples[of_column][pair] = value;
}

std::optional<std::size_t> results::reference() const noexcept {
    for (std::size_t i = 0; i < columns.size(); ++i)
        if (columns[i].reference) return i;
    return std::nullopt;
}

std::optional<summary> summarise(std::vector<double> samples) {
    std::erase_if(samples, [](double value) { return !std::isfinite(value); });
    if (samples.empty()) return std::nullopt;
    std::sort(samples.begin(), samples.end());
    const std::size_t half = samples.size() / 2;
    const double median =
        samples.size() % 2 == 1 ? samples[half] : (samples[half - 1] + samples[half]) / 2;
    return summary{median, samples.front(), samples.back(), samples.size()};
}

std::optional<summary> summarise(const row& of, std::size_t of_column) {
    return summarise(of.samples.at(of_column));
}

double largest_median(const row& of) {
    double largest = 0;
    for (std::size_t i = 0; i < of.samples.size(); ++i)
        if (const auto s = summarise(of, i)) largest = std::max(largest, s->median);
    return largest;
}

std::optional<summary> ratio(const row& of, std::size_t of_column, std::size_t reference) {
    const std::vector<double>&ours = of.samples.at(of_column), &theirs = of.samples.at(reference);
    std::vector<double> ratios;
    for (std::size_t pair = 0; pair < std::min(ours.size(), theirs.size()); ++pair)
        ratios.push_back(theirs[pair] > 0 ? ours[pair] / theirs[pair] : absent);
    return summarise(std::move(ratios));
}

std::vector<double> curve_shares() {
    // Even steps of the picture's axis, which is logarithmic in what lies beyond; and the shares
    // that people ask for.
    std::vector<double> shares = {0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999};
    for (double step = 0.4; step < 4; step += 0.1) shares.push_back(1 - std::pow(10, -step));
    std::sort(shares.begin(), shares.end());
    const auto same = [](double a, double b) { return b - a < 1e-9; };
    shares.erase(std::unique(shares.begin(), shares.end(), same), shares.end());
    return shares;
}

curve::line make_line(const std::vector<std::vector<double>>& pairs) {
    curve::line made;
    std::vector<double> pooled;
    std::vector<std::vector<double>> each;
    for (const std::vector<double>& values : pairs) {
        if (values.empty()) continue;
        pooled.insert(pooled.end(), values.begin(), values.end());
        each.push_back(values);
        std::sort(each.back().begin(), each.back().end());
    }
    std::sort(pooled.begin(), pooled.end());
    made.count = pooled.size();
    for (const double share : curve_shares()) {
        if ((1 - share) * static_cast<double>(pooled.size()) < least_beyond - 1e-6) break;
        curve_point point{share, at_share(pooled, share), 0, 0};
        point.least = std::numeric_limits<double>::infinity();
        for (const std::vector<double>& values : each) {
            const double value = at_share(values, share);
            point.least = std::min(point.least, value);
            point.most = std::max(point.most, value);
        }
        made.points.push_back(point);
    }
    return made;
}

}  // namespace burin::tools::bench
