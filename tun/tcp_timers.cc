// What a flow does when nothing comes: retransmission and probe timers, the tail probe and RACK's
// reordering timer, keep-alives, and the limits of every wait.
#include <algorithm>

#include "tun/tcp.hh"

namespace burin::tun {
namespace {

// RFC 8985 section 7.2: a lone segment may meet a delayed ACK, Linux's longest.
constexpr std::uint32_t most_ack_delay_us = 200'000;
// Below this a probe races the host's scheduler, not the network's loss.
constexpr std::uint32_t least_probe_delay_us = 10'000;

}  // namespace

time_us tcp_flow::deadline() const noexcept {
    const time_us first =
        std::min(std::min(_retransmit_at, _loss_at), std::min(_compact_at, _idle_at));
    return _bbr != nullptr ? std::min(first, _bbr->resume_at) : first;
}

void tcp_flow::schedule() noexcept {
    const time_us wanted = deadline();
    if (wanted >= _armed_at) return;
    _armed_at = wanted;
    _context._events.arm(*this, wanted);
}

void tcp_flow::on_timer(time_us now) noexcept {
    _armed_at = never_us;
    if (_state == tcp_state::closed) return;
    if (_bbr != nullptr && now >= _bbr->resume_at) {
        _bbr->resume_at = never_us;
        want_flush();
    }
    if (now >= _compact_at) compact(now);
    if (now >= _loss_at) on_loss_timer(now);
    if (now >= _retransmit_at) on_retransmit_timer(now);
    if (_state != tcp_state::closed && now >= _idle_at) on_idle_timer(now);
    if (_state != tcp_state::closed) schedule();
}

bool tcp_flow::waits_for_window() const noexcept {
    return _state == tcp_state::open && (_queue.unsent() > 0 || fin_is_next());
}

// One timer serves three ends that never overlap: data in flight, a shut window, a lost SYN-ACK.
void tcp_flow::start_timers(time_us now) noexcept {
    if (_state == tcp_state::time_wait) {
        if (_retransmit_at == never_us) _retransmit_at = now + _context._settings.time_wait;
        return;
    }
    if (_state == tcp_state::syn_received || in_flight() > 0 || (waits_for_window() && !_listed)) {
        if (_retransmit_at == never_us) _retransmit_at = now + _rtt.timeout_us();
    } else {
        _retransmit_at = never_us;
    }
    if (_loss_at != never_us) return;
    // RFC 8985 section 7.2. Where SACKs are in, RACK has better evidence already.
    if (!_sack_permitted || _phase != phase::normal || in_flight() == 0 || _tail_probe_out ||
        _board.ranges() > 0 || _retries > 0 || _peer_window < in_flight() ||
        _rtt.smoothed_us() == 0) {
        return;
    }
    std::uint32_t delay = std::max(2 * _rtt.smoothed_us(), least_probe_delay_us);
    if (in_flight() <= _mss) delay += most_ack_delay_us;
    const time_us at = now + delay;
    if (at >= _retransmit_at) return;
    _loss_timer = loss_timer::tail_probe;
    _loss_at = at;
}

// New bytes are acknowledged (RFC 6298 section 5.3).
void tcp_flow::restart_timers(time_us now) noexcept {
    _retransmit_at = _loss_at = never_us;
    if (in_flight() > 0) start_timers(now);
}

void tcp_flow::compact(time_us now) noexcept {
    const std::uint32_t after_ms =
        static_cast<std::uint32_t>(_context._settings.compact_after / 1000);
    const auto now_ms = static_cast<std::uint32_t>(now / 1000);
    _queue.compact(now_ms, after_ms, _context._pool);
    _compact_at = never_us;
    if (_queue.loose() > 0) {
        const std::uint32_t age = now_ms - _queue.oldest_loose_ms();
        _compact_at = now + 1000 * time_us{std::max(1u, after_ms - std::min(age, after_ms))};
    }
}

void tcp_flow::on_loss_timer(time_us now) noexcept {
    _loss_at = never_us;
    if (_state != tcp_state::open || in_flight() == 0) return;
    if (_loss_timer == loss_timer::reordering) {
        find_losses(now);
        return;
    }
    _tail_probe_owed = true;
    want_flush();
}

void tcp_flow::on_retransmit_timer(time_us now) noexcept {
    _retransmit_at = never_us;
    if (_state == tcp_state::time_wait) {
        close(tcp_close::finished);
        return;
    }
    const bool handshake = _state == tcp_state::syn_received;
    const tcp_settings& settings = _context._settings;
    const bool shut = !handshake && _peer_window == 0;
    if (_retries >= (handshake ? settings.max_handshake_retries : settings.max_retries) ||
        (shut && now - _shut_at >= settings.most_shut)) {
        give_up();
        return;
    }
    ++_context._statistics.timeouts;
    if (handshake) {
        _handshake_repeated = true;
        _acks_owed = 1;
    } else if (in_flight() > 0 && !shut) {
        on_timeout();
    } else {
        _probe_owed = true;
        ++_context._statistics.window_probes;
    }
    ++_retries;
    _rtt.back_off();
    want_flush();
}

// The flow has been watched long enough to ask whether its host is still there.
void tcp_flow::on_idle_timer(time_us now) noexcept {
    const tcp_settings& settings = _context._settings;
    const time_us quiet_until = _heard_at + settings.keepalive_after;
    const bool half_closed = _fin_acked && !_fin_received;
    if (half_closed && now - _heard_data_at >= settings.half_closed_after) {
        give_up();
        return;
    }
    if (_idle_probes == 0 && now < quiet_until) {
        _idle_at = quiet_until;
    } else if (in_flight() > 0 || waits_for_window()) {
        _idle_at = now + settings.keepalive_after;  // other timers judge the host meanwhile
    } else if (_idle_probes >= settings.keepalive_probes) {
        give_up();
        return;
    } else {
        ++_idle_probes;
        ++_context._statistics.keepalive_probes;
        _probe_owed = true;
        _idle_at = now + settings.keepalive_interval;
        want_flush();
    }
    if (half_closed) _idle_at = std::min(_idle_at, _heard_data_at + settings.half_closed_after);
}

}  // namespace burin::tun
