// How fast the terminator sends over a few fixed paths with a narrowest link, a queue in front of
// it, loss and reordering; beside what theory grants a loss-based sender there. And what two
// senders that follow different laws leave each other.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sim {

struct path_result {
    std::string name;
    double bound_mbit =
        0;                 // of the link, or of CUBIC's response to the loss (RFC 9438 section 5.1)
    double sack_mbit = 0;  // goodput towards a host with SACK
    double no_sack_mbit = 0;  // and towards one without
    double needless = 0;      // parts of 1 of the bytes sent that the SACK host already had
    double bbr_mbit = 0;      // under BBR, which is bound by the link alone; with SACK
    double bbr_no_sack_mbit = 0;
    double bbr_needless = 0;
    bool passed = false;  // far from any it would be a defect, not chance
};

struct share_result {
    std::string name;
    double cubic_mbit = 0;
    double bbr_mbit = 0;
    bool passed = false;  // neither starves, and the link is busy
};

// Those whose names contain `part`. A few minutes of virtual time.
std::vector<path_result> run_paths(std::string_view part);
std::vector<share_result> run_shares(std::string_view part);

}  // namespace sim
