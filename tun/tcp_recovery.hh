// When bytes count as lost: the round-trip estimate with its retransmission timeout (RFC 6298) and
// fast retransmit with NewReno's recovery point (RFC 5681 section 3.2, RFC 6582). Selective
// acknowledgement and RACK belong here: they answer the same question from more evidence.
#pragma once

#include <algorithm>
#include <cstdint>

#include "tun/sequence.hh"

namespace burin::tun {

class rtt_estimator {
  public:
    static constexpr std::uint32_t initial_us = 1'000'000;  // RFC 6298 section 2.1
    // RFC 6298 asks for a whole second; 200 ms above the smoothed round trip is what Linux has used
    // for two decades: it still outlasts every delayed ACK.
    static constexpr std::uint32_t floor_us = 200'000;
    static constexpr std::uint32_t ceiling_us = 60'000'000;  // section 2.5
    // Section 5.7: data after a SYN-ACK that had to be repeated.
    static constexpr std::uint32_t after_lost_handshake_us = 3'000'000;

    // A round trip measured on bytes sent once only (Karn). Ends the back-off.
    void sample(std::uint64_t round_trip_us) noexcept {
        const auto rtt =
            static_cast<std::uint32_t>(std::clamp<std::uint64_t>(round_trip_us, 1, ceiling_us));
        if (_smoothed == 0) {
            _smoothed = rtt;
            _variance = rtt / 2;
        } else {
            const std::uint32_t error = rtt > _smoothed ? rtt - _smoothed : _smoothed - rtt;
            _variance = _variance - _variance / 4 + error / 4;
            _smoothed = std::max(1u, _smoothed - _smoothed / 8 + rtt / 8);
        }
        _base = std::min(_smoothed + std::max(floor_us, 4 * _variance), ceiling_us);
        _backoff = 0;
    }
    void on_lost_handshake() noexcept {
        _base = after_lost_handshake_us;
        _backoff = 0;
    }
    void back_off() noexcept {
        if (timeout_us() < ceiling_us) ++_backoff;
    }
    void end_backoff() noexcept { _backoff = 0; }
    std::uint32_t timeout_us() const noexcept {
        return static_cast<std::uint32_t>(
            std::min<std::uint64_t>(std::uint64_t{_base} << _backoff, ceiling_us));
    }
    std::uint32_t smoothed_us() const noexcept { return _smoothed; }  // 0: no sample yet

  private:
    std::uint32_t _smoothed = 0;
    std::uint32_t _variance = 0;
    std::uint32_t _base = initial_us;
    std::uint8_t _backoff = 0;
};

class loss_recovery {
  public:
    static constexpr std::uint32_t duplicate_threshold = 3;

    // Everything below `first` is settled.
    void start(sequence first) noexcept {
        _recover = first;
        _duplicates = 0;
        _active = false;
    }
    bool active() const noexcept { return _active; }
    // What the congestion window is inflated by: one segment for each that left the network.
    std::uint32_t inflation(std::uint32_t mss) const noexcept {
        return _active ? std::min(_duplicates, 4096u) * mss : 0;
    }
    sequence recovery_point() const noexcept { return _recover; }

    enum class duplicate { counted, retransmit, inflated };
    // One more duplicate ACK of `acked` while everything up to `sent` is out.
    duplicate on_duplicate(sequence acked, sequence sent) noexcept {
        ++_duplicates;
        if (_active) return duplicate::inflated;
        // RFC 6582 section 3.2 step 1: duplicates that a go-back after a timeout provokes start
        // nothing. "Not below" because _recover is the first byte not yet sent then.
        if (_duplicates != duplicate_threshold || acked < _recover) return duplicate::counted;
        _active = true;
        _recover = sent;
        _burst_segments = 1;
        return duplicate::retransmit;
    }

    // New bytes up to `acked`. Returns how many segments to send again from there: none outside
    // recovery. A superframe is lost as a whole, so consecutive partial ACKs that end where the
    // last repair ended double the repair instead of mending one segment a round trip.
    std::uint32_t on_ack(sequence acked, std::uint32_t bytes, std::uint32_t mss) noexcept {
        _duplicates = 0;
        if (!_active) return 0;
        if (acked >= _recover) {
            _active = false;
            return 0;
        }
        _burst_segments = bytes <= _burst_segments * mss ? std::min(_burst_segments * 2, 64u) : 1;
        return _burst_segments;
    }
    // The retransmission timer fired with everything up to `sent` out.
    void on_timeout(sequence sent) noexcept {
        _active = false;
        _duplicates = 0;
        _recover = sent;
    }

  private:
    sequence _recover;
    std::uint32_t _duplicates = 0;
    std::uint32_t _burst_segments = 1;
    bool _active = false;
};

}  // namespace burin::tun
