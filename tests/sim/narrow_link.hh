// A path with a narrowest link, a queue in front of it that drops what finds no room, loss and
// reordering; and one or more terminators that send over it, each to a host of its own, as fast as
// they may. Under a virtual clock, from a seed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tun/congestion_control.hh"

namespace sim {

struct path {
    const char* name;
    std::uint64_t rtt_us;
    std::uint32_t loss;            // per million segments, either way
    std::uint32_t reordered;       // per million segments, late by up to half a round trip
    double mbit;                   // of the narrowest link
    double queue_round_trips = 1;  // how deep the queue is; 5 ms at least
};

// How one of the senders does it, and what its host offers.
struct sender {
    burin::tun::congestion_control law = burin::tun::congestion_control::cubic;
    bool sack = true;
};

struct measurement {
    double mbit = 0;      // goodput
    double needless = 0;  // parts of 1 of the bytes sent that the host already had
};

// One for each sender, over `virtual_us` from the first SYNs on.
std::vector<measurement> run_narrow_link(const path& over, std::span<const sender> senders,
                                         std::uint64_t seed, std::uint64_t virtual_us);

}  // namespace sim
