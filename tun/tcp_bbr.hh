// BBR (draft-ietf-ccwg-bbr-05): how much may be in flight, and how fast it leaves, from a model of
// the path: the most that it has lately delivered in a time (max_bw), the shortest round trip
// (min_rtt), how clumped its acknowledgements come (extra_acked). Loss as such is no sign of
// congestion, which is what a host behind a radio link needs. The model alone: no flow, no clock;
// tcp_rate.hh measures, tcp_pacer.hh spaces.
//
//   startup -> drain -> down -> cruise -> refill -> up -> down ...      probe_rtt from any of them
//
// What differs from the draft, and why:
//   * Loss tells of too much in flight only above a tenth of a round, and from six segments on. The
//     draft has a fiftieth, which a radio link reaches without any queue. Where there is no room at
//     all, probing at 1.25 loses a fifth. Below that bound nothing of the model moves, the
//     short-term bounds neither (the draft lowers them at any loss).
//   * Loss is counted a round, not from the flight that each packet saw.
//   * `up` ends as in version 2 of BBR, when a quarter more than the path holds is in flight, or
//     after three rounds that brought nothing: the queue it makes is shorter.
//   * A repair is sent when the pacing allows it; no packet conservation.
//   * ECN is not agreed on (tun/tcp.hh).
#pragma once

#include <algorithm>
#include <cstdint>

#include "tun/clock.hh"
#include "tun/tcp_rate.hh"

namespace burin::tun {

// One acknowledgement.
struct bbr_ack {
    rate_sample sample;
    std::uint32_t arrived = 0;    // bytes, new ones
    std::uint32_t lost = 0;       // bytes found lost since the last acknowledgement
    std::uint32_t in_flight = 0;  // bytes still out
};

class tcp_bbr {
  public:
    static constexpr std::uint32_t initial_segments = 10;    // RFC 6928
    static constexpr std::uint32_t least_segments = 4;       // BBR.MinPipeCwnd
    static constexpr std::uint32_t most_window = 64u << 20;  // bytes

    enum class phase : std::uint8_t { startup, drain, down, cruise, refill, up, probe_rtt };

    // `mss` in bytes of payload; `seed` spreads the probes of flows that begin together.
    void start(std::uint32_t mss, std::uint32_t seed, time_us now) noexcept;
    // The handshake's round trip.
    void on_handshake(std::uint32_t rtt_us, time_us now) noexcept;
    void set_mss(std::uint32_t mss) noexcept { _mss = mss; }
    void on_ack(const bbr_ack& ack, time_us now) noexcept;
    // Something is sent after nothing was out, and not for want of room (section 5.4.1).
    void on_restart(time_us now) noexcept;
    // The retransmission timer fired (section 5.6.4.4); `in_flight` is what is still thought out.
    void on_timeout(std::uint32_t in_flight) noexcept;
    // All is repaired, or nothing was lost: back to the window before the timeout.
    void restore() noexcept {
        _window = std::max(_window, _prior_window);
        _prior_window = 0;
    }

    std::uint32_t window() const noexcept { return _window; }
    float pacing_rate() const noexcept { return _pacing_rate; }  // bytes a microsecond
    phase where() const noexcept { return _phase; }
    float bandwidth() const noexcept;  // bytes a microsecond; 0: not known yet
    std::uint32_t min_rtt_us() const noexcept { return _min_rtt; }
    // What leaves from now on counts for another round trip than what went before.
    bool marks() const noexcept { return _marks; }

  private:
    static constexpr std::uint32_t none = ~0u;

    void count_round(const bbr_ack& ack, time_us now) noexcept;
    void take_bandwidth(const bbr_ack& ack) noexcept;
    void take_aggregation(const bbr_ack& ack, time_us now) noexcept;
    void take_loss(const bbr_ack& ack, time_us now) noexcept;
    void look_for_full_pipe(const bbr_ack& ack) noexcept;
    void step(const bbr_ack& ack, time_us now) noexcept;
    void take_round_trip(const bbr_ack& ack, time_us now) noexcept;
    void step_probe_rtt(const bbr_ack& ack, time_us now) noexcept;
    void end_probe_rtt(time_us now) noexcept;
    void set_pacing() noexcept;
    void set_window(const bbr_ack& ack) noexcept;

    void go_down(time_us now) noexcept;
    void go_up(time_us now) noexcept;
    void refill(time_us now) noexcept;
    bool is_time_to_probe(time_us now) const noexcept;
    void lower_bounds() noexcept;
    void begin_round(time_us now) noexcept {
        _round_from = static_cast<std::uint32_t>(now);
        _marks = true;
    }
    float max_bandwidth() const noexcept { return std::max(_peaks[0], _peaks[1]); }
    std::uint32_t path_holds(float bandwidth, float gain) const noexcept;
    std::uint32_t with_budget(std::uint32_t bytes) const noexcept;
    std::uint32_t with_headroom() const noexcept;
    float pacing_gain() const noexcept;
    float window_gain() const noexcept;

    phase _phase = phase::startup;
    bool _round_began = false;  // with the acknowledgement just taken
    bool _marks = false;
    bool _round_known = false;
    bool _full = false;            // the pipe was full once: startup is over
    bool _too_much = false;        // this round has lost more than it may
    bool _restarted = false;       // after an idle time
    bool _cycle_ends = false;      // the bandwidth filter steps on with the next round
    bool _probe_rtt_held = false;  // what is out is down; and then a round and a time
    bool _probe_rtt_round = false;
    std::uint8_t _flat_rounds = 0;  // without a quarter more bandwidth
    std::uint8_t _up_rounds = 0;
    std::uint8_t _drain_rounds = 0;
    std::uint8_t _rounds_since_probe = 0;
    std::uint32_t _mss = 1;
    std::uint32_t _window = 0;
    std::uint32_t _prior_window = 0;
    float _pacing_rate = 1;
    float _peaks[2] = {};       // of this cycle of probes, and of the one before
    float _full_bandwidth = 0;  // what the rounds are compared with
    float _latest = 0;          // the round's best sample
    float _low = 0;             // short-term bound; 0: none
    std::uint32_t _latest_delivered = 0;
    std::uint32_t _low_in_flight = none;   // inflight_shortterm
    std::uint32_t _most_in_flight = none;  // inflight_longterm
    std::uint32_t _min_rtt = none;
    std::uint32_t _recent_rtt = none;  // of the last five seconds
    std::uint32_t _round_from = 0;     // what left from here on ends the round
    std::uint32_t _round_arrived = 0;
    std::uint32_t _round_lost = 0;
    std::uint32_t _arrived = 0;  // in all, up to the first window
    std::uint32_t _extra[2] = {};
    std::uint32_t _extra_arrived = 0;
    std::uint8_t _extra_rounds = 0;
    std::uint32_t _random = 1;
    std::uint32_t _probe_wait_us = 0;
    time_us _extra_from = 0;
    time_us _cycle_from = 0;
    time_us _min_rtt_at = 0;
    time_us _recent_rtt_at = 0;
    time_us _probe_rtt_until = 0;
};

}  // namespace burin::tun
