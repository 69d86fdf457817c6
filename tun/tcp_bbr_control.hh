// All that a flow needs to be sent by BBR: what measures, the model, what spaces. In one block of
// its own, so that a flow under CUBIC has only a pointer of it.
#pragma once

#include <cstdint>

#include "tun/tcp_bbr.hh"
#include "tun/tcp_pacer.hh"
#include "tun/tcp_rate.hh"

namespace burin::tun {

struct tcp_bbr_control {
    delivery_rate rate;
    tcp_bbr model;
    tcp_pacer pacer;
    std::uint32_t lost = 0;        // bytes found lost since the last acknowledgement
    time_us resume_at = never_us;  // the next burst, when one waits

    void start(std::uint32_t mss, std::uint32_t seed, time_us now) noexcept {
        model.start(mss, seed, now);
        pacer.set_rate(model.pacing_rate(), mss, now);
    }
    void on_handshake(std::uint32_t rtt_us, std::uint32_t mss, time_us now) noexcept {
        model.on_handshake(rtt_us, now);
        pacer.set_rate(model.pacing_rate(), mss, now);
    }
    // `bytes` leave; `in_flight` were out before.
    void on_sent(std::uint32_t bytes, std::uint32_t in_flight, std::uint32_t mss,
                 time_us now) noexcept {
        const bool idle = in_flight == 0;
        if (idle && rate.limited()) {
            model.on_restart(now);
            pacer.set_rate(model.pacing_rate(), mss, now);
        }
        pacer.on_sent(bytes, idle, now);
    }
    // `arrived` bytes of `news` are new, `in_flight` are still out.
    void on_arrival(const tcp_delivery& news, std::uint32_t arrived, std::uint32_t in_flight,
                    std::uint32_t mss, time_us now) noexcept {
        bbr_ack ack;
        ack.sample = rate.on_arrival(news, arrived, static_cast<std::uint32_t>(now),
                                     model.min_rtt_us() == ~0u ? 0 : model.min_rtt_us());
        ack.arrived = arrived;
        ack.lost = lost;
        ack.in_flight = in_flight;
        lost = 0;
        model.on_ack(ack, now);
        if (model.marks()) rate.split();
        if (model.where() == tcp_bbr::phase::probe_rtt) rate.note_limited(in_flight);
        pacer.set_rate(model.pacing_rate(), mss, now);
    }
};
static_assert(sizeof(tcp_bbr_control) <= 576);

}  // namespace burin::tun
