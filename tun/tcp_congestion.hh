// How much may be in flight: slow start and AIMD in bytes (RFC 5681, appropriate byte counting
// without a limit as superframes and stretch ACKs need it). Another law (CUBIC, BBR) takes this
// class's place behind the same five calls; it needs nothing else of the flow.
#pragma once

#include <algorithm>
#include <cstdint>

namespace burin::tun {

class tcp_congestion {
  public:
    static constexpr std::uint32_t initial_segments = 10;  // RFC 6928
    static constexpr std::uint32_t max_window = 64u << 20;

    // `mss` in bytes of payload.
    void start(std::uint32_t mss) noexcept {
        _mss = mss;
        _window = initial_segments * mss;
        _threshold = max_window;
        _counted = 0;
    }
    std::uint32_t window() const noexcept { return _window; }
    std::uint32_t threshold() const noexcept { return _threshold; }

    // `acked` new bytes were acknowledged while `flight` bytes (these included) were out. A flow
    // that does not use its window earns no larger one (RFC 7661).
    void on_ack(std::uint32_t acked, std::uint32_t flight) noexcept {
        if (_window < _threshold) {
            if (flight < _window / 2) return;
            _window = std::min(_window + acked, max_window);
            return;
        }
        if (flight + _mss < _window) return;
        _counted += acked;
        if (_counted >= _window) {
            _counted -= _window;
            _window = std::min(_window + _mss, max_window);
        }
    }
    // Loss seen by duplicate ACKs (RFC 5681 section 3.2, step 2).
    void on_loss(std::uint32_t flight) noexcept {
        _threshold = std::max(flight / 2, 2 * _mss);
        _window = _threshold;
        _counted = 0;
    }
    // Loss seen by the retransmission timer (RFC 5681 section 3.1, equation 4).
    void on_timeout(std::uint32_t flight) noexcept {
        _threshold = std::max(flight / 2, 2 * _mss);
        _window = _mss;
        _counted = 0;
    }
    // Nothing was sent for a retransmission timeout: the path may have changed (RFC 5681 4.1).
    void on_idle() noexcept { _window = std::min(_window, initial_segments * _mss); }

  private:
    std::uint32_t _window = 0;
    std::uint32_t _threshold = max_window;
    std::uint32_t _counted = 0;  // bytes acknowledged towards the next increase
    std::uint32_t _mss = 0;
};

}  // namespace burin::tun
