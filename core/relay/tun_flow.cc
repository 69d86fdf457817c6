#include "core/relay/tun_flow.hh"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/relay/refusal.hh"
#include "core/relay/tun_queue.hh"

namespace burin::relay {

namespace {
// A share to begin with, and what there is when the budget has nothing left: the channel itself got
// as much.
inline constexpr std::uint32_t first_share = 64 * 1024, least_share = 16 * 1024;
// A flow earns more when it used this part of its share in two round trips: a host in slow start
// sends ever more, and must not find the window in its way. A round trip too short to matter counts
// as that much.
inline constexpr std::uint32_t growth_part = 4;
inline constexpr ring::microseconds_t least_epoch = 10 * ring::millisecond;
// What fills a long path is more than what keeps superframes large: 1.6 Gbit/s, up to what a
// channel's window takes.
inline constexpr std::uint64_t share_bytes_per_us = 200, most_long_share = 4u << 20;
// How long a host may keep open what the far end has closed altogether: Linux's FIN-WAIT-2.
inline constexpr ring::microseconds_t orphan_time = 60 * ring::second;
// A peer that does not answer an open at all: by then every host has given up (Linux repeats its
// SYN for 127 s).
inline constexpr ring::microseconds_t answer_time = 130 * ring::second;
}  // namespace

tun_flow::tun_flow(tun_queue& queue, tun::tcp_context& context, const tun::parsed_frame& syn,
                   std::uint32_t index, std::uint32_t number, ring::microseconds_t now)
    : _queue(queue), _index(index), _number(number), _tcp(context, syn, now) {
    _tcp.set_owner(this);
}

tun_flow::~tun_flow() {
    give_back_share();
}

std::string tun_flow::target() const {
    return _queue.settings().dns.target(_tcp.key());
}

std::string tun_flow::describe() const {
    const tun::flow_key& key = _tcp.key();
    return fmt::format(
        "conn {}: {}:{} -> {} sent={} received={} share={} credit={} shown={} unacknowledged={} "
        "in-flight={} host-window={} congestion={} congestion-window={} pacing={} rtt-us={} "
        "reassembly={}",
        _number, to_text(key.source), key.source_port, target(), _bytes_sent, _bytes_received,
        _share, _tcp.receive_credit(), _tcp.advertised(), _tcp.unacknowledged(), _tcp.in_flight(),
        _tcp.peer_window(), to_text(_tcp.control()), _tcp.congestion_window(), _tcp.pacing_rate(),
        _tcp.smoothed_rtt_us(), _tcp.reassembly_bytes());
}

// ---- the channel ----

void tun_flow::wait(ring::microseconds_t deadline) noexcept {
    _own_deadline = deadline;
    rearm();
}

void tun_flow::open(ssh::connection& connection) noexcept {
    _stage = stage::asked;
    _own_deadline = _queue.time() + answer_time;
    rearm();
    const std::string name = target();
    _connection = &connection;
    _channel = connection.open(*this, "chisel", as_bytes(name));
    if (_channel != nullptr) return;
    _queue.uplink().on_flow_refused(*this, "no more channels (see --max-channels and --memory)");
    reset();
}

void tun_flow::on_confirmed() noexcept {
    _stage = stage::confirmed;
    _own_deadline = ring::timer_wheel::never;
    rearm();
    _charged = _queue.budget().grow(first_share);
    if (_charged < first_share) {
        _queue.reclaim_shares();
        _charged += _queue.budget().grow(first_share - _charged);
    }
    _share = std::max(_charged, least_share);
    _queue.uplink().on_flow_open(*this);
    _tcp.accept(receivable(), _queue.time());
}

void tun_flow::on_refused(ssh::open_failure_reason reason, std::string_view text) noexcept {
    _channel = nullptr;
    _queue.uplink().on_flow_refused(*this, ssh::rejection_text(reason, text));
    const refusal why = refusal_of(reason, text);
    if (why == refusal::refused) return reset();
    if (why != refusal::silent) {
        const auto syn = tun::quoted_packet::of_syn(_tcp.key(), _tcp.host_first());
        _queue.icmp().tell(syn.cause(), icmp_error_of(why), 0, {}, _queue.time());
    }
    give_way();
}

void tun_flow::on_data(bytes_span payload, const ring::buffer& holder) noexcept {
    _bytes_received += payload.size();
    tun::payload_slice slice = _queue.slice(payload, holder);
    // Without memory the stream has a hole: it must not look whole.
    if (slice.empty() || !_tcp.send(std::move(slice), _queue.time())) reset();
}

void tun_flow::on_eof() noexcept {
    _eof = true;
    _tcp.send_fin(_queue.time());
    close_channel_if_done();
}

void tun_flow::on_closed(ssh::close_cause cause) noexcept {
    _channel = nullptr;
    if (cause == ssh::close_cause::cut_off && _queue.uplink().close_means_eof())
        cause = ssh::close_cause::finished;
    if (cause != ssh::close_cause::finished) return reset();
    _eof = true;
    _tcp.send_fin(_queue.time());
    // The channel's window, which they were part of, is the next channel's.
    _orphan_bytes = _tcp.unacknowledged();
    _charged += _queue.budget().hold(_orphan_bytes);
    _own_deadline = _queue.time() + orphan_time;
    rearm();
}

void tun_flow::on_sendable() noexcept {
    _queue.note(*this);
}

void tun_flow::close_channel_if_done() noexcept {
    if (_channel == nullptr || !_eof || !_tcp.fin_received() || _tcp.unacknowledged() > 0) return;
    ssh::channel* c = _channel;
    _channel = nullptr;
    _connection->close(*c);
    tell_closed();
}

void tun_flow::tell_closed() noexcept {
    if (_stage != stage::confirmed) return;
    _stage = stage::told;
    _queue.uplink().on_flow_closed(*this);
}

void tun_flow::give_back_share() noexcept {
    if (_charged > 0) _queue.budget().shrink(std::exchange(_charged, 0));
    _share = 0;
}

void tun_flow::give_up_channel() noexcept {
    if (_channel == nullptr) return;
    ssh::channel* c = _channel;
    _channel = nullptr;
    _connection->abort(*c);
}

// ---- the terminator ----

void tun_flow::deliver(bytes_view bytes, tun::payload_holder* holder) noexcept {
    // The far end has closed and takes nothing any more: what a socket closed with close(2)
    // answers.
    if (_channel == nullptr) return reset();
    _bytes_sent += bytes.size();
    if (_epoch_bytes == 0) _epoch_start = _queue.time();
    _epoch_bytes += static_cast<std::uint32_t>(bytes.size());
    ring::buffer slot;
    if (holder == nullptr)
        slot = _queue.frame();
    else
        _queue.lend({bytes, holder});
    _connection->send(*_channel, std::move(slot), bytes);
    _queue.count_mover(_counted);
    _queue.note(*this);
}

void tun_flow::finished() noexcept {
    if (_channel != nullptr) _connection->send_eof(*_channel);
    close_channel_if_done();
}

void tun_flow::acked(std::uint32_t bytes) noexcept {
    if (_channel == nullptr) return;
    _connection->consumed(*_channel, bytes);
    close_channel_if_done();
}

// Nothing moves any more, and nothing waits.
void tun_flow::lingers() noexcept {
    give_back_share();
    _queue.linger(*this);
}

void tun_flow::closed(tun::tcp_close reason) noexcept {
    _timer.disarm();
    if (_channel != nullptr && reason == tun::tcp_close::finished) {
        ssh::channel* c = _channel;
        _channel = nullptr;
        _connection->close(*c);
    }
    give_up_channel();
    tell_closed();
    give_back_share();
    _queue.bury(*this);
}

void tun_flow::reset() noexcept {
    if (_tcp.state() == tun::tcp_state::closed) return;
    give_up_channel();
    if (_queue.has_room()) return _tcp.abort();
    _doomed = true;
    _queue.note(*this);
}

bool tun_flow::yield() noexcept {
    if (_channel != nullptr) return false;
    _tcp.drop();
    return true;
}

// ---- windows ----

std::uint32_t tun_flow::receivable() noexcept {
    const std::uint32_t peer = _connection->sendable(*_channel);
    const std::uint64_t queued = _channel->queue.bytes();
    const std::uint32_t share = std::min(_share, _queue.fair_share());
    return queued >= share ? 0 : std::min(peer, share - static_cast<std::uint32_t>(queued));
}

void tun_flow::maybe_grow() noexcept {
    if (_epoch_bytes < _share / growth_part) return;
    const std::uint32_t rtt_us = _tcp.smoothed_rtt_us();
    const auto most = static_cast<std::uint32_t>(std::max<std::uint64_t>(
        _queue.settings().most_share, std::min(rtt_us * share_bytes_per_us, most_long_share)));
    if (_share >= most) return;
    const ring::microseconds_t took = _queue.time() - _epoch_start;
    _epoch_bytes = 0;
    if (took > std::max<ring::microseconds_t>(2 * rtt_us, least_epoch)) return;
    const std::uint32_t wanted = std::min(_share, most - _share);
    const std::uint32_t more = _queue.budget().grow(wanted);
    _share += more;
    _charged += more;
    if (more < wanted) _queue.reclaim_shares();  // for the next time
}

void tun_flow::give_back_unused() noexcept {
    if (_channel == nullptr || _share <= first_share) return;
    // What the host was shown is promised, what is queued is there.
    const std::uint64_t used =
        _channel->queue.bytes() + std::max(_tcp.receive_credit(), _tcp.advertised());
    const std::uint64_t kept = std::max<std::uint64_t>(first_share, used);
    if (_share <= kept) return;
    const std::uint32_t back = std::min(_share - static_cast<std::uint32_t>(kept), _charged);
    _share -= back;
    _charged -= back;
    _queue.budget().shrink(back);
}

bool tun_flow::work() noexcept {
    if (_tcp.state() == tun::tcp_state::closed) return false;
    if (_doomed) {
        if (!_queue.has_room()) return true;
        _tcp.abort();
        return false;
    }
    if (_channel == nullptr) return false;
    // The session has enough to seal: the window is not raised until that is less.
    if (_connection->queued_bytes() > _queue.settings().most_queued) return true;
    maybe_grow();
    const std::uint32_t credit = receivable();
    if (credit > _tcp.receive_credit()) _tcp.set_receive_credit(credit);
    return false;
}

// ---- timers: the terminator's and one of our own on one ring timer ----

void tun_flow::arm(ring::microseconds_t deadline) noexcept {
    _tcp_deadline = deadline;
    rearm();
}

void tun_flow::rearm() noexcept {
    const ring::microseconds_t due = std::min(_tcp_deadline, _own_deadline);
    if (due == ring::timer_wheel::never)
        _timer.disarm();
    else if (!_timer.armed() || _timer.deadline() != due)
        _queue.timers().arm(_timer, due);
}

void tun_flow::on_timer(ring::microseconds_t now) noexcept {
    if (now >= _tcp_deadline) {
        _tcp_deadline = ring::timer_wheel::never;
        _tcp.on_timer(now);
    }
    if (now >= _own_deadline) {
        _own_deadline = ring::timer_wheel::never;
        if (_stage == stage::waiting) {
            _queue.uplink().on_flow_refused(*this, "no session in time");
            reset();
        } else if (_stage == stage::asked) {
            _queue.expire(*this);
        } else if (_tcp.unacknowledged() > 0 && _tcp.unacknowledged() < _orphan_bytes) {
            _orphan_bytes = _tcp.unacknowledged();
            _own_deadline = now + orphan_time;  // the host still takes what there is
        } else {
            reset();
        }
    }
    if (_tcp.state() != tun::tcp_state::closed) rearm();
}

}  // namespace burin::relay
