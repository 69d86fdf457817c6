#include "tests/sim/model_host.hh"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "tests/sim/random.hh"

namespace sim {
namespace {

void demand(bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error("model host: " + what);
}

// The offset nearest to `near` whose low 32 bits, counted from `zero`, are those of `wire`.
std::int64_t unwrap(std::uint32_t wire, std::uint32_t zero, std::uint64_t near) {
    const std::uint32_t low = wire - zero;
    const auto difference = static_cast<std::int32_t>(low - static_cast<std::uint32_t>(near));
    return static_cast<std::int64_t>(near) + difference;
}

}  // namespace

segment model_host::blank() const {
    segment out;
    out.from = _set.here;
    out.to = _set.there;
    return out;
}

void model_host::connect(micros now) {
    segment out = blank();
    out.syn = true;
    out.seq = _set.isn;
    out.mss = _set.mss;
    out.shift = _set.shift;
    out.sack_permitted = _set.sacks;
    out.ece = out.cwr = _set.ecn;
    _edge = std::min<std::uint64_t>(_set.receive_buffer, 65535);
    out.window = static_cast<std::uint16_t>(_edge);
    _out.push_back(write_frame(out, _set.checksums));
    _state = state::syn_sent;
    _rto_at = now + _rto;
}

void model_host::on_frame(const bytes& frame, micros now) {
    const segment in = read_frame(frame);
    demand(in.gso_size <= _set.mss, "gso_size above the MSS offered");
    demand(in.gso_size != 0 || in.data.size() <= _set.mss, "segment above the MSS offered");
    if (_state == state::closed || _state == state::dead) return;
    if (_state == state::syn_sent) {
        if (in.rst) {
            demand(in.has_ack && in.ack == _set.isn + 1, "RST in SYN-SENT with a wrong ACK");
            _state = state::dead;
        } else if (in.syn && in.has_ack) {
            on_syn_ack(in, now);
        }
        return;
    }
    const std::int64_t at = unwrap(in.seq, _peer_isn + 1, _received);
    if (in.rst) {
        if (at == static_cast<std::int64_t>(_received))
            _state = state::dead;
        else
            acknowledge();
        return;
    }
    if (in.syn) {  // our ACK of the SYN-ACK was lost
        acknowledge();
        return;
    }
    demand(in.has_ack, "segment without ACK");
    demand(_ecn || (in.ecn == 0 && !in.ece && !in.cwr), "ECN without agreement");
    demand(in.ecn == 0 || !in.data.empty(), "an ECN-capable ACK");
    demand(!in.cwr || in.gso_size == 0, "CWR on a superframe");
    if (in.cwr) _echo = false;
    if (in.ecn == 3) _echo = true;
    on_ack(in, now);
    on_data(in, now);
    output(now);
}

void model_host::on_syn_ack(const segment& in, micros now) {
    demand(in.ack == _set.isn + 1, "SYN-ACK of another SYN");
    _state = state::open;
    _peer_isn = in.seq;
    _peer_scales = in.shift >= 0 && _set.shift >= 0;
    demand(_set.shift >= 0 || in.shift < 0, "window scale answered but not offered");
    _peer_shift = _peer_scales ? in.shift : 0;
    demand(_set.sacks || !in.sack_permitted, "SACK answered but not offered");
    _sack = in.sack_permitted;
    demand(in.ece == _set.ecn_answered && !in.cwr && in.ecn == 0, "ECN's handshake");
    _ecn = in.ece;
    if (in.mss > 0) _peer_mss = static_cast<std::uint16_t>(in.mss);
    _allowed = in.window;
    _cwnd = 10ull * _set.mss;
    _rto = 300'000;
    _rto_at = never;
    acknowledge();
    output(now);
}

void model_host::on_window(const segment& in, std::uint64_t ack) {
    const std::uint64_t edge = ack + (std::uint64_t{in.window} << _peer_shift);
    const std::int64_t at = unwrap(in.seq, _peer_isn + 1, _received);
    // Old frames arrive late and show old windows; those that are newest must not take back.
    if (at >= static_cast<std::int64_t>(_window_seq) && ack >= _una) {
        if (edge > _allowed) _duplicates = 0;
        _allowed = std::max(_allowed, edge);
        _window_seq = static_cast<std::uint64_t>(std::max<std::int64_t>(at, 0));
    }
}

void model_host::on_ack(const segment& in, micros now) {
    const std::int64_t ack = unwrap(in.ack, _set.isn + 1, _una);
    demand(ack <= static_cast<std::int64_t>(_highest), "ACK of bytes never sent");
    demand(_sack || in.sack.empty(), "SACK without agreement");
    if (ack < static_cast<std::int64_t>(_una)) return;
    const auto acked = static_cast<std::uint64_t>(ack);
    const std::uint64_t allowed = _allowed;
    on_window(in, acked);
    take_sack(in, acked);
    if (in.ece && acked > _reduced_upto) {
        _threshold = std::max<std::uint64_t>((_next - _una) / 2, 2ull * _set.mss);
        _cwnd = std::min(_cwnd, _threshold);
        _reduced_upto = _next;
        _cwr = true;
    }
    if (acked > _una) {
        _cwnd += _cwnd < _threshold ? acked - _una : _set.mss * (acked - _una) / _cwnd;
        _una = acked;
        while (!_sacked.empty() && _sacked.begin()->first < _una) {
            const std::uint64_t end = _sacked.begin()->second;
            _sacked.erase(_sacked.begin());
            if (end > _una) _sacked[_una] = end;
        }
        _next = std::max(_next, _una);
        if (_una == _set.send_total + 1) _fin_acked = true;
        _duplicates = 0;
        _rto = 300'000;
        _rto_at = _next > _una ? now + _rto : never;
        if (!_sack && _una < _recover) retransmit_first(now);
    } else if (in.data.empty() && !in.fin && _next > _una && allowed == _allowed) {
        ++_duplicates;
        if (!_sack && _duplicates == 3 && _una >= _recover) {
            _recover = _next;
            _threshold = std::max<std::uint64_t>((_next - _una) / 2, 2ull * _set.mss);
            _cwnd = _threshold;
            retransmit_first(now);
        }
    }
    if (_sack) on_evidence(now);
}

void model_host::on_data(const segment& in, micros) {
    if (in.data.empty() && !in.fin) {
        // A probe below what was received wants an answer (RFC 9293 section 3.8.6.1).
        if (unwrap(in.seq, _peer_isn + 1, _received) < static_cast<std::int64_t>(_received)) {
            acknowledge();
        }
        return;
    }
    const std::int64_t at = unwrap(in.seq, _peer_isn + 1, _received);
    const auto end = at + static_cast<std::int64_t>(in.data.size());
    ++_segments_in;
    if (!in.data.empty() && at >= 0) {
        const auto from = static_cast<std::uint64_t>(at);
        const auto upto = static_cast<std::uint64_t>(end);
        if (holds(from, upto)) {
            _double_start = from;
            _double_end = upto;
            _needless += upto - from;
        }
        std::erase(_arrivals, from);
        _arrivals.insert(_arrivals.begin(), from);
    }
    demand(end <= static_cast<std::int64_t>(_edge), "data beyond the window");
    if (in.fin) {
        demand(_peer_fin == ~0ull || _peer_fin == static_cast<std::uint64_t>(end), "FIN moved");
        demand(static_cast<std::uint64_t>(end) == _set.receive_total, "FIN before the last byte");
        _peer_fin = static_cast<std::uint64_t>(end);
    }
    const bool in_order = at <= static_cast<std::int64_t>(_received);
    if (end > static_cast<std::int64_t>(_received) && !in.data.empty()) {
        const auto skip = std::max<std::int64_t>(0, static_cast<std::int64_t>(_received) - at);
        bytes part(in.data.begin() + skip, in.data.end());
        const auto start = static_cast<std::uint64_t>(at + skip);
        note_run(start, start + part.size());
        bytes& kept = _ahead[start];
        if (kept.size() < part.size()) kept = std::move(part);
    }
    while (!_ahead.empty() && _ahead.begin()->first <= _received) {
        auto first = _ahead.begin();
        const std::uint64_t stop = first->first + first->second.size();
        if (stop > _received) {
            const auto skip = static_cast<std::ptrdiff_t>(_received - first->first);
            _ready[_received] = bytes(first->second.begin() + skip, first->second.end());
            _received = stop;
        }
        _ahead.erase(first);
    }
    std::erase_if(_arrivals, [this](std::uint64_t start) { return start <= _received; });
    while (!_runs.empty() && _runs.begin()->first <= _received) _runs.erase(_runs.begin());
    if (_received == _peer_fin) {
        _received += 1;  // the FIN's own number
        _fin_read = true;
    }
    const bool orderly = in_order && _ahead.empty() && !in.fin;
    _unacked_segments += in.gso_size ? 2 : 1;
    if (!orderly || !_set.delays_acks || _unacked_segments >= 2) {
        acknowledge();
    } else if (_delayed_at == never) {
        _delayed_at = 0;  // set to a time by output(), which knows it
    }
}

std::uint64_t model_host::window_now() const {
    const std::uint64_t held = _received - std::min(_received, _read + (_fin_read ? 1 : 0));
    return held < _set.receive_buffer ? _set.receive_buffer - held : 0;
}

void model_host::show_window(segment& out) {
    const int shift = _peer_scales ? _set.shift : 0;
    std::uint64_t window = window_now();
    // The edge stays; a receiver without room for one segment shows none of it.
    if (window < std::min<std::uint64_t>(_set.mss, _set.receive_buffer / 2)) window = 0;
    const std::uint64_t edge = std::max(_edge, _received + window);
    const std::uint64_t field =
        std::min<std::uint64_t>((edge - std::min(edge, _received)) >> shift, 65535);
    _edge = std::max(_edge, _received + (field << shift));
    _shown = _received + (field << shift);
    out.window = static_cast<std::uint16_t>(field);
}

void model_host::acknowledge() {
    segment out = blank();
    out.seq = _set.isn + 1 + static_cast<std::uint32_t>(_next);
    out.has_ack = true;
    out.ack = _peer_isn + 1 + static_cast<std::uint32_t>(_received);
    out.ece = _echo;
    add_sack(out);
    show_window(out);
    _out.push_back(write_frame(out, _set.checksums));
    _unacked_segments = 0;
    _delayed_at = never;
}

bool model_host::wants_fin() const {
    return _closing || _set.closes_when_sent || (_fin_read && _read >= _set.receive_total);
}

void model_host::transmit(std::uint64_t at, std::uint64_t count, bool fin) {
    segment out = blank();
    out.seq = _set.isn + 1 + static_cast<std::uint32_t>(at);
    out.has_ack = true;
    out.ack = _peer_isn + 1 + static_cast<std::uint32_t>(_received);
    out.fin = fin;
    out.psh = at + count == _set.send_total;
    out.data.resize(count);
    fill_pattern(out.data.data(), count, _set.stream, at);
    out.gso_size = std::min(_set.mss, _peer_mss);
    out.ece = _echo;
    if (_ecn && count > 0 && at >= _highest) {
        out.ecn = 2;
        out.cwr = std::exchange(_cwr, false);
    }
    show_window(out);
    _out.push_back(write_frame(out, _set.checksums));
    _highest = std::max(_highest, at + count + (fin ? 1 : 0));
    _unacked_segments = 0;
    _delayed_at = never;
}

void model_host::retransmit_first(micros now) {
    const std::uint64_t segment_bytes = std::min(_set.mss, _peer_mss);
    const std::uint64_t data_end = std::min(_next, _set.send_total);
    const std::uint64_t count = data_end > _una ? std::min(segment_bytes, data_end - _una) : 0;
    const bool fin = _una + count == _set.send_total && _next > _set.send_total;
    if (count == 0 && !fin) return;
    transmit(_una, count, fin);
    _rto_at = now + _rto;
}

void model_host::output(micros now) {
    if (_delayed_at == 0) _delayed_at = now + 40'000;
    if (_state != state::open) return;
    repair_holes(now);
    const std::uint64_t one = std::min(_set.mss, _peer_mss);
    for (;;) {
        // With SACK, what the peer has or what is lost is not in the network.
        const std::uint64_t gone = _sack ? _next - _una - std::min(_next - _una, pipe()) : 0;
        const std::uint64_t edge = std::min(_allowed, _una + gone + std::max(_cwnd, one));
        const std::uint64_t left = _set.send_total - std::min(_next, _set.send_total);
        std::uint64_t count = _next < edge ? std::min(edge - _next, left) : 0;
        count = std::min(count, one * _set.superframe_segments);
        if (count > one) count -= count < left ? count % one : 0;
        if (count < one && count < left && _next > _una) count = 0;
        const bool fin = wants_fin() && _next + count == _set.send_total && !_fin_acked &&
                         _next + count < _allowed + 1;
        if (count == 0 && !fin) break;
        transmit(_next, count, fin);
        _next += count + (fin ? 1 : 0);
        if (_rto_at == never) _rto_at = now + _rto;
    }
    const bool waits = _next < _set.send_total || (wants_fin() && !_fin_acked);
    if (_rto_at == never && waits) _rto_at = now + _rto;
}

void model_host::on_timer(micros now) {
    if (_delayed_at != never && now >= _delayed_at) acknowledge();
    if (_rto_at == never || now < _rto_at) return;
    _rto_at = never;
    _rto = std::min<micros>(_rto * 2, 8'000'000);
    if (_state == state::syn_sent) {
        connect(now);
        return;
    }
    if (_state != state::open) return;
    if (_next > _una) {
        _threshold = std::max<std::uint64_t>((_next - _una) / 2, 2ull * _set.mss);
        _cwnd = _set.mss;
        if (_sack && _allowed > _una) {
            _recover = _lost_upto = _next;
            _repaired = _una;
            output(now);
            _rto_at = now + _rto;
            return;
        }
        _recover = 0;
        _next = _una;
        _sacked.clear();
        output(now);
        if (_next > _una) return;
    }
    if (_una < _set.send_total) {  // a shut window
        if (_set.probes == probe_style::one_byte) {
            transmit(_una, 1, false);
        } else {
            segment out = blank();
            out.seq = _set.isn + static_cast<std::uint32_t>(_una);
            out.has_ack = true;
            out.ack = _peer_isn + 1 + static_cast<std::uint32_t>(_received);
            show_window(out);
            _out.push_back(write_frame(out, _set.checksums));
        }
        _rto_at = now + _rto;
    } else {
        output(now);
    }
}

void model_host::close(micros now) {
    _closing = true;
    output(now);
}

micros model_host::deadline() const {
    return std::min(_rto_at, _delayed_at);
}

void model_host::read(std::uint64_t count, micros now) {
    if (_state != state::open) return;
    while (count > 0 && !_ready.empty()) {
        auto first = _ready.begin();
        demand(first->first == _read, "a gap in what was received");
        const std::uint64_t part = std::min<std::uint64_t>(count, first->second.size());
        demand(is_pattern(first->second.data(), part, _set.receive_stream, _read), "a wrong byte");
        if (part < first->second.size()) {
            bytes rest(first->second.begin() + static_cast<std::ptrdiff_t>(part),
                       first->second.end());
            _ready[_read + part] = std::move(rest);
        }
        _ready.erase(first);
        _read += part;
        count -= part;
    }
    // A window update when what can be shown is twice what the peer knows.
    const std::uint64_t known = _shown - std::min(_shown, _received);
    if (!_fin_read &&
        window_now() >= 2 * known + std::min<std::uint64_t>(_set.mss, _set.receive_buffer / 2)) {
        acknowledge();
    }
    output(now);
}

void model_host::reset(micros) {
    segment out = blank();
    out.rst = true;
    out.has_ack = true;
    out.seq = _set.isn + 1 + static_cast<std::uint32_t>(_next);
    out.ack = _peer_isn + 1 + static_cast<std::uint32_t>(_received);
    _out.push_back(write_frame(out, _set.checksums));
    _state = state::dead;
}

}  // namespace sim
