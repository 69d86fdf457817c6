// The one time a worker knows: microseconds of CLOCK_MONOTONIC, read once a turn. Machines get it
// as an argument.
#pragma once

#include <ctime>

#include <cstdint>

namespace burin::ring {

using microseconds_t = std::uint64_t;

inline constexpr microseconds_t millisecond = 1'000;
inline constexpr microseconds_t second = 1'000'000;

inline microseconds_t monotonic_now() noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);  // vDSO: no system call
    return static_cast<microseconds_t>(now.tv_sec) * second +
           static_cast<microseconds_t>(now.tv_nsec) / 1000;
}

}  // namespace burin::ring
