#include "tests/sim/world.hh"

#include <algorithm>
#include <cstdio>
#include <queue>
#include <stdexcept>
#include <vector>

#include "tests/sim/link.hh"
#include "tests/sim/mischief.hh"
#include "tests/sim/scenario.hh"

namespace sim {
namespace {

constexpr std::uint64_t second = 1'000'000;
// No seed needs more: the worst lose every fifth frame, stall for seconds, or lose their host and
// wait for keep-alives to tell.
constexpr std::uint64_t longest_life = 4 * 3600 * second;
constexpr std::uint64_t most_events = 3'000'000;
// An idle reader or source looks again twice as late each time, up to here.
constexpr std::uint64_t longest_pause = 50'000;

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

// Frames to the host go through a reader that takes none with a wrong checksum, as a kernel would;
// dropping them there is loss, of which there is enough.
link_settings intact(link_settings settings) {
    settings.corruption = 0;
    return settings;
}

// Our initial sequence numbers follow from a key, the flow and a clock of 4 us (RFC 6528): half of
// the seeds begin at a time that makes them wrap within the transfer.
std::uint64_t start_time(const scenario& s, random& r) {
    burin::tun::flow_key flow;
    flow.source = burin::tun::flow_address::v4(s.host.here.address);
    flow.destination = burin::tun::flow_address::v4(s.host.there.address);
    flow.source_port = s.host.here.port;
    flow.destination_port = s.host.there.port;
    const auto hash = static_cast<std::uint32_t>(keyed_hash(s.gate.tcp.isn_key, flow));
    auto first = static_cast<std::uint32_t>(r.next());
    if (r.coin()) first = 0xffffffff - static_cast<std::uint32_t>(r.between(0, 300'000));
    constexpr std::uint64_t whole_turn = std::uint64_t{4} << 32;
    return whole_turn + 4 * std::uint64_t{static_cast<std::uint32_t>(first - hash)};
}

class world {
  public:
    world(std::uint64_t seed, tracing trace)
        : _random(seed),
          _scenario(draw_scenario(_random, seed)),
          _host(_scenario.host),
          _gateway(_scenario.gate, _random.next()),
          _links{link(_scenario.link), link(intact(_scenario.link))},
          _mischief(_random.next()),
          _tracing(trace),
          _now(start_time(_scenario, _random)),
          _optimist_until(_now + 120 * second) {}

    run_result live();

  private:
    void add(std::uint64_t after, happening what, bytes frame = {});
    void step(event& e);
    void send_over_link(bytes frame, happening where);
    void collect();
    void record(const event& e);
    bool is_over() const;
    void end_by_force();
    void poll(happening what, std::uint64_t usual, bool moved);
    void maybe_vanish();
    void conclude();

    random _random;
    scenario _scenario;
    model_host _host;
    gateway _gateway;
    link _links[2];  // to the gateway, to the host
    mischief _mischief;
    tracing _tracing;
    std::priority_queue<event> _events;
    std::uint64_t _now;
    // He may have talked himself into a corner; by then he has had all the harm he can do.
    std::uint64_t _optimist_until;
    std::uint64_t _order = 0;
    std::uint64_t _trace = 0xcbf29ce484222325;
    std::uint64_t _host_timer = never;
    std::uint64_t _gateway_timer = never;
    bool _turn_due = false, _dialling = false, _forced = false, _dark = false;
    unsigned _idle[3] = {};  // polls in a row that moved nothing
};

void world::add(std::uint64_t after, happening what, bytes frame) {
    _events.push({_now + after, _order++, what, std::move(frame)});
}

// The next look of a reader or the source.
void world::poll(happening what, std::uint64_t usual, bool moved) {
    unsigned& idle =
        _idle[static_cast<std::size_t>(what) - static_cast<std::size_t>(happening::host_reads)];
    idle = moved ? 0 : std::min(idle + 1, 12u);
    std::uint64_t after = usual;
    if (idle > 0) after = std::max(usual, std::min(usual << idle, longest_pause));
    if (_dark) after = second;
    if (_random.chance(_scenario.stalls)) after = _random.between(1, _scenario.longest_stall);
    add(after, what);
}

void world::send_over_link(bytes frame, happening where) {
    if (_dark) return;
    const bool up = where == happening::frame_to_gateway;
    for (link::arrival& one : _links[up ? 0 : 1].carry(std::move(frame), _now, _random)) {
        add(one.after, where, std::move(one.frame));
    }
}

// The host is gone from one moment to the next, at a point of the transfer.
void world::maybe_vanish() {
    if (_scenario.end != ending::host_vanishes || _dark) return;
    _dark = _gateway.delivered() + _gateway.acked_total() >= _scenario.vanishes_after;
}

// What both ends want after an event: frames on the link, timers, a turn.
void world::collect() {
    maybe_vanish();
    const bool optimist = _scenario.host_is == conduct::optimist;
    _gateway.set_host_edge(optimist ? ~0ull : _host.right_edge());
    for (bytes& frame : _gateway.take_output()) {
        if (optimist) _mischief.watch(frame);
        send_over_link(std::move(frame), happening::frame_to_host);
    }
    for (bytes& frame : _host.take_output()) {
        if (optimist) _mischief.acknowledge_everything(frame);
        if (_scenario.host_is == conduct::mischievous) {
            for (bytes& forged : _mischief.forge(frame, _host)) {
                send_over_link(std::move(forged), happening::frame_to_gateway);
            }
        }
        send_over_link(std::move(frame), happening::frame_to_gateway);
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
        case happening::frame_to_host: try { _host.on_frame(e.frame, _now);
            } catch (const std::exception&) {
                // Who acknowledges what never came has no right to complain.
                if (_scenario.host_is != conduct::optimist) throw;
            }
            break;
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
        case happening::host_reads: {
            const std::uint64_t before = _host.read_total();
            _host.read(_random.between(1, _scenario.read_size), _now);
            poll(e.what, _scenario.read_pause, _host.read_total() > before);
            break;
        }
        case happening::far_consumes: {
            const bool moves = _gateway.holds_delivered();
            _gateway.consume(_random.between(1, _scenario.sink_size), _now);
            poll(e.what, _scenario.sink_pause, moves);
            break;
        }
        case happening::far_produces: {
            const bool moves = _gateway.produce(_random.between(1, _scenario.source_size), _now);
            if (!_gateway.produced_everything()) poll(e.what, _scenario.source_pause, moves);
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

// These endings begin when all bytes are through.
void world::end_by_force() {
    if (_forced || _scenario.host_is == conduct::optimist || !_gateway.transferred() ||
        !_host.sent_everything() || _host.read_total() < _scenario.host.receive_total) {
        return;
    }
    if (_scenario.end == ending::host_resets) {
        _forced = true;
        _host.reset(_now);
    } else if (_scenario.end == ending::tunnel_aborts) {
        _forced = true;
        _gateway.abort();
    } else if (_scenario.end == ending::at_once) {
        _forced = true;
        _host.close(_now);
        _gateway.close(_now);
    }
}

bool world::is_over() const {
    if (_scenario.host_is == conduct::optimist) {
        return _gateway.closed() || _gateway.transferred() || _now > _optimist_until;
    }
    switch (_scenario.end) {
        // A reset that was lost is not repeated by a dead host.
        case ending::host_resets: return _forced;
        case ending::tunnel_aborts: return _forced;
        case ending::host_vanishes: return _gateway.closed();
        default: break;
    }
    if (_gateway.closed() && !_gateway.exchanged()) return true;  // too early
    if (!_gateway.closed() || !_gateway.transferred()) return false;
    return _host.is_done() || _host.was_reset();
}

void world::conclude() {
    using burin::tun::tcp_close;
    const bool may_be_open =
        _scenario.end == ending::host_resets || _scenario.host_is == conduct::optimist;
    if (may_be_open && !_gateway.closed()) {
        _gateway.abort();
        return;
    }
    if (_scenario.host_is == conduct::optimist) return;
    bool right =
        _gateway.was_closed(tcp_close::finished) || _gateway.was_closed(tcp_close::reset_by_host);
    if (_scenario.end == ending::tunnel_aborts) right = true;
    if (_scenario.end == ending::host_vanishes) right = _gateway.was_closed(tcp_close::timed_out);
    if (_scenario.end != ending::host_vanishes) right = right && _gateway.exchanged();
    if (!right) throw std::runtime_error("closed for the wrong reason");
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
            event e = std::move(const_cast<event&>(_events.top()));  // it leaves at once
            _events.pop();
            _now = e.at;
            record(e);
            step(e);
            end_by_force();
            collect();
        }
        conclude();
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
    result.tail_probes = statistics.tail_probes;
    result.trace = _trace;
    result.kind = to_text(_scenario);
    result.virtual_us = _now - start;
    return result;
}

}  // namespace

run_result run(std::uint64_t seed, tracing trace) {
    return world(seed, trace).live();
}

}  // namespace sim
