#include "tun/tcp_rate.hh"

namespace burin::tun {

void delivery_rate::on_sent(sequence start, std::uint32_t now, std::uint32_t smoothed_rtt_us,
                            bool idle) noexcept {
    if (idle) {
        _first_sent_at = _delivered_at = now;
        _count = 0;
    }
    const std::uint32_t grain_us = smoothed_rtt_us / spans_a_round_trip;
    if (_count > 0 && !_split && now - _spans[_count - 1].from <= grain_us) {
        span& last = _spans[_count - 1];
        last.until = now;
        last.app_limited |= _limited;
        return;
    }
    _split = false;
    if (_count == spans) halve();
    _spans[_count++] = {start, now, now, _delivered, _delivered_at, _first_sent_at, _limited};
}

// Neighbours become one. A flight longer than was thought is then told less exactly, but what is
// acknowledged next is still told from what left long after it.
void delivery_rate::halve() noexcept {
    for (std::size_t i = 0; i < spans / 2; ++i) {
        span pair = _spans[2 * i];
        pair.until = _spans[2 * i + 1].until;
        pair.app_limited |= _spans[2 * i + 1].app_limited;
        _spans[i] = pair;
    }
    _count = spans / 2;
}

// Nothing is asked any more about what left before `byte`.
void delivery_rate::forget_until(sequence byte) noexcept {
    std::size_t gone = 0;
    while (gone + 1 < _count && _spans[gone + 1].start <= byte) ++gone;
    if (gone == 0) return;
    std::move(_spans.begin() + static_cast<std::ptrdiff_t>(gone), _spans.begin() + _count,
              _spans.begin());
    _count = static_cast<std::uint8_t>(_count - gone);
}

rate_sample delivery_rate::on_arrival(const tcp_delivery& news, std::uint32_t arrived,
                                      std::uint32_t now, std::uint32_t least_rtt_us) noexcept {
    rate_sample sample;
    if (arrived == 0) return sample;
    _delivered += arrived;
    _delivered_at = now;
    if (_limited && static_cast<std::int32_t>(_delivered - _limited_until) > 0) _limited = false;
    if (news.repaired) {
        sample.dated = true;
        sample.sent_at = news.repaired_at;
    }
    // Bytes that were only late, of before the newest that arrived, count and tell nothing else.
    if (!news.original || _count == 0 || news.original_end <= _spans[0].start) return sample;
    forget_until(news.original_end - 1);
    const span& newest = _spans[0];
    if (!sample.dated || static_cast<std::int32_t>(newest.from - sample.sent_at) > 0) {
        sample.dated = true;
        sample.sent_at = newest.from;
    }
    sample.rtt_us = std::max(now - newest.from, 1u);
    sample.app_limited = newest.app_limited;
    sample.delivered = _delivered - newest.delivered;
    const std::uint32_t sending = newest.until - newest.first_sent_at;
    const std::uint32_t arriving = now - newest.delivered_at;
    _first_sent_at = newest.until;
    const std::uint32_t interval = std::max(sending, arriving);
    if (interval == 0 || interval < least_rtt_us) return sample;
    sample.rate = static_cast<float>(sample.delivered) / static_cast<float>(interval);
    return sample;
}

}  // namespace burin::tun
