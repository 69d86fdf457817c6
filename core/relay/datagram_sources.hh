// Whom a UDP entry may answer: the sources that sent something lately, at most so many of them; a
// newcomer takes the place of the one that was silent longest (docs/wire.md section 9.1). Each has
// the text by which the peer knows it, made once.
//
// Plain values and a time from outside. Looking one up allocates nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay/endpoint.hh"
#include "ring/clock.hh"

namespace burin::relay {

class datagram_sources {
  public:
    datagram_sources(std::uint32_t most, ring::microseconds_t deadline)
        : _most(most), _deadline(deadline) {}

    // One that sends now: its text, valid until the next note().
    std::string_view note(const endpoint& who, ring::microseconds_t now);
    // One that is answered; nullptr when nobody of that text has sent within the deadline. An
    // answer keeps nobody alive.
    const endpoint* find(std::string_view text, ring::microseconds_t now);
    std::size_t size() const noexcept { return _entries.size(); }

  private:
    struct entry {
        endpoint who;
        std::string text;
        ring::microseconds_t last = 0;
    };
    std::uint32_t _most;
    ring::microseconds_t _deadline;
    std::size_t _recent = 0;  // whom the last call was about
    std::vector<entry> _entries;
};

}  // namespace burin::relay
