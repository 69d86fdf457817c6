// How much may be in flight: slow start (RFC 5681, bytes counted without a limit as superframes and
// stretch ACKs need it) and CUBIC (RFC 9438) with its Reno-friendly region. Another law takes this
// class's place behind the same few calls; it needs nothing else of the flow.
//
// No HyStart++ (RFC 9406): it wants eight clean round trips a round within a few milliseconds of
// each other, and a host behind Wi-Fi varies by more than that without any queue, which would end
// slow start early. What slow start overshoots, SACK repairs within a round trip.
#pragma once

#include <algorithm>
#include <cstdint>

namespace burin::tun {

class tcp_congestion {
  public:
    static constexpr std::uint32_t initial_segments = 10;  // RFC 6928
    static constexpr std::uint32_t max_window = 64u << 20;

    // `mss` in bytes of payload.
    void start(std::uint32_t mss) noexcept;
    // Smaller segments from now on (path MTU); the window in bytes stays.
    void set_mss(std::uint32_t mss) noexcept { _mss = mss; }
    std::uint32_t window() const noexcept { return _window; }
    std::uint32_t threshold() const noexcept { return _threshold; }

    // `acked` new bytes arrived while `flight` bytes (these included) were out; `rtt_us` is the
    // smoothed round trip. A flow that does not use its window earns no larger one (RFC 7661).
    void on_ack(std::uint32_t acked, std::uint32_t flight, std::uint64_t now,
                std::uint32_t rtt_us) noexcept {
        if (_window >= _threshold) {
            avoid(acked, flight, now, rtt_us);
        } else if (flight >= _window / 2) {
            _window = std::min(_window + acked, max_window);
        }
    }
    // Loss seen by acknowledgements, or ECN's report: once a round trip (RFC 9438 section 4.6).
    void on_loss(std::uint32_t flight) noexcept;
    // The retransmission timer fired (section 4.8). `again`: without an answer in between, which
    // says nothing new about the path's capacity (RFC 5681 section 3.1).
    enum class timeout { first, again };
    void on_timeout(std::uint32_t flight, timeout which) noexcept;
    // The last reduction was wrong (RFC 9438 section 4.9).
    void undo() noexcept;
    // Nothing was sent for a retransmission timeout: the path may have changed (RFC 5681 4.1).
    void on_idle() noexcept {
        _window = std::min(_window, initial_segments * _mss);
        _epoch = no_epoch;
    }

  private:
    static constexpr std::uint64_t no_epoch = 0;
    void avoid(std::uint32_t acked, std::uint32_t flight, std::uint64_t now,
               std::uint32_t rtt_us) noexcept;
    void start_epoch(std::uint64_t now) noexcept;
    void remember() noexcept;
    void lower_peak() noexcept;

    std::uint32_t _window = 0;
    std::uint32_t _threshold = max_window;
    std::uint32_t _mss = 1;
    std::uint32_t _peak = 0;   // W_max, bytes; 0: none yet
    std::uint32_t _prior = 0;  // the window before the last reduction
    std::uint32_t _prior_threshold = max_window;
    std::uint32_t _prior_peak = 0;
    float _plateau_s = 0;             // K: seconds until the cubic is back at the peak
    float _origin = 0;                // where it flattens, bytes
    float _friendly = 0;              // W_est, bytes
    float _earned = 0;                // parts of a byte of growth
    std::uint64_t _epoch = no_epoch;  // microseconds
    std::uint64_t _seen_at = 0;       // the last acknowledgement
};

}  // namespace burin::tun
