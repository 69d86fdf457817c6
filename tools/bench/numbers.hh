// How figures are written for people: three digits, units of a size that suits.
#pragma once

#include <string>
#include <string_view>

namespace burin::tools::bench {

// Shown value = kept value * factor.
struct scale {
    double factor = 1;
    std::string unit;
};

// For a row of this unit (results.hh) whose largest value is given: bit/s becomes Gbit/s, Mbit/s or
// kbit/s, us stays or becomes ms or s.
scale scale_for(std::string_view unit, double largest);

// "64,710", "127", "16.3", "1.28", "0.062", "0".
std::string number_text(double value);

// Of a round number on an axis: "20", "0.5", "40,000".
std::string tick_text(double value);

// With its unit: "1.28 ms".
std::string quantity(double kept, std::string_view unit);

// "99.9 %" of 0.999, without zeros behind the comma that say nothing.
std::string share_text(double share);

// One line that a terminal shows and does nothing else with: what is not UTF-8, and control
// characters, become U+FFFD.
std::string clean(std::string_view text);

// The same as content or as an attribute of HTML.
std::string html(std::string_view text);

// The same as a table's cell in Markdown.
std::string markdown(std::string_view text);

}  // namespace burin::tools::bench
