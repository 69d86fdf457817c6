// One simulated life of a flow: a model host, a lossy link and the terminator, under a virtual
// clock. Everything follows from the seed, so a seed replays to the same trace.
#pragma once

#include <cstdint>
#include <string>

namespace sim {

enum class tracing { off, on };

struct run_result {
    bool passed = false;
    std::string failure;      // what broke, when not passed
    std::string kind;         // the host's conduct and how it ends
    std::uint64_t trace = 0;  // hash of every event
    std::uint64_t events = 0;
    std::uint64_t virtual_us = 0;
    std::uint64_t timeouts = 0;
    std::uint64_t fast_retransmits = 0;
    std::uint64_t out_of_order = 0;
    std::uint64_t window_probes = 0;
    std::uint64_t tail_probes = 0;
};

// With tracing on, prints each event on standard output.
run_result run(std::uint64_t seed, tracing trace);

}  // namespace sim
