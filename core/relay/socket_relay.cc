#include "core/relay/socket_relay.hh"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "ring/shortage.hh"

namespace burin::relay {

namespace {
inline constexpr std::uint32_t turn_bytes = 512 * 1024;
inline constexpr std::uint32_t least_receive_bytes = 16 * 1024;
inline constexpr ring::microseconds_t sweep_interval = ring::second;
// How long a program may take nothing of what is left when the channel is gone: as Linux bounds its
// orphans.
inline constexpr std::uint8_t orphan_sweeps = 60;
// How long the peer may leave an open without an answer: what Linux gives a connect, and the TUN's
// flows have.
inline constexpr std::uint8_t answer_sweeps = 130;

// On: closing resets the connection at once. Off: it sends what is queued, then FIN.
void set_linger(int descriptor, bool reset) noexcept {
    linger hard{reset ? 1 : 0, 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
}
}  // namespace

// ---- context ----

context::context(ring::ring& r, ring::timer_wheel& wheel, ring::buffer_group& sockets,
                 ssh::piece_pool& pool)
    : ring(r), timers(wheel), buffers(sockets), pieces(pool) {
    _vectors.reserve(vectors_a_turn);
    _messages.reserve(messages_a_turn);
}

context::~context() {
    for (socket_relay* r = _dead; r != nullptr;) delete std::exchange(r, r->_next_dead);
}

std::uint32_t context::receive_share() const noexcept {
    std::uint32_t share = turn_bytes / std::max<std::uint32_t>(1, _received_last_turn);
    return std::clamp(share, least_receive_bytes, buffers.bytes());
}

void context::open_started() noexcept {
    std::size_t kept = 0;
    for (starting& s : _starting) {
        if (!std::exchange(s.looked, true))
            _starting[kept++] = s;
        else
            s.relay->ask(s.type, s.extra);
    }
    _starting.resize(kept);
}

void context::flush_sends() noexcept {
    open_started();
    _vectors.clear();
    _messages.clear();
    socket_relay* r = _sending;
    _sending = nullptr;
    while (r != nullptr) {
        socket_relay* after = r->_next_sending;
        r->_listed_sending = false;
        r->arm_send();
        r = after;
    }
}

void context::flush_receives() noexcept {
    _received_last_turn = _received_this_turn;
    _received_this_turn = 0;
    socket_relay* r = _receiving;
    _receiving = nullptr;
    while (r != nullptr) {
        socket_relay* after = r->_next_receiving;
        r->_listed_receiving = false;
        r->arm_receive();
        r = after;
    }
}

void context::bury() noexcept {
    socket_relay* r = _dead;
    _dead = nullptr;
    socket_relay* kept = nullptr;
    while (r != nullptr) {
        socket_relay* after = r->_next_dead;
        if (r->_listed_sending || r->_listed_receiving || r->_starting) {
            r->_next_dead = kept;
            kept = r;
        } else {
            delete r;
        }
        r = after;
    }
    _dead = kept;
}

void context::on_sweep(ring::microseconds_t fired) noexcept {
    for (socket_relay* r = _all; r != nullptr; r = r->_next) r->watch();
    if (_alive > 0) timers.arm(_sweep, fired + sweep_interval);
}

void context::end_all() noexcept {
    for (socket_relay* r = _all; r != nullptr;) {
        socket_relay* after = r->_next;
        r->end(socket_relay::ending::reset);
        r = after;
    }
}

// ---- life ----

socket_relay::socket_relay(context& c, ssh::connection& connection, flow_observer& observer,
                           int descriptor, std::uint32_t number)
    : _context(c),
      _connection(connection),
      _observer(observer),
      _descriptor(descriptor),
      _number(number) {
    ++c.counters.flows;
    ++c._alive;
    if (!c._sweep.armed()) c.timers.arm(c._sweep, c.now + sweep_interval);
    _next = c._all;
    _back = &c._all;
    if (_next != nullptr) _next->_back = &_next;
    c._all = this;
}

socket_relay::~socket_relay() {
    --_context._alive;
    *_back = _next;
    if (_next != nullptr) _next->_back = _back;
}

socket_relay* socket_relay::start(context& c, ssh::connection& connection, flow_observer& observer,
                                  int descriptor, std::string_view type, bytes_view extra,
                                  std::uint32_t number, std::uint32_t origin) {
    auto* r = new socket_relay(c, connection, observer, descriptor, number);
    r->_origin = origin;
    // One look at the socket saves a send here and a receive there; it is never waited for.
    r->_starting = connection.takes_early_data();
    if (r->_starting)
        c._starting.push_back({r, type, extra, false});
    else
        r->ask(type, extra);
    if (r->_ending) return nullptr;
    r->want_receive();
    return r;
}

void socket_relay::ask(std::string_view type, bytes_view extra) noexcept {
    _starting = false;
    if (_ending) return;
    _channel = _connection.open(*this, type, extra, ssh::early::data);
    if (_channel == nullptr) {
        if (!_connection.over())
            _observer.on_flow_refused(*this, "no more channels (see --max-channels and --memory)");
        return end(ending::reset);
    }
    while (ssh::piece* said = _out.pop()) {
        // What must wait for the answer keeps no receive buffer.
        if (_connection.sendable(*_channel) < said->size) _context.pieces.own(*said);
        _connection.send(*_channel, said);
    }
    if (_read_ended) _connection.send_eof(*_channel);
}

socket_relay* socket_relay::dialled(context& c, ssh::connection& connection,
                                    flow_observer& observer, int descriptor, ssh::channel& channel,
                                    std::uint32_t number, early_payload* early) {
    // Whatever ends this process, SIGKILL included, ends the flow with a reset: only end() makes a
    // FIN of it.
    set_linger(descriptor, true);
    auto* r = new socket_relay(c, connection, observer, descriptor, number);
    r->_channel = &channel;
    if (early != nullptr && (early->ended || !early->pieces.empty())) {
        r->_out = std::exchange(early->pieces, {});
        r->_bytes_received = r->_out.bytes();
        r->_write_ending = early->ended;
        r->want_send();
    }
    observer.on_flow_open(*r);  // first: accept() may find the session over and end the flow
    connection.accept(channel, *r);
    return r;
}

// ---- socket -> channel ----

void socket_relay::want_receive() noexcept {
    if (_watching && !_read_ended && !_ending && !_receive_cancelled && !_cancel.in_flight) {
        _receive_cancelled = true;  // the watch makes room for a receive
        _context.ring.cancel(_cancel, _receive);
        return;
    }
    if (_listed_receiving || _receive.in_flight || _read_ended || _ending) return;
    _listed_receiving = true;
    _next_receiving = _context._receiving;
    _context._receiving = this;
}

void socket_relay::arm_receive() noexcept {
    if (_receive.in_flight || _read_ended || _ending || (_channel == nullptr && !_starting)) return;
    _receive_cancelled = false;
    const std::uint32_t credit = _starting ? ssh::early_bytes : _connection.sendable(*_channel);
    if (credit == 0) return;  // on_sendable() comes with credit
    // A flow asks for twice what came last: thousands that are idle bring little when all of them
    // start at once, and one that moves bulk has its share after a few receives.
    std::uint32_t wanted = std::max(least_receive_bytes, 2 * _last_received);
    _context.ring.receive_select(_receive, _descriptor, _context.buffers.id(),
                                 std::min({credit, wanted, _context.receive_share()}));
}

// A flow without credit, or whose program has ended its side, receives nothing and would not see a
// reset. Polling says so; only flows that stand still for a while pay for it.
void socket_relay::watch() noexcept {
    if (_ending) return;
    if (_channel == nullptr) {
        if (++_still < orphan_sweeps) return;
        ++_context.counters.resets;
        return end(ending::reset);
    }
    if (_channel->state == ssh::channel_state::opening && ++_still >= answer_sweeps) {
        ++_context.counters.resets;
        _observer.on_flow_refused(*this, "no answer to the open of a channel in time");
        return end(ending::reset);
    }
    if (_receive.in_flight || _listed_receiving) return;
    if (_channel->state != ssh::channel_state::open) return;
    _watching = true;
    _receive_cancelled = false;
    _context.ring.poll(_receive, _descriptor, POLLERR | POLLHUP);
}

void socket_relay::on_watched(ring::completion c) noexcept {
    _watching = false;
    if (_ending) return settle();
    // A reset leaves an error; a hang-up alone is both sides ended in order.
    if (c.result > 0 && (c.result & POLLERR) != 0) {
        ++_context.counters.resets;
        return end(ending::reset);
    }
    want_receive();
}

void socket_relay::on_received(ring::completion c) noexcept {
    if (_watching) return on_watched(c);
    ring::buffer buffer;
    if (c.has_buffer()) buffer = _context.buffers.take(c);
    if (_ending) return settle();
    if (c.result > 0) {
        auto size = static_cast<std::uint32_t>(c.result);
        _last_received = size;
        ++_context.counters.receives;
        ++_context._received_this_turn;
        _context.counters.received_bytes += size;
        // The peer has closed and takes nothing any more.
        if (_channel == nullptr && !_starting) return;
        _bytes_sent += size;
        std::byte* at = buffer.data();
        if (_starting) return _out.push(_context.pieces.make(std::move(buffer), {at, size}));
        _connection.send(*_channel, std::move(buffer), {at, size});
        return;  // armed again when the flush has sealed it
    }
    if (c.result == 0) {
        _read_ended = true;
        if (_starting) return;  // ask() says so
        if (_channel != nullptr) _connection.send_eof(*_channel);
        return settle();
    }
    if (c.result == -ENOBUFS) {
        ++_context.counters.out_of_buffers;
        _context.buffers.ran_out();
        return want_receive();
    }
    if (c.result == -EINTR || c.result == -EAGAIN) return want_receive();
    // The connection broke: the peer must not take what it got for the whole.
    ++_context.counters.resets;
    end(ending::reset);
}

void socket_relay::on_sendable() noexcept {
    want_receive();
}

// ---- channel -> socket ----

void socket_relay::on_data(bytes_span payload, const ring::buffer& holder) noexcept {
    _bytes_received += payload.size();
    if (_ending || _write_ended) {
        _connection.consumed(*_channel, static_cast<std::uint32_t>(payload.size()));
        return;
    }
    _out.push(_context.pieces.make(holder.share(), payload));
    want_send();
}

void socket_relay::want_send() noexcept {
    if (_listed_sending) return;
    _listed_sending = true;
    _next_sending = _context._sending;
    _context._sending = this;
}

void socket_relay::arm_send() noexcept {
    if (_ending) return;
    if (_send.in_flight) {  // the socket is slow: nothing of it may keep a receive buffer
        _out.own(_context.pieces);
        return;
    }
    if (_out.empty()) return settle();
    auto& vectors = _context._vectors;
    if (_context._messages.size() == context::messages_a_turn ||
        vectors.size() + 2 > context::vectors_a_turn)
        return want_send();
    std::size_t first = vectors.size();
    bool in_buffers = false;
    for (const ssh::piece* p = _out.first(); p != nullptr; p = p->next) {
        if (vectors.size() == context::vectors_a_turn || vectors.size() - first == 1024) break;
        in_buffers = in_buffers || p->owned == nullptr;
        vectors.push_back({const_cast<std::byte*>(p->data), p->size});
    }
    msghdr& message = _context._messages.emplace_back();
    message.msg_iov = &vectors[first];
    message.msg_iovlen = vectors.size() - first;
    // A send that waits inside the kernel cannot be copied out: only bytes of our own may wait
    // there.
    _context.ring.send_message(_send, _descriptor, &message, in_buffers ? MSG_DONTWAIT : 0);
}

void socket_relay::on_sent(ring::completion c) noexcept {
    if (_ending) return settle();
    if (c.result > 0) {
        auto size = static_cast<std::uint32_t>(c.result);
        _still = 0;
        ++_context.counters.sends;
        _context.counters.sent_bytes += size;
        _out.take_all_of(size, _context.pieces);
        if (_channel != nullptr) _connection.consumed(*_channel, size);
    } else if (c.result != -EAGAIN && c.result != -EINTR && c.result != 0) {
        ++_context.counters.resets;
        return end(ending::reset);
    }
    if (!_out.empty()) {
        ++_context.counters.partial_sends;
        _out.own(_context.pieces);
        return want_send();
    }
    settle();
}

// ---- channel events ----

void socket_relay::on_confirmed() noexcept {
    _still = 0;
    _observer.on_flow_open(*this);
    want_receive();
}

void socket_relay::on_refused(ssh::open_failure_reason reason, std::string_view text) noexcept {
    _channel = nullptr;
    _observer.on_flow_refused(*this, ssh::rejection_text(reason, text));
    end(ending::reset);
}

void socket_relay::on_eof() noexcept {
    _write_ending = true;
    settle();
}

void socket_relay::on_closed(ssh::close_cause cause) noexcept {
    _channel = nullptr;
    if (cause == ssh::close_cause::cut_off && _observer.close_means_eof())
        cause = ssh::close_cause::finished;
    if (cause != ssh::close_cause::finished) return end(ending::reset);
    _write_ending = true;
    settle();
}

// ---- ends ----

// Looks at what both directions still have to do, and does the next step.
void socket_relay::settle() noexcept {
    if (_ending) return retire();
    if (_write_ending && !_write_ended && _out.empty() && !_send.in_flight) {
        const bool half = !_read_ended && _channel != nullptr;
        _write_ended = true;
        // Not by the ring: it has a kernel thread do every one, though TCP's never waits. When no
        // FIN goes the other side would wait for it for ever. One that is not connected any more
        // has reset, which the receive tells.
        if (half && ::shutdown(_descriptor, SHUT_WR) != 0 && errno != ENOTCONN) {
            ++_context.counters.resets;
            return end(ending::reset);
        }
    }
    bool nothing_to_write =
        _write_ended || (_channel == nullptr && _out.empty() && !_send.in_flight);
    if (nothing_to_write && (_read_ended || _channel == nullptr)) end(ending::graceful);
}

void socket_relay::end(ending how) noexcept {
    if (_ending) return;
    _ending = true;
    if (_channel != nullptr) {
        if (how == ending::graceful)
            _connection.close(*_channel);
        else
            _connection.abort(*_channel);
        _channel = nullptr;
    }
    if (how == ending::graceful) set_linger(_descriptor, false);
    // Closing a descriptor that the ring still holds would send neither FIN nor RST.
    cancel_next();
    retire();
}

// One operation after another, by name: by descriptor the kernel would look through everything that
// is pending in the ring, which 10 000 idle flows make slow.
void socket_relay::cancel_next() noexcept {
    if (_cancel.in_flight) return;
    if (_receive.in_flight && !_receive_cancelled) {
        _receive_cancelled = true;
        _context.ring.cancel(_cancel, _receive);
    } else if (_send.in_flight && !_send_cancelled) {
        _send_cancelled = true;
        _context.ring.cancel(_cancel, _send);
    }
}

void socket_relay::on_cancelled(ring::completion c) noexcept {
    if (ring::cancel_failed(c)) _receive_cancelled = _send_cancelled = false;
    if (_ending) cancel_next();
    // A watch that was not ended for credit that came.
    else if (_watching && !_receive_cancelled && _channel != nullptr &&
             _connection.sendable(*_channel) > 0)
        want_receive();
    settle();
}

void socket_relay::retire() noexcept {
    if (_dead || _receive.in_flight || _send.in_flight || _cancel.in_flight) return;
    _dead = true;
    _observer.on_flow_closed(*this);
    _out.clear(_context.pieces);
    _context.ring.close_quietly(_descriptor);
    _next_dead = _context._dead;
    _context._dead = this;
}

}  // namespace burin::relay
