#include "tests/sim/narrow_link.hh"

#include <algorithm>
#include <memory>
#include <queue>
#include <utility>

#include "tests/sim/gateway.hh"
#include "tests/sim/model_host.hh"
#include "tests/sim/random.hh"

namespace sim {
namespace {

using burin::tun::congestion_control;

constexpr std::uint64_t begins = 100'000'000;  // microseconds
constexpr std::uint64_t turn = 50;             // of the gateway's loop
constexpr std::uint16_t mss = 1460;
// What a paced flow waits for: the grain of the worker's timers (ring/timer_wheel.hh).
constexpr std::uint64_t timer_grain = 1000;

struct event {
    std::uint64_t at = 0;
    std::uint64_t order = 0;
    enum class what { to_gateway, to_host, tick } kind = what::tick;
    std::size_t flow = 0;
    bytes frame;
    friend bool operator<(const event& a, const event& b) {
        return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
};

host_settings host_of(const sender& how, std::size_t number) {
    host_settings host;
    host.here = {0x0a090002, static_cast<std::uint16_t>(40000 + number)};
    host.there = {0xc0000207, 443};
    host.isn = 4'000'000'000u;
    host.mss = mss;
    // Windows that do not bind: a sender that fills the longest path has three times what it holds
    // out while a repair was lost.
    const bool fills = how.law == congestion_control::bbr;
    host.shift = fills ? 10 : 8;
    host.receive_buffer = fills ? 32 << 20 : 8 << 20;
    host.sacks = how.sack;
    host.closes_when_sent = false;
    host.receive_total = ~0ull >> 2;
    return host;
}

gateway_settings gateway_of(const sender& how) {
    gateway_settings gate;
    gate.near_window = how.law == congestion_control::bbr ? 32 << 20 : 4 << 20;
    gate.send_total = ~0ull >> 2;
    gate.largest_slice = 32'768;
    gate.tcp.congestion = how.law;
    return gate;
}

struct pair_of_ends {
    pair_of_ends(const sender& how, std::size_t number, std::uint64_t seed)
        : host(host_of(how, number)),
          gate(gateway_of(how), seed + number),
          grain(how.law == congestion_control::bbr ? timer_grain : 1) {}

    // When the gateway's timer fires that was asked for by now.
    std::uint64_t gate_timer() const {
        const std::uint64_t at = gate.deadline();
        return at > never - grain ? at : (at + grain - 1) / grain * grain;
    }

    model_host host;
    gateway gate;
    std::uint64_t grain;
    std::uint64_t turn_at = 0;
    std::uint64_t tick_at = 0;
};

class track {
  public:
    track(const path& over, std::span<const sender> senders, std::uint64_t seed)
        : _path(over), _random(seed) {
        for (const sender& how : senders) {
            _flows.push_back(std::make_unique<pair_of_ends>(how, _flows.size(), seed));
        }
    }

    std::vector<measurement> run(std::uint64_t virtual_us) {
        for (auto& flow : _flows) flow->host.connect(_now);
        for (std::size_t i = 0; i < _flows.size(); ++i) move(i);
        while (!_events.empty() && _now < begins + virtual_us) {
            event e = std::move(const_cast<event&>(_events.top()));  // it leaves at once
            _events.pop();
            _now = e.at;
            pair_of_ends& flow = *_flows[e.flow];
            switch (e.kind) {
                case event::what::to_gateway: flow.gate.on_frame(e.frame, _now); break;
                case event::what::to_host: flow.host.on_frame(e.frame, _now); break;
                case event::what::tick: break;
            }
            move(e.flow);
        }
        std::vector<measurement> all;
        for (auto& flow : _flows) {
            const auto got = static_cast<double>(flow->host.read_total());
            all.push_back({got * 8 / static_cast<double>(virtual_us),
                           static_cast<double>(flow->host.needless_bytes()) / std::max(1.0, got)});
            if (!flow->gate.closed()) flow->gate.abort();
        }
        for (auto& flow : _flows) flow->gate.bury();
        return all;
    }

  private:
    void add(std::uint64_t after, event::what kind, std::size_t flow, bytes frame) {
        _events.push({_now + after, _order++, kind, flow, std::move(frame)});
    }
    void to_host(std::size_t flow, bytes frame) {
        const auto takes = [this](std::size_t size) {
            return static_cast<std::uint64_t>(static_cast<double>(size) * 8 / _path.mbit);
        };
        const auto depth =
            static_cast<std::uint64_t>(_path.queue_round_trips * static_cast<double>(_path.rtt_us));
        if (_free_at > _now + std::max<std::uint64_t>(depth, 5000)) return;
        _free_at = std::max(_free_at, _now) + takes(frame.size());
        if (_random.chance(_path.loss)) return;
        std::uint64_t late = 0;
        if (_random.chance(_path.reordered)) late = _random.between(0, _path.rtt_us / 2);
        add(_free_at - _now + _path.rtt_us / 2 + late, event::what::to_host, flow,
            std::move(frame));
    }
    void move(std::size_t number) {
        pair_of_ends& flow = *_flows[number];
        if (flow.gate.waits_for_accept()) flow.gate.accept(_now);
        if (flow.gate_timer() <= _now) flow.gate.on_timer(_now);
        if (flow.host.deadline() <= _now) flow.host.on_timer(_now);
        flow.host.read(~0ull, _now);
        flow.gate.produce(~0ull, _now);
        flow.gate.set_host_edge(flow.host.right_edge());
        if (flow.gate.wants_turn() && _now >= flow.turn_at) {
            flow.gate.flush(_now);
            flow.turn_at = _now + turn;
        }
        for (bytes& frame : flow.gate.take_output()) {
            for (bytes& one : cut_superframe(frame)) to_host(number, std::move(one));
        }
        for (bytes& frame : flow.host.take_output()) {
            if (!_random.chance(_path.loss)) {
                add(_path.rtt_us / 2, event::what::to_gateway, number, std::move(frame));
            }
        }
        std::uint64_t next = std::min(flow.gate_timer(), flow.host.deadline());
        if (flow.gate.wants_turn()) next = std::min(next, flow.turn_at);
        next = std::max(next, _now + 1);
        if (next < flow.tick_at || flow.tick_at <= _now) {
            flow.tick_at = next;
            if (next != never) add(next - _now, event::what::tick, number, {});
        }
    }

    path _path;
    random _random;
    std::vector<std::unique_ptr<pair_of_ends>> _flows;
    std::priority_queue<event> _events;
    std::uint64_t _now = begins, _order = 0, _free_at = 0;
};

}  // namespace

std::vector<measurement> run_narrow_link(const path& over, std::span<const sender> senders,
                                         std::uint64_t seed, std::uint64_t virtual_us) {
    return track(over, senders, seed).run(virtual_us);
}

}  // namespace sim
