#include "core/relay/datagram_context.hh"

#include <fmt/format.h>
#include <netinet/udp.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include "core/relay/datagram_channel.hh"
#include "core/relay/datagram_socket.hh"
#include "core/relay/gob.hh"

namespace burin::relay {

datagram_context::datagram_context(ring::ring& r, ring::timer_wheel& wheel,
                                   ring::buffer_group& group, ssh::piece_pool& pool,
                                   const datagram_settings& s)
    : ring(r), timers(wheel), buffers(group), pieces(pool), settings(s) {}

datagram_context::~datagram_context() {
    while (_dead != nullptr) delete std::exchange(_dead, _dead->_next_dead);
}

ring::buffer_group::shape datagram_context::buffer_shape(std::uint16_t id) noexcept {
    // An odd number of cache lines: datagrams, which fill but the front of their buffers, do not
    // meet in the same sets.
    constexpr std::uint32_t line = 64, lines = 1171;
    constexpr auto headroom = static_cast<std::uint32_t>(gob_most_header_bytes);
    static_assert(lines * line - headroom > datagram_socket::most_received_bytes + 8192);
    return {.id = id,
            .bytes = lines * line - headroom,
            .headroom = headroom,
            .count = 256,
            .offered = 8,
            .chunk = 8,
            .pages = ring::page_size::small};
}

late_run* datagram_context::take_late() noexcept {
    if (_settling || _late_count == most_late) return nullptr;
    return &_late[_late_count++];
}

void datagram_context::settle() noexcept {
    if (_late_count == 0 || _settling) return;
    _settling = true;
    for (late_run& run : std::span(_late).first(_late_count)) {
        if (run.whose != nullptr) run.whose->settle(run);
        run.holder.reset();
    }
    _late_count = 0;
    _settling = false;
}

void datagram_context::flush() noexcept {
    while (_first_send != nullptr) submit(*std::exchange(_first_send, _first_send->next));
    _last_send = nullptr;
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
        if (_sends_made >= most_sends) return nullptr;
        try {
            _send_chunks.push_back(std::make_unique<send_op[]>(chunk));
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
        for (std::uint32_t i = chunk; i-- > 0;) {
            send_op& made = _send_chunks.back()[i];
            made.done = on_sent;
            made.owner = this;
            made.next = std::exchange(_free_sends, &made);
        }
        _sends_made += chunk;
    }
    send_op* op = std::exchange(_free_sends, _free_sends->next);
    op->next = nullptr;
    (_first_send == nullptr ? _first_send : _last_send->next) = op;
    _last_send = op;
    return op;
}

void datagram_context::give_back(send_op* op) noexcept {
    for (ring::buffer& holder : op->holders) holder.reset();
    op->copy = {};
    op->who = nullptr;
    op->next = std::exchange(_free_sends, op);
}

void datagram_context::submit(send_op& op) noexcept {
    op.who->_open = nullptr;
    op.message.msg_iov = op.parts.data();
    op.message.msg_iovlen = op.count;
    op.message.msg_control = nullptr;
    op.message.msg_controllen = 0;
    if (op.count > 1) {
        op.message.msg_control = op.control.data();
        op.message.msg_controllen = op.control.size();
        cmsghdr* what = CMSG_FIRSTHDR(&op.message);
        what->cmsg_level = SOL_UDP;
        what->cmsg_type = UDP_SEGMENT;
        what->cmsg_len = CMSG_LEN(sizeof(std::uint16_t));
        const auto size = static_cast<std::uint16_t>(op.size);
        std::memcpy(CMSG_DATA(what), &size, sizeof size);
    }
    ring.send_message(op, op.who->_descriptor, &op.message, MSG_DONTWAIT);
}

void datagram_context::on_sent(ring::op& o, ring::completion c) noexcept {
    auto& self = o.of<datagram_context>();
    auto& op = static_cast<send_op&>(o);
    datagram_counters& counters = self.counters;
    datagram_socket& who = *op.who;
    if (c.result >= 0) {
        counters.sent += op.count;
        counters.sent_bytes += static_cast<std::uint64_t>(c.result);
        if (op.count > 1) ++counters.runs_sent;
    } else if (c.result == -EAGAIN || c.result == -ENOBUFS) {
        counters.socket_full += op.count;
    } else if (op.count > 1) {
        who.send_apart(op, c.result);
    } else if (c.result == -ECONNREFUSED || c.result == -EHOSTUNREACH || c.result == -ENETUNREACH) {
        ++counters.icmp_errors;
        who._receiver.on_unreachable(-c.result);
    } else {
        ++counters.send_errors;
        who._receiver.on_unreachable(-c.result);
    }
    self.give_back(&op);
    who.on_sent();
}

void datagram_context::report(std::string& into, std::string_view name) const {
    const datagram_counters& c = counters;
    into += fmt::format(
        "{}: sockets={} opened={} expired={} evicted={} received={} bytes={} sent={} bytes={} "
        "runs-received={} runs-sent={} runs-refused={} icmp-errors={} broken-channels={} "
        "no-buffer={} held-bytes={}/{} buffers={}/{}\n",
        name, sockets, c.sockets_opened, c.sockets_expired, c.sockets_evicted, c.received,
        c.received_bytes, c.sent, c.sent_bytes, c.runs_received, c.runs_sent, c.runs_refused,
        c.icmp_errors, c.channels_broken, c.out_of_buffers, held_bytes, settings.most_held_bytes,
        buffers.held(), buffers.count());
    into += fmt::format(
        "{}: dropped: no-channel={} no-window={} no-address={} no-socket={} unknown-source={} "
        "socket-full={} send-errors={}\n",
        name, c.no_channel, c.no_window, c.no_address, c.no_socket, c.unknown_source, c.socket_full,
        c.send_errors);
}

}  // namespace burin::relay
