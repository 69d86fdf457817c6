// What a seed decides before the first frame: the two ends, the link between them, how it ends.
#pragma once

#include <cstdint>
#include <string>

#include "tests/sim/gateway.hh"
#include "tests/sim/link.hh"
#include "tests/sim/model_host.hh"
#include "tests/sim/random.hh"

namespace sim {

enum class ending {
    host_first,
    tunnel_first,
    together,  // each when it has sent all
    at_once,   // at the same instant
    host_resets,
    tunnel_aborts,
    host_vanishes,  // without a word
};

enum class conduct {
    honest,
    mischievous,  // forged frames between the right ones, none of which may do harm
    optimist,     // acknowledges all that was ever sent, whether it came or not
};

struct scenario {
    host_settings host;
    gateway_settings gate;
    ending end = ending::host_first;
    conduct host_is = conduct::honest;
    link_settings link;
    std::uint64_t vanishes_after = 0;  // bytes through, both ways together
    std::uint64_t turn = 0, dial = 0;
    std::uint64_t read_size = 0, read_pause = 0, sink_size = 0, sink_pause = 0;
    std::uint64_t source_size = 0, source_pause = 0;
    std::uint32_t stalls = 0;  // of either reader, per million reads
    std::uint64_t longest_stall = 0;
};

scenario draw_scenario(random& r, std::uint64_t seed);
// "honest, at once, cubic"
std::string to_text(const scenario& what);

}  // namespace sim
