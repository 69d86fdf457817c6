#include "tests/sim/paths.hh"

#include <algorithm>
#include <cmath>
#include <queue>
#include <utility>

#include "tests/sim/gateway.hh"
#include "tests/sim/model_host.hh"
#include "tests/sim/random.hh"

namespace sim {
namespace {

constexpr std::uint64_t begins = 100'000'000;   // microseconds
constexpr std::uint64_t measured = 10'000'000;  // virtual time of one run
constexpr std::uint64_t turn = 50;              // of the gateway's loop
constexpr std::uint32_t mss = 1460;
constexpr std::uint64_t runs = 2;

struct path {
    const char* name;
    std::uint64_t rtt_us;
    std::uint32_t loss;       // per million segments, either way
    std::uint32_t reordered;  // per million segments, late by up to half a round trip
    double mbit;
};
constexpr path paths[] = {
    {"1 ms, no loss, 200 Mbit/s", 1000, 0, 0, 200},
    {"20 ms, 0.1 % loss, 200 Mbit/s", 20'000, 1000, 0, 200},
    {"10 ms, 0.5 % loss, 0.5 % reordered, 200 Mbit/s", 10'000, 5000, 5000, 200},
    {"10 ms, no loss, 2 % reordered, 200 Mbit/s", 10'000, 0, 20'000, 200},
    {"20 ms, 1 % loss, 200 Mbit/s", 20'000, 10'000, 0, 200},
    {"200 ms, 1 % loss, 200 Mbit/s", 200'000, 10'000, 0, 200},
    {"5 ms, 5 % loss, 100 Mbit/s", 5000, 50'000, 0, 100},
};

double bound_mbit(const path& p) {
    if (p.loss == 0) return p.mbit;
    const double rtt_s = static_cast<double>(p.rtt_us) / 1e6;
    const double loss = static_cast<double>(p.loss) / 1e6;
    const double reno = std::sqrt(1.5 / loss);
    const double cubic = std::pow(0.4 * 3.7 / 1.2, 0.25) * std::pow(rtt_s / loss, 0.75);
    return std::min(p.mbit, std::max(reno, cubic) * mss * 8 / rtt_s / 1e6);
}

struct event {
    std::uint64_t at = 0;
    std::uint64_t order = 0;
    enum class what { to_gateway, to_host, tick } kind = what::tick;
    bytes frame;
    friend bool operator<(const event& a, const event& b) {
        return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
};

struct measurement {
    double mbit = 0;
    double needless = 0;
};

class track {
  public:
    track(const path& p, bool sack, std::uint64_t seed)
        : _path(p), _random(seed), _host(host_of(sack)), _gateway(gateway_of(), seed) {}

    measurement run() {
        _host.connect(_now);
        move();
        while (!_events.empty() && _now < begins + measured) {
            event e = std::move(const_cast<event&>(_events.top()));  // it leaves at once
            _events.pop();
            _now = e.at;
            switch (e.kind) {
                case event::what::to_gateway: _gateway.on_frame(e.frame, _now); break;
                case event::what::to_host: _host.on_frame(e.frame, _now); break;
                case event::what::tick: break;
            }
            move();
        }
        const auto got = static_cast<double>(_host.read_total());
        measurement m;
        m.mbit = got * 8 / static_cast<double>(measured);
        m.needless = static_cast<double>(_host.needless_bytes()) / std::max(1.0, got);
        if (!_gateway.closed()) _gateway.abort();
        _gateway.bury();
        return m;
    }

  private:
    static host_settings host_of(bool sack) {
        host_settings host;
        host.here = {0x0a090002, 40000};
        host.there = {0xc0000207, 443};
        host.isn = 4'000'000'000u;
        host.mss = mss;
        host.shift = 8;
        host.receive_buffer = 8 << 20;
        host.sacks = sack;
        host.closes_when_sent = false;
        host.receive_total = ~0ull >> 2;
        return host;
    }
    static gateway_settings gateway_of() {
        gateway_settings gate;
        gate.near_window = 4 << 20;
        gate.send_total = ~0ull >> 2;
        gate.largest_slice = 32'768;
        return gate;
    }
    void add(std::uint64_t after, event::what kind, bytes frame) {
        _events.push({_now + after, _order++, kind, std::move(frame)});
    }
    // Into the queue before the narrow link, drop-tail, as deep as a round trip.
    void to_host(bytes frame) {
        const auto takes = [this](std::size_t size) {
            return static_cast<std::uint64_t>(static_cast<double>(size) * 8 / _path.mbit);
        };
        if (_free_at > _now + std::max<std::uint64_t>(_path.rtt_us, 5000)) return;
        _free_at = std::max(_free_at, _now) + takes(frame.size());
        if (_random.chance(_path.loss)) return;
        std::uint64_t late = 0;
        if (_random.chance(_path.reordered)) late = _random.between(0, _path.rtt_us / 2);
        add(_free_at - _now + _path.rtt_us / 2 + late, event::what::to_host, std::move(frame));
    }
    void move() {
        if (_gateway.waits_for_accept()) _gateway.accept(_now);
        if (_gateway.deadline() <= _now) _gateway.on_timer(_now);
        if (_host.deadline() <= _now) _host.on_timer(_now);
        _host.read(~0ull, _now);
        _gateway.produce(~0ull, _now);
        _gateway.set_host_edge(_host.right_edge());
        if (_gateway.wants_turn() && _now >= _turn_at) {
            _gateway.flush(_now);
            _turn_at = _now + turn;
        }
        for (bytes& frame : _gateway.take_output()) {
            for (bytes& one : cut_superframe(frame)) to_host(std::move(one));
        }
        for (bytes& frame : _host.take_output()) {
            if (!_random.chance(_path.loss)) {
                add(_path.rtt_us / 2, event::what::to_gateway, std::move(frame));
            }
        }
        std::uint64_t next = std::min(_gateway.deadline(), _host.deadline());
        if (_gateway.wants_turn()) next = std::min(next, _turn_at);
        next = std::max(next, _now + 1);
        if (next < _tick || _tick <= _now) {
            _tick = next;
            if (next != ~0ull) add(next - _now, event::what::tick, {});
        }
    }

    path _path;
    random _random;
    model_host _host;
    gateway _gateway;
    std::priority_queue<event> _events;
    std::uint64_t _now = begins, _order = 0, _free_at = 0, _turn_at = 0, _tick = 0;
};

measurement measure(const path& p, bool sack) {
    measurement sum;
    for (std::uint64_t seed = 1; seed <= runs; ++seed) {
        const measurement one = track(p, sack, seed).run();
        sum.mbit += one.mbit / static_cast<double>(runs);
        sum.needless += one.needless / static_cast<double>(runs);
    }
    return sum;
}

}  // namespace

std::vector<path_result> run_paths() {
    std::vector<path_result> all;
    for (const path& p : paths) {
        path_result result;
        result.name = p.name;
        result.bound_mbit = bound_mbit(p);
        const measurement sack = measure(p, true);
        result.sack_mbit = sack.mbit;
        result.needless = sack.needless;
        result.no_sack_mbit = measure(p, false).mbit;
        result.passed = result.sack_mbit > result.bound_mbit / 4 &&
                        result.sack_mbit > result.no_sack_mbit * 0.7;
        all.push_back(result);
    }
    return all;
}

}  // namespace sim
