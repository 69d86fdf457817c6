// How fast the terminator sends over a few fixed paths with a narrowest link, a queue in front of
// it, loss and reordering; beside what theory grants a loss-based sender there.
#pragma once

#include <string>
#include <vector>

namespace sim {

struct path_result {
    std::string name;
    double bound_mbit =
        0;                 // of the link, or of CUBIC's response to the loss (RFC 9438 section 5.1)
    double sack_mbit = 0;  // goodput towards a host with SACK
    double no_sack_mbit = 0;  // and towards one without
    double needless = 0;      // parts of 1 of the bytes sent that the SACK host already had
    bool passed = false;      // far from both it would be a defect, not chance
};

// A few minutes of virtual time, a few seconds of real.
std::vector<path_result> run_paths();

}  // namespace sim
