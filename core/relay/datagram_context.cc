#include "core/relay/datagram_context.hh"

#include <fmt/format.h>

#include <cerrno>
#include <new>
#include <utility>

#include "core/relay/datagram_socket.hh"
#include "core/relay/gob.hh"

namespace burin::relay {

namespace {

// Nodes of a pool in a chunk; false when memory is refused.
template <class Op>
bool add_chunk(std::vector<std::unique_ptr<Op[]>>& chunks, std::uint32_t count, Op*& free) {
    try {
        auto made = std::make_unique<Op[]>(count);
        chunks.push_back(std::move(made));
    } catch (const std::bad_alloc&) {
        return false;
    }
    for (std::uint32_t i = count; i-- > 0;) {
        chunks.back()[i].next = free;
        free = &chunks.back()[i];
    }
    return true;
}

}  // namespace

datagram_context::datagram_context(ring::ring& r, ring::timer_wheel& wheel,
                                   ring::buffer_group& group, ssh::piece_pool& pool,
                                   const datagram_settings& s)
    : ring(r), timers(wheel), buffers(group), pieces(pool), settings(s) {}

datagram_context::~datagram_context() {
    while (_dead != nullptr) delete std::exchange(_dead, _dead->_next_dead);
}

ring::buffer_group::shape datagram_context::buffer_shape(std::uint16_t id,
                                                         const datagram_settings& s) noexcept {
    return {.id = id,
            .bytes = s.max_bytes + static_cast<std::uint32_t>(gob_trailer_bytes),
            .headroom = gob_most_header_bytes,
            .count = 512,
            .offered = 8,
            .chunk = 32};
}

// ---- receives ----

datagram_context::receive_op* datagram_context::take_receive() noexcept {
    if (_free_receives == nullptr && !add_chunk(_receive_chunks, chunk, _free_receives))
        return nullptr;
    receive_op* op = std::exchange(_free_receives, _free_receives->next);
    op->done = datagram_socket::on_completed;
    op->owner = this;
    return op;
}

void datagram_context::give_back(receive_op* op) noexcept {
    op->who = nullptr;
    op->next = _free_receives;
    _free_receives = op;
}

void datagram_context::flush() noexcept {
    datagram_socket* s = std::exchange(_receiving, nullptr);
    while (s != nullptr) {
        datagram_socket* after = s->_next_receiving;
        s->_listed = false;
        s->arm();
        s = after;
    }
    while (_dead != nullptr) delete std::exchange(_dead, _dead->_next_dead);
}

void datagram_context::bury(mortal* m) noexcept {
    m->_next_dead = _dead;
    _dead = m;
}

void datagram_context::end_all() noexcept {
    for (datagram_socket* s = _all; s != nullptr;) {
        datagram_socket* after = s->_next;  // owners free sockets in flush() alone
        s->close();
        s = after;
    }
}

// ---- sends ----

datagram_context::send_op* datagram_context::take_send() noexcept {
    if (_free_sends == nullptr) {
        if (_sends_made >= most_sends || !add_chunk(_send_chunks, chunk, _free_sends))
            return nullptr;
        _sends_made += chunk;
    }
    return std::exchange(_free_sends, _free_sends->next);
}

void datagram_context::send(int descriptor, const endpoint* to, bytes_view bytes,
                            const ring::buffer& holder) noexcept {
    send_op* op = take_send();
    if (op == nullptr) {
        ++counters.socket_full;
        return;
    }
    op->done = on_sent;
    op->owner = this;
    if (holder) {
        op->holder = holder.share();
    } else {
        op->copy = tun::copy_payload(bytes);
        bytes = op->copy.bytes();
    }
    op->part = {const_cast<std::byte*>(bytes.data()), bytes.size()};
    op->message = {};
    op->message.msg_iov = &op->part;
    op->message.msg_iovlen = 1;
    if (to != nullptr) {
        op->to = *to;
        op->message.msg_name = const_cast<sockaddr*>(op->to.address());
        op->message.msg_namelen = op->to.bytes();
    }
    ring.send_message(*op, descriptor, &op->message, MSG_DONTWAIT);
}

void datagram_context::on_sent(ring::op& o, ring::completion c) noexcept {
    auto& self = o.of<datagram_context>();
    auto& op = static_cast<send_op&>(o);
    op.holder.reset();
    op.copy = {};
    op.next = self._free_sends;
    self._free_sends = &op;
    if (c.result >= 0) {
        ++self.counters.sent;
        self.counters.sent_bytes += static_cast<std::uint64_t>(c.result);
    } else if (c.result == -EAGAIN || c.result == -ENOBUFS) {
        ++self.counters.socket_full;
    } else if (c.result == -ECONNREFUSED || c.result == -EHOSTUNREACH || c.result == -ENETUNREACH) {
        ++self.counters.icmp_errors;
    } else {
        ++self.counters.send_errors;
    }
}

void datagram_context::report(std::string& into, std::string_view name) const {
    const datagram_counters& c = counters;
    into += fmt::format(
        "{}: sockets={} opened={} expired={} evicted={} received={} bytes={} sent={} bytes={} "
        "icmp-errors={} broken-channels={} no-buffer={} held-bytes={}/{} buffers={}/{}\n",
        name, sockets, c.sockets_opened, c.sockets_expired, c.sockets_evicted, c.received,
        c.received_bytes, c.sent, c.sent_bytes, c.icmp_errors, c.channels_broken, c.out_of_buffers,
        held_bytes, settings.most_held_bytes, buffers.held(), buffers.count());
    into += fmt::format(
        "{}: dropped: no-channel={} no-window={} no-address={} no-socket={} unknown-source={} "
        "socket-full={} send-errors={}\n",
        name, c.no_channel, c.no_window, c.no_address, c.no_socket, c.unknown_source, c.socket_full,
        c.send_errors);
}

}  // namespace burin::relay
