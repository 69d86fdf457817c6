// Under which conditions figures were made: what a reader needs to compare them with others.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/bench/settings.hh"

namespace burin::tools::bench {

// Of this machine, now; names and values for a person. What cannot be told is left out.
std::vector<std::pair<std::string, std::string>> conditions_here(const settings&);

// Tasks that ran or wanted to, a mean of the last minute; 0 where the system does not tell.
double load_before();

// "40 s", "4 minutes".
std::string duration_text(double seconds);

}  // namespace burin::tools::bench
