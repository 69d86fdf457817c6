// What a segment does to a flow: RFC 9293 section 3.10.7 with RFC 5961's checks against blind
// injection. Nothing is emitted from here but the reset of a false handshake; answers are owed and
// leave at the flush.
#include <algorithm>

#include "tun/tcp.hh"

namespace burin::tun {
namespace {

// RFC 5961 section 7: challenges are throttled. 50 a second answer every keep-alive and probe a
// host sends and starve any loop of two ends that ACK each other's ACKs.
constexpr time_us challenge_interval_us = 20'000;
// Duplicate ACKs kept for one flush; three start a host's fast retransmit.
constexpr std::uint8_t most_acks_owed = 8;
// Bytes beyond the credit that wait for it, unacknowledged: what the rounding of the window can
// have invited (window_field()). More is dropped, and the host sends it again.
constexpr std::uint32_t most_excess = 64 * 1024;
// How far behind the window an old segment's ACK is still read.
constexpr std::uint32_t old_ack_reach = 1u << 24;

}  // namespace

tcp_flow::segment_outcome tcp_flow::on_segment(const parsed_frame& frame, time_us now) noexcept {
    ++_context._statistics.segments_in;
    segment_outcome outcome = segment_outcome::taken;
    switch (_state) {
        case tcp_state::opening: on_segment_opening(frame); break;
        case tcp_state::syn_received:
        case tcp_state::open:
            _heard_at = now;
            _idle_probes = 0;
            on_segment_synchronized(frame, now);
            break;
        case tcp_state::time_wait: outcome = on_segment_time_wait(frame, now); break;
        case tcp_state::closed: return segment_outcome::taken;
    }
    if (_state != tcp_state::closed) schedule();
    return outcome;
}

void tcp_flow::on_segment_opening(const parsed_frame& frame) noexcept {
    if (frame.has(tcp_rst)) {
        if (frame.seq == _receive_next) {
            ++_context._statistics.resets_in;
            close(tcp_close::reset_by_host);
        }
        return;
    }
    // The same SYN again changes nothing; another one is the host's new attempt, and since nothing
    // was answered yet it simply takes the place.
    if (frame.has(tcp_syn) && !frame.has(tcp_ack)) take_syn(frame);
}

tcp_flow::segment_outcome tcp_flow::on_segment_time_wait(const parsed_frame& frame,
                                                         time_us now) noexcept {
    if (frame.has(tcp_rst)) return segment_outcome::taken;  // RFC 1337
    if (frame.has(tcp_syn) && !frame.has(tcp_ack) && frame.seq > _receive_next) {
        close(tcp_close::finished);
        return segment_outcome::reopen;
    }
    if (frame.length() > 0) {  // the host's FIN again: our ACK was lost
        _retransmit_at = never_us;
        owe_ack();
    } else if (frame.seq != _receive_next) {
        challenge(now);
    }
    return segment_outcome::taken;
}

bool tcp_flow::is_acceptable(const parsed_frame& frame) const noexcept {
    const sequence data_end = frame.seq + static_cast<std::uint32_t>(frame.payload.size());
    // A bare ACK at the right edge comes from every host that has filled the window.
    if (frame.length() == 0) return frame.seq >= _receive_next && frame.seq <= _edge;
    if (data_end + (frame.has(tcp_fin) ? 1u : 0u) <= _receive_next) return false;
    return frame.payload.empty() ? frame.seq <= _edge : frame.seq < _edge;
}

void tcp_flow::on_segment_synchronized(const parsed_frame& frame, time_us now) noexcept {
    if (frame.has(tcp_rst)) {
        // RFC 5961 section 3.2: only the exact number resets; a near one is challenged.
        if (frame.seq == _receive_next) {
            ++_context._statistics.resets_in;
            close(tcp_close::reset_by_host);
        } else if (frame.seq > _receive_next && frame.seq <= _edge) {
            challenge(now);
        }
        return;
    }
    if (frame.has(tcp_syn)) {
        if (_state == tcp_state::syn_received && frame.seq == _host_first) {
            _acks_owed = 1;  // the SYN-ACK was lost
            want_flush();
        } else {
            challenge(now);  // RFC 5961 section 4.2
        }
        return;
    }
    if (!frame.has(tcp_ack)) return;
    if (!is_acceptable(frame)) {
        on_unacceptable(frame, now);
        return;
    }
    if (_state == tcp_state::syn_received && !complete_handshake(frame, now)) return;
    if (!on_ack(frame, now) || _state != tcp_state::open) return;
    // RFC 3168 section 6.1.3: CE is echoed on every ACK until the host says that it heard.
    if (_ecn) {
        if (frame.has(tcp_cwr)) _echo_congestion = false;
        if ((frame.traffic_class & ecn_mask) == ecn_congestion) _echo_congestion = true;
    }
    if (frame.length() == 0) return;
    on_payload(frame, now);
    take_fin_if_reached();
}

void tcp_flow::on_unacceptable(const parsed_frame& frame, time_us now) noexcept {
    ++_context._statistics.duplicate_segments;
    // What it acknowledges is news all the same: with a shut window no segment is acceptable
    // (RFC 9293 section 3.10.7.4). The numbers are checked like any other's.
    const bool near = frame.seq <= _edge && frame.seq >= _receive_next - old_ack_reach;
    if (near && _state == tcp_state::open) {
        on_ack(frame, now);
        if (_state == tcp_state::closed) return;
    }
    if (frame.length() > 0) {
        const sequence end = frame.seq + static_cast<std::uint32_t>(frame.payload.size());
        if (near && end <= _receive_next && frame.seq < end) note_duplicate(frame.seq, end);
        owe_ack();
    } else {
        challenge(now);
    }
}

bool tcp_flow::complete_handshake(const parsed_frame& frame, time_us now) noexcept {
    if (frame.ack != _una) {
        ++_context._statistics.bad_acks;
        emit_reset(frame.ack, sequence(0), tcp_rst);
        return false;
    }
    _state = tcp_state::open;
    if (_handshake_repeated) {
        _rtt.on_lost_handshake();
    } else {
        _rtt.sample(now - _timed_at, now);
        if (_bbr != nullptr) _bbr->on_handshake(_rtt.smoothed_us(), _mss, now);
    }
    _retries = 0;
    _acks_owed = 0;
    _retransmit_at = never_us;
    _idle_at = now + _context._settings.keepalive_after;
    _heard_data_at = _shut_at = now;
    if (!_queue.empty() || _fin_queued) want_flush();
    // A SYN-ACK that had to show a shut window; the first ACK tells any other host soon enough.
    if (advertised() == 0 && may_raise(window_target())) owe_ack();
    return true;
}

bool tcp_flow::on_ack(const parsed_frame& frame, time_us now) noexcept {
    // RFC 5961 section 5.2.
    if (frame.ack > _next || frame.ack < _una - _max_peer_window) {
        ++_context._statistics.bad_acks;
        challenge(now);
        return false;
    }
    // Probes count only while nobody answers, and with a shut window nothing else is sent.
    if (in_flight() == 0 || _peer_window == 0) _retries = 0;
    const std::uint32_t old_window = _peer_window;
    const std::uint32_t window = std::uint32_t{frame.window} << _send_shift;
    // RFC 9293's SND.WL1 rule with two corrections. A new ACK always brings its window along: it
    // may come on a retransmission with an old SEG.SEQ, and the old window on top of the new
    // SND.UNA would be more than the host ever showed. And of two ACKs that differ in the window
    // only, the larger window is the later one, unless it is shut: a Linux host out of memory does
    // that. A host that takes window back (section 3.8.6: it should not) is not argued with: what
    // lies beyond waits.
    const bool newer = frame.ack > _una || frame.seq > _window_seq ||
                       (frame.seq == _window_seq && (window > _peer_window || window == 0));
    if (frame.ack >= _una && newer) {
        _window_seq = frame.seq;
        if (window != old_window) on_window_change(window, now);
    }
    if (_ecn && frame.has(tcp_ece)) on_congestion_report(frame.ack);
    if (frame.ack > _una || (_sack_permitted && frame.options.sack_bytes > 0)) {
        on_news(frame, now);
    } else if (!_sack_permitted && frame.ack == _una && in_flight() > 0 && frame.length() == 0 &&
               _peer_window == old_window) {
        on_duplicate_ack(now);
    } else if (_tail_probe_out && frame.ack == _tail_probe_end && frame.length() == 0) {
        _tail_probe_out = false;  // RFC 8985 section 7.4.2: both came, and no D-SACK says so
    }
    return _state != tcp_state::closed;
}

void tcp_flow::on_window_change(std::uint32_t window, time_us now) noexcept {
    const std::uint32_t old_window = _peer_window;
    _peer_window = window;
    _max_peer_window = std::max(_max_peer_window, window);
    if (window == 0) _shut_at = now;
    if (window < old_window) return;
    if (in_flight() == 0 || old_window == 0) {  // the probing ends, and its back-off with it
        _retransmit_at = never_us;
        _rtt.end_backoff();
    }
    want_flush();
}

void tcp_flow::on_payload(const parsed_frame& frame, time_us now) noexcept {
    sequence seq = frame.seq;
    bytes_view bytes = frame.payload;
    _heard_data_at = now;
    if (frame.has(tcp_fin) && !_fin_seen) {
        const sequence place = seq + static_cast<std::uint32_t>(bytes.size());
        if (place <= _edge || place == _receive_next) {
            _fin_seen = true;
            _fin_place = place;
        }
    }
    if (seq < _receive_next) {
        const std::size_t known =
            std::min(bytes.size(), static_cast<std::size_t>(_receive_next - seq));
        if (known > 0) note_duplicate(seq, seq + static_cast<std::uint32_t>(known));
        bytes = bytes.subspan(known);
        seq = _receive_next;
    }
    sequence end = _fin_seen && _fin_place < _edge ? _fin_place : _edge;
    if (_edge - _receive_next > static_cast<std::int64_t>(_credit) + most_excess) {
        const sequence bound = _receive_next + _credit + most_excess;
        if (bound < end) end = bound;
    }
    bytes = bytes.first(std::min(bytes.size(), static_cast<std::size_t>(std::max(0, end - seq))));
    if (seq != _receive_next) {
        on_payload_ahead(seq, bytes, frame.gso_size);
        return;
    }
    // A filled gap deserves one ACK of its own, not the duplicates gathered before it.
    if (!_reassembly.empty()) _acks_owed = 0;
    owe_ack();
    if (!bytes.empty()) {
        const std::size_t taken = std::min<std::size_t>(bytes.size(), _credit);
        // The window's granularity can show a little more than the credit (window_field()): such
        // bytes wait here, unacknowledged, until there is credit for them.
        if (taken < bytes.size()) {
            _reassembly.insert(seq + static_cast<std::uint32_t>(taken), bytes.subspan(taken),
                               _context._pool);
        }
        if (taken > 0) deliver(bytes.first(taken), nullptr);
    }
    if (_state == tcp_state::open) deliver_reassembled();
}

void tcp_flow::on_payload_ahead(sequence seq, bytes_view bytes, std::uint16_t gso_size) noexcept {
    ++_context._statistics.out_of_order_segments;
    if (!bytes.empty()) {
        const sequence end = seq + static_cast<std::uint32_t>(bytes.size());
        switch (_reassembly.insert(seq, bytes, _context._pool)) {
            case tcp_reassembly::insertion::known: note_duplicate(seq, end); [[fallthrough]];
            case tcp_reassembly::insertion::kept:
                if (_sack_permitted) _sacks.insert(seq, end);
                break;
            case tcp_reassembly::insertion::refused:
                ++_context._statistics.reassembly_refused;
                break;
        }
    }
    // One for each segment (RFC 5681 section 4.2), of which a superframe holds many.
    owe_duplicate_acks(gso_size > 0 ? (bytes.size() + gso_size - 1) / gso_size : 1);
}

void tcp_flow::note_duplicate(sequence start, sequence end) noexcept {
    if (_sack_permitted) _sacks.duplicate(start, end);
}

void tcp_flow::deliver(bytes_view bytes, payload_holder* holder) noexcept {
    const auto count = static_cast<std::uint32_t>(bytes.size());
    _receive_next += count;
    _credit -= count;
    _delivering = true;
    _context._events.deliver(*this, bytes, holder);
    _delivering = false;
    if (!_sacks.empty()) _sacks.forget_until(_receive_next);
}

void tcp_flow::deliver_reassembled() noexcept {
    while (_state == tcp_state::open && _credit > 0 && !_reassembly.empty()) {
        const payload_slice part = _reassembly.take(_receive_next, _credit, _context._pool);
        if (part.empty()) return;
        owe_ack();
        deliver(part.bytes(), part.holder());
    }
}

void tcp_flow::take_fin_if_reached() noexcept {
    if (_state != tcp_state::open || !_fin_seen || _fin_received) return;
    if (_receive_next != _fin_place) return;
    _receive_next += 1;
    _fin_received = true;
    _host_closed_first = !_fin_sent;
    owe_ack();
    _context._events.finished(*this);
    finish_if_done();
}

void tcp_flow::owe_ack() noexcept {
    if (_acks_owed == 0) _acks_owed = 1;
    want_flush();
}

void tcp_flow::owe_duplicate_acks(std::size_t count) noexcept {
    _acks_owed =
        static_cast<std::uint8_t>(std::min<std::size_t>(_acks_owed + count, most_acks_owed));
    want_flush();
}

void tcp_flow::challenge(time_us now) noexcept {
    if (_challenged_at != 0 && now - _challenged_at < challenge_interval_us) return;
    _challenged_at = now;
    ++_context._statistics.challenge_acks;
    owe_ack();
}

}  // namespace burin::tun
