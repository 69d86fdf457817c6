// Results as one page of HTML that needs nothing else: no script, no font, no picture from
// anywhere. Light and dark as the reader's system is, for a desk and for a phone. What came from
// outside (names, conditions) is text in it, never markup.
#pragma once

#include <string>

#include "tools/bench/results.hh"

namespace burin::tools::bench {

std::string page(const results&);

}  // namespace burin::tools::bench
