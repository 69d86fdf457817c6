// The TUN side of bench_bound's near end. A host's TCP has to be ended by somebody, so this part
// has the project's own terminator, device, frame reader and writer (tun/, and of core/relay the
// two files that know buffers alone); everything beyond it is the bare path of bound_line.hh.
//
// What core/relay/tun_queue.hh does besides is left out: no channel is waited for, nothing is
// bounded but windows, and of all frames only TCP's count.
#pragma once

#include <cstdint>

#include "bench/bound_line.hh"
#include "core/relay/tun_blocks.hh"
#include "core/relay/tun_writer.hh"
#include "ring/timer_wheel.hh"
#include "tun/device.hh"
#include "tun/flow_table.hh"
#include "tun/frame.hh"
#include "tun/routes.hh"
#include "tun/tcp.hh"

namespace bound {

class tun_stream;

class tun_side final : private tun::tcp_events {
  public:
    tun_side(ring::ring& r, ring::timer_wheel& timers, line& l, tun::descriptor queue)
        : _ring(r),
          _timers(timers),
          _line(l),
          _descriptor(std::move(queue)),
          _slots(r, frame_shape),
          _writer(r, _descriptor.number()) {
        _ring.read_frames(_read, _descriptor.number(), _slots.id());
    }
    ~tun_side();

    void set_time(ring::microseconds_t now) noexcept { _now = now; }
    // As the tunnel's flush, after the line's: windows, then each flow's word to its host, then the
    // read is armed again.
    void flush() noexcept;
    bool pending() const noexcept { return _tcp.pending() && _writer.has_room(); }
    void report() const noexcept {
        const auto mean = [](std::uint64_t bytes, std::uint64_t times) {
            return static_cast<unsigned long long>(times == 0 ? 0 : bytes / times);
        };
        const relay::tun_writer_counters& out = _writer.counters();
        std::fprintf(stderr, "tun: read=%llu mean=%llu written=%llu mean=%llu no-slot=%llu\n",
                     static_cast<unsigned long long>(_frames), mean(_frame_bytes, _frames),
                     static_cast<unsigned long long>(out.payload_frames),
                     mean(out.payload_bytes, out.payload_frames),
                     static_cast<unsigned long long>(_out_of_slots));
    }

  private:
    friend class tun_stream;

    // ---- tcp_events ----
    bool emit(tun::tcp_flow&, const tun::tcp_frame& frame) noexcept override {
        return _writer.write(frame.header, frame.payload);
    }
    void deliver(tun::tcp_flow&, bytes_view, tun::payload_holder*) noexcept override;
    void finished(tun::tcp_flow&) noexcept override;
    void acked(tun::tcp_flow&, std::uint32_t bytes) noexcept override;
    void arm(tun::tcp_flow&, tun::time_us) noexcept override;
    void closed(tun::tcp_flow&, tun::tcp_close) noexcept override;

    void on_read(ring::completion) noexcept;
    void take(const tun::parsed_frame&) noexcept;
    std::uint32_t share() const noexcept {
        return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(
            most_under_way / std::max(1u, _table.size()), least_share, most_share));
    }

    ring::ring& _ring;
    ring::timer_wheel& _timers;
    line& _line;
    tun::descriptor _descriptor;
    ring::buffer_group _slots;
    ring::buffer _frame;  // while it is taken in
    relay::tun_blocks _blocks;
    relay::tun_writer _writer;
    tun::tcp_context _tcp{*this, {}};
    tun::flow_table _table{{1, 2}, 10'000};
    std::vector<tun_stream*> _flows;  // by number
    std::vector<tun_stream*> _work, _noted, _dead;
    ring::microseconds_t _now = 0;
    ring::member_op<&tun_side::on_read> _read{this};
    std::uint64_t _frames = 0, _frame_bytes = 0, _out_of_slots = 0;
};

class tun_stream final : public stream {
  public:
    tun_stream(tun_side& side, const tun::parsed_frame& syn, std::uint32_t number)
        : _side(side), _number(number), _tcp(side._tcp, syn, side._now) {
        _tcp.set_owner(this);
        sockaddr_in target{};
        target.sin_family = AF_INET;
        target.sin_port = htons(syn.key.destination_port);
        target.sin_addr.s_addr = htonl(syn.key.destination.to_v4());
        _side._line.attach(number, *this);
        _side._line.send_open(number, target);
        _tcp.accept(_side.share(), _side._now);
    }

    void take(bytes_span payload, const ring::buffer& block) noexcept override {
        tun::payload_slice slice = _side._blocks.slice(payload, block);
        _unacknowledged += payload.size();
        if (slice.empty() || !_tcp.send(std::move(slice), _side._now)) _tcp.abort();
    }
    void take_eof() noexcept override { _tcp.send_fin(_side._now); }
    void take_reset() noexcept override { _tcp.abort(); }
    void sealed(std::uint32_t bytes) noexcept override {
        _queued -= bytes;
        note();
    }

  private:
    friend class tun_side;

    void note() noexcept {
        if (std::exchange(_noted, true)) return;
        _side._work.push_back(this);
    }
    void on_timer(ring::microseconds_t now) noexcept { _tcp.on_timer(now); }

    tun_side& _side;
    std::uint32_t _number;
    std::uint64_t _queued = 0;          // delivered by the host, not sealed yet
    std::uint64_t _unacknowledged = 0;  // for the host
    bool _noted = false;
    ring::member_timer<&tun_stream::on_timer> _timer{this};
    tun::tcp_flow _tcp;
};

inline tun_side::~tun_side() {
    for (tun_stream* f : _flows) delete f;
}

inline void tun_side::on_read(ring::completion c) noexcept {
    ring::buffer slot;
    if (c.has_buffer()) slot = _slots.take(c);
    if (c.result > 0) {
        ++_frames;
        _frame_bytes += static_cast<std::uint64_t>(c.result);
        _frame = std::move(slot);
        tun::parsed_frame parsed;
        if (tun::parse_frame({_frame.data(), static_cast<std::size_t>(c.result)}, parsed) ==
                tun::frame_kind::tcp &&
            parsed.key.destination.is_v4())
            take(parsed);
        _frame.reset();
    } else if (c.result == -ENOBUFS) {
        ++_out_of_slots;
        _slots.ran_out();
    } else if (c.result != -EAGAIN && c.result != -EINTR) {
        die("the device is lost: %s", std::strerror(-c.result));
    }
}

inline void tun_side::take(const tun::parsed_frame& frame) noexcept {
    const std::uint32_t number = _table.find(frame.key);
    if (number != tun::flow_table::none) {
        using outcome = tun::tcp_flow::segment_outcome;
        if (_flows[number]->_tcp.on_segment(frame, _now) == outcome::taken) return;
    }
    const auto flags = frame.flags & (tun::tcp_syn | tun::tcp_ack | tun::tcp_rst | tun::tcp_fin);
    const auto next = static_cast<std::uint32_t>(_flows.size());
    if (flags == tun::tcp_syn) {
        if (_table.insert(frame.key, next) != tun::flow_table::outcome::inserted) return;
        _flows.push_back(new tun_stream(*this, frame, next));
        return;
    }
    tun::header_buffer header;
    if (tun::write_reset(header, frame)) _writer.write(header.bytes(), {});
}

inline void tun_side::deliver(tun::tcp_flow& flow, bytes_view bytes,
                              tun::payload_holder* holder) noexcept {
    auto& s = *static_cast<tun_stream*>(flow.owner());
    s._queued += bytes.size();
    if (holder == nullptr)
        _line.send_data(s._number, bytes, _frame.share());
    else
        _line.send_data(s._number, bytes, {}, {bytes, holder});
    s.note();
}

inline void tun_side::finished(tun::tcp_flow& flow) noexcept {
    auto& s = *static_cast<tun_stream*>(flow.owner());
    _line.send_end(s._number, kind::eof);
}

inline void tun_side::acked(tun::tcp_flow& flow, std::uint32_t bytes) noexcept {
    static_cast<tun_stream*>(flow.owner())->_unacknowledged -= bytes;
    _line.taken(bytes);
}

inline void tun_side::arm(tun::tcp_flow& flow, tun::time_us deadline) noexcept {
    _timers.arm(static_cast<tun_stream*>(flow.owner())->_timer, deadline);
}

inline void tun_side::closed(tun::tcp_flow& flow, tun::tcp_close reason) noexcept {
    auto& s = *static_cast<tun_stream*>(flow.owner());
    if (reason != tun::tcp_close::finished) _line.send_end(s._number, kind::reset);
    s._timer.disarm();
    _line.taken(std::exchange(s._unacknowledged, 0));
    _line.detach(s._number);
    _table.erase(flow.key());
    _dead.push_back(&s);
}

inline void tun_side::flush() noexcept {
    _noted.swap(_work);
    for (tun_stream* f : _noted) {
        f->_noted = false;
        if (f->_tcp.state() != tun::tcp_state::open) continue;
        if (_line.queued() > most_queued) {
            f->note();
            continue;
        }
        const std::uint32_t most = share();
        const std::uint32_t credit =
            f->_queued >= most ? 0 : most - static_cast<std::uint32_t>(f->_queued);
        if (credit > f->_tcp.receive_credit()) f->_tcp.set_receive_credit(credit);
    }
    _noted.clear();
    _tcp.flush(_now);
    _blocks.end_turn();
    std::erase_if(_dead, [this](tun_stream* f) {
        if (f->_noted) return false;
        _flows[f->_number] = nullptr;
        delete f;
        return true;
    });
    _slots.offer();
    if (!_read.in_flight && _slots.offered() > 0)
        _ring.read_frames(_read, _descriptor.number(), _slots.id());
}

}  // namespace bound
