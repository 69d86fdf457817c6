// Who drives the faults and who has them share one page: the plan in force, which may change at any
// time, how often each operation was tried and went wrong, and how far the process's one clock
// (ring/clock.hh) is ahead of the machine's. It lies in the file that the
// environment's BURIN_FAULTS names, so that a test drives a program that runs; without that it is
// this process's own.
#pragma once

#include <atomic>
#include <cstdint>
#include <string_view>

#include "tests/faults/plan.hh"

namespace burin::faults {

struct page {
    // Odd while the text changes; each even value is a plan.
    std::atomic<std::uint32_t> generation;
    std::uint32_t unused;
    std::atomic<std::int64_t> ahead_us;  // of CLOCK_MONOTONIC; who sleeps must be woken to see it
    char text[2032];                     // ends with a zero
    std::atomic<std::uint64_t> tried[32];
    std::atomic<std::uint64_t> failed[32];
};
static_assert(sizeof(page) <= 4096 && operations <= 32);

page& shared_page();
// Puts a plan in force.
void set_plan(std::string_view);

// One thread's view of the plan, with random numbers of its own.
class dice {
  public:
    // Of this thread.
    static dice& mine();
    // The plan in force now. A text that is no plan ends the process.
    const plan& now();
    // Counts a try; the fault that it is to have, or nullptr. Only kinds that `fits` says.
    const rule* roll(operation, bool (*fits)(rule::kind));
    // 0 to `below` - 1.
    std::uint32_t number(std::uint32_t below) noexcept;

  private:
    dice();
    plan _plan;
    std::uint32_t _generation = ~0u;
    std::uint64_t _state = 0, _thread;
};

}  // namespace burin::faults
