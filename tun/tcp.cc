#include "tun/tcp.hh"

#include <algorithm>

namespace burin::tun {
namespace {

// RFC 9293 section 3.7.1: what a host without the option takes.
constexpr std::uint32_t default_mss_v4 = 536;
constexpr std::uint32_t default_mss_v6 = 1220;
// A smaller one would buy a host a frame of its own for every few bytes; Linux bounds it likewise.
constexpr std::uint32_t least_mss = 88;
// Many slices this small cost more in list nodes and pinned blocks than in bytes.
constexpr std::uint32_t crowd_of_slices = 256;
constexpr std::uint32_t small_slice_bytes = 512;

std::uint32_t to_ms(time_us now) noexcept {
    return static_cast<std::uint32_t>(now / 1000);
}

// RFC 6528: a clock of 4 us ticks plus a keyed hash of the connection.
sequence initial_sequence(const hash_key& key, const flow_key& flow, time_us now) noexcept {
    return sequence(static_cast<std::uint32_t>(now / 4 + keyed_hash(key, flow)));
}

}  // namespace

std::string_view to_text(tcp_close reason) noexcept {
    switch (reason) {
        case tcp_close::finished: return "finished";
        case tcp_close::reset_by_host: return "reset by host";
        case tcp_close::timed_out: return "timed out";
        case tcp_close::aborted: return "aborted";
    }
    return "unknown";
}

void tcp_context::flush(time_us now) noexcept {
    for (std::uint32_t left = _listed; left > 0 && _first != nullptr; --left) {
        if (!_first->flush(now)) return;
    }
}

tcp_flow::tcp_flow(tcp_context& context, const parsed_frame& syn, time_us now) noexcept
    : _context(context), _key(syn.key) {
    _first = initial_sequence(context.settings().isn_key, _key, now);
    take_syn(syn);
}

tcp_flow::~tcp_flow() {
    leave_list();
    _queue.clear(_context._pool);
    _reassembly.clear(_context._pool);
    _board.clear(_context._scoreboards);
}

void tcp_flow::take_syn(const parsed_frame& syn) noexcept {
    _host_first = syn.seq;
    _receive_next = syn.seq + 1;
    _edge = _receive_next;
    const std::uint32_t device_mss = _context._settings.mtu - header_bytes();
    const std::uint32_t fallback = _key.source.is_v4() ? default_mss_v4 : default_mss_v6;
    const std::uint32_t offered = syn.options.mss != 0 ? syn.options.mss : fallback;
    _mss = std::min(std::max(offered, least_mss), device_mss);
    // Scaling happens both ways or not at all (RFC 7323 section 2.2).
    const bool scaled = syn.options.window_shift >= 0;
    _send_shift = scaled ? static_cast<std::uint8_t>(syn.options.window_shift) : 0;
    _receive_shift = scaled ? _context._settings.window_shift : std::uint8_t{0};
    _peer_window = _max_peer_window = syn.window;
    _sack_permitted = syn.options.sack_permitted;
    _ecn = syn.has(tcp_ece) && syn.has(tcp_cwr) &&  // RFC 3168 section 6.1.1
           _context._settings.congestion == congestion_control::cubic;
}

void tcp_flow::succeed(const tcp_flow& before) noexcept {
    const sequence least = before._next + 65536;
    if (_first < least) _first = least;
}

void tcp_flow::accept(std::uint32_t credit, time_us now) noexcept {
    if (_state != tcp_state::opening) return;
    _state = tcp_state::syn_received;
    _una = _next = _recover = _first + 1;
    _window_seq = _host_first;
    _credit = _max_credit = credit;
    choose_control(now);
    _timed_at = now;
    _acks_owed = 1;
    want_flush();
}

void tcp_flow::refuse() noexcept {
    if (_state != tcp_state::opening) return;
    emit_reset(sequence(0), _receive_next, tcp_rst | tcp_ack);
    close(tcp_close::aborted);
}

bool tcp_flow::send(payload_slice slice, time_us now) noexcept {
    const bool takes = _state == tcp_state::syn_received || _state == tcp_state::open;
    if (!takes || _fin_queued) return false;
    if (!_queue.push(std::move(slice), to_ms(now), _context._pool)) return false;
    if (_queue.loose() >= crowd_of_slices &&
        _queue.loose_bytes() < _queue.loose() * small_slice_bytes) {
        _queue.compact(to_ms(now), 0, _context._pool);
    }
    if (_compact_at == never_us && _queue.loose() > 0) {
        _compact_at = now + _context._settings.compact_after;
        schedule();
    }
    if (_state == tcp_state::open) want_flush();
    return true;
}

void tcp_flow::send_fin(time_us) noexcept {
    const bool takes = _state == tcp_state::syn_received || _state == tcp_state::open;
    if (!takes || _fin_queued) return;
    _fin_queued = true;
    if (_state == tcp_state::open) want_flush();
}

void tcp_flow::abort() noexcept {
    switch (_state) {
        case tcp_state::closed: return;
        case tcp_state::opening: refuse(); return;
        case tcp_state::time_wait: break;  // both FINs are through: there is nothing to reset
        default: emit_reset(_next, _receive_next, tcp_rst | tcp_ack);
    }
    close(tcp_close::aborted);
}

void tcp_flow::set_receive_credit(std::uint32_t bytes) noexcept {
    _credit = bytes;
    _max_credit = std::max(_max_credit, bytes);
    if (_delivering || _state != tcp_state::open) return;
    deliver_reassembled();
    take_fin_if_reached();
    if (_state != tcp_state::open || _fin_seen) return;
    // A host that still has half of what it could get learns the rest from the next ACK anyway.
    const std::uint32_t target = window_target();
    if (advertised() <= target / 2 && may_raise(target)) owe_ack();
}

std::uint32_t tcp_flow::advertised() const noexcept {
    return static_cast<std::uint32_t>(std::max(0, _edge - _receive_next));
}

void tcp_flow::finish_if_done() noexcept {
    if (_state != tcp_state::open || !_fin_acked || !_fin_received) return;
    if (_host_closed_first) {
        close(tcp_close::finished);
        return;
    }
    _state = tcp_state::time_wait;
    _retransmit_at = _loss_at = _idle_at =
        never_us;  // the hold begins at the flush, with the last ACK
    want_flush();
}

void tcp_flow::close(tcp_close reason) noexcept {
    if (_state == tcp_state::closed) return;
    _state = tcp_state::closed;
    leave_list();
    _queue.clear(_context._pool);
    _reassembly.clear(_context._pool);
    _board.clear(_context._scoreboards);
    _retransmit_at = _loss_at = _compact_at = _idle_at = never_us;
    if (_bbr != nullptr) _bbr->resume_at = never_us;
    _context._events.closed(*this, reason);
}

// The host is taken for dead. It may yet wake up, and then the RST tells it.
void tcp_flow::give_up() noexcept {
    emit_reset(_next, _receive_next, tcp_rst | tcp_ack);
    close(tcp_close::timed_out);
}

void tcp_flow::on_packet_too_big(std::uint32_t mtu) noexcept {
    if (_state == tcp_state::closed || _state == tcp_state::time_wait) return;
    const std::uint32_t mss = std::max(mtu, header_bytes() + least_mss) - header_bytes();
    if (mss >= _mss) return;
    _mss = mss;
    _congestion.set_mss(mss);
    if (_bbr != nullptr) _bbr->model.set_mss(mss);
    if (_state != tcp_state::open || in_flight() == 0) return;
    _board.lose_all(_una, _next, _context._scoreboards);
    _reno.settle();
    _timing = false;
    want_flush();
}

void tcp_flow::want_flush() noexcept {
    if (_listed) return;
    _listed = true;
    _previous = _context._last;
    _following = nullptr;
    (_context._last != nullptr ? _context._last->_following : _context._first) = this;
    _context._last = this;
    ++_context._listed;
}

void tcp_flow::leave_list() noexcept {
    if (!_listed) return;
    _listed = false;
    (_previous != nullptr ? _previous->_following : _context._first) = _following;
    (_following != nullptr ? _following->_previous : _context._last) = _previous;
    _previous = _following = nullptr;
    --_context._listed;
}

}  // namespace burin::tun
