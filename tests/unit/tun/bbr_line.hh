// A line for BBR without a flow: segments go one after another through a narrowest link with a
// queue, and come back as acknowledgements a round trip later. Losses are by count, not by chance.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "tun/tcp_bbr_control.hh"

namespace burin::tun {

struct bbr_line {
    static constexpr std::uint32_t mss = 1000;
    static constexpr time_us step = 100;

    tcp_bbr_control control;
    time_us now = 1'000'000'000;
    float rate = 12.5f;  // bytes a microsecond: 100 Mbit/s
    std::uint32_t rtt_us = 20'000;
    time_us queue_us = 20'000;     // more than so long nothing waits: it is dropped
    std::uint32_t lose_every = 0;  // 100: one segment of a hundred
    float offered = 0;             // bytes a microsecond there are to be sent; 0: always enough

    std::uint64_t delivered = 0, dropped = 0;
    std::uint32_t most_in_flight = 0;
    std::vector<tcp_bbr::phase> phases;  // each time it changed

    bbr_line() {
        control.start(mss, 1, now);
        phases.push_back(control.model.where());
    }
    // BDP of the line as it is.
    float holds() const { return rate * static_cast<float>(rtt_us); }
    std::uint32_t in_flight() const { return _in_flight; }
    bool seen(tcp_bbr::phase which) const {
        for (tcp_bbr::phase one : phases) {
            if (one == which) return true;
        }
        return false;
    }

    void handshake() { control.on_handshake(rtt_us, mss, now); }
    // Mbit/s that arrived meanwhile.
    float run(time_us duration) {
        const std::uint64_t before = delivered;
        for (const time_us end = now + duration; now < end; now += step) {
            arrive();
            send();
        }
        return static_cast<float>(delivered - before) * 8 / static_cast<float>(duration);
    }

  private:
    struct segment {
        sequence start;
        time_us at;
        bool lost;
    };
    void arrive() {
        while (!_line.empty() && _line.front().at <= now) {
            const segment one = _line.front();
            _line.pop_front();
            _in_flight -= mss;
            if (one.lost) {
                control.lost += mss;
                continue;
            }
            tcp_delivery news;
            news.bytes = mss;
            news.original = true;
            news.original_start = one.start;
            news.original_end = one.start + mss;
            delivered += mss;
            control.on_arrival(news, mss, _in_flight, mss, now);
            if (control.model.where() != phases.back()) phases.push_back(control.model.where());
        }
    }
    void send() {
        _waiting += offered * static_cast<float>(step);
        while (control.pacer.may_send(now)) {
            std::uint32_t burst = control.pacer.burst();
            while (burst >= mss) {
                if (_in_flight + mss > control.model.window()) return;
                if (offered > 0 && _waiting < static_cast<float>(mss)) {
                    control.rate.note_limited(_in_flight);
                    return;
                }
                send_one();
                burst -= mss;
            }
        }
    }
    void send_one() {
        _waiting -= static_cast<float>(mss);
        control.rate.on_sent(_next, static_cast<std::uint32_t>(now), rtt_us, _in_flight == 0);
        control.on_sent(mss, _in_flight, mss, now);
        _in_flight += mss;
        most_in_flight = std::max(most_in_flight, _in_flight);
        ++_sent;
        const bool full = _free_at > static_cast<double>(now + queue_us);
        const bool lost = full || (lose_every > 0 && _sent % lose_every == 0);
        if (lost) ++dropped;
        if (!full) {
            _free_at =
                std::max(_free_at, static_cast<double>(now)) + static_cast<double>(mss / rate);
        }
        _line.push_back({_next, static_cast<time_us>(_free_at) + rtt_us, lost});
        _next += mss;
    }

    std::deque<segment> _line;
    sequence _next{0xfff00000};  // wraps soon
    std::uint32_t _in_flight = 0;
    std::uint64_t _sent = 0;
    double _free_at = 0;
    float _waiting = 0;
};

}  // namespace burin::tun
