// What acknowledgements tell about loss, and what follows: the scoreboard and RACK's judgement for
// hosts with SACK (RFC 2018, RFC 8985), duplicate ACKs for those without (RFC 6582), the window's
// reduction and its undoing, ECN's reports. Nothing is emitted from here.
#include <algorithm>

#include "tun/tcp.hh"

namespace burin::tun {

void tcp_flow::on_news(const parsed_frame& frame, time_us now) noexcept {
    tcp_delivery news;
    const std::uint32_t flight = in_flight();
    const std::uint32_t told_before = _reno.left_bytes();
    const bool advances = frame.ack > _una;
    std::uint32_t data = 0;
    std::uint32_t acked = 0;
    if (advances) {
        acked = static_cast<std::uint32_t>(frame.ack - _una);
        data = std::min(acked, _queue.bytes());
        if (acked > data) {
            _fin_acked = true;
            _heard_data_at = now;  // from here on the half-closed wait counts
        }
        _queue.acknowledge(data, _context._pool);
        _board.acknowledge(_una, frame.ack, news, _context._scoreboards);
        _una = frame.ack;
        _retries = 0;
    }
    if (_sack_permitted && frame.options.sack_bytes > 0) take_sack(frame, news);
    if (_timing && (_una >= _timed_end || (news.original && news.original_start < _timed_end &&
                                           news.original_end >= _timed_end))) {
        _timing = false;
        _rtt.sample(now - _timed_at, now);
    }
    if (_sack_permitted) {
        _rack.on_delivery(news, _times, static_cast<std::uint32_t>(now), _rtt.least_us());
    }
    if (advances) {
        _times.forget_until(_una);
        if (_phase != phase::normal && _una >= _recover) {
            if (_bbr != nullptr && _phase == phase::timed_out) _bbr->model.restore();
            _phase = phase::normal;
            _rack.on_recovered();
        }
        restart_timers(now);
    }
    if (_tail_probe_out && _una >= _tail_probe_end) judge_tail_probe(frame.ack);

    const std::uint32_t lost = _board.lost_bytes();
    if (!_sack_permitted) {
        if (_phase != phase::recovery) {
            _reno.settle();
        } else if (advances) {
            lose_front(_reno.on_partial(acked, _mss) * _mss);
        }
    } else if (!_board.empty()) {
        find_losses(now);
    }
    if (_bbr != nullptr) {
        // Duplicate ACKs have told of some of it already.
        const std::uint32_t told = told_before - std::min(told_before, _reno.left_bytes());
        tell_model(news, news.bytes - std::min(news.bytes, told), now);
    } else if (_phase == phase::recovery) {
        const bool safe = advances && _board.lost_bytes() <= lost;
        _reduction.update(news.bytes, pipe(), _congestion.threshold(), _mss, safe);
    } else if (!(_ecn && frame.has(tcp_ece))) {  // RFC 3168 section 6.1.2
        _congestion.on_ack(news.bytes, std::max(flight, news.bytes), now, _rtt.smoothed_us());
    }
    if (_board.lost_bytes() > 0 || _queue.unsent() > 0 || fin_is_next()) want_flush();
    if (data > 0) _context._events.acked(*this, data);
    finish_if_done();
}

void tcp_flow::take_sack(const parsed_frame& frame, tcp_delivery& news) noexcept {
    std::array<sack_block, most_sack_blocks> blocks;
    const std::size_t count = read_sack(frame.options.sack_blocks(), blocks);
    for (std::size_t i = 0; i < count; ++i) {
        const sack_block& block = blocks[i];
        if (block.end <= block.start || block.end > _next) {
            ++_context._statistics.bad_sacks;
            continue;
        }
        // RFC 2883 section 4: below the acknowledgement, or within the second block.
        const bool doubled =
            i == 0 && (block.end <= frame.ack ||
                       (count > 1 && block.start >= blocks[1].start && block.end <= blocks[1].end));
        if (doubled) {
            _rack.on_duplicate(_una, _next);
            if (_tail_probe_out && block.end == _tail_probe_end) _tail_probe_doubled = true;
            if (block.start >= _repaired_from) {
                on_repaired_for_nothing(static_cast<std::uint32_t>(block.end - block.start));
            }
        } else if (block.start >= _una) {
            _board.sack(block.start, block.end, news, _context._scoreboards);
        }
    }
}

// All that was sent again since the reduction has arrived twice: nothing had been lost, and the
// window comes back (RFC 9438 section 4.9).
void tcp_flow::on_repaired_for_nothing(std::uint32_t bytes) noexcept {
    if (_repaired_bytes == 0) return;
    _repaired_bytes -= std::min(_repaired_bytes, bytes);
    if (_repaired_bytes > 0) return;
    ++_context._statistics.spurious_repairs;
    if (_bbr != nullptr) {
        _bbr->model.restore();
    } else {
        _congestion.undo();
    }
    _phase = phase::normal;
    _board.forgive(_context._scoreboards);
}

void tcp_flow::on_duplicate_ack(time_us now) noexcept {
    const std::uint32_t told_before = _reno.left_bytes();
    const bool enough = _reno.on_duplicate(_mss, in_flight() - _board.lost_bytes());
    if (_bbr != nullptr) tell_model({}, _reno.left_bytes() - told_before, now);
    if (_phase == phase::normal) {
        // RFC 6582 section 3.2 step 1: duplicates that a timeout's repairs provoke start nothing;
        // until they are through, the phase is another one.
        if (!enough) return;
        lose_front(_mss);
        on_loss(now);
    }
    if (_phase == phase::recovery && _bbr == nullptr) {
        _reduction.update(_mss, pipe(), _congestion.threshold(), _mss, false);
    }
    want_flush();
}

// The first `count` bytes that are out are lost, as far as they were not sent again already.
void tcp_flow::lose_front(std::uint32_t count) noexcept {
    const sequence end = _una + std::min(count, in_flight());
    const std::uint32_t lost = _board.lost_bytes();
    _board.judge(_una, end, _context._scoreboards,
                 [](sequence, sequence, const sent_range* range) { return range == nullptr; });
    if (_bbr != nullptr) _bbr->lost += _board.lost_bytes() - lost;
}

// RFC 3168 section 6.1.2: like a loss, once a round trip, with nothing to repair.
void tcp_flow::on_congestion_report(sequence ack) noexcept {
    if (_phase != phase::normal || (_congestion_told && ack <= _cwr_end)) return;
    if (in_flight() == 0) return;
    ++_context._statistics.ecn_reductions;
    _congestion.on_loss(in_flight());
    _congestion_told = true;
    _cwr_end = _next;
    _cwr_owed = true;
}

// RFC 8985 section 7.4: a probe that repeated data and was not reported as a duplicate has mended a
// loss, and congestion is answered for it.
void tcp_flow::judge_tail_probe(sequence ack) noexcept {
    if (_tail_probe_repeat && !_tail_probe_doubled) {
        if (ack == _tail_probe_end) return;  // the D-SACK may be on its way
        if (_phase == phase::normal && _bbr == nullptr) _congestion.on_loss(in_flight());
    }
    _tail_probe_out = false;
}

void tcp_flow::find_losses(time_us now) noexcept {
    const bool prompt =
        _phase != phase::normal || _board.sacked_bytes() >= rack::duplicate_segments * _mss;
    const std::uint32_t window = _rack.window_us(_rtt, prompt);
    const std::uint32_t lost = _board.lost_bytes();
    const auto at = static_cast<std::uint32_t>(now);
    std::uint32_t wait_us = 0;
    if (_rack.known()) {
        _board.judge(_una, _next, _context._scoreboards,
                     [&](sequence, sequence end, const sent_range* range) {
                         return _rack.is_lost(end, range, _times, window, at, wait_us);
                     });
    }
    _loss_timer = loss_timer::reordering;
    _loss_at = wait_us > 0 ? now + wait_us : never_us;
    if (_board.lost_bytes() <= lost) return;
    if (_bbr != nullptr) _bbr->lost += _board.lost_bytes() - lost;
    if (_phase == phase::normal) on_loss(now);
    if (_phase == phase::recovery && _bbr == nullptr) {
        _reduction.update(0, pipe(), _congestion.threshold(), _mss, false);
    }
    want_flush();
}

void tcp_flow::on_loss(time_us now) noexcept {
    ++_context._statistics.fast_retransmits;
    _phase = phase::recovery;
    _recover = _next;
    if (_bbr == nullptr) {
        _congestion.on_loss(in_flight());
        _reduction.start(in_flight());
    }
    _repaired_from = _una;
    _repaired_bytes = 0;
    _timing = _tail_probe_owed = false;
    _retransmit_at = now + _rtt.timeout_us();  // the repair gets a round trip of its own
}

void tcp_flow::on_timeout() noexcept {
    if (_bbr == nullptr) {
        _congestion.on_timeout(in_flight(), _phase == phase::timed_out || _retries > 0
                                                ? tcp_congestion::timeout::again
                                                : tcp_congestion::timeout::first);
    }
    // RFC 2018 section 8: a host may forget what it has SACKed. It did when that begins where the
    // cumulative acknowledgement ends, and it is believed no longer when nothing moves.
    const bool forgotten =
        _board.ranges() > 0 && _board.at(0).fate == sent_fate::sacked && _board.at(0).start <= _una;
    if (forgotten || _retries > 0) {
        _board.distrust(_una, _next, _context._scoreboards);
    } else {
        _board.lose_all(_una, _next, _context._scoreboards);
    }
    _phase = phase::timed_out;
    _recover = _next;
    _repaired_from = _una;
    _repaired_bytes = 0;
    _reno.settle();
    if (_bbr != nullptr) _bbr->model.on_timeout(pipe());
    _timing = _tail_probe_owed = _tail_probe_out = _tail_probe_doubled = false;
    _loss_at = never_us;
}

}  // namespace burin::tun
