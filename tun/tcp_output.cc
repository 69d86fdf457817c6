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
        case tcp_state::open: room = emit_repair() && emit_data(now, more) && emit_acks(); break;
        case tcp_state::time_wait: room = emit_acks(); break;
    }
    if (_state == tcp_state::closed) return room;
    if (!room || more) want_flush();
    start_timer(now);
    schedule();
    return room;
}

// One timer serves three ends that never overlap: data in flight, a shut window, a lost SYN-ACK.
void tcp_flow::start_timer(time_us now) noexcept {
    if (_state == tcp_state::time_wait) {
        if (_retransmit_at == never_us) _retransmit_at = now + _context._settings.time_wait;
        return;
    }
    const bool waits_for_window =
        _state == tcp_state::open && (_queue.unsent() > 0 || fin_is_next()) && !_listed;
    if (_state == tcp_state::syn_received || in_flight() > 0 || waits_for_window) {
        if (_retransmit_at == never_us) _retransmit_at = now + _rtt.timeout_us();
    } else {
        _retransmit_at = never_us;
    }
}

std::uint32_t tcp_flow::send_allowance() const noexcept {
    const std::uint32_t window =
        std::min(_peer_window, _congestion.window() + _recovery.inflation(_mss));
    return window > in_flight() ? window - in_flight() : 0;
}

// As many bytes as fit one superframe without a short segment in its middle.
std::uint32_t tcp_flow::whole_segments() const noexcept {
    return (static_cast<std::uint32_t>(max_packet_bytes) - header_bytes()) / _mss * _mss;
}

bool tcp_flow::fin_is_next() const noexcept {
    return _fin_queued && !_fin_acked && _queue.unsent() == 0 && _next == send_end();
}

bool tcp_flow::emit_repair() noexcept {
    if (_repair_segments == 0) return true;
    const std::uint32_t sent = _queue.bytes() - _queue.unsent();
    // At most one superframe: the next partial ACK asks for more.
    const std::uint32_t count = std::min({_repair_segments * _mss, sent, whole_segments()});
    if (count > 0) {
        std::array<payload_piece, tcp_send_queue::max_pieces> pieces;
        const auto part = _queue.gather_front(count, pieces);
        if (!emit(_una, tcp_ack, std::span(pieces).first(part.pieces), part.bytes)) return false;
        _context._statistics.retransmitted_bytes += part.bytes;
        _timing = false;
    }
    _repair_segments = 0;
    return true;
}

bool tcp_flow::emit_data(time_us now, bool& more) noexcept {
    if (in_flight() == 0 && now - _last_data_at > _rtt.timeout_us()) _congestion.on_idle();
    std::uint32_t left_this_turn = flush_bytes;
    for (;;) {
        const std::uint32_t unsent = _queue.unsent();
        const std::uint32_t allowance = send_allowance();
        if (allowance == 0 || (unsent == 0 && !fin_is_next())) return true;
        if (left_this_turn == 0) {
            more = true;
            return true;
        }
        std::uint32_t count = std::min({unsent, allowance, whole_segments()});
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
        if (!emit(_next, flags, std::span(pieces).first(part.pieces), part.bytes)) return false;

        if (in_flight() == 0) _retransmit_at = never_us;
        const sequence end = _next + part.bytes + (fin ? 1u : 0u);
        if (_next < _max) {
            _context._statistics.retransmitted_bytes += part.bytes;
        } else if (!_timing) {
            _timing = true;
            _timed_end = end;
            _timed_at = now;
        }
        _queue.advance(part.bytes);
        _next = end;
        if (_max < _next) _max = _next;
        if (fin) _fin_sent = true;
        _last_data_at = now;
        left_this_turn -= std::min(left_this_turn, part.bytes);
    }
}

bool tcp_flow::emit_acks() noexcept {
    if (_probe_owed) {
        // Below the window, so every host answers it, and it takes no sequence number that would
        // have to be sent again.
        if (!emit(_una - 1, tcp_ack, {}, 0)) return false;
        _probe_owed = false;
        ++_context._statistics.window_probes;
    }
    while (_acks_owed > 0) {
        if (!emit(_next, tcp_ack, {}, 0)) return false;
    }
    return true;
}

bool tcp_flow::emit(sequence seq, std::uint8_t flags, std::span<const payload_piece> pieces,
                    std::uint32_t bytes) noexcept {
    tcp_fields fields;
    fields.seq = seq;
    fields.ack = _receive_next;
    fields.flags = flags;
    fields.window = window_field();
    header_buffer header;
    write_tcp_header(header, _key, fields, bytes, static_cast<std::uint16_t>(_mss));
    if (!_context._events.emit(*this, {header.bytes(), pieces, bytes})) return false;
    tcp_statistics& statistics = _context._statistics;
    ++statistics.frames_out;
    if (bytes > _mss) ++statistics.superframes_out;
    if (bytes == 0) ++statistics.acks_out;
    if (_acks_owed > 0) --_acks_owed;
    return true;
}

bool tcp_flow::emit_syn_ack(time_us now) noexcept {
    const std::uint32_t shown = std::max(std::min(window_target(), 65535u), advertised());
    tcp_fields fields;
    fields.seq = _first;
    fields.ack = _receive_next;
    fields.flags = tcp_syn | tcp_ack;
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
