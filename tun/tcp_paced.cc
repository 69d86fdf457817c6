// What a flow does besides when it is sent by BBR: it tells the model what arrives, and waits for
// its next burst. The worker's timers have a grain of a millisecond; acknowledgements wake a flow
// in between.
#include <algorithm>
#include <new>

#include "tun/tcp.hh"

namespace burin::tun {

// Without memory it is CUBIC.
void tcp_flow::choose_control(time_us now) noexcept {
    _congestion.start(_mss);
    if (_context._settings.congestion != congestion_control::bbr) return;
    _bbr.reset(new (std::nothrow) tcp_bbr_control);
    if (_bbr != nullptr) _bbr->start(_mss, _first.value(), now);
}

void tcp_flow::tell_model(const tcp_delivery& news, std::uint32_t arrived, time_us now) noexcept {
    _bbr->on_arrival(news, arrived, pipe(), _mss, now);
}

std::uint32_t tcp_flow::paced_room(time_us now) const noexcept {
    const std::uint32_t window = _bbr->model.window();
    const std::uint32_t out = pipe();
    if (window <= out || !_bbr->pacer.may_send(now)) return 0;
    return std::min(window - out, _bbr->pacer.burst());
}

// At the end of a flow's turn.
void tcp_flow::wait_for_pace(time_us now) noexcept {
    _bbr->resume_at = never_us;
    if (_state != tcp_state::open || _bbr->model.window() <= pipe()) return;
    const bool repairs = _board.lost_bytes() > 0;
    if (!repairs && _queue.unsent() == 0) _bbr->rate.note_limited(pipe());
    if (_bbr->pacer.may_send(now)) return;  // something else holds it up
    if (repairs || _queue.unsent() > 0 || fin_is_next()) {
        _bbr->resume_at = _bbr->pacer.ready_at();
        ++_context._statistics.paced_waits;
    }
}

}  // namespace burin::tun
