#include "core/relay/datagram_socket.hh"

#include <netinet/udp.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace burin::relay {

namespace {

// Datagrams wait in the socket for the worker's next turn. A worker that shares its core may be
// kept from it for some milliseconds, and this is 70 ms of 50 000 a second of the usual size. What
// the kernel grants without CAP_NET_ADMIN (net.core.rmem_max) may be less.
constexpr int receive_bytes = 4 << 20;
// Sockets of a worker that get so much. What waits there is taken in the next turn, whether there
// is room for it further on or not, so that only a worker that does not run lets it fill up; and
// the kernel has a bound of its own for all of them (net.ipv4.udp_mem).
constexpr std::uint32_t most_large = 1024;
// Larger datagrams may not be parts of a run: a run is never cut into fragments, and this fits what
// every path of the usual MTU takes, with room for an IPv6 header.
constexpr std::uint32_t most_part_bytes = 1452;

bool set(int descriptor, int level, int name, int value) noexcept {
    return setsockopt(descriptor, level, name, &value, sizeof value) == 0;  // works without
}

}  // namespace

void widen_receive_buffer(int descriptor) noexcept {
    if (!set(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, receive_bytes))
        set(descriptor, SOL_SOCKET, SO_RCVBUF, receive_bytes);
}

datagram_socket::datagram_socket(datagram_context& c, datagram_receiver& receiver, int descriptor,
                                 kind k) noexcept
    : _context(c), _receiver(receiver), _descriptor(descriptor), _kind(k) {
    set(descriptor, SOL_UDP, UDP_GRO, 1);
    if (k == kind::connected && c._alive < most_large)
        set(descriptor, SOL_SOCKET, SO_RCVBUF, receive_bytes);
    _shape.msg_namelen = k == kind::bound ? name_bytes : 0;
    _shape.msg_controllen = control_bytes;
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

// ---- receives ----

void datagram_socket::want() noexcept {
    if (_listed || _closing) return;
    _listed = true;
    _next_receiving = _context._receiving;
    _context._receiving = this;
}

void datagram_socket::arm() noexcept {
    if (_closing || _receive.in_flight) return;
    _context.ring.receive_messages(_receive, _descriptor, _context.buffers.id(), &_shape);
}

void datagram_socket::on_received(ring::completion c) noexcept {
    ring::buffer buffer;
    if (c.has_buffer()) buffer = _context.buffers.take(c);
    if (_closing) return settle();
    if (!c.more()) want();
    if (c.result >= 0) {
        if (buffer) take(std::move(buffer), static_cast<std::uint32_t>(c.result));
    } else if (c.result == -ENOBUFS) {
        ++_context.counters.out_of_buffers;
        _context.buffers.ran_out();
    } else if (c.result != -EAGAIN && c.result != -EINTR && c.result != -ECANCELED) {
        ++_context.counters.icmp_errors;  // the kernel tells it once
        _receiver.on_unreachable(-c.result);
    }
}

void datagram_socket::take(ring::buffer buffer, std::uint32_t bytes) noexcept {
    const auto front = static_cast<std::uint32_t>(sizeof(io_uring_recvmsg_out) +
                                                  _shape.msg_namelen + _shape.msg_controllen);
    if (bytes < front) return;
    io_uring_recvmsg_out told;
    std::memcpy(&told, buffer.data(), sizeof told);
    const std::byte* name = buffer.data() + sizeof told;
    datagram_run run;
    run.bytes = {buffer.data() + front, bytes - front};
    run.size = bytes - front;
    cmsghdr what{};
    if (told.controllen >= CMSG_LEN(sizeof(int))) {
        const std::byte* control = name + _shape.msg_namelen;
        std::memcpy(&what, control, sizeof what);
        int part = 0;
        std::memcpy(&part, control + CMSG_LEN(0), sizeof part);
        const bool cut = what.cmsg_level == SOL_UDP && what.cmsg_type == UDP_GRO && part > 0;
        if (cut && static_cast<std::uint32_t>(part) < run.size) {
            run.size = static_cast<std::uint32_t>(part);
            run.count = static_cast<std::uint32_t>((run.bytes.size() + run.size - 1) / run.size);
            ++_context.counters.runs_received;
        }
    }
    if (run.count == 1) {
        run.size = std::min(run.size, _context.settings.max_bytes);
        run.bytes = run.bytes.first(run.size);
    }
    run.buffer = std::move(buffer);
    _context.counters.received += run.count;
    _context.counters.received_bytes += run.bytes.size();
    if (_kind == kind::connected) return _receiver.on_received(run, nullptr);
    sockaddr_in6 from{};
    const std::uint32_t known = std::min(told.namelen, name_bytes);
    std::memcpy(&from, name, known);
    const auto who = endpoint::from(reinterpret_cast<const sockaddr*>(&from), known);
    if (who) _receiver.on_received(run, &*who);
}

// ---- sends ----

void datagram_socket::send(const endpoint* to, bytes_view bytes,
                           const ring::buffer& holder) noexcept {
    if (_closing) return;
    if (_open != nullptr && append(*_open, to, bytes, holder)) return;
    send_op* op = _context.take_send();
    if (op == nullptr) {
        ++_context.counters.socket_full;
        return;
    }
    ++_sending;
    op->who = this;
    op->count = 1;
    op->size = op->bytes = static_cast<std::uint32_t>(bytes.size());
    op->full = !_runs || op->size == 0 || op->size > most_part_bytes;
    if (holder) {
        op->holders[0] = holder.share();
    } else {
        op->copy = tun::copy_payload(bytes);
        bytes = op->copy.bytes();
    }
    op->parts[0] = {const_cast<std::byte*>(bytes.data()), bytes.size()};
    op->message = {};
    if (to != nullptr) {
        op->to = *to;
        op->message.msg_name = const_cast<sockaddr*>(op->to.address());
        op->message.msg_namelen = op->to.bytes();
    }
    _open = op;
}

// Makes it a part of a run that leaves in this turn; false: it cannot be.
bool datagram_socket::append(send_op& op, const endpoint* to, bytes_view bytes,
                             const ring::buffer& holder) noexcept {
    const auto size = static_cast<std::uint32_t>(bytes.size());
    if (op.full || size == 0 || size > op.size || op.count == op.parts.size() ||
        op.bytes + size > datagram_context::most_run_bytes || (to != nullptr && !(op.to == *to)))
        return false;
    if (!holder) {
        if (!op.copy.empty()) return false;
        op.copy = tun::copy_payload(bytes);
        if (op.copy.empty()) return false;
        bytes = op.copy.bytes();
    } else {
        const auto same = [&](const ring::buffer& one) {
            return one && one.group() == holder.group() && one.id() == holder.id();
        };
        if (!same(op.holders[0]) && !same(op.holders[1])) {
            ring::buffer* free = std::find_if(op.holders.begin(), op.holders.end(),
                                              [](const ring::buffer& one) { return !one; });
            if (free == op.holders.end()) return false;
            *free = holder.share();
        }
    }
    op.parts[op.count++] = {const_cast<std::byte*>(bytes.data()), size};
    op.bytes += size;
    op.full = size < op.size;
    return true;
}

// A run that the kernel did not take. An error of the destination is told once, and not for each of
// them; whatever else it was, this socket's datagrams go one by one from now on.
void datagram_socket::send_apart(const send_op& op, int error) noexcept {
    if (error == -ECONNREFUSED || error == -EHOSTUNREACH || error == -ENETUNREACH) {
        ++_context.counters.icmp_errors;
        _receiver.on_unreachable(-error);
    } else {
        ++_context.counters.runs_refused;
        _runs = false;
    }
    const endpoint* to = op.message.msg_name == nullptr ? nullptr : &op.to;
    for (std::uint32_t i = 0; i < op.count; ++i) {
        send(to, {static_cast<const std::byte*>(op.parts[i].iov_base), op.parts[i].iov_len}, {});
        if (_open != nullptr) _open->full = true;
    }
}

void datagram_socket::on_sent() noexcept {
    --_sending;
    if (_closing) settle();
}

// ---- the end ----

void datagram_socket::close() noexcept {
    if (_closing) return;
    _closing = true;
    if (_receive.in_flight) _context.ring.cancel(_cancel, _receive);
    settle();
}

void datagram_socket::on_cancelled(ring::completion) noexcept {
    // A multishot receive may have been between two of its completions.
    if (_receive.in_flight) return _context.ring.cancel(_cancel, _receive);
    settle();
}

void datagram_socket::settle() noexcept {
    if (_gone || _receive.in_flight || _cancel.in_flight || _sending > 0) return;
    _gone = true;
    --_context._alive;
    _context.ring.close_quietly(std::exchange(_descriptor, -1));
    _receiver.on_socket_gone();
}

}  // namespace burin::relay
