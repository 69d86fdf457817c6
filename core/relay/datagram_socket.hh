// A UDP socket on a worker's ring: one receive that waits, more beside it while datagrams come
// faster than turns; closed when the ring has given back everything of it.
//
// A datagram arrives in a buffer that the kernel picked, with room around it for the octets of a
// record (gob.hh). An ICMP error of a destination is counted and changes nothing.
#pragma once

#include <cstdint>

#include "core/relay/datagram_context.hh"

namespace burin::relay {

class datagram_receiver {
  public:
    virtual ~datagram_receiver() = default;
    // `size` bytes from buffer.data() on; `buffer` may be none when there are no bytes, which makes
    // a datagram all the same. `from` is told by sockets that are not connected.
    virtual void on_received(ring::buffer buffer, std::uint32_t size,
                             const endpoint* from) noexcept = 0;
    // After close(): the descriptor is gone and nothing is pending. May be called before close()
    // returns.
    virtual void on_socket_gone() noexcept = 0;
};

class datagram_socket {
  public:
    enum class kind : std::uint8_t { connected, bound };
    // Takes the descriptor. Receiving begins with the next flush.
    datagram_socket(datagram_context&, datagram_receiver&, int descriptor, kind) noexcept;
    ~datagram_socket();
    datagram_socket(const datagram_socket&) = delete;
    datagram_socket& operator=(const datagram_socket&) = delete;

    // To whom the socket is connected, or to `to`.
    void send(const endpoint* to, bytes_view bytes, const ring::buffer& holder) noexcept {
        _context.send(_descriptor, to, bytes, holder);
    }
    void close() noexcept;

  private:
    friend class datagram_context;
    using receive_op = datagram_context::receive_op;

    void want() noexcept;
    void arm() noexcept;
    void submit(receive_op&, int flags) noexcept;
    static void on_completed(ring::op&, ring::completion) noexcept;
    void on_datagram(receive_op&, ring::completion) noexcept;
    void on_cancelled(ring::completion) noexcept;
    void settle() noexcept;

    datagram_context& _context;
    datagram_receiver& _receiver;
    datagram_socket* _next = nullptr;  // in the list of all
    datagram_socket** _back = nullptr;
    datagram_socket* _next_receiving = nullptr;
    receive_op* _waiting = nullptr;  // the receive that waits
    ring::member_op<&datagram_socket::on_cancelled> _cancel{this};
    int _descriptor;
    std::uint32_t _pending = 0;  // receives in the ring
    kind _kind;
    bool _listed = false, _busy = false, _closing = false, _gone = false;
};

}  // namespace burin::relay
