// Lets one of many events through in a while, for log lines that a stranger could cause without
// end. Shared by threads; time comes from outside.
#pragma once

#include <atomic>

#include "ring/clock.hh"

namespace burin::engine {

class seldom {
  public:
    explicit seldom(ring::microseconds_t pause) : _pause(pause) {}

    // True for the first event, and for the first after each pause.
    bool now_and_then(ring::microseconds_t now) noexcept {
        ring::microseconds_t due = _due.load(std::memory_order_relaxed);
        return now >= due &&
               _due.compare_exchange_strong(due, now + _pause, std::memory_order_relaxed);
    }

  private:
    const ring::microseconds_t _pause;
    std::atomic<ring::microseconds_t> _due{0};
};

}  // namespace burin::engine
