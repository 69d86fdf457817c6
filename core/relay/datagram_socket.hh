// A UDP socket on a worker's ring. One multishot receive brings every datagram there is, each in a
// buffer that the kernel picked, with room around it for the octets of records (gob.hh); what is
// sent in one turn leaves in as few calls as possible. Closed when the ring has given back
// everything of it.
//
// Runs: where the kernel can (UDP_GRO, UDP_SEGMENT), datagrams of one size and one way are received
// and sent as one, which costs little more than a single datagram. Who sends such a run is asked
// for nothing: it is cut again before it leaves the host. A send that the kernel refuses to cut is
// done one by one, and so are all of that socket from then on.
//
// An ICMP error of a destination is counted and told, and changes nothing.
#pragma once

#include <netinet/in.h>

#include <cstdint>

#include "core/relay/datagram_context.hh"

namespace burin::relay {

// What a receive brought: a datagram, or several of one sender side by side, each of `size` bytes
// but the last, which may be shorter.
struct datagram_run {
    ring::buffer buffer;  // the bytes lie in it
    bytes_span bytes;
    std::uint32_t size = 0;
    std::uint32_t count = 1;
};

class datagram_receiver {
  public:
    virtual ~datagram_receiver() = default;
    // `from` is told by sockets that are not connected.
    virtual void on_received(const datagram_run&, const endpoint* from) noexcept = 0;
    // The kernel's errno for a datagram that was sent, or for what an ICMP error said about one.
    virtual void on_unreachable(int error) noexcept { (void)error; }
    // After close(): the descriptor is gone and nothing is pending. May be called before close()
    // returns.
    virtual void on_socket_gone() noexcept = 0;
};

// The receive buffer that a bound socket should have: asked for when it is bound, while its process
// may still force it (CAP_NET_ADMIN) where net.core.rmem_max is less. Connected ones, of which
// there may be many, ask by themselves and get what the kernel grants to all.
void widen_receive_buffer(int descriptor) noexcept;

class datagram_socket {
  public:
    enum class kind : std::uint8_t { connected, bound };
    // What the kernel writes into a buffer, at most: what it tells of the datagrams, whom they are
    // from, how they are to be cut, and themselves.
    static constexpr std::uint32_t name_bytes = sizeof(sockaddr_in6),
                                   control_bytes = CMSG_SPACE(sizeof(int));
    static constexpr std::uint32_t most_received_bytes =
        sizeof(io_uring_recvmsg_out) + name_bytes + control_bytes + 65'535;

    // Takes the descriptor. Receiving begins with the next flush.
    datagram_socket(datagram_context&, datagram_receiver&, int descriptor, kind) noexcept;
    ~datagram_socket();
    datagram_socket(const datagram_socket&) = delete;
    datagram_socket& operator=(const datagram_socket&) = delete;

    // One datagram, to whom the socket is connected, or to `to`; leaves in the flush. The bytes are
    // those of a receive block, which is kept until the kernel has taken them, or are copied when
    // `holder` is none.
    void send(const endpoint* to, bytes_view bytes, const ring::buffer& holder) noexcept;
    void close() noexcept;

  private:
    friend class datagram_context;
    using send_op = datagram_context::send_op;

    void want() noexcept;
    void arm() noexcept;
    void on_received(ring::completion) noexcept;
    void take(ring::buffer, std::uint32_t bytes) noexcept;
    bool append(send_op&, const endpoint* to, bytes_view bytes,
                const ring::buffer& holder) noexcept;
    void send_apart(const send_op&, int error) noexcept;
    void on_sent() noexcept;
    void on_cancelled(ring::completion) noexcept;
    void settle() noexcept;

    datagram_context& _context;
    datagram_receiver& _receiver;
    datagram_socket* _next = nullptr;  // in the list of all
    datagram_socket** _back = nullptr;
    datagram_socket* _next_receiving = nullptr;
    ring::member_op<&datagram_socket::on_received> _receive{this};
    ring::member_op<&datagram_socket::on_cancelled> _cancel{this};
    msghdr _shape{};
    send_op* _open = nullptr;    // what may still grow in this turn
    std::uint32_t _sending = 0;  // sends that are queued or in the ring
    int _descriptor;
    kind _kind;
    bool _runs = true;  // sends may be runs
    bool _listed = false, _closing = false, _gone = false;
};

}  // namespace burin::relay
