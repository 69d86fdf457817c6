// Which payload leaves next. Deficit round robin over the channels that have much to send, and
// before each of their turns one for all those that have little, so that a keystroke does not wait
// behind what bulk has queued, and thousands of small ones still leave bulk every other turn.
#include <algorithm>
#include <cstring>

#include "core/ssh/connection.hh"

namespace burin::ssh {

namespace {
// Pieces up to this size share packets: datagrams and the like. Who has no more than this is quick.
inline constexpr std::uint32_t most_shared_bytes = 4096;
}  // namespace

// What has little to send goes before what has much; with more than that it takes its turn there.
void connection::mark_ready(channel& c) noexcept {
    if (_ready.holds(c) || c.send_credit == 0) return;
    take_turn(c, c.queue.bytes() <= most_shared_bytes);
    _events.on_pending();
}

void connection::take_turn(channel& c, bool quick) noexcept {
    if (c.send_credit == 0) return;
    c.quick = quick;
    (quick ? _quick.push(c) : _ready.push(c));
}

void connection::leave_turn(channel& c) noexcept {
    (c.quick ? _quick : _ready).remove(c);
}

void connection::set_turn_bytes(std::uint32_t bytes) noexcept {
    _turn_bytes = std::max(bytes / max_payload_bytes, least_turn_packets) * max_payload_bytes;
}

void connection::set_packet_bytes(std::uint32_t bytes) noexcept {
    _packet_bytes = std::clamp(bytes, most_shared_bytes, max_payload_bytes);
}

bool connection::pending() const noexcept {
    return ((!_adjust.empty() || !_ready.empty() || !_quick.empty()) &&
            _transport.data_allowed()) ||
           (!_waiting.empty() && _queued_bytes < queued_limit_bytes);
}

// Small pieces share a packet, as far as whole ones fit: sealing and opening a packet costs as much
// as copying a kilobyte or two.
std::uint32_t connection::next_packet(const channel& c, std::uint32_t most) noexcept {
    const piece* p = c.queue.first();
    std::uint32_t size = std::min(p->size, most);
    if (size > most_shared_bytes) return size;
    while ((p = p->next) != nullptr && p->size <= most_shared_bytes && p->size <= most - size)
        size += p->size;
    return size;
}

bytes_view connection::side_by_side(const channel& c, std::uint32_t size) noexcept {
    const piece* p = c.queue.first();
    if (size <= p->size) return {p->data, size};
    _shared.resize(max_payload_bytes);
    std::uint32_t at = 0;
    for (; at < size; p = p->next) {
        std::memcpy(_shared.data() + at, p->data, p->size);
        at += p->size;
    }
    return {_shared.data(), size};
}

// A packet of the channel's. False: the sink has no room for it.
bool connection::seal_packet(channel& c, std::uint32_t most, packet_sink& sink) noexcept {
    const std::uint32_t size = next_packet(c, std::min({most, c.max_packet, c.send_credit}));
    const std::size_t sealed = _transport.sealed_size(data_header_bytes + size);
    std::byte* out = sink.room(sealed);
    if (out == nullptr) return false;
    const data_header head = c.state == channel_state::opening
                                 ? make_data_header(c.local, size, message::early_data)
                                 : make_data_header(c.remote, size);
    _transport.seal(head, side_by_side(c, size), out);
    sink.commit(sealed);
    c.send_credit -= size;
    c.bytes_sent += size;
    _queued_bytes -= size;
    c.queue.take_all_of(size, _pieces);
    _turn_left -= std::min(_turn_left, size);
    return true;
}

void connection::flush_data(packet_sink& sink) noexcept {
    while (_transport.data_allowed() && !(_quick.empty() && _ready.empty())) {
        if (_turn_left == 0) {
            _quick_turn = !_quick.empty() && (!_quick_turn || _ready.empty());
            _turn_left = _turn_bytes;
        }
        if (_quick_turn ? !flush_quick(sink) : !flush_bulk(sink)) return;
    }
}

// Channels that hardly send share one turn: each has what fits in a small packet.
bool connection::flush_quick(packet_sink& sink) noexcept {
    while (_turn_left > 0 && !_quick.empty()) {
        channel* c = _quick.first();
        if (c->queue.bytes() > most_shared_bytes) {  // it was quick when it came
            leave_turn(*c);
            take_turn(*c, false);
            continue;
        }
        if (!c->queue.empty()) {  // one that was aborted has nothing any more
            if (!seal_packet(*c, most_shared_bytes, sink)) return false;
            // Who sends on and on without an answer waits for none: a flood is not in a hurry.
            _counters.quick_packets += c->answered ? 1 : 0;
            c->answered = false;
        }
        if (!turn_over(*c)) return false;
        if (!_transport.data_allowed()) break;
    }
    _turn_left = 0;
    return true;
}

bool connection::flush_bulk(packet_sink& sink) noexcept {
    channel* c = _ready.first();
    while (_turn_left > 0 && !c->queue.empty() && c->send_credit > 0) {
        // It goes on with its turn in the next flush.
        if (!seal_packet(*c, _packet_bytes, sink)) return false;
        if (!_transport.data_allowed()) break;
    }
    _turn_left = 0;
    return turn_over(*c);
}

// False: the session has ended.
bool connection::turn_over(channel& c) noexcept {
    leave_turn(c);
    if (c.send_credit == 0) ++c.stalls;
    if (!c.queue.empty()) {
        c.queued_since_ms = now_ms();
        take_turn(c, false);
        return true;
    }
    if (c.send_credit > 0) want_more(c);
    return finish_if_due(c);
}

void connection::own_queued() noexcept {
    // No channel queues more than its credit in receive buffers, so whatever has such a queue
    // stands in the ready list.
    for (channel* c = _ready.first(); c != nullptr; c = _ready.after(*c)) c->queue.own(_pieces);
    for (channel* c = _quick.first(); c != nullptr; c = _quick.after(*c)) c->queue.own(_pieces);
}

}  // namespace burin::ssh
