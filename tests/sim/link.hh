// One direction of a wire that loses (evenly, and in the bursts of Gilbert and Elliott), repeats,
// delays, reorders, corrupts, marks for ECN, and cuts superframes into the segments they stand for.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/sim/model_wire.hh"
#include "tests/sim/random.hh"

namespace sim {

// Chances are per million frames, times are microseconds.
struct link_settings {
    std::uint32_t loss = 0;
    std::uint32_t bursts = 0;      // how often a bad time begins
    std::uint32_t burst_ends = 0;  // and ends
    std::uint32_t burst_loss = 0;  // what is lost meanwhile
    std::uint32_t duplicates = 0;
    std::uint32_t corruption = 0;  // of frames that carry a whole checksum
    std::uint32_t marks = 0;
    std::uint32_t cuts = 0;
    std::uint64_t delay = 0;
    std::uint64_t jitter = 0;  // how late a late frame can be
    std::uint32_t late = 0;
};

class link {
  public:
    explicit link(const link_settings& settings) : _set(settings) {}

    struct arrival {
        std::uint64_t after = 0;
        bytes frame;
    };
    // What comes of a frame, in the order of sending.
    std::vector<arrival> carry(bytes frame, std::uint64_t now, random& r);

  private:
    // A bad time is over after this, however few frames went by: else a host with one frame a
    // minute would meet the same one for an hour.
    static constexpr std::uint64_t longest_burst = 2'000'000;
    bool is_lost(std::uint64_t now, random& r);

    link_settings _set;
    bool _bad = false;
    std::uint64_t _bad_since = 0;
};

}  // namespace sim
