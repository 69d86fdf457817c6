// How much a session may hand to its socket at a time, so that what comes next does not wait long
// behind it. What is sealed, and what the kernel holds unsent, leaves in its order and no other: a
// keystroke waits for all of it. Where only bulk is on its way, large sends are what makes it
// cheap.
//
// A machine without I/O: link tells it what left and how many quick packets there were, and asks.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "ring/clock.hh"

namespace burin::engine {

class send_pace {
  public:
    // Bytes of one send, and of the kernel's unsent queue (TCP_NOTSENT_LOWAT): of bulk alone, until
    // the path's rate is known, and while somebody waits. What a byte meets on its way are turns of
    // workers, and a turn lasts as long as its send is large.
    static constexpr std::size_t most_seal_bytes = 480 * 1024, first_seal_bytes = 132 * 1024,
                                 quick_seal_bytes = 48 * 1024, least_seal_bytes = 40 * 1024,
                                 least_quick_seal_bytes = 8 * 1024;
    static constexpr std::uint32_t most_unsent_bytes = 2u << 20, first_unsent_bytes = 128 * 1024,
                                   quick_unsent_bytes = 64 * 1024, least_unsent_bytes = 64 * 1024,
                                   least_quick_unsent_bytes = 8 * 1024;
    // Bytes that a channel may send before it is another's turn.
    static constexpr std::uint32_t most_turn_bytes = 256 * 1024, least_turn_bytes = 64 * 1024;
    // What a send may hold, and what may wait unsent, as time at the rate at which the path takes
    // bytes.
    static constexpr ring::microseconds_t seal_time = 2 * ring::millisecond,
                                          quick_seal_time = ring::millisecond,
                                          unsent_time = 5 * ring::millisecond,
                                          quick_unsent_time = 2 * ring::millisecond,
                                          turn_time = ring::millisecond;
    // So many quick packets within so short a time, or in so many round trips of an idle path, or
    // while a slow one carries what its queues may hold, may be somebody who waits for answers; so
    // long after the last of them the pace is bulk's again.
    static constexpr std::uint64_t quick_packets = 3;
    static constexpr ring::microseconds_t quick_time = 100 * ring::millisecond,
                                          quick_rest = ring::second;
    static constexpr int quick_round_trips = 8;
    static constexpr std::uint64_t quick_bytes = 2u << 20;  // a second at most
    // And who goes on for so long is: flows that begin at once have a request each, and are none.
    static constexpr ring::microseconds_t lasting_time = 50 * ring::millisecond;

    // A send of `bytes` begins. What is small says nothing of the path.
    void begin(std::size_t bytes, ring::microseconds_t now) noexcept {
        _measuring = bytes >= std::min(least_measured, seal_bytes(now));
        _last = now;
    }

    // `bytes` of it have left. Only the time in which a send was on its way is the path's.
    void sent(std::size_t bytes, ring::microseconds_t now) noexcept {
        if (!_measuring) return;
        _bytes += bytes;
        _took += now - _last;
        _last = now;
        if (_took < measure_time) return;
        const std::uint64_t rate = _bytes * ring::second / _took;
        _rate = _rate == 0 ? rate : (3 * _rate + rate) / 4;
        _bytes = 0;
        _took = 0;
    }

    // `total`: quick packets since the session began. `round_trip`: of the path; 0: not known.
    void look(std::uint64_t total, ring::microseconds_t round_trip,
              ring::microseconds_t now) noexcept {
        if (total == _seen) return;
        const ring::microseconds_t trips = quick_round_trips * round_trip;
        const ring::microseconds_t queues =
            _rate == 0
                ? 0
                : std::min<ring::microseconds_t>(quick_bytes * ring::second / _rate, ring::second);
        if (now - _quick_since > std::max({quick_time, trips, queues}))
            _quick_since = now, _quick_seen = _seen;
        _seen = total;
        if (total - _quick_seen < quick_packets) return;
        if (now >= _quick_until) _quick_from = _quick_since;
        _quick_last = now;
        _quick_until = now + std::max(quick_rest, trips);
    }

    // Whether somebody waits.
    bool quick(ring::microseconds_t now) const noexcept {
        return now < _quick_until && _quick_last - _quick_from >= lasting_time;
    }
    // Bytes a second; 0: not known yet.
    std::uint64_t rate() const noexcept { return _rate; }

    std::size_t seal_bytes(ring::microseconds_t now) const noexcept {
        if (!quick(now))
            return std::clamp<std::size_t>(in(seal_time), least_seal_bytes,
                                           _rate == 0 ? first_seal_bytes : most_seal_bytes);
        return std::clamp<std::size_t>(in(quick_seal_time), least_quick_seal_bytes,
                                       quick_seal_bytes);
    }

    // Whether a send must not join what waits unsent already: the kernel asks how much that is only
    // when it begins a buffer of its own, and goes on filling one to 64 KiB.
    bool apart(ring::microseconds_t now) const noexcept {
        return quick(now) && unsent_bytes(now) < least_unsent_bytes;
    }

    // Long turns make large writes at the far end; on a slow path, or while somebody waits, they
    // would be the others' delay.
    std::uint32_t turn_bytes(ring::microseconds_t now) const noexcept {
        const std::uint32_t most = quick(now) || _rate == 0 ? least_turn_bytes : most_turn_bytes;
        return static_cast<std::uint32_t>(
            std::clamp<std::uint64_t>(in(turn_time), least_turn_bytes, most));
    }

    // A power of two, so that it seldom changes.
    std::uint32_t unsent_bytes(ring::microseconds_t now) const noexcept {
        const std::uint64_t bytes =
            quick(now)
                ? std::clamp<std::uint64_t>(in(quick_unsent_time), least_quick_unsent_bytes,
                                            quick_unsent_bytes)
                : std::clamp<std::uint64_t>(in(unsent_time), least_unsent_bytes,
                                            _rate == 0 ? first_unsent_bytes : most_unsent_bytes);
        return static_cast<std::uint32_t>(std::bit_floor(bytes));
    }

  private:
    static constexpr ring::microseconds_t measure_time = 5 * ring::millisecond;
    static constexpr std::size_t least_measured = 16 * 1024;

    std::uint64_t in(ring::microseconds_t time) const noexcept {
        return _rate == 0 ? ~std::uint64_t{0}
                          : _rate * static_cast<std::uint64_t>(time) / ring::second;
    }

    std::uint64_t _rate = 0, _bytes = 0;
    ring::microseconds_t _took = 0, _last = 0;
    bool _measuring = false;
    std::uint64_t _seen = 0, _quick_seen = 0;
    ring::microseconds_t _quick_since = 0, _quick_until = 0, _quick_from = 0, _quick_last = 0;
};

}  // namespace burin::engine
