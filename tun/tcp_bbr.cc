#include "tun/tcp_bbr.hh"

#include "tun/tcp_pacer.hh"

namespace burin::tun {
namespace {

// Section 5.6.1, and a hundredth below the estimate, so that what is sent does not pile up.
constexpr float startup_pacing = 2.77f;
constexpr float drain_pacing = 0.5f;
constexpr float down_pacing = 0.9f;
constexpr float up_pacing = 1.25f;
constexpr float pacing_margin = 0.99f;
constexpr float window_part = 2;
constexpr float up_window_part = 2.25f;
constexpr float probe_rtt_part = 0.5f;
// Section 5.3.1.2: a pipe that is not full yet shows at least so much more each round.
constexpr float growth = 1.25f;
constexpr std::uint8_t full_after_rounds = 3;
constexpr std::uint8_t most_drain_rounds = 3;
// Section 5.5.10, with bounds of our own (the header says why).
constexpr float kept_part = 0.7f;       // BBR.Beta
constexpr float headroom_part = 0.15f;  // BBR.Headroom
constexpr float tolerated_loss = 0.1f;
constexpr std::uint32_t tolerated_segments = 6;
// Section 5.3.3.5: a probe every two to three seconds, and sooner where Reno would have grown by as
// much as is out.
constexpr std::uint32_t probe_wait_us = 2'000'000;
constexpr std::uint32_t probe_spread_us = 1'000'000;
constexpr std::uint32_t most_reno_rounds = 63;
// Sections 5.3.4 and 5.5.7.
constexpr std::uint32_t recent_rtt_us = 5'000'000;
constexpr std::uint32_t min_rtt_lasts_us = 10'000'000;
constexpr std::uint32_t probe_rtt_time_us = 200'000;
// Section 5.5.9: the filter looks back over ten rounds, here two halves of them.
constexpr std::uint8_t extra_half_rounds = 5;
// Section 5.5.8: what makes superframes and what joins segments at the host keep busy.
constexpr std::uint32_t budget_bursts = 3;
// Nothing was measured yet (section 5.6.2).
constexpr std::uint32_t first_rtt_us = 1000;

}  // namespace

void tcp_bbr::start(std::uint32_t mss, std::uint32_t seed, time_us now) noexcept {
    *this = {};
    _mss = mss;
    _random = seed;
    _window = initial_segments * mss;
    _extra_from = _cycle_from = _min_rtt_at = _recent_rtt_at = now;
    set_pacing();
}

void tcp_bbr::on_handshake(std::uint32_t rtt_us, time_us now) noexcept {
    _min_rtt = _recent_rtt = rtt_us;
    _min_rtt_at = _recent_rtt_at = now;
    _pacing_rate = 0;
    set_pacing();
}

float tcp_bbr::bandwidth() const noexcept {
    const float most = max_bandwidth();
    return _low > 0 ? std::min(_low, most) : most;
}

void tcp_bbr::on_ack(const bbr_ack& ack, time_us now) noexcept {
    count_round(ack, now);
    take_bandwidth(ack);
    take_aggregation(ack, now);
    take_loss(ack, now);
    look_for_full_pipe(ack);
    step(ack, now);
    take_round_trip(ack, now);
    if (_phase == phase::probe_rtt) step_probe_rtt(ack, now);
    if (ack.arrived > 0) _restarted = false;
    set_pacing();
    set_window(ack);
}

// A round trip ends when something arrives that was sent after it began.
void tcp_bbr::count_round(const bbr_ack& ack, time_us now) noexcept {
    _round_began = _marks = false;
    if (!ack.sample.dated) return;
    if (_round_known && static_cast<std::int32_t>(ack.sample.sent_at - _round_from) < 0) return;
    _round_known = _round_began = true;
    begin_round(now);
    if (_rounds_since_probe < 0xff) ++_rounds_since_probe;
    if (_too_much && _phase != phase::startup && _phase != phase::refill && _phase != phase::up) {
        lower_bounds();
    }
    _too_much = false;
    _round_arrived = _round_lost = 0;
    _latest = 0;
    _latest_delivered = 0;
}

void tcp_bbr::take_bandwidth(const bbr_ack& ack) noexcept {
    const rate_sample& sample = ack.sample;
    _latest = std::max(_latest, sample.rate);
    _latest_delivered = std::max(_latest_delivered, sample.delivered);
    if (sample.rate > 0 && (!sample.app_limited || sample.rate >= max_bandwidth())) {
        _peaks[0] = std::max(_peaks[0], sample.rate);
    }
}

void tcp_bbr::take_aggregation(const bbr_ack& ack, time_us now) noexcept {
    const float bandwidth_now = bandwidth();
    if (bandwidth_now == 0) return;
    auto expected = static_cast<float>(now - _extra_from) * bandwidth_now;
    if (static_cast<float>(_extra_arrived) <= expected) {
        _extra_arrived = 0;
        _extra_from = now;
        expected = 0;
    }
    _extra_arrived += ack.arrived;
    if (_round_began && ++_extra_rounds >= (_full ? extra_half_rounds : std::uint8_t{1})) {
        _extra_rounds = 0;
        _extra[1] = _extra[0];
        _extra[0] = 0;
    }
    const float extra =
        std::min(static_cast<float>(_extra_arrived) - expected, static_cast<float>(_window));
    _extra[0] = std::max(_extra[0], static_cast<std::uint32_t>(std::max(extra, 0.0f)));
}

void tcp_bbr::take_loss(const bbr_ack& ack, time_us now) noexcept {
    _round_arrived += ack.arrived;
    _round_lost += ack.lost;
    const std::uint32_t flight = std::max(ack.in_flight, _round_arrived + _round_lost);
    if (_too_much || _round_lost < tolerated_segments * _mss ||
        static_cast<float>(_round_lost) <= tolerated_loss * static_cast<float>(flight)) {
        return;
    }
    _too_much = true;
    if (_phase == phase::startup) {
        _full = true;
        _most_in_flight = std::max(path_holds(max_bandwidth(), 1), _latest_delivered);
    } else if (_phase == phase::up && !ack.sample.app_limited) {
        const auto target = std::min(path_holds(bandwidth(), 1), _window);
        _most_in_flight = std::max(
            ack.in_flight, static_cast<std::uint32_t>(kept_part * static_cast<float>(target)));
        go_down(now);
    }
}

// Nothing was probed for, and yet too much was lost: somebody else has come, or the path has become
// slower (section 5.5.10.3). Until the next probe.
void tcp_bbr::lower_bounds() noexcept {
    const float low = _low > 0 ? _low : max_bandwidth();
    _low = std::max(_latest, kept_part * low);
    const std::uint32_t out = _low_in_flight != none ? _low_in_flight : _window;
    _low_in_flight = std::max(_latest_delivered,
                              static_cast<std::uint32_t>(kept_part * static_cast<float>(out)));
}

void tcp_bbr::look_for_full_pipe(const bbr_ack& ack) noexcept {
    if (!_round_began || (_full && _phase != phase::up)) return;
    if (!_full && ack.sample.app_limited) return;
    if (max_bandwidth() >= growth * _full_bandwidth) {
        _full_bandwidth = max_bandwidth();
        _flat_rounds = 0;
    } else if (++_flat_rounds >= full_after_rounds) {
        _full = true;
    }
}

void tcp_bbr::step(const bbr_ack& ack, time_us now) noexcept {
    // Only when there is something to step on with.
    const bool told = ack.sample.rate > 0 && !ack.sample.app_limited;
    if (_cycle_ends && _round_began && _phase != phase::up && told) {
        _cycle_ends = false;
        _peaks[1] = _peaks[0];
        _peaks[0] = 0;
    }
    const std::uint32_t holds = path_holds(max_bandwidth(), 1);
    switch (_phase) {
        case phase::startup:
            if (!_full) return;
            _phase = phase::drain;
            _drain_rounds = 0;
            [[fallthrough]];
        case phase::drain:
            if (_round_began) ++_drain_rounds;
            if (ack.in_flight > with_budget(holds) && _drain_rounds <= most_drain_rounds) return;
            return go_down(now);
        case phase::down:
            if (is_time_to_probe(now)) return refill(now);
            if (ack.in_flight <= std::min(with_headroom(), with_budget(holds))) {
                _phase = phase::cruise;
            }
            return;
        case phase::cruise:
            if (is_time_to_probe(now)) refill(now);
            return;
        case phase::refill:
            if (_round_began) go_up(now);
            return;
        case phase::up: {
            const std::uint32_t more = with_budget(path_holds(max_bandwidth(), up_pacing));
            if (_round_began && _most_in_flight < more) {
                // Section 5.3.3.6: slowly at first, then ever faster.
                const std::uint32_t rise = _mss << std::min<unsigned>(_up_rounds++, 10);
                _most_in_flight += std::min(rise, _most_in_flight);
                _flat_rounds = 0;  // it is this bound that keeps the bandwidth flat
            }
            const bool long_enough = now - _cycle_from > _min_rtt;
            if (long_enough && (ack.in_flight >= more || _flat_rounds >= full_after_rounds)) {
                go_down(now);
            }
            return;
        }
        case phase::probe_rtt: return;
    }
}

void tcp_bbr::go_down(time_us now) noexcept {
    _phase = phase::down;
    _cycle_ends = true;
    _cycle_from = now;
    begin_round(now);
    _random = _random * 1664525 + 1013904223;  // Numerical Recipes' generator; its high bits
    _rounds_since_probe = static_cast<std::uint8_t>(_random >> 31);
    _probe_wait_us = probe_wait_us + (_random >> 8) % probe_spread_us;
    _latest = 0;
    _latest_delivered = 0;
}

void tcp_bbr::refill(time_us now) noexcept {
    _phase = phase::refill;
    _low = 0;
    _low_in_flight = none;
    _up_rounds = 0;
    begin_round(now);
}

void tcp_bbr::go_up(time_us now) noexcept {
    _phase = phase::up;
    _cycle_from = now;
    begin_round(now);
    _full_bandwidth = max_bandwidth();
    _flat_rounds = 0;
}

bool tcp_bbr::is_time_to_probe(time_us now) const noexcept {
    if (now - _cycle_from >= _probe_wait_us) return true;
    const std::uint32_t target = std::min(path_holds(bandwidth(), 1), _window);
    return _rounds_since_probe >= std::min(target / _mss, most_reno_rounds);
}

// Section 5.5.7: two filters, of which the shorter decides when what is out must shrink to see the
// path without its queue.
void tcp_bbr::take_round_trip(const bbr_ack& ack, time_us now) noexcept {
    const bool expired = now - _recent_rtt_at > recent_rtt_us;
    const std::uint32_t rtt = ack.sample.rtt_us;
    if (rtt > 0 && (rtt <= _recent_rtt || expired)) {
        _recent_rtt = rtt;
        _recent_rtt_at = now;
    }
    if (_recent_rtt <= _min_rtt || now - _min_rtt_at > min_rtt_lasts_us) {
        _min_rtt = _recent_rtt;
        _min_rtt_at = _recent_rtt_at;
    }
    if (!expired || _restarted || _phase == phase::probe_rtt) return;
    _prior_window = std::max(_prior_window, _window);
    _phase = phase::probe_rtt;
    _probe_rtt_held = _probe_rtt_round = false;
}

void tcp_bbr::step_probe_rtt(const bbr_ack& ack, time_us now) noexcept {
    if (!_probe_rtt_held) {
        const std::uint32_t wanted =
            std::max(path_holds(bandwidth(), probe_rtt_part), least_segments * _mss);
        if (ack.in_flight > wanted) return;
        _probe_rtt_held = true;
        _probe_rtt_until = now + probe_rtt_time_us;
        begin_round(now);
        return;
    }
    if (_round_began) _probe_rtt_round = true;
    if (_probe_rtt_round && now > _probe_rtt_until) end_probe_rtt(now);
}

void tcp_bbr::end_probe_rtt(time_us now) noexcept {
    _recent_rtt_at = now;
    restore();
    _low = 0;
    _low_in_flight = none;
    if (!_full) {
        _phase = phase::startup;
        return;
    }
    go_down(now);
    _cycle_ends = false;
    _phase = phase::cruise;
}

void tcp_bbr::on_restart(time_us now) noexcept {
    _restarted = true;
    _extra_from = now;
    _extra_arrived = 0;
    if (_phase == phase::probe_rtt && _probe_rtt_held && now > _probe_rtt_until) {
        end_probe_rtt(now);
    }
    set_pacing();
}

void tcp_bbr::on_timeout(std::uint32_t in_flight) noexcept {
    _prior_window = std::max(_prior_window, _window);
    _window = std::min(_window, in_flight + _mss);
}

float tcp_bbr::pacing_gain() const noexcept {
    switch (_phase) {
        case phase::startup: return startup_pacing;
        case phase::drain: return drain_pacing;
        case phase::down: return down_pacing;
        case phase::up: return up_pacing;
        case phase::cruise:
        case phase::refill:
        case phase::probe_rtt: break;
    }
    return 1;
}

float tcp_bbr::window_gain() const noexcept {
    if (_phase == phase::up) return up_window_part;
    return _phase == phase::probe_rtt ? probe_rtt_part : window_part;
}

void tcp_bbr::set_pacing() noexcept {
    const auto rtt = static_cast<float>(_min_rtt == none ? first_rtt_us : _min_rtt);
    const float known = bandwidth();
    const float base = known > 0 ? known : static_cast<float>(_window) / rtt;
    // So much may be out whatever was measured.
    const float least = static_cast<float>(least_segments * _mss) / rtt;
    const float rate = std::max(pacing_gain() * pacing_margin * base, least);
    if (_full || rate > _pacing_rate) _pacing_rate = rate;
}

// BDP: what is out when the path is busy and has no queue. The first window as long as nothing is
// known.
std::uint32_t tcp_bbr::path_holds(float bandwidth_now, float gain) const noexcept {
    if (_min_rtt == none || bandwidth_now == 0) return initial_segments * _mss;
    const float bytes = gain * bandwidth_now * static_cast<float>(_min_rtt);
    return static_cast<std::uint32_t>(std::min(bytes, static_cast<float>(most_window)));
}

std::uint32_t tcp_bbr::with_budget(std::uint32_t bytes) const noexcept {
    const float burst =
        std::min(_pacing_rate * tcp_pacer::burst_us, static_cast<float>(tcp_pacer::most_burst));
    const std::uint32_t budget = budget_bursts * static_cast<std::uint32_t>(burst);
    bytes = std::max({bytes, budget, least_segments * _mss});
    return _phase == phase::up ? bytes + 2 * _mss : bytes;
}

std::uint32_t tcp_bbr::with_headroom() const noexcept {
    if (_most_in_flight == none) return none;
    const auto free = std::max(
        _mss, static_cast<std::uint32_t>(headroom_part * static_cast<float>(_most_in_flight)));
    return std::max(_most_in_flight - std::min(free, _most_in_flight), least_segments * _mss);
}

void tcp_bbr::set_window(const bbr_ack& ack) noexcept {
    std::uint32_t most = path_holds(bandwidth(), window_gain());
    most = with_budget(most + std::max(_extra[0], _extra[1]));
    if (_full) {
        _window = std::min(_window + ack.arrived, most);
    } else if (_window < most || _arrived < initial_segments * _mss) {
        _window += ack.arrived;
        _arrived += ack.arrived;
    }
    std::uint32_t bound = most_window;
    if (_phase == phase::probe_rtt) {
        bound = path_holds(bandwidth(), probe_rtt_part);
    } else if (_phase == phase::cruise) {
        bound = with_headroom();
    } else if (_phase != phase::startup) {
        bound = _most_in_flight;
    }
    bound = std::min({bound, _low_in_flight, most_window});
    _window = std::max(std::min(_window, bound), least_segments * _mss);
}

}  // namespace burin::tun
