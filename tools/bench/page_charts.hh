// The charts of the page, as HTML with pictures inside it: text stays text (it wraps, and can be
// read aloud and copied), and positions are shares of the width, so that nothing shrinks on a
// phone.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/bench/results.hh"

namespace burin::tools::bench {

// The style class of a column's colour: grey for the reference, then a palette that the
// colour-blind tell apart, over again when there are more.
std::string colour_class(const results&, std::size_t of_column);

// Horizontal bars from zero for all rows of a group, one below the other on one scale: medians,
// with the range of samples as whiskers. Rows of an end are parts of the bar of the row that they
// belong to. Empty when there are none.
std::string bar_chart(const results&, std::string_view group);

// The round trips of all curves side by side on one scale: time, logarithmic, over percentiles, in
// equal steps from 90 to 99 to 99.9. Empty when there are none.
std::string curve_chart(const results&);

// Round ends of an axis from zero to at least `most`, and steps of it: 4 to 8 of them.
std::vector<double> linear_ticks(double most);
// Of a logarithmic axis that has `least` to `most` in it, its ends included.
std::vector<double> logarithmic_ticks(double least, double most);

// Moves labels, given by their wanted tops, so far apart that none covers another, within 0 to
// `height`; the order stays. What has no room is pressed together evenly.
std::vector<double> spread_labels(std::vector<double> wanted, double size, double height);

}  // namespace burin::tools::bench
