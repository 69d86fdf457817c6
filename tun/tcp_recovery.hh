// When bytes count as lost, and how fast they are sent again:
//   rtt_estimator    round trip and retransmission timeout (RFC 6298)
//   send_times       when bytes that were sent once left, coarsely and in constant space
//   rack             loss by time and order of sending (RFC 8985), which forgives reordering
//   reno_recovery    for hosts without SACK: three duplicate ACKs and partial ones (RFC 6582)
//   rate_reduction   what may leave during a recovery (RFC 6937)
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "tun/sequence.hh"
#include "tun/tcp_scoreboard.hh"

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
    // A least round trip this old may be of another path (RFC 8985 section 6.2 step 2).
    static constexpr std::uint64_t least_valid_us = 300'000'000;

    // A round trip measured on bytes sent once only (Karn). Ends the back-off.
    void sample(std::uint64_t round_trip_us, std::uint64_t now) noexcept {
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
        if (_least == 0 || rtt <= _least || now - _least_at > least_valid_us) {
            _least = rtt;
            _least_at = now;
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
    std::uint32_t least_us() const noexcept { return _least; }

  private:
    std::uint32_t _smoothed = 0;
    std::uint32_t _variance = 0;
    std::uint32_t _base = initial_us;
    std::uint32_t _least = 0;
    std::uint64_t _least_at = 0;
    std::uint8_t _backoff = 0;
};

// RACK asks when a byte was sent. Bytes sent once left in order, so a handful of spans of time,
// each a part of a round trip long, answer that: not exactly, but with bounds on both sides, of
// which each question takes the one that makes no loss up. Times are microseconds, wrapping.
class send_times {
  public:
    static constexpr std::size_t spans = 6;
    // More than a round trip has to fit: what is acknowledged now left that long ago, and must not
    // lie in the oldest span, which reaches back to SND.UNA.
    static constexpr std::uint32_t spans_a_round_trip = 4;

    // Bytes from `start` on leave at `now`; `grain_us` is how exact times have to be.
    void note(sequence start, std::uint32_t now, std::uint32_t grain_us) noexcept {
        _last_at = now;
        if (_count > 0 && now - _spans[_count - 1].from <= grain_us) {
            _spans[_count - 1].until = now;
            return;
        }
        if (_count == spans) {  // the two oldest become one
            _spans[0].until = _spans[1].until;
            std::move(_spans.begin() + 2, _spans.end(), _spans.begin() + 1);
            --_count;
        }
        _spans[_count++] = {start, now, now};
    }
    // Nothing is asked any more about bytes before `upto`.
    void forget_until(sequence upto) noexcept {
        std::size_t gone = 0;
        while (gone + 1 < _count && _spans[gone + 1].start <= upto) ++gone;
        if (gone == 0) return;
        std::move(_spans.begin() + static_cast<std::ptrdiff_t>(gone), _spans.begin() + _count,
                  _spans.begin());
        _count = static_cast<std::uint8_t>(_count - gone);
    }
    // `byte` left at this time or later, respectively earlier.
    std::uint32_t earliest(sequence byte) const noexcept {
        return _count > 0 ? span_of(byte).from : _last_at;
    }
    std::uint32_t latest(sequence byte) const noexcept {
        return _count > 0 ? span_of(byte).until : _last_at;
    }

  private:
    struct span {
        sequence start;
        std::uint32_t from = 0;
        std::uint32_t until = 0;
    };
    const span& span_of(sequence byte) const noexcept {
        std::size_t index = 0;
        while (index + 1 < _count && _spans[index + 1].start <= byte) ++index;
        return _spans[index];
    }

    std::array<span, spans> _spans;
    std::uint32_t _last_at = 0;
    std::uint8_t _count = 0;
};

// RFC 8985 section 6. The newest delivered byte is kept with when it was sent; what was sent
// sufficiently before it is lost.
class rack {
  public:
    static constexpr std::uint32_t duplicate_segments = 3;  // DupThresh
    static constexpr std::uint8_t persists = 16;            // recoveries a wider window lasts

    // Step 2: what an acknowledgement at `now` proves.
    void on_delivery(const tcp_delivery& news, const send_times& times, std::uint32_t now,
                     std::uint32_t least_rtt_us) noexcept {
        if (news.original) {
            const std::uint32_t sent_at = times.earliest(news.original_end - 1);
            if (!_known || (_original ? news.original_end > _end : is_later(sent_at, _sent_at))) {
                take(sent_at, news.original_end, now);
                _original = true;
            }
            // Step 3: bytes sent once that arrive after later ones were not lost but reordered.
            if (_known_highest && news.original_start < _highest) _reordering = true;
            note_highest(news.original_end);
        }
        if (news.repaired) {
            // Faster than any round trip: the original arrived, not its repair.
            const bool ambiguous = now - news.repaired_at < least_rtt_us;
            const bool later = news.repaired_at == _sent_at ? news.repaired_end > _end
                                                            : is_later(news.repaired_at, _sent_at);
            if (!ambiguous && (!_known || later)) {
                take(news.repaired_at, news.repaired_end, now);
                _original = false;
            }
        }
    }
    // The highest byte the host has is at least this, however it came.
    void note_highest(sequence end) noexcept {
        if (!_known_highest || end > _highest) _highest = end;
        _known_highest = true;
    }
    bool known() const noexcept { return _known; }
    bool saw_reordering() const noexcept { return _reordering; }

    // Step 4. `prompt`: enough evidence, or a recovery under way, to do without a window as long as
    // nothing has ever been reordered.
    std::uint32_t window_us(const rtt_estimator& rtt, bool prompt) const noexcept {
        if (!_reordering && prompt) return 0;
        return std::min(_factor * (rtt.least_us() / 4), rtt.smoothed_us());
    }
    // A D-SACK says that something was sent again for nothing: wait longer, once a round trip.
    void on_duplicate(sequence una, sequence next) noexcept {
        if (_round_open && una < _round_end) return;
        _round_open = true;
        _round_end = next;
        _factor = std::min(_factor + 1u, 64u);
        _lasts = persists;
    }
    void on_recovered() noexcept {
        if (_factor > 1 && --_lasts == 0) _factor = 1;
    }

    // Step 5, one run of bytes: true when it is lost now; else, when it may be later, `wait_us`
    // grows to that time. `range` is null for bytes sent once.
    bool is_lost(sequence end, const sent_range* range, const send_times& times,
                 std::uint32_t window_us, std::uint32_t now,
                 std::uint32_t& wait_us) const noexcept {
        const std::uint32_t sent_at = range != nullptr ? range->sent_at : times.latest(end - 1);
        bool before = is_later(_sent_at, sent_at);
        if (range == nullptr && _original) {
            before = end <= _end;  // bytes sent once left in their order
        } else if (range != nullptr && sent_at == _sent_at) {
            before = _original || end < _end;  // a turn sends repairs first
        }
        if (!before) return false;
        if (window_us == 0) return true;
        const auto remaining = static_cast<std::int32_t>(sent_at + _rtt + window_us - now);
        if (remaining <= 0) return true;
        wait_us = std::max(wait_us, static_cast<std::uint32_t>(remaining));
        return false;
    }

  private:
    static bool is_later(std::uint32_t a, std::uint32_t b) noexcept {
        return static_cast<std::int32_t>(a - b) > 0;
    }
    void take(std::uint32_t sent_at, sequence end, std::uint32_t now) noexcept {
        _known = true;
        _sent_at = sent_at;
        _end = end;
        _rtt = now - sent_at;
    }

    sequence _end;
    std::uint32_t _sent_at = 0;
    std::uint32_t _rtt = 0;
    sequence _highest;    // RACK.fack
    sequence _round_end;  // RACK.dsack_round
    std::uint32_t _factor = 1;
    std::uint8_t _lasts = persists;
    bool _known = false;
    bool _known_highest = false;
    bool _original = false;
    bool _reordering = false;
    bool _round_open = false;
};

// Hosts without SACK tell by duplicate ACKs only that something arrived (RFC 6582).
class reno_recovery {
  public:
    // Bytes that the duplicates say have left the network.
    std::uint32_t left_bytes() const noexcept { return _left; }
    // One more duplicate. True: it is the one that starts a recovery, outside of one.
    bool on_duplicate(std::uint32_t mss, std::uint32_t flight) noexcept {
        _left = std::min(_left + mss, flight > mss ? flight - mss : 0);
        _burst_segments = 1;
        return ++_duplicates == rack::duplicate_segments;
    }
    // New bytes up to SND.UNA, short of the recovery point: how many segments from there on are
    // lost. A superframe is lost as a whole, so consecutive partial ACKs that end where the last
    // repair ended double the repair instead of mending one segment a round trip.
    std::uint32_t on_partial(std::uint32_t acked, std::uint32_t mss) noexcept {
        _left -= std::min(_left, acked > mss ? acked - mss : 0);
        _burst_segments = acked <= _burst_segments * mss ? std::min(_burst_segments * 2, 64u) : 1;
        return _burst_segments;
    }
    void settle() noexcept { _duplicates = _left = 0; }

  private:
    std::uint32_t _duplicates = 0;
    std::uint32_t _left = 0;
    std::uint32_t _burst_segments = 1;
};

// Proportional rate reduction (RFC 6937): during a recovery, sending goes down to the new threshold
// in step with what arrives, and never by a burst.
class rate_reduction {
  public:
    void start(std::uint32_t flight) noexcept {
        _delivered = _sent = 0;
        _flight = std::max(flight, 1u);
        _window = 0;
    }
    // `delivered` bytes arrived, `pipe` are thought to be out. `safe`: SND.UNA moved and nothing
    // more was found lost (section 3: slow start reduction bound, else the conservative one).
    void update(std::uint32_t delivered, std::uint32_t pipe, std::uint32_t threshold,
                std::uint32_t mss, bool safe) noexcept {
        _delivered += delivered;
        std::uint64_t allowed = 0;
        if (pipe > threshold) {
            allowed = (std::uint64_t{_delivered} * threshold + _flight - 1) / _flight;
            allowed -= std::min<std::uint64_t>(allowed, _sent);
        } else {
            std::uint64_t limit = _delivered - std::min(_delivered, _sent);
            if (safe) limit = std::max<std::uint64_t>(limit, delivered) + mss;
            allowed = std::min<std::uint64_t>(threshold - pipe, limit);
        }
        if (_sent == 0) allowed = std::max<std::uint64_t>(allowed, mss);  // the first repair
        _window = pipe + static_cast<std::uint32_t>(std::min<std::uint64_t>(allowed, 1u << 30));
    }
    void on_sent(std::uint32_t bytes) noexcept { _sent += bytes; }
    std::uint32_t window() const noexcept { return _window; }

  private:
    std::uint32_t _delivered = 0;
    std::uint32_t _sent = 0;
    std::uint32_t _flight = 1;
    std::uint32_t _window = 0;
};

}  // namespace burin::tun
