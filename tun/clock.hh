// The time that machines of this room are given: any clock that only goes forward, in microseconds;
// the caller reads it once a turn.
#pragma once

#include <cstdint>

namespace burin::tun {

using time_us = std::uint64_t;
inline constexpr time_us never_us = ~time_us{0};

}  // namespace burin::tun
