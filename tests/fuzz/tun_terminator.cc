// The TCP terminator between a host and the tunnel, with the watchful relay of tests/sim at its
// back. In one half of the inputs the host is that of tests/sim, honest and strict, and the script
// is the network between (it delivers, loses, doubles, reorders, corrupts), the clock, and both
// readers; when the script is over the network is sound, and everything must have come through. In
// the other half the script is the host: segments with any numbers, flags, windows and options, of
// which only the payload is honest, so that it is known at the far end.
#include <deque>
#include <stdexcept>

#include "tests/fuzz/target.hh"
#include "tests/sim/gateway.hh"
#include "tests/sim/model_host.hh"

namespace {

using fuzz::check;

constexpr std::uint64_t begun = 1'000'000'000;
constexpr std::uint64_t most_time = std::uint64_t{20'000} * 1'000'000;
// Below the keepalive's 600 s, and timers below the retries of either end.
constexpr std::uint64_t patience = 400'000'000;
constexpr unsigned most_waits = 24;

sim::gateway_settings gateway_settings(unsigned how, std::uint64_t receive, std::uint64_t send) {
    sim::gateway_settings set;
    set.tcp.isn_key = {how * 77ull, 42};
    if ((how & 1) != 0) set.tcp.congestion = burin::tun::congestion_control::bbr;
    set.tcp.max_retries = 40;
    set.tcp.max_handshake_retries = 40;
    set.far_window = (how & 2) != 0 ? 5000 : 200'000;
    set.near_window = (how & 4) != 0 ? 20'000 : 500'000;
    set.closes_when_sent = (how & 8) != 0;
    set.receive_total = receive;
    set.send_total = send;
    set.receive_stream = 1;
    set.send_stream = 2;
    set.refuse_per_million = (how & 16) != 0 ? 20'000 : 0;
    return set;
}

const sim::endpoint host_end{0x0a090002, 40'000};
const sim::endpoint far_end{0xc0000207, 443};

// ---- an honest host, and a network of the script's ----

class journey {
  public:
    journey(fuzz::script& in, unsigned how)
        : _in(in),
          _set(host_settings(in, how)),
          _host(_set),
          _gateway(gateway_settings(how, _set.send_total, _set.receive_total), 1) {}

    void live() {
        _host.connect(_now);
        collect();
        for (int steps = 0; !_in.over() && !over() && steps < 4000; ++steps) {
            act();
            collect();
        }
        finish();
        check(_gateway.exchanged(), "everything comes through");
        _gateway.bury();
    }

  private:
    static sim::host_settings host_settings(fuzz::script& in, unsigned how) {
        constexpr int shifts[] = {-1, 0, 2, 7};
        constexpr std::uint16_t sizes[] = {1460, 536, 8960, 1360};
        const unsigned more = in.byte();
        sim::host_settings set;
        set.here = host_end;
        set.there = far_end;
        set.isn = (more & 1) != 0 ? 0xffffff00 : 1000;
        set.mss = sizes[more >> 1 & 3];
        set.shift = shifts[more >> 3 & 3];
        set.receive_buffer = (more & 32) != 0 ? 4096 : 200'000;
        set.superframe_segments = (more & 64) != 0 ? 4 : 1;
        set.sacks = (more & 128) == 0;
        const unsigned last = in.byte();
        set.ecn = (last & 1) != 0;
        set.ecn_answered = set.ecn && (how & 1) == 0;
        set.delays_acks = (last & 2) != 0;
        set.probes = (last & 4) != 0 ? sim::probe_style::one_byte : sim::probe_style::below_window;
        set.checksums = (last & 8) != 0 ? sim::checksum::offloaded : sim::checksum::complete;
        set.send_total = std::uint64_t{in.byte()} * 1000;
        set.receive_total = std::uint64_t{in.byte()} * 1000;
        set.stream = 1;
        set.receive_stream = 2;
        set.closes_when_sent = (how & 8) == 0;
        return set;
    }

    bool over() const { return _gateway.closed(); }

    void act() {
        const unsigned what = _in.byte();
        std::deque<sim::bytes>& way = (what & 1) != 0 ? _up : _down;
        const std::size_t which = way.empty() ? 0 : (what >> 5) % way.size();
        switch (what >> 1 & 15) {
            case 0:
            case 1:
            case 2:
            case 3: deliver(way, which, (what & 1) != 0); break;
            case 4:
                if (!way.empty()) way.erase(way.begin() + static_cast<std::ptrdiff_t>(which));
                break;
            case 5:
                if (!way.empty() && way.size() < 64) way.push_back(way[which]);
                break;
            case 6: corrupt(which); break;
            case 7:
                if (!way.empty())
                    sim::mark_congestion(way[which]);
                else
                    _gateway.packet_too_big(_in.u16());
                break;
            case 8: pass(std::uint64_t{_in.byte()} * 20); break;
            case 9: pass(std::uint64_t{_in.byte()} * 10'000); break;
            case 10: timers(); break;
            case 11: _host.read(1 + std::uint64_t{_in.u16()}, _now); break;
            case 12: _gateway.consume(1 + std::uint64_t{_in.u16()}, _now); break;
            case 13: _gateway.produce(1 + std::uint64_t{_in.u16()}, _now); break;
            case 14:
                _gateway.accept(_now);
                _gateway.flush(_now);
                break;
            default:
                for (unsigned count = 1 + _in.pick(16); count > 0; --count) everything();
                break;
        }
    }

    void deliver(std::deque<sim::bytes>& way, std::size_t which, bool up) {
        if (way.empty()) return;
        const sim::bytes frame = std::move(way[which]);
        way.erase(way.begin() + static_cast<std::ptrdiff_t>(which));
        if (up)
            _gateway.on_frame(frame, _now);
        else
            _host.on_frame(frame, _now);
    }
    // One octet on a frame's way up, which its checksums tell: what is put back by another one
    // would be no longer. (On the way down it is the host's kernel that drops it: loss.)
    void corrupt(std::size_t which) {
        const std::size_t place = _in.u16();
        const auto change = static_cast<std::uint8_t>(1 + _in.pick(255));
        if (which >= _up.size() || _up[which][0] != 0) return;
        constexpr std::size_t virtio = burin::tun::virtio_header_bytes;
        sim::bytes& frame = _up[which];
        frame[virtio + place % (frame.size() - virtio)] ^= change;
        deliver(_up, which, true);
    }
    // Nobody's patience may end while the script holds up the network.
    bool may_wait(std::uint64_t until) const { return !_scripted || until < begun + patience; }
    void pass(std::uint64_t micros) {
        if (may_wait(_now + micros)) _now += micros;
    }
    // To the next deadline, whoever has it.
    void timers() {
        const std::uint64_t next = std::min(_host.deadline(), _gateway.deadline());
        if (next == sim::never || !may_wait(next)) return;
        if (_scripted && ++_waits > most_waits) return;
        _now = std::max(_now, next);
        if (_host.deadline() <= _now) _host.on_timer(_now);
        if (_gateway.deadline() <= _now) _gateway.on_timer(_now);
    }
    // One turn of a sound network.
    bool everything() {
        bool moved = false;
        _gateway.accept(_now);
        const std::uint64_t read = _host.read_total();
        // It says something at each look (a window that no field can show is always news to it).
        if (_host.arrived() > 0 || !_moved) _host.read(1 << 20, _now);
        moved |= _host.read_total() != read;
        moved |= _gateway.holds_delivered();
        _gateway.consume(1 << 20, _now);
        moved |= !_gateway.produced_everything() && _gateway.produce(1 << 20, _now);
        if (_gateway.wants_turn()) _gateway.flush(_now);
        collect();
        moved |= !_down.empty() || (_moved && !_up.empty());
        for (std::size_t count = _up.size(); count > 0; --count) deliver(_up, 0, true);
        for (std::size_t count = _down.size(); count > 0; --count) deliver(_down, 0, false);
        collect();
        pass(100);
        return _moved = moved;
    }
    void collect() {
        _gateway.set_host_edge(_host.right_edge());
        for (sim::bytes& frame : _gateway.take_output()) _down.push_back(std::move(frame));
        for (sim::bytes& frame : _host.take_output()) _up.push_back(std::move(frame));
    }
    void finish() {
        _scripted = false;
        for (int turns = 0; !over(); ++turns) {
            check(turns < 20'000 && _now < begun + most_time, "a transfer has an end");
            if (!everything()) timers();
        }
    }

    fuzz::script& _in;
    sim::host_settings _set;
    sim::model_host _host;
    sim::gateway _gateway;
    std::uint64_t _now = begun;
    bool _scripted = true, _moved = true;
    unsigned _waits = 0;
    std::deque<sim::bytes> _up, _down;
};

// ---- a host of the script's ----

class siege {
  public:
    siege(fuzz::script& in, unsigned how)
        : _in(in), _total(20'000), _gateway(gateway_settings(how, _total, 60'000), 1) {
        _gateway.set_host_edge(~std::uint64_t{0});
    }

    void live() {
        sim::segment syn = blank(0);
        syn.syn = true;
        const unsigned options = _in.byte();
        if ((options & 1) != 0) syn.mss = static_cast<int>(_in.u16());
        if ((options & 2) != 0) syn.shift = static_cast<int>(_in.pick(16));
        syn.sack_permitted = (options & 4) != 0;
        syn.ece = syn.cwr = (options & 8) != 0;
        syn.window = static_cast<std::uint16_t>(_in.u16());
        put(syn);
        for (int steps = 0; !_in.over() && !_gateway.closed() && steps < 2000; ++steps) act();
        if (_opened && !_gateway.closed()) (options & 16) != 0 ? _gateway.drop() : _gateway.abort();
        hear();
        if (_opened) _gateway.bury();
    }

  private:
    sim::segment blank(std::uint32_t at) const {
        sim::segment out;
        out.from = host_end;
        out.to = far_end;
        out.seq = isn + at;
        return out;
    }
    void put(const sim::segment& segment) {
        _gateway.on_frame(sim::write_frame(segment, sim::checksum::complete), _now);
        _opened = _opened || segment.syn;
        hear();
    }
    void hear() {
        for (const sim::bytes& frame : _gateway.take_output()) {
            const sim::segment out = sim::read_frame(frame);
            if (out.rst) continue;
            if (out.syn) {
                _first = _highest = out.seq + 1;
                _answered = true;
            }
            const auto end =
                static_cast<std::uint32_t>(out.seq + out.data.size() + (out.fin ? 1 : 0));
            if (static_cast<std::int32_t>(end - _highest) > 0) _highest = end;
            _heard_ack = out.ack;
        }
    }

    void act() {
        const unsigned what = _in.byte();
        switch (what & 7) {
            case 0:
            case 1:
            case 2: speak(what); break;
            case 3: _gateway.accept(_now); break;
            case 4: _gateway.consume(1 + std::uint64_t{_in.u16()}, _now); break;
            case 5: _gateway.produce(1 + std::uint64_t{_in.u16()}, _now); break;
            case 6: {
                _now += std::uint64_t{_in.byte()} << (what >> 3);
                const std::uint64_t due = _gateway.deadline();
                if ((what & 128) != 0 && due != sim::never) _now = std::max(_now, due);
                if (_gateway.deadline() <= _now) _gateway.on_timer(_now);
                break;
            }
            default:
                if (what >> 3 == 31)
                    _gateway.close(_now);
                else if (what >> 3 == 30)
                    _gateway.packet_too_big(_in.u16());
                else
                    _gateway.flush(_now);
                break;
        }
        hear();
    }

    // Payload is that of its place in the stream; all else is as it comes.
    void speak(unsigned what) {
        const unsigned flags = _in.byte();
        const std::uint32_t place = (what & 8) != 0 ? _in.u16() % 24'000 : _said;
        std::uint32_t size = (what & 16) != 0 ? _in.u16() % 3000 : 0;
        if (place >= _total) size = 0;
        size = static_cast<std::uint32_t>(
            std::min<std::uint64_t>(size, _total - std::min<std::uint64_t>(place, _total)));
        sim::segment out = blank(1 + place);
        if (size > 0) {
            out.data.resize(size);
            sim::fill_pattern(out.data.data(), size, 1, place);
        }
        out.has_ack = (flags & 1) == 0;
        out.psh = (flags & 2) != 0;
        out.ece = (flags & 4) != 0;
        out.cwr = (flags & 8) != 0;
        out.rst = (flags & 0x70) == 0x70;
        out.syn = (flags & 0x70) == 0x60;
        // A FIN stands where the stream ends; elsewhere it would be true, and the model be wrong.
        out.fin = (flags & 0x50) == 0x50 && place + size == _total && !out.syn;
        out.ecn = flags >> 7 == 0 ? 0 : 2 + (what >> 7);
        out.window = static_cast<std::uint16_t>((what & 64) != 0 ? _in.u16() : 60'000);
        out.ack = _highest;
        const unsigned ack = _in.byte();
        if (ack >= 128) out.ack = _first + (ack - 128) * (_highest - _first) / 127;
        if (ack < 16) out.ack = _highest + (std::uint32_t{1} << ack * 2);
        if ((what & 32) != 0 && !out.syn) {
            for (unsigned count = 1 + _in.pick(3); count > 0; --count) {
                const std::uint32_t from = _first + _in.u16();
                out.sack.emplace_back(from, from + 1 + _in.u16() % 5000);
            }
        }
        if (out.syn) {
            out.data.clear();
            // Before the answer another SYN may begin another stream; only repetitions, then.
            if (!_answered) out.seq = isn;
        }
        put(out);
        if (place == _said) _said += size;
    }

    static constexpr std::uint32_t isn = 0xfffff000;
    fuzz::script& _in;
    std::uint64_t _total;
    sim::gateway _gateway;
    std::uint64_t _now = begun;
    bool _opened = false, _answered = false;
    std::uint32_t _said = 0, _first = 0, _highest = 0, _heard_ack = 0;
};

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    const unsigned how = in.byte();
    try {
        if ((how & 32) != 0)
            siege(in, how).live();
        else
            journey(in, how).live();
    } catch (const std::exception& error) {
        check(false, error.what());
    }
}

const fuzz::target registered("tun_terminator", run,
                              "tun/tcp.cc tun/tcp_input.cc tun/tcp_output.cc tun/tcp_timers.cc "
                              "tun/tcp_reassembly.cc tun/tcp_send_queue.cc tun/tcp_scoreboard.cc "
                              "tun/tcp_loss.cc");

}  // namespace
