#include "core/relay/echo_socket.hh"

#include <linux/errqueue.h>
#include <linux/icmp.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "crypto/random.hh"
#include "ring/shortage.hh"
#include "tun/checksum.hh"
#include "tun/ip_header.hh"

namespace burin::relay {

namespace {

using kind = echo_message::kind;

constexpr std::size_t icmp_bytes = 8;
constexpr std::size_t most_ipv4_header = 60;
constexpr std::size_t space_bytes = most_ipv4_header + icmp_bytes + most_echo_bytes;
// RFC 792, RFC 4443.
constexpr std::uint8_t v4_reply = 0, v4_request = 8, v6_request = 128, v6_reply = 129;
// A request that other requests' errors keep from being sent is given up.
constexpr std::uint8_t most_tries = 4, most_empty_tries = 2;

void set_option(int fd, int level, int name, int value) noexcept {
    setsockopt(fd, level, name, &value, sizeof value);
}

// One family's socket; errno when there is none.
int open_one(echo_descriptor& into, int family) noexcept {
    const bool v4 = family == AF_INET;
    const int protocol = v4 ? int{IPPROTO_ICMP} : int{IPPROTO_ICMPV6};
    int fd = ::socket(family, SOCK_DGRAM | SOCK_CLOEXEC, protocol);
    if (fd < 0) {
        const int why = errno;
        fd = ::socket(family, SOCK_RAW | SOCK_CLOEXEC, protocol);
        if (fd < 0) return why;
        into.raw = true;
        if (v4) {
            icmp_filter only{~(1u << v4_reply)};
            setsockopt(fd, SOL_RAW, ICMP_FILTER, &only, sizeof only);
        } else {
            icmp6_filter only;
            ICMP6_FILTER_SETBLOCKALL(&only);
            ICMP6_FILTER_SETPASS(v6_reply, &only);
            setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &only, sizeof only);
        }
    }
    into.number = tun::descriptor(fd);
    if (v4) {
        set_option(fd, IPPROTO_IP, IP_RECVERR, 1);
        // No path is learnt by losing what hosts ask once: routers may cut it up.
        set_option(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    } else {
        set_option(fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
    }
    return 0;
}

endpoint endpoint_of(const tun::flow_address& address) noexcept {
    if (address.is_v4()) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(address.to_v4());
        return *endpoint::from(reinterpret_cast<const sockaddr*>(&at), sizeof at);
    }
    sockaddr_in6 at{};
    at.sin6_family = AF_INET6;
    std::memcpy(&at.sin6_addr, address.bytes.data(), 16);
    return *endpoint::from(reinterpret_cast<const sockaddr*>(&at), sizeof at);
}

tun::flow_address address_of(const sockaddr_storage& from) noexcept {
    tun::flow_address address;
    if (from.ss_family == AF_INET) {
        sockaddr_in at;
        std::memcpy(&at, &from, sizeof at);
        return tun::flow_address::v4(ntohl(at.sin_addr.s_addr));
    }
    sockaddr_in6 at;
    std::memcpy(&at, &from, sizeof at);
    std::memcpy(address.bytes.data(), &at.sin6_addr, 16);
    return address;
}

// What an ICMP error means for an echo; unknown: nothing that must be told.
kind kind_of_icmp(bool v4, std::uint8_t type, std::uint8_t code) noexcept {
    if (v4) {
        if (type == ICMP_TIME_EXCEEDED && code == ICMP_EXC_TTL) return kind::hops_exceeded;
        if (type != ICMP_DEST_UNREACH || code == ICMP_FRAG_NEEDED) return kind::unknown;
        const bool forbidden =
            code == ICMP_NET_ANO || code == ICMP_HOST_ANO || code == ICMP_PKT_FILTERED;
        return forbidden ? kind::prohibited : kind::unreachable;
    }
    if (type == ICMP6_TIME_EXCEEDED && code == ICMP6_TIME_EXCEED_TRANSIT)
        return kind::hops_exceeded;
    if (type != ICMP6_DST_UNREACH) return kind::unknown;
    // Source address failed policy, and reject route to destination (RFC 4443 section 3.1).
    const bool forbidden = code == ICMP6_DST_UNREACH_ADMIN || code == 5 || code == 6;
    return forbidden ? kind::prohibited : kind::unreachable;
}

// The same of an errno that the route gave.
kind kind_of_errno(int error) noexcept {
    if (error == EHOSTUNREACH || error == ENETUNREACH) return kind::unreachable;
    return error == EACCES || error == EPERM ? kind::prohibited : kind::unknown;
}

}  // namespace

echo_descriptors echo_descriptors::open() noexcept {
    echo_descriptors both;
    const int first = open_one(both.v4, AF_INET);
    const int second = open_one(both.v6, AF_INET6);
    if (first != 0 && second != 0) both.error = first;
    return both;
}

echo_socket::echo_socket(context& c, echo_listener& listener, echo_descriptor at, int family)
    : _context(c),
      _listener(listener),
      _at(std::move(at)),
      _v4(family == AF_INET),
      _id(static_cast<std::uint16_t>(crypto::random_u32())) {}

echo_socket::~echo_socket() = default;

// Memory, with the first request.
void echo_socket::begin() noexcept {
    _begun = true;
    const auto prepare = [this](receive_op& op, ring::op::done_function done) {
        op.done = done;
        op.owner = this;
        op.space = std::make_unique_for_overwrite<std::byte[]>(space_bytes);
        op.part = {op.space.get(), space_bytes};
    };
    for (receive_op& op : _receives) prepare(op, on_received);
    prepare(_errors, on_error);
    wait();
}

// ---- out ----

void echo_socket::send(std::uint16_t sequence, const tun::flow_address& to, bytes_view data,
                       const ring::buffer& holder) noexcept {
    if (!_begun && !_stopping) begin();
    if (_free == nullptr && _sends.size() < most_sends) {
        _sends.push_back(std::make_unique<send_op>());
        _sends.back()->done = on_sent;
        _sends.back()->owner = this;
        _free = _sends.back().get();
    }
    if (_free == nullptr || _stopping) {
        ++_counters.socket_full;
        return;
    }
    send_op& op = *std::exchange(_free, _free->next);
    op.tries = op.empty_tries = 0;
    op.sequence = sequence;
    op.address = to;
    op.to = endpoint_of(to);
    if (holder) {
        op.holder = holder.share();
    } else if (!data.empty()) {
        op.copy = tun::copy_payload(data);
        if (op.copy.empty()) {  // memory was refused
            ++_counters.socket_full;
            return give_back(op);
        }
        data = op.copy.bytes();
    }
    std::byte* header = op.header.data();
    tun::store_u8(header, _v4 ? v4_request : v6_request);
    tun::store_u8(header + 1, 0);
    tun::store_u16(header + 2, 0);
    tun::store_u16(header + 4, _id);
    tun::store_u16(header + 6, sequence);
    // For IPv6, and for SOCK_DGRAM, the kernel does it.
    if (_v4 && _at.raw)
        tun::store_u16(header + 2,
                       tun::checksum_finish(tun::checksum_add(data, tun::checksum_add(op.header))));
    op.parts = {iovec{header, icmp_bytes}, iovec{const_cast<std::byte*>(data.data()), data.size()}};
    op.message = {};
    op.message.msg_name = const_cast<sockaddr*>(op.to.address());
    op.message.msg_namelen = op.to.bytes();
    op.message.msg_iov = op.parts.data();
    op.message.msg_iovlen = op.parts.size();
    submit(op);
}

void echo_socket::submit(send_op& op) noexcept {
    ++_sending;
    ++op.tries;
    op.errors_seen = _errors_seen;
    _context.ring.send_message(op, _at.number.number(), &op.message, MSG_DONTWAIT);
}

void echo_socket::give_back(send_op& op) noexcept {
    op.holder.reset();
    op.copy = {};
    op.next = _free;
    _free = &op;
}

void echo_socket::on_sent(ring::op& o, ring::completion c) noexcept {
    auto& self = o.of<echo_socket>();
    auto& op = static_cast<send_op&>(o);
    --self._sending;
    if (c.result >= 0 || self._stopping) {
        if (c.result >= 0) ++self._counters.sent;
        self.give_back(op);
        return self.check_stopped();
    }
    if (c.result == -EAGAIN || c.result == -ENOBUFS || c.result == -ENOMEM) {
        ++self._counters.socket_full;
        return self.give_back(op);
    }
    op.error = -c.result;
    op.next = self._unsure;
    self._unsure = &op;
    self.look_for_errors();
}

// The error queue is empty: whose the errors of failed sends were can be told now.
void echo_socket::settle() noexcept {
    send_op* op = std::exchange(_unsure, nullptr);
    while (op != nullptr) {
        send_op* after = op->next;
        if (op->errors_seen == _errors_seen) ++op->empty_tries;
        if (op->empty_tries >= most_empty_tries) {
            const kind what = kind_of_errno(op->error);
            const std::uint16_t sequence = op->sequence;
            const tun::flow_address to = op->address;
            give_back(*op);
            if (what == kind::unknown)
                ++_counters.send_errors;
            else
                _listener.on_echo_error(sequence, to, what);
        } else if (op->tries >= most_tries) {
            ++_counters.send_errors;
            give_back(*op);
        } else {
            ++_counters.again;
            submit(*op);
        }
        op = after;
    }
}

// ---- in ----

// Not while errors are being looked for: they would make it ready at once.
void echo_socket::wait() noexcept {
    if (_stopping || _ready.in_flight || _receiving > 0 || _errors.in_flight) return;
    _context.ring.poll(_ready, _at.number.number(), POLLIN);
}

void echo_socket::on_ready(ring::completion c) noexcept {
    if (_stopping) return check_stopped();
    if (c.result < 0) return wait();
    if ((c.result & POLLERR) != 0) look_for_errors();
    receive();
}

void echo_socket::receive() noexcept {
    if (_receiving > 0) return;
    _found = 0;
    _receiving = burst;
    for (receive_op& op : _receives) {
        op.message = {};
        op.message.msg_name = &op.from;
        op.message.msg_namelen = sizeof op.from;
        op.message.msg_iov = &op.part;
        op.message.msg_iovlen = 1;
        _context.ring.receive_message(op, _at.number.number(), &op.message, MSG_DONTWAIT);
    }
}

void echo_socket::on_received(ring::op& o, ring::completion c) noexcept {
    auto& self = o.of<echo_socket>();
    --self._receiving;
    if (self._stopping) return self.check_stopped();
    if (c.result >= 0) {
        ++self._found;
        self.take(static_cast<receive_op&>(o), static_cast<std::size_t>(c.result));
    } else if (c.result != -EAGAIN && c.result != -EINTR) {
        self.look_for_errors();
    }
    if (self._receiving > 0) return;
    if (self._found == burst)
        self.receive();
    else
        self.wait();
}

bool echo_socket::mine(const std::byte* icmp) const noexcept {
    return !_at.raw || tun::load_u16(icmp + 4) == _id;
}

void echo_socket::take(const receive_op& op, std::size_t bytes) noexcept {
    bytes_view message(op.space.get(), bytes);
    if (_v4 && _at.raw) {
        const std::size_t header =
            bytes == 0 ? 0 : std::size_t{tun::load_u8(message.data()) & 0x0fu} * 4;
        message = message.subspan(std::min(header, bytes));
    }
    const bool cut = (op.message.msg_flags & MSG_TRUNC) != 0;
    if (message.size() < icmp_bytes || cut ||
        tun::load_u8(message.data()) != (_v4 ? v4_reply : v6_reply) || !mine(message.data())) {
        ++_counters.strange;
        return;
    }
    _listener.on_echo_reply(tun::load_u16(message.data() + 6), address_of(op.from),
                            message.subspan(icmp_bytes));
}

// ---- errors ----

void echo_socket::look_for_errors() noexcept {
    if (_errors.in_flight) return;
    _errors.message = {};
    _errors.message.msg_name = &_errors.from;
    _errors.message.msg_namelen = sizeof _errors.from;
    _errors.message.msg_iov = &_errors.part;
    _errors.message.msg_iovlen = 1;
    _errors.message.msg_control = _control.data();
    _errors.message.msg_controllen = _control.size();
    _context.ring.receive_message(_errors, _at.number.number(), &_errors.message,
                                  MSG_ERRQUEUE | MSG_DONTWAIT);
}

void echo_socket::on_error(ring::op& o, ring::completion c) noexcept {
    auto& self = o.of<echo_socket>();
    if (self._stopping) return self.check_stopped();
    if (c.result >= 0) {
        ++self._errors_seen;
        self.take_error(static_cast<receive_op&>(o), static_cast<std::size_t>(c.result));
        return self.look_for_errors();
    }
    self.settle();
    self.wait();
}

// What is quoted is our request, from its ICMP header on; the name is where it went.
void echo_socket::take_error(const receive_op& op, std::size_t bytes) noexcept {
    const std::byte* icmp = op.space.get();
    for (cmsghdr* c = CMSG_FIRSTHDR(&op.message); c != nullptr;
         c = CMSG_NXTHDR(const_cast<msghdr*>(&op.message), c)) {
        const bool fits = _v4 ? c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR
                              : c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR;
        if (!fits || c->cmsg_len < CMSG_LEN(sizeof(sock_extended_err))) continue;
        sock_extended_err error;
        std::memcpy(&error, CMSG_DATA(c), sizeof error);
        const bool told = error.ee_origin == (_v4 ? SO_EE_ORIGIN_ICMP : SO_EE_ORIGIN_ICMP6);
        if (!told || bytes < icmp_bytes || !mine(icmp) ||
            tun::load_u8(icmp) != (_v4 ? v4_request : v6_request))
            break;
        const kind what = kind_of_icmp(_v4, error.ee_type, error.ee_code);
        if (what != kind::unknown)
            _listener.on_echo_error(tun::load_u16(icmp + 6), address_of(op.from), what);
        return;
    }
    ++_counters.strange;
}

// ---- the end ----

void echo_socket::stop() noexcept {
    if (_stopping) return;
    _stopping = true;
    while (_unsure != nullptr) give_back(*std::exchange(_unsure, _unsure->next));
    if (_ready.in_flight) _context.ring.cancel(_cancel, _ready);
    check_stopped();
}

void echo_socket::on_cancelled(ring::completion c) noexcept {
    if (ring::cancel_failed(c) && _ready.in_flight) return _context.ring.cancel(_cancel, _ready);
    check_stopped();
}

bool echo_socket::quiet() const noexcept {
    return _sending == 0 && _receiving == 0 && !_ready.in_flight && !_errors.in_flight &&
           !_cancel.in_flight;
}

void echo_socket::check_stopped() noexcept {
    if (!stopped() || std::exchange(_told, true)) return;
    _listener.on_echo_socket_stopped();
}

}  // namespace burin::relay
