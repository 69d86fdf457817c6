// What a run of `burin bench` found: every sample, and what is made of them. Plain values; the page
// and the tables are drawn from them, and they travel as JSON (docs/performance.md, "burin bench").
//
// A column is a way that the load took: no tunnel, this tunnel, that one. A row is one measure; it
// has a sample for each column and pair. A pair is one turn of all columns, so ratios are made
// within pairs.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace burin::tools::bench {

struct column {
    std::string name;
    bool reference = false;         // no tunnel: what the others are compared with
    std::vector<std::string> ends;  // whose CPU was counted, as "client" and "server"
};

// Units of samples as they are kept; `numbers.hh` says how they are shown.
inline constexpr std::string_view bits_per_second = "bit/s", microseconds = "us",
                                  per_second = "1/s", cpu_per_gb = "CPU-s/GB";

struct row {
    std::string group;  // throughput, cpu, idle, loaded, connections
    std::string id;     // "throughput.up.16"
    std::string title;  // for a person, without the group
    std::string unit;
    std::string end;  // of group cpu: whose, or empty for all ends together
    // Of each column one a pair; not a number where it was not measured.
    std::vector<std::vector<double>> samples;
};

// One point of a distribution: `share` of all values (0.5 to 1) are at most `pooled`, over all
// pairs, and of single pairs at most `least` to `most`.
struct curve_point {
    double share = 0, pooled = 0, least = 0, most = 0;
};

struct curve {
    std::string id;  // idle, loaded
    std::string title;
    struct line {
        std::size_t count = 0;  // values of all pairs; the line ends where fewer than five are left
        std::vector<curve_point> points;
    };
    std::vector<line> lines;  // of each column; without points where nothing was measured
};

struct results {
    std::vector<std::pair<std::string, std::string>> conditions;  // for a person, in their order
    double seconds = 0;                                           // of each sample
    unsigned pairs = 0;
    std::string cut_short;  // why the run ended early; empty when it did not
    std::vector<column> columns;
    std::vector<row> rows;
    std::vector<curve> curves;

    // The row, made if there is none yet. It stays where it is until the next one is made.
    row& at(const row& like);
    const row* find(std::string_view id) const noexcept;
    void add(const row& like, std::size_t of_column, unsigned pair, double value);
    std::optional<std::size_t> reference() const noexcept;
};

struct summary {
    double median = 0, least = 0, most = 0;
    std::size_t count = 0;
};

// Of those that are numbers; nothing of none.
std::optional<summary> summarise(std::vector<double> samples);
std::optional<summary> summarise(const row&, std::size_t of_column);
// Of all columns; 0 of none. What a row's unit is chosen by.
double largest_median(const row&);
// Of the ratios within pairs, column over reference.
std::optional<summary> ratio(const row&, std::size_t of_column, std::size_t reference);

// Shares at which distributions are told.
std::vector<double> curve_shares();
// Of one column; `pairs` are the values of each, in any order. What is left of the line's end is
// five values at least, so that it does not hang on one.
curve::line make_line(const std::vector<std::vector<double>>& pairs);

// JSON, schema "burin-bench/1".
std::string to_json(const results&);
// Throws std::runtime_error with a sentence for what is not such a text, or larger than any run.
results from_json(std::string_view text);

}  // namespace burin::tools::bench
