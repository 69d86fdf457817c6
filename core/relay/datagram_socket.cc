#include "core/relay/datagram_socket.hh"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace burin::relay {

datagram_socket::datagram_socket(datagram_context& c, datagram_receiver& receiver, int descriptor,
                                 kind k) noexcept
    : _context(c), _receiver(receiver), _descriptor(descriptor), _kind(k) {
    ++c._alive;
    _next = c._all;
    _back = &c._all;
    if (_next != nullptr) _next->_back = &_next;
    c._all = this;
    want();
}

datagram_socket::~datagram_socket() {
    if (_listed) {
        datagram_socket** at = &_context._receiving;
        while (*at != this) at = &(*at)->_next_receiving;
        *at = _next_receiving;
    }
    *_back = _next;
    if (_next != nullptr) _next->_back = _back;
    if (!_gone) --_context._alive;
}

void datagram_socket::want() noexcept {
    if (_listed || _closing) return;
    _listed = true;
    _next_receiving = _context._receiving;
    _context._receiving = this;
}

// Those that do not wait come first: each takes a datagram or comes back empty-handed within the
// next enter(), so none of them lingers.
void datagram_socket::arm() noexcept {
    if (_closing) return;
    if (std::exchange(_busy, false)) {
        for (std::uint32_t i = 1; i < datagram_context::burst_receives; ++i) {
            if (_context._bursts >= datagram_context::most_bursts) break;
            receive_op* extra = _context.take_receive();
            if (extra == nullptr) break;
            extra->burst = true;
            ++_context._bursts;
            submit(*extra, MSG_DONTWAIT);
        }
    }
    if (_waiting != nullptr) return;
    receive_op* op = _context.take_receive();
    if (op == nullptr) return want();
    op->burst = false;
    _waiting = op;
    submit(*op, 0);
}

void datagram_socket::submit(receive_op& op, int flags) noexcept {
    op.who = this;
    ++_pending;
    if (_kind == kind::connected)
        return _context.ring.receive_select(op, _descriptor, _context.buffers.id(),
                                            _context.settings.max_bytes, flags);
    op.part = {nullptr, _context.settings.max_bytes};
    op.message = {};
    op.message.msg_name = &op.from;
    op.message.msg_namelen = sizeof op.from;
    op.message.msg_iov = &op.part;
    op.message.msg_iovlen = 1;
    _context.ring.receive_message_select(op, _descriptor, _context.buffers.id(), &op.message,
                                         flags);
}

void datagram_socket::on_completed(ring::op& o, ring::completion c) noexcept {
    auto& op = static_cast<receive_op&>(o);
    op.who->on_datagram(op, c);
}

void datagram_socket::on_datagram(receive_op& op, ring::completion c) noexcept {
    ring::buffer buffer;
    if (c.has_buffer()) buffer = _context.buffers.take(c);
    --_pending;
    const bool burst = op.burst;
    if (burst)
        --_context._bursts;
    else
        _waiting = nullptr;
    const sockaddr_storage from = op.from;
    const socklen_t from_bytes = _kind == kind::bound ? op.message.msg_namelen : 0;
    _context.give_back(&op);
    if (_closing) return settle();
    if (!burst) want();
    if (c.result >= 0) {
        _busy = _busy || c.nonempty();
        auto size = static_cast<std::uint32_t>(c.result);
        size = std::min(size, _context.settings.max_bytes);
        ++_context.counters.received;
        _context.counters.received_bytes += size;
        if (_kind == kind::connected)
            return _receiver.on_received(std::move(buffer), size, nullptr);
        const auto who = endpoint::from(reinterpret_cast<const sockaddr*>(&from), from_bytes);
        if (who) _receiver.on_received(std::move(buffer), size, &*who);
        return;
    }
    if (c.result == -ENOBUFS) {
        ++_context.counters.out_of_buffers;
        _context.buffers.ran_out();
    } else if (c.result != -EAGAIN && c.result != -EINTR && c.result != -ECANCELED) {
        ++_context.counters.icmp_errors;  // told once, and over
    }
}

void datagram_socket::close() noexcept {
    if (_closing) return;
    _closing = true;
    if (_waiting != nullptr) _context.ring.cancel(_cancel, *_waiting);
    settle();
}

void datagram_socket::on_cancelled(ring::completion) noexcept {
    settle();
}

void datagram_socket::settle() noexcept {
    if (_gone || _pending > 0 || _cancel.in_flight) return;
    _gone = true;
    --_context._alive;
    // Sends that were asked for in this turn stand in front of it and never wait.
    _context.ring.close_quietly(std::exchange(_descriptor, -1));
    _receiver.on_socket_gone();
}

}  // namespace burin::relay
