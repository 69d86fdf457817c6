// When to connect again, and what to say meanwhile (docs/wire.md section 10.5): least x 2^attempt,
// no jitter, capped. Pure: times are told, not read.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "ring/clock.hh"

namespace burin::engine {

class backoff {
  public:
    // A session that lasted longer than this after its config was accepted makes the next failure
    // the first again.
    static constexpr ring::microseconds_t good_session = 5 * ring::second;
    // A most below a second means this (docs/wire.md section 10.2).
    static constexpr ring::microseconds_t default_most = 300 * ring::second;

    // `most_retries` < 0: no limit; 0: none at all.
    backoff(ring::microseconds_t least, ring::microseconds_t most, int most_retries)
        : _least(least),
          _most(most < ring::second ? default_most : most),
          _most_retries(most_retries) {}

    struct step {
        std::optional<ring::microseconds_t> delay;  // nothing: give up
        std::string error_line;                     // "Connection error: ...", or empty
        std::string next_line;                      // "Retrying in 100ms..." or "Give up"
    };
    // A connection failed or ended. `error` is escaped text, empty for a clean disconnect;
    // `session` is how long it was up after its config was accepted, 0 when it never was.
    step failed(std::string_view error, ring::microseconds_t session = 0);

  private:
    ring::microseconds_t _least;
    ring::microseconds_t _most;
    int _most_retries;
    unsigned _attempt = 0;
};

}  // namespace burin::engine
