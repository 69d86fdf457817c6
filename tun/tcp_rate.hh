// How fast bytes arrive at a host: delivery-rate samples (draft-ietf-ccwg-bbr-05 section 4.1). A
// sample divides what arrived since the newest acknowledged byte was sent by the time that took, or
// by the time its sending took where that was longer: acknowledgements that come in a heap would
// else make a fast path of a slow one.
//
// The draft keeps what it needs with each packet. Here bytes sent once are remembered in a dozen
// spans, each a part of a round trip long: a span's counters are those of its first byte, so that a
// sample may reach back a little further than the byte it is for, with bytes and time both counted
// from there. What was sent again dates a round trip, and gives no sample of its own.
//
// Times are microseconds and bytes are counted from the start, both wrapping; no difference that
// is taken of them is longer than a flight.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "tun/sequence.hh"
#include "tun/tcp_scoreboard.hh"

namespace burin::tun {

// What one acknowledgement tells of the path.
struct rate_sample {
    float rate = 0;               // bytes a microsecond; 0: none
    std::uint32_t delivered = 0;  // bytes that arrived in the sample's time
    std::uint32_t rtt_us = 0;     // 0: none; never shorter than it was
    bool dated = false;           // when the newest bytes that arrived had left:
    std::uint32_t sent_at = 0;    // at this time, or after it
    bool app_limited = false;     // the path could have carried more than there was
};

class delivery_rate {
  public:
    static constexpr std::size_t spans = 12;
    // The length of one, as a part of the round trip: a flight fits, and half as much again while a
    // queue grows.
    static constexpr std::uint32_t spans_a_round_trip = 8;

    // Bytes from `start` on leave for the first time; `idle`: nothing else is out.
    void on_sent(sequence start, std::uint32_t now, std::uint32_t smoothed_rtt_us,
                 bool idle) noexcept;
    // `arrived` bytes are new of what an acknowledgement tells; `news` says which (empty: a
    // duplicate of a host without SACK, which names none). A sample over less than `least_rtt_us`
    // is none: acknowledgements were held up on their way.
    rate_sample on_arrival(const tcp_delivery& news, std::uint32_t arrived, std::uint32_t now,
                           std::uint32_t least_rtt_us) noexcept;
    // What is sent from here on begins a span, so that it can be told from what went before.
    void split() noexcept { _split = true; }
    // There is nothing to send although the window has room: until `in_flight` bytes more have
    // arrived, samples tell what was offered, not what the path can carry.
    void note_limited(std::uint32_t in_flight) noexcept {
        _limited = true;
        _limited_until = _delivered + in_flight;
    }
    bool limited() const noexcept { return _limited; }

  private:
    struct span {
        sequence start;
        std::uint32_t from = 0;  // the first byte left then, and the last
        std::uint32_t until = 0;
        // When it began: bytes delivered, since when, and when the newest of them had left.
        std::uint32_t delivered = 0;
        std::uint32_t delivered_at = 0;
        std::uint32_t first_sent_at = 0;
        bool app_limited = false;
    };
    void halve() noexcept;
    void forget_until(sequence byte) noexcept;

    std::array<span, spans> _spans;   // from that of the newest byte that arrived on
    std::uint32_t _delivered = 0;     // C.delivered
    std::uint32_t _delivered_at = 0;  // C.delivered_time
    std::uint32_t _first_sent_at = 0;
    std::uint32_t _limited_until = 0;
    std::uint8_t _count = 0;
    bool _limited = false;
    bool _split = false;
};

}  // namespace burin::tun
