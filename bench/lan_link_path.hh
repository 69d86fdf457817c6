// One direction of an emulated link: which frames are lost, late or doubled, and when each leaves.
// Frames and a time in, frames and a time out; no clock and no descriptor.
//
//   frame -> queue (bytes) -> rate -> loss -> delay, reordering, duplication -> out
//
// What happens to the frame with index i is drawn from (seed, direction, i) alone, so that a run
// with the same seed meets the same fate whatever its timing. Neighbour discovery passes unharmed
// and has no index: how much of it there is depends on the time of day.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <span>
#include <vector>

#include "bench/load_pattern.hh"

namespace lan {

using nanoseconds = std::uint64_t;  // of CLOCK_MONOTONIC
inline constexpr nanoseconds never = ~nanoseconds{0};
inline constexpr nanoseconds microsecond = 1000, millisecond = 1000 * microsecond;

struct path_settings {
    nanoseconds delay = 0;
    double loss = 0;   // share of all frames
    double burst = 1;  // mean length of a run of losses; 1: each by itself
    double reorder = 0;
    nanoseconds reorder_delay = millisecond;  // a reordered frame is late by up to this
    double duplicate = 0;
    std::uint64_t bits_per_second = 0;  // 0: no limit
    std::uint64_t queue_bytes = 0;      // waiting for the rate; 0: 20 ms of it, at least 64 KiB
    std::size_t most_frames = 1 << 16;  // held at once, whatever they wait for
};

struct path_counters {
    std::uint64_t frames = 0, bytes = 0;  // that came in
    std::uint64_t passed = 0;             // that left, doubles and exempt ones too
    std::uint64_t lost = 0, reordered = 0, doubled = 0;
    std::uint64_t queue_drops = 0;  // no room in the queue
    std::uint64_t overruns = 0;     // no room at all: the link was too small for the run
    std::uint64_t exempt = 0;       // of those that left, neighbour discovery
    std::uint64_t held_most = 0;    // frames at once
};

// How late frames left, in steps of 10 us.
class lateness {
  public:
    void add(nanoseconds late) noexcept {
        ++_count;
        _sum += late;
        _most = std::max(_most, late);
        ++_steps[std::min<std::size_t>(late / step, _steps.size() - 1)];
    }
    double mean_us() const noexcept {
        return _count == 0 ? 0 : static_cast<double>(_sum) / static_cast<double>(_count) / 1e3;
    }
    double most_us() const noexcept { return static_cast<double>(_most) / 1e3; }
    // The upper edge of the step in which this share of the frames has left.
    double share_us(double share) const noexcept {
        const auto wanted = static_cast<std::uint64_t>(share * static_cast<double>(_count));
        std::uint64_t seen = 0;
        for (std::size_t at = 0; at < _steps.size(); ++at) {
            seen += _steps[at];
            if (seen >= wanted) return static_cast<double>((at + 1) * step) / 1e3;
        }
        return most_us();
    }

  private:
    static constexpr nanoseconds step = 10 * microsecond;
    std::array<std::uint64_t, 1000> _steps{};
    std::uint64_t _count = 0, _sum = 0;
    nanoseconds _most = 0;
};

struct fate {
    bool lost = false;
    bool doubled = false;
    nanoseconds late = 0;  // beyond the delay
};

// Draws the fates of one direction, in the order of the frames.
class dice {
  public:
    dice(const path_settings& set, std::uint64_t seed, unsigned direction) : _set(set) {
        std::uint64_t state = seed * 2 + direction;
        _seed = load::mix(state);
        const double ends = 1 / std::max(1.0, set.burst);
        // The share of time that a two-state chain spends in its lossy state is p / (p + ends).
        _starts_loss = set.burst > 1 ? set.loss * ends / (1 - set.loss) : set.loss;
        _ends_loss = set.burst > 1 ? ends : 1;
    }

    fate next() noexcept {
        std::uint64_t state = _seed ^ (_index++ * 0xd1342543de82ef95ULL);
        fate drawn;
        const double draw = unit(state);
        if (_set.burst > 1)
            _lossy = _lossy ? draw >= _ends_loss : draw < _starts_loss;
        else
            _lossy = draw < _starts_loss;
        drawn.lost = _lossy;
        const double late = unit(state), by = unit(state);
        if (late < _set.reorder)
            drawn.late =
                static_cast<nanoseconds>((1 - by) * static_cast<double>(_set.reorder_delay));
        drawn.doubled = unit(state) < _set.duplicate;
        return drawn;
    }

  private:
    // [0, 1)
    static double unit(std::uint64_t& state) noexcept {
        return static_cast<double>(load::mix(state) >> 11) * 0x1p-53;
    }

    path_settings _set;
    std::uint64_t _seed;
    std::uint64_t _index = 0;
    double _starts_loss, _ends_loss;
    bool _lossy = false;
};

// ARP, and ICMPv6 that finds neighbours and routers (RFC 4861) or reports groups (behind a
// hop-by-hop header, RFC 3810), and IGMP.
inline bool finds_neighbours(std::span<const std::uint8_t> frame) noexcept {
    if (frame.size() < 14) return true;
    const unsigned kind = frame[12] * 256u + frame[13];
    if (kind == 0x0806) return true;
    if (kind == 0x0800) return frame.size() > 23 && frame[23] == 2;
    if (kind != 0x86dd || frame.size() < 55) return false;
    return frame[20] == 0 || (frame[20] == 58 && frame[54] >= 133 && frame[54] <= 137);
}

class path {
  public:
    path(const path_settings& set, std::uint64_t seed, unsigned direction)
        : _set(set), _direction(direction), _dice(set, seed, direction) {
        if (_set.bits_per_second > 0 && _set.queue_bytes == 0)
            _set.queue_bytes = std::max<std::uint64_t>(64 * 1024, _set.bits_per_second / 8 / 50);
    }

    // From here on as a fresh path with this seed; what is under way still leaves.
    void restart(std::uint64_t seed) {
        _dice = dice(_set, seed, _direction);
        counters = {};
        late = {};
    }

    // Takes a frame, or drops it: lost, or no room.
    void enter(nanoseconds now, std::span<const std::uint8_t> frame) {
        fate drawn;
        const bool exempt = finds_neighbours(frame);
        if (!exempt) {
            ++counters.frames;
            counters.bytes += frame.size();
            drawn = _dice.next();
        }
        nanoseconds sent = now;
        if (_set.bits_per_second > 0) {
            const nanoseconds start = std::max(now, _free);
            const double waiting =
                static_cast<double>(start - now) * static_cast<double>(_set.bits_per_second) / 8e9;
            if (!exempt && waiting + static_cast<double>(frame.size()) >
                               static_cast<double>(_set.queue_bytes)) {
                ++counters.queue_drops;
                return;
            }
            _free = start + frame.size() * 8'000'000'000ULL / _set.bits_per_second;
            sent = _free;
        }
        if (drawn.lost) {
            ++counters.lost;
            return;
        }
        if (drawn.late > 0) ++counters.reordered;
        hold(sent + _set.delay + drawn.late, frame);
        if (!drawn.doubled) return;
        ++counters.doubled;
        hold(sent + _set.delay + drawn.late, frame);
    }

    // When the next frame leaves.
    nanoseconds next() const noexcept { return _held.empty() ? never : _held.top().due; }

    // The next frame that is due, or will be within `early`; stands until enter() or leave() is
    // called.
    std::optional<std::span<const std::uint8_t>> leave(nanoseconds now, nanoseconds early = 0) {
        if (next() > now + early) return {};
        const held first = _held.top();
        _held.pop();
        late.add(now > first.due ? now - first.due : 0);
        const std::span<const std::uint8_t> frame(_slots[first.slot]);
        ++counters.passed;
        counters.exempt += finds_neighbours(frame) ? 1 : 0;
        _unused.push_back(first.slot);
        return frame;
    }

    path_counters counters;
    lateness late;

  private:
    struct held {
        nanoseconds due;
        std::uint64_t serial;  // of two that are due at once the first comes first
        std::uint32_t slot;
        bool operator>(const held& other) const noexcept {
            return due != other.due ? due > other.due : serial > other.serial;
        }
    };

    void hold(nanoseconds due, std::span<const std::uint8_t> frame) {
        if (_held.size() >= _set.most_frames) {
            ++counters.overruns;
            return;
        }
        if (_unused.empty()) {
            _unused.push_back(static_cast<std::uint32_t>(_slots.size()));
            _slots.emplace_back();
        }
        const std::uint32_t slot = _unused.back();
        _unused.pop_back();
        _slots[slot].assign(frame.begin(), frame.end());
        _held.push({due, _serial++, slot});
        counters.held_most = std::max<std::uint64_t>(counters.held_most, _held.size());
    }

    path_settings _set;
    unsigned _direction;
    dice _dice;
    nanoseconds _free = 0;  // when the rate has sent all that waits
    std::uint64_t _serial = 0;
    std::priority_queue<held, std::vector<held>, std::greater<>> _held;
    std::vector<std::vector<std::uint8_t>> _slots;
    std::vector<std::uint32_t> _unused;
};

}  // namespace lan
