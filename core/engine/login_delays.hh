// How long the answer to a login waits, by the address it comes from: a second after one failed
// login, two after the next, then four, and nothing again when none has failed for five minutes.
// It is never a ban. Many clients may stand behind one address (NAT), so each login waits for
// itself alone, beside the others, and the right password gets in. It waits as the wrong ones do:
// whoever guesses on many connections side by side learns nothing sooner.
//
// An address is all of an IPv4 address, or the first 64 bits of an IPv6 one, which are one
// network's (RFC 4291 section 2.5.4). The table is bounded; the address whose last failure is the
// oldest is forgotten first.
//
// One for all workers of a server, under a lock: failed logins are no data path. Time comes from
// outside.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>

#include "core/relay/endpoint.hh"
#include "ring/clock.hh"

namespace burin::engine {

struct login_delay_settings {
    ring::microseconds_t first = ring::second;  // 0: no login waits
    ring::microseconds_t forgotten = 300 * ring::second;
    std::size_t addresses = 4096;
};

class login_delays {
  public:
    // Of the first wait: with it the longest is 4 s, and five wrong passwords (docs/wire.md section
    // 5) and a right one fit into the time that a login has.
    static constexpr ring::microseconds_t most_first = ring::second;

    explicit login_delays(const login_delay_settings& settings = {}) : _settings(settings) {
        _settings.first = std::min(_settings.first, most_first);
    }

    // A login from there failed: how long its answer waits.
    ring::microseconds_t failed(const relay::endpoint& from, ring::microseconds_t now);
    // A login from there is right: how long it waits.
    ring::microseconds_t right(const relay::endpoint& from, ring::microseconds_t now);

    // Since the start, failures; and addresses that are remembered.
    struct numbers {
        std::uint64_t failures = 0;
        std::size_t addresses = 0;
    };
    numbers report() const;

  private:
    using key = std::array<std::uint8_t, 16>;
    struct entry {
        key address;
        unsigned failures;
        ring::microseconds_t last;
    };
    static key key_of(const relay::endpoint&);
    ring::microseconds_t wait_after(unsigned failures) const;
    void forget(ring::microseconds_t now);

    login_delay_settings _settings;
    mutable std::mutex _lock;
    std::list<entry> _entries;  // by the time of their last failure, the oldest first
    std::map<key, std::list<entry>::iterator> _by_address;
    std::uint64_t _failures = 0;
};

}  // namespace burin::engine
