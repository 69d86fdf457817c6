#include "tun/tcp_congestion.hh"

#include <cmath>

namespace burin::tun {
namespace {

// RFC 9438 section 5: what a reduction leaves, how fast the cubic grows (segments a cubed second),
// and the slope that equals Reno's on average with that reduction.
constexpr float kept_part = 0.7f;
constexpr float steepness = 0.4f;
constexpr float friendly_slope = 3 * (1 - kept_part) / (1 + kept_part);

}  // namespace

void tcp_congestion::start(std::uint32_t mss) noexcept {
    *this = {};
    _mss = mss;
    _window = initial_segments * mss;
}

void tcp_congestion::remember() noexcept {
    _prior = _window;
    _prior_threshold = _threshold;
    _prior_peak = _peak;
}

// Fast convergence (section 4.7): a flow that lost before it was back at its peak leaves some of it
// to others.
void tcp_congestion::lower_peak() noexcept {
    _peak = _window < _peak
                ? static_cast<std::uint32_t>(static_cast<float>(_window) * (1 + kept_part) / 2)
                : _window;
}

void tcp_congestion::on_loss(std::uint32_t flight) noexcept {
    remember();
    lower_peak();
    // From what was really out: an unused window says nothing about the path (RFC 7661).
    const auto kept =
        static_cast<std::uint32_t>(static_cast<float>(std::min(flight, _window)) * kept_part);
    _threshold = std::max(kept, 2 * _mss);
    _window = _threshold;
    _epoch = no_epoch;
    _earned = 0;
}

void tcp_congestion::on_timeout(std::uint32_t flight, timeout which) noexcept {
    if (which == timeout::first) {
        on_loss(flight);
        _peak = 0;  // section 4.8: the next epoch starts flat, from where slow start ends
    }
    _window = _mss;
    _epoch = no_epoch;
}

void tcp_congestion::undo() noexcept {
    _window = std::max(_window, _prior);
    _threshold = std::max(_threshold, _prior_threshold);
    _peak = std::max(_peak, _prior_peak);
    _epoch = no_epoch;
}

void tcp_congestion::start_epoch(std::uint64_t now) noexcept {
    _epoch = now;
    _earned = 0;
    const auto window = static_cast<float>(_window);
    _friendly = window;
    _origin = window;
    _plateau_s = 0;
    if (_peak > _window) {
        _origin = static_cast<float>(_peak);
        const float segments = (_origin - window) / static_cast<float>(_mss);
        _plateau_s = std::cbrt(segments / steepness);
    }
}

void tcp_congestion::avoid(std::uint32_t acked, std::uint32_t flight, std::uint64_t now,
                           std::uint32_t rtt_us) noexcept {
    if (_epoch == no_epoch) start_epoch(now);
    const std::uint64_t since = now - std::min(now, _seen_at);
    _seen_at = now;
    if (flight + _mss < _window) {
        // Time without use of the window is no time of the cubic's (section 5.8).
        _epoch = std::min(_epoch + since, now);
        return;
    }
    const auto mss = static_cast<float>(_mss);
    const auto window = static_cast<float>(_window);
    const float elapsed_s = static_cast<float>(now - _epoch) * 1e-6f;
    auto cubic = [&](float at_s) {
        const float from_plateau = at_s - _plateau_s;
        return _origin + mss * steepness * from_plateau * from_plateau * from_plateau;
    };
    // Section 4.3: Reno's own slope once the old window is reached again.
    const float slope = _friendly >= static_cast<float>(_prior) ? 1.0f : friendly_slope;
    _friendly += slope * mss * static_cast<float>(acked) / window;
    float growth = 0;
    if (cubic(elapsed_s) < _friendly) {
        growth = std::max(0.0f, _friendly - window);
    } else {
        // Section 4.4: towards where the cubic is a round trip from now, at most half as much
        // again.
        const float target = std::clamp(cubic(elapsed_s + static_cast<float>(rtt_us) * 1e-6f),
                                        window, 1.5f * window);
        growth = (target - window) * static_cast<float>(acked) / window;
    }
    _earned += growth;
    const auto whole = static_cast<std::uint32_t>(std::min(_earned, 1.5f * window));
    _earned -= static_cast<float>(whole);
    _window = std::min(_window + whole, max_window);
}

}  // namespace burin::tun
