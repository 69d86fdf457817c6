// What a flow says: SYN-ACK, data in superframes, repairs, probes and ACKs, and the window they
// show.
#include <algorithm>
#include <array>

#include "tun/tcp.hh"

namespace burin::tun {
namespace {

// An edge shown in units has to be shown again from other numbers, rounded up lest it move back:
// with segments of 1460 bytes it creeps up by 12 % of what arrives. So an eighth of the credit is
// held back when the window is raised, as far as that matters; superframes hardly creep at all.
constexpr std::uint32_t reserve_part = 8;
constexpr std::uint32_t most_reserve = 16 * 1024;

}  // namespace

bool tcp_flow::flush(time_us now) noexcept {
    leave_list();
    bool more = false;
    bool room = true;
    switch (_state) {
        case tcp_state::opening:
        case tcp_state::closed: return true;
        case tcp_state::syn_received: room = _acks_owed == 0 || emit_syn_ack(now); break;
        case tcp_state::open:
            room = emit_repairs(now, more) && emit_data(now, more) && emit_tail_probe(now) &&
                   emit_acks();
            break;
        case tcp_state::time_wait: room = emit_acks(); break;
    }
    if (_state == tcp_state::closed) return room;
    if (!room || more) want_flush();
    if (_bbr != nullptr) wait_for_pace(now);
    start_timers(now);
    schedule();
    return room;
}

std::uint32_t tcp_flow::congestion_room(time_us now) const noexcept {
    if (_bbr != nullptr) return paced_room(now);
    const std::uint32_t window =
        _phase == phase::recovery ? _reduction.window() : _congestion.window();
    const std::uint32_t out = pipe();
    return window > out ? window - out : 0;
}

std::uint32_t tcp_flow::peer_room() const noexcept {
    return _peer_window > in_flight() ? _peer_window - in_flight() : 0;
}

// As many bytes as fit one superframe without a short segment in its middle.
std::uint32_t tcp_flow::whole_segments() const noexcept {
    return (static_cast<std::uint32_t>(max_packet_bytes) - header_bytes()) / _mss * _mss;
}

bool tcp_flow::fin_is_next() const noexcept {
    return _fin_queued && !_fin_acked && _queue.unsent() == 0 && _next == send_end();
}

// Sends up to `count` sequence numbers from `start` on again, the FIN among them. Returns how many
// went; 0: emit() had no room.
std::uint32_t tcp_flow::emit_again(sequence start, std::uint32_t count, time_us now) noexcept {
    const auto offset = static_cast<std::uint32_t>(start - _una);
    const std::uint32_t data = _queue.bytes() - std::min(_queue.bytes(), offset);
    std::array<payload_piece, tcp_send_queue::max_pieces> pieces;
    const auto part = _queue.gather_from(offset, std::min(count, data), pieces);
    const bool fin = part.bytes == data && count > data;
    std::uint8_t flags = tcp_ack;
    if (part.bytes == data && part.bytes > 0) flags |= tcp_psh;
    if (fin) flags |= tcp_fin;
    if (!emit(start, flags, std::span(pieces).first(part.pieces), part.bytes, freshness::again)) {
        return 0;
    }
    const std::uint32_t sent = part.bytes + (fin ? 1u : 0u);
    if (_bbr != nullptr) _bbr->on_sent(sent, in_flight(), _mss, now);
    _context._statistics.retransmitted_bytes += part.bytes;
    _board.repair(_una, _next, static_cast<std::uint32_t>(now), start, start + sent,
                  _context._scoreboards);
    _timing = false;
    _repaired_bytes += part.bytes;
    return sent;
}

bool tcp_flow::emit_repairs(time_us now, bool& more) noexcept {
    std::uint32_t left_this_turn = flush_bytes;
    while (const sent_range* lost = _board.first_lost()) {
        const sequence start = lost->start;
        const auto offset = static_cast<std::uint32_t>(start - _una);
        if (offset >= _peer_window) return true;
        std::uint32_t count = std::min({lost->size(), _peer_window - offset, whole_segments()});
        const std::uint32_t room = congestion_room(now);
        if (count > room) {
            // With nothing out, the window is for one segment at least.
            if (room < _mss && pipe() > 0) return true;
            count = std::min(count, std::max(room - room % _mss, _mss));
        }
        if (left_this_turn < count) {
            more = true;
            return true;
        }
        const std::uint32_t sent = emit_again(start, count, now);
        if (sent == 0) return false;
        _reduction.on_sent(sent);
        left_this_turn -= sent;
    }
    return true;
}

bool tcp_flow::emit_data(time_us now, bool& more) noexcept {
    if (in_flight() == 0 && now - _last_data_at > _rtt.timeout_us() && _bbr == nullptr) {
        _congestion.on_idle();
    }
    std::uint32_t left_this_turn = flush_bytes;
    for (;;) {
        const std::uint32_t unsent = _queue.unsent();
        std::uint32_t allowance = congestion_room(now);
        if (_tail_probe_owed) allowance = std::max(allowance, _mss);
        allowance = std::min(allowance, peer_room());
        if (allowance == 0 || (unsent == 0 && !fin_is_next())) return true;
        if (left_this_turn == 0) {
            more = true;
            return true;
        }
        std::uint32_t count = std::min({unsent, allowance, whole_segments()});
        // RFC 3168 section 6.1.2: CWR goes once, so not on every segment of a superframe.
        if (_cwr_owed) count = std::min(count, _mss);
        if (count < unsent) {
            // More is behind it, so only whole segments go, or what a small window can ever take
            // (RFC 9293 section 3.8.6.2.1).
            if (count >= _mss) {
                count -= count % _mss;
            } else if (in_flight() > 0 && count < _max_peer_window / 2) {
                return true;
            }
        }
        std::array<payload_piece, tcp_send_queue::max_pieces> pieces;
        const auto part = _queue.gather_unsent(count, pieces);
        const bool last = part.bytes == unsent;
        const bool fin = last && _fin_queued && allowance > part.bytes;
        std::uint8_t flags = tcp_ack;
        if (last && part.bytes > 0) flags |= tcp_psh;
        if (fin) flags |= tcp_fin;
        if (_cwr_owed && part.bytes > 0) flags |= tcp_cwr;
        if (!emit(_next, flags, std::span(pieces).first(part.pieces), part.bytes,
                  freshness::first_time)) {
            return false;
        }
        if (part.bytes > 0) _cwr_owed = false;
        if (in_flight() == 0) _retransmit_at = never_us;
        if (_loss_timer == loss_timer::tail_probe) _loss_at = never_us;
        _times.note(_next, static_cast<std::uint32_t>(now),
                    _rtt.smoothed_us() / send_times::spans_a_round_trip);
        const sequence end = _next + part.bytes + (fin ? 1u : 0u);
        if (_bbr != nullptr) {
            _bbr->rate.on_sent(_next, static_cast<std::uint32_t>(now), _rtt.smoothed_us(),
                               in_flight() == 0);
            _bbr->on_sent(static_cast<std::uint32_t>(end - _next), in_flight(), _mss, now);
        }
        if (!_timing) {
            _timing = true;
            _timed_end = end;
            _timed_at = now;
        }
        _queue.advance(part.bytes);
        _reduction.on_sent(static_cast<std::uint32_t>(end - _next));
        _next = end;
        if (fin) _fin_sent = true;
        _last_data_at = now;
        left_this_turn -= std::min(left_this_turn, part.bytes);
        if (_tail_probe_owed) {
            _tail_probe_repeat = false;
            on_tail_probe_sent(now);
        }
    }
}

// RFC 8985 section 7.3: what nobody has acknowledged for two round trips may be lost to the last
// byte, and only another segment can tell. New data has gone instead where there was any.
bool tcp_flow::emit_tail_probe(time_us now) noexcept {
    if (!_tail_probe_owed) return true;
    const std::uint32_t fin = _fin_sent && !_fin_acked ? 1 : 0;
    const std::uint32_t count = std::min(in_flight(), _mss + fin);
    if (count == 0 || _phase != phase::normal || _peer_window < in_flight()) {
        _tail_probe_owed = false;
        return true;
    }
    // Beside a recovery's repairs, which it is not one of.
    const std::uint32_t repaired = _repaired_bytes;
    if (emit_again(_next - count, count, now) == 0) return false;
    _repaired_bytes = repaired;
    _tail_probe_repeat = true;
    on_tail_probe_sent(now);
    return true;
}

void tcp_flow::on_tail_probe_sent(time_us now) noexcept {
    ++_context._statistics.tail_probes;
    _tail_probe_owed = _tail_probe_doubled = false;
    _tail_probe_out = true;
    _tail_probe_end = _next;
    _retransmit_at = now + _rtt.timeout_us();
}

bool tcp_flow::emit_acks() noexcept {
    if (_probe_owed) {
        // Below the window, so every host answers it, and it takes no sequence number that would
        // have to be sent again.
        if (!emit(_una - 1, tcp_ack, {}, 0, freshness::again)) return false;
        _probe_owed = false;
    }
    while (_acks_owed > 0) {
        if (!emit(_next, tcp_ack, {}, 0, freshness::again)) return false;
    }
    return true;
}

bool tcp_flow::emit(sequence seq, std::uint8_t flags, std::span<const payload_piece> pieces,
                    std::uint32_t bytes, freshness fresh) noexcept {
    tcp_fields fields;
    fields.seq = seq;
    fields.ack = _receive_next;
    fields.flags = flags;
    fields.window = window_field();
    // SACK blocks leave on ACKs without payload only: beside payload they would make segments
    // shorter, and there is nothing to tell as long as nothing is lost.
    const bool tells = !_sacks.empty();
    std::array<sack_block, most_sack_blocks> blocks;
    if (tells && bytes == 0) {
        fields.sack = std::span(blocks).first(_sacks.list(_receive_next, blocks));
    }
    if (_ecn) {
        if (_echo_congestion) fields.flags |= tcp_ece;
        // RFC 3168 sections 6.1.4 and 6.1.5: neither ACKs nor repairs.
        if (bytes > 0 && fresh == freshness::first_time) fields.ecn = ecn_capable;
    }
    header_buffer header;
    write_tcp_header(header, _key, fields, bytes, static_cast<std::uint16_t>(_mss));
    if (!_context._events.emit(*this, {header.bytes(), pieces, bytes})) return false;
    if (tells && bytes == 0) _sacks.said();
    tcp_statistics& statistics = _context._statistics;
    ++statistics.frames_out;
    if (bytes > _mss) ++statistics.superframes_out;
    if (bytes == 0) ++statistics.acks_out;
    if (_acks_owed > 0 && (bytes == 0 || !tells)) --_acks_owed;
    return true;
}

bool tcp_flow::emit_syn_ack(time_us now) noexcept {
    const std::uint32_t shown = std::max(std::min(window_target(), 65535u), advertised());
    tcp_fields fields;
    fields.seq = _first;
    fields.ack = _receive_next;
    fields.flags = tcp_syn | tcp_ack;
    if (_ecn) fields.flags |= tcp_ece;  // RFC 3168 section 6.1.1
    fields.sack_permitted = _sack_permitted;
    fields.window = static_cast<std::uint16_t>(shown);  // never scaled here (RFC 7323 2.2)
    fields.mss = static_cast<std::uint16_t>(_context._settings.mtu - header_bytes());
    if (_receive_shift > 0 || _send_shift > 0) {
        fields.window_shift = static_cast<std::int8_t>(_receive_shift);
    }
    header_buffer header;
    write_tcp_header(header, _key, fields, 0, 0);
    if (!_context._events.emit(*this, {header.bytes(), {}, 0})) return false;
    ++_context._statistics.frames_out;
    _edge = _receive_next + shown;
    _acks_owed = 0;
    if (!_handshake_repeated) _timed_at = now;
    return true;
}

bool tcp_flow::emit_reset(sequence seq, sequence ack, std::uint8_t flags) noexcept {
    tcp_fields fields;
    fields.seq = seq;
    fields.ack = ack;
    fields.flags = flags;
    header_buffer header;
    write_tcp_header(header, _key, fields, 0, 0);
    if (!_context._events.emit(*this, {header.bytes(), {}, 0})) return false;
    ++_context._statistics.frames_out;
    ++_context._statistics.resets_out;
    return true;
}

// The window the credit allows, in whole units and with the reserve held back. Credit below one
// unit still shows one, lest a far side with a tiny window never get a byte: what comes beyond the
// credit waits in reassembly.
std::uint32_t tcp_flow::window_target() const noexcept {
    const std::uint32_t room = std::min(_credit, 65535u << _receive_shift);
    if (_receive_shift == 0) return room;
    const std::uint32_t unit = 1u << _receive_shift;
    const std::uint32_t reserve = std::max(unit - 1, std::min(room / reserve_part, most_reserve));
    const std::uint32_t target = room > reserve ? (room - reserve) & ~(unit - 1) : 0;
    return target == 0 && room > 0 ? unit : target;
}

// The receiver's side of the silly window syndrome (RFC 9293 section 3.8.6.2.2).
bool tcp_flow::may_raise(std::uint32_t target) const noexcept {
    const std::uint32_t shown = advertised();
    return target > shown && target - shown >= std::min(_mss, _max_credit / 4);
}

std::uint16_t tcp_flow::window_field() noexcept {
    const std::uint32_t target = window_target();
    const std::uint32_t shown = may_raise(target) ? target : advertised();
    const std::uint32_t unit = 1u << _receive_shift;
    const std::uint32_t field = std::min((shown + unit - 1) >> _receive_shift, 65535u);
    const sequence edge = _receive_next + (field << _receive_shift);
    if (edge > _edge) _edge = edge;
    return static_cast<std::uint16_t>(field);
}

}  // namespace burin::tun
