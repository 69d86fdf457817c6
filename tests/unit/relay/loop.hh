// A ring with its timers, driven until a test has what it waits for.
#pragma once

#include <dirent.h>

#include <cstddef>

#include "ring/ring.hh"
#include "ring/timer_wheel.hh"

namespace burin::relay {

struct loop {
    ring::ring ring{ring::options{.submissions = 64, .completions = 256}};
    ring::timer_wheel timers{burin::ring::monotonic_now()};

    // Time that a test has let pass at once.
    burin::ring::microseconds_t skipped = 0;
    // From now on no other time passes, however long things take.
    void freeze() { frozen = burin::ring::monotonic_now(); }
    burin::ring::microseconds_t frozen = 0;
    burin::ring::microseconds_t now() const {
        return (frozen != 0 ? frozen : burin::ring::monotonic_now()) + skipped;
    }

    void turn(burin::ring::microseconds_t longest) {
        const burin::ring::microseconds_t at = now(), due = timers.next();
        burin::ring::microseconds_t wait = longest;
        if (due < at + longest) wait = due > at ? due - at : 0;
        ring.enter(burin::ring::monotonic_now() + wait);
        timers.advance(now());
    }
    // False after twenty seconds without.
    template <class Condition>
    bool until(Condition&& met) {
        burin::ring::microseconds_t limit = burin::ring::monotonic_now() + 20 * burin::ring::second;
        while (!met()) {
            if (burin::ring::monotonic_now() > limit) return false;
            turn(burin::ring::second);
        }
        return true;
    }
    // Until the ring holds nothing of anybody's any more.
    bool drain() {
        bool done = until([&] { return ring.in_flight() == 0; });
        turn(0);  // closes that were asked for meanwhile
        return done;
    }
};

// Descriptors of this process, to see that none is lost.
inline std::size_t open_descriptors() {
    std::size_t count = 0;
    DIR* list = opendir("/proc/self/fd");
    while (list != nullptr && readdir(list) != nullptr) ++count;
    if (list != nullptr) closedir(list);
    return count;
}

}  // namespace burin::relay
