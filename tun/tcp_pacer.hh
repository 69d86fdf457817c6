// When the next burst of a paced flow may leave. Bursts are what the TUN carries well: about a
// millisecond of the rate in one superframe, which is also the grain of the worker's timers. A
// timer that comes late, or a turn that took long, is made up for within bounds, so that the mean
// rate holds.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tun/clock.hh"

namespace burin::tun {

class tcp_pacer {
  public:
    static constexpr std::uint32_t burst_us = 1000;
    static constexpr std::uint32_t least_segments = 2;
    static constexpr std::uint32_t most_burst = 64 * 1024;  // a superframe
    // How late a burst may be and still not lose its turn: a tick of the timers, a long turn, a
    // processor that others had meanwhile. The window bounds what is made up for.
    static constexpr std::uint32_t most_late_us = 10'000;

    // Bytes a microsecond; above 0.
    void set_rate(float rate, std::uint32_t mss, time_us now) noexcept {
        settle(now);
        _rate = rate;
        const float wanted = std::min(rate * burst_us, static_cast<float>(most_burst));
        _burst = std::max(static_cast<std::uint32_t>(wanted), least_segments * mss);
    }
    float rate() const noexcept { return _rate; }
    std::uint32_t burst() const noexcept { return _burst; }

    bool may_send(time_us now) const noexcept { return now >= ready_at(); }
    // When it may, or could have.
    time_us ready_at() const noexcept {
        return _debt <= 0 ? _at : _at + static_cast<time_us>(_debt / _rate) + 1;
    }
    // `idle`: nothing was out before, so there is nothing to make up for.
    void on_sent(std::uint32_t bytes, bool idle, time_us now) noexcept {
        settle(now);
        if (idle) _debt = std::max(_debt, 0.0f);
        _debt += static_cast<float>(bytes);
    }

  private:
    void settle(time_us now) noexcept {
        const auto passed_us = static_cast<float>(now - _at);
        _debt = std::max(_debt - _rate * passed_us, -_rate * most_late_us);
        _at = now;
    }

    time_us _at = 0;
    float _rate = 1;
    float _debt = 0;  // bytes sent before their time; below 0: not sent in time
    std::uint32_t _burst = 0;
};

}  // namespace burin::tun
