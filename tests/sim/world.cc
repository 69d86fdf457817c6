#include "tests/sim/world.hh"

#include <algorithm>
#include <cstdio>
#include <queue>
#include <stdexcept>
#include <vector>

#include "tests/sim/gateway.hh"
#include "tests/sim/model_host.hh"
#include "tests/sim/random.hh"

namespace sim {
namespace {

constexpr std::uint64_t second = 1'000'000;
// No seed needs more: the worst lose a tenth of all frames and stall for seconds.
constexpr std::uint64_t longest_life = 1800 * second;
constexpr std::uint64_t most_events = 3'000'000;

enum class ending { host_first, tunnel_first, together, host_resets, tunnel_aborts };

// What the seed decides before the first frame.
struct scenario {
    host_settings host;
    gateway_settings gate;
    ending end = ending::host_first;
    std::uint32_t loss = 0, duplicates = 0, corruption = 0;  // per million frames
    std::uint64_t delay = 0, jitter = 0, turn = 0, dial = 0;
    std::uint32_t cuts = 0;  // superframes that the link cuts up, per million
    std::uint64_t read_size = 0, read_pause = 0, sink_size = 0, sink_pause = 0;
    std::uint64_t source_size = 0, source_pause = 0;
    std::uint32_t stalls = 0;  // of either reader, per million reads
    std::uint64_t longest_stall = 0;
};

template <class T, std::size_t N>
T pick(random& r, const T (&choices)[N]) {
    return choices[r.between(0, N - 1)];
}

scenario draw(random& r, std::uint64_t seed) {
    scenario s;
    s.end = static_cast<ending>(r.between(0, 4));
    s.loss = pick(r, {0u, 0u, 1000u, 5000u, 20'000u, 50'000u, 100'000u});
    s.duplicates = pick(r, {0u, 0u, 2000u, 30'000u});
    s.corruption = pick(r, {0u, 0u, 0u, 5000u});
    s.delay = pick(r, {20ull, 500ull, 5000ull, 50'000ull});
    s.jitter = r.coin() ? 0 : s.delay * r.between(1, 30) / 10;
    s.turn = r.between(0, 300);
    s.dial = r.between(0, 500'000);
    s.cuts = pick(r, {0u, 500'000u, 1'000'000u});

    host_settings& host = s.host;
    host.here = {0x0a090002, static_cast<std::uint16_t>(r.between(1024, 65535))};
    host.there = {0xc0000207, static_cast<std::uint16_t>(r.between(1, 65535))};
    // Half of the seeds wrap within the transfer, on either side.
    host.isn = static_cast<std::uint32_t>(r.next());
    if (r.coin()) host.isn = 0xffffffff - static_cast<std::uint32_t>(r.between(0, 250'000));
    host.mss = pick(r, {std::uint16_t{1460}, std::uint16_t{1460}, std::uint16_t{1360},
                        std::uint16_t{536}, std::uint16_t{8960}});
    host.shift = pick(r, {-1, 0, 2, 7, 9});
    host.receive_buffer =
        static_cast<std::uint32_t>(pick(r, {4096u, 20'000u, 65'535u, 200'000u, 1'000'000u}));
    host.superframe_segments = std::max<std::uint32_t>(
        1, std::min<std::uint32_t>(pick(r, {1u, 1u, 4u, 44u}), 65'000u / host.mss));
    host.delays_acks = r.coin();
    host.checksums = r.coin() ? checksum::complete : checksum::offloaded;
    host.probes = r.coin() ? probe_style::one_byte : probe_style::below_window;
    host.send_total = r.between(256 * 1024, 400 * 1024);
    host.stream = seed * 2;
    host.receive_total = r.between(256 * 1024, 400 * 1024);
    host.receive_stream = seed * 2 + 1;
    host.closes_when_sent = s.end == ending::host_first || s.end == ending::together;

    gateway_settings& gate = s.gate;
    gate.receive_total = host.send_total;
    gate.receive_stream = host.stream;
    gate.send_total = host.receive_total;
    gate.send_stream = host.receive_stream;
    gate.closes_when_sent = s.end == ending::tunnel_first || s.end == ending::together;
    gate.far_window = pick(r, {1000ull, 16'384ull, 100'000ull, 2'097'152ull});
    gate.near_window = pick(r, {5000ull, 65'536ull, 2'097'152ull});
    gate.largest_slice = static_cast<std::uint32_t>(pick(r, {100u, 5000u, 32'768u, 65'536u}));
    gate.refuse_per_million = pick(r, {0u, 0u, 20'000u});
    gate.tcp.mtu = pick(r, {std::uint16_t{1500}, std::uint16_t{9000}});
    gate.tcp.isn_key = {r.next(), r.next()};

    s.read_size = r.between(100, 200'000);
    s.read_pause = r.between(50, 3000);
    s.sink_size = r.between(500, 200'000);
    s.sink_pause = r.between(50, 3000);
    s.source_size = r.between(500, 130'000);
    s.source_pause = r.between(20, 2000);
    s.stalls = pick(r, {0u, 1000u, 20'000u});
    s.longest_stall = pick(r, {20'000ull, 500'000ull, 3'000'000ull});
    return s;
}

enum class happening : std::uint8_t {
    frame_to_gateway,
    frame_to_host,
    gateway_timer,
    host_timer,
    turn,
    dialled,
    host_reads,
    far_consumes,
    far_produces,
};
constexpr const char* names[] = {"frame->gateway", "frame->host", "gateway timer",
                                 "host timer",     "turn",        "dialled",
                                 "host reads",     "consume",     "produce"};

struct event {
    std::uint64_t at = 0;
    std::uint64_t order = 0;  // among equals, first come first served
    happening what = happening::turn;
    bytes frame;

    friend bool operator<(const event& a, const event& b) {
        return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
};

class world {
  public:
    world(std::uint64_t seed, tracing trace)
        : _random(seed),
          _scenario(draw(_random, seed)),
          _host(_scenario.host),
          _gateway(_scenario.gate, _random.next()),
          _tracing(trace) {}

    run_result live();

  private:
    void add(std::uint64_t after, happening what, bytes frame = {});
    void step(event& e);
    void send_over_link(bytes frame, happening where);
    void collect();
    void record(const event& e);
    bool is_over() const;
    void end_by_force();
    std::uint64_t pause(std::uint64_t usual);

    random _random;
    scenario _scenario;
    model_host _host;
    gateway _gateway;
    tracing _tracing;
    std::priority_queue<event> _events;
    std::uint64_t _now = 100 * second;
    std::uint64_t _order = 0;
    std::uint64_t _trace = 0xcbf29ce484222325;
    std::uint64_t _host_timer = never;
    std::uint64_t _gateway_timer = never;
    bool _turn_due = false, _dialling = false, _forced = false;
};

void world::add(std::uint64_t after, happening what, bytes frame) {
    _events.push({_now + after, _order++, what, std::move(frame)});
}

std::uint64_t world::pause(std::uint64_t usual) {
    if (_random.chance(_scenario.stalls)) return _random.between(1, _scenario.longest_stall);
    return usual;
}

void world::send_over_link(bytes frame, happening where) {
    std::vector<bytes> frames;
    if (_random.chance(_scenario.cuts)) {
        frames = cut_superframe(frame);
    } else {
        frames.push_back(std::move(frame));
    }
    for (bytes& one : frames) {
        if (_random.chance(_scenario.loss)) continue;
        const unsigned copies = _random.chance(_scenario.duplicates) ? 2 : 1;
        for (unsigned i = 0; i < copies; ++i) {
            bytes copy = one;
            // Only a full checksum finds a flipped bit; offloaded frames never left a machine.
            if (where == happening::frame_to_gateway && (copy[0] & 1) == 0 &&
                _random.chance(_scenario.corruption)) {
                copy[_random.between(10, copy.size() - 1)] ^=
                    static_cast<std::uint8_t>(1u << _random.between(0, 7));
            }
            const std::uint64_t late = _scenario.jitter > 0 && _random.chance(200'000)
                                           ? _random.between(0, _scenario.jitter)
                                           : 0;
            add(_scenario.delay + late, where, std::move(copy));
        }
    }
}

// What both ends want after an event: frames on the link, timers, a turn.
void world::collect() {
    _gateway.set_host_edge(_host.right_edge());
    for (bytes& frame : _host.take_output()) {
        send_over_link(std::move(frame), happening::frame_to_gateway);
    }
    for (bytes& frame : _gateway.take_output()) {
        send_over_link(std::move(frame), happening::frame_to_host);
    }
    if (_host.deadline() < _host_timer) {
        _host_timer = _host.deadline();
        add(std::max(_host_timer, _now) - _now, happening::host_timer);
    }
    if (_gateway.deadline() < _gateway_timer) {
        _gateway_timer = _gateway.deadline();
        add(std::max(_gateway_timer, _now) - _now, happening::gateway_timer);
    }
    if (_gateway.wants_turn() && !_turn_due) {
        _turn_due = true;
        add(_scenario.turn, happening::turn);
    }
    if (_gateway.waits_for_accept() && !_dialling) {
        _dialling = true;
        add(_scenario.dial, happening::dialled);
    }
}

void world::step(event& e) {
    switch (e.what) {
        case happening::frame_to_gateway: _gateway.on_frame(e.frame, _now); break;
        case happening::frame_to_host: _host.on_frame(e.frame, _now); break;
        case happening::gateway_timer:
            if (e.at != _gateway_timer) break;  // an earlier one took its place
            _gateway_timer = never;
            _gateway.on_timer(_now);
            break;
        case happening::host_timer:
            if (e.at != _host_timer) break;
            _host_timer = never;
            _host.on_timer(_now);
            break;
        case happening::turn:
            _turn_due = false;
            _gateway.flush(_now);
            break;
        case happening::dialled: _gateway.accept(_now); break;
        case happening::host_reads:
            _host.read(_random.between(1, _scenario.read_size), _now);
            add(pause(_scenario.read_pause), happening::host_reads);
            break;
        case happening::far_consumes:
            _gateway.consume(_random.between(1, _scenario.sink_size), _now);
            add(pause(_scenario.sink_pause), happening::far_consumes);
            break;
        case happening::far_produces: {
            const bool moved = _gateway.produce(_random.between(1, _scenario.source_size), _now);
            // An idle source looks again later, or the clock of a slow seed would tick for nothing.
            const std::uint64_t usual =
                moved ? _scenario.source_pause : 20 * _scenario.source_pause;
            if (!_gateway.produced_everything()) add(pause(usual), happening::far_produces);
            break;
        }
    }
}

void world::record(const event& e) {
    auto fold = [&](std::uint64_t value) { _trace = (_trace ^ value) * 0x100000001b3; };
    fold(e.at);
    fold(static_cast<std::uint64_t>(e.what));
    fold(e.frame.size());
    for (std::size_t i = 0; i < std::min<std::size_t>(e.frame.size(), 50); ++i) fold(e.frame[i]);
    if (_tracing == tracing::off) return;
    std::string what;
    if (!e.frame.empty()) {
        try {
            what = describe(read_frame(e.frame));
        } catch (const std::exception& error) {
            what = error.what();
        }
    }
    std::printf("%12.6f %-14s %s\n", static_cast<double>(e.at) / 1e6,
                names[static_cast<std::size_t>(e.what)], what.c_str());
}

// The two endings by force begin when all bytes are through.
void world::end_by_force() {
    if (_forced || !_gateway.transferred() || !_host.sent_everything() ||
        _host.read_total() < _scenario.host.receive_total) {
        return;
    }
    if (_scenario.end == ending::host_resets) {
        _forced = true;
        _host.reset(_now);
    } else if (_scenario.end == ending::tunnel_aborts) {
        _forced = true;
        _gateway.abort();
    }
}

bool world::is_over() const {
    switch (_scenario.end) {
        // A reset that was lost is not repeated by a dead host.
        case ending::host_resets: return _forced;
        case ending::tunnel_aborts: return _forced;
        default: break;
    }
    if (!_gateway.closed() || !_gateway.transferred()) return false;
    return _host.is_done() || _host.was_reset();
}

run_result world::live() {
    run_result result;
    const std::uint64_t start = _now;
    try {
        _host.connect(_now);
        add(_scenario.read_pause, happening::host_reads);
        add(_scenario.sink_pause, happening::far_consumes);
        add(_scenario.source_pause, happening::far_produces);
        collect();
        while (!is_over()) {
            if (_now - start > longest_life) throw std::runtime_error("no end: virtual time is up");
            if (++result.events > most_events) throw std::runtime_error("no end: too many events");
            event e = _events.top();
            _events.pop();
            _now = e.at;
            record(e);
            step(e);
            end_by_force();
            collect();
        }
        if (_scenario.end == ending::host_resets && !_gateway.closed()) {
            _gateway.abort();
        } else if (_scenario.end != ending::tunnel_aborts &&
                   !_gateway.was_closed(burin::tun::tcp_close::finished) &&
                   !_gateway.was_closed(burin::tun::tcp_close::reset_by_host)) {
            throw std::runtime_error("closed for the wrong reason");
        }
        _gateway.bury();
        result.passed = true;
    } catch (const std::exception& error) {
        result.failure = error.what();
    }
    const burin::tun::tcp_statistics& statistics = _gateway.statistics();
    result.timeouts = statistics.timeouts;
    result.fast_retransmits = statistics.fast_retransmits;
    result.out_of_order = statistics.out_of_order_segments;
    result.window_probes = statistics.window_probes;
    result.trace = _trace;
    result.virtual_us = _now - start;
    return result;
}

}  // namespace

run_result run(std::uint64_t seed, tracing trace) {
    return world(seed, trace).live();
}

}  // namespace sim
