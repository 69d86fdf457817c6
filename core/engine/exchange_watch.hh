// Keys that are changed within a session: while a key exchange runs nothing else is sent (RFC 4253
// section 7.1), so one that the peer does not finish would hold the session for ever.
//
// The owner looks once a turn; its timer fires when one exchange has lasted for too long. Time
// comes from outside.
#pragma once

#include <cstdint>

#include "core/ssh/transport.hh"
#include "ring/timer_wheel.hh"

namespace burin::engine {

class exchange_watch {
  public:
    // `overdue` is the owner's and lives as long; `most` is what an exchange may take.
    exchange_watch(ring::timer& overdue, ring::microseconds_t most) noexcept
        : _overdue(overdue), _most(most) {}

    void look(const ssh::transport& t, ring::timer_wheel& timers,
              ring::microseconds_t now) noexcept {
        if (!t.exchanging()) return _overdue.disarm();
        const std::uint64_t done = t.counters().key_exchanges;
        if (_overdue.armed() && done == _done) return;
        _done = done;
        timers.arm(_overdue, now + _most);
    }

  private:
    ring::timer& _overdue;
    ring::microseconds_t _most;
    std::uint64_t _done = 0;  // exchanges before the one that is timed
};

}  // namespace burin::engine
