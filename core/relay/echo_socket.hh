// An ICMP socket of one family on a worker's ring: sends echo requests, tells of replies and of
// what routers and routes said instead. Linux gives such a socket to every user whose group the
// sysctl net.ipv4.ping_group_range names (SOCK_DGRAM: the kernel keeps to the socket's own
// identifier), and to who has CAP_NET_RAW (SOCK_RAW: all replies of the machine come in, and are
// told apart here). Both kinds send and report errors (IP_RECVERR) alike.
//
// The kernel tells an error about one request to whichever call comes next on the socket. So what a
// failed send says is believed when the error queue has nothing that it could have come from; else
// the request is sent again.
//
// Everything is asked for without waiting; one poll waits for all of it. Owns its descriptor and
// its memory, which it takes with the first request. One thread.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/relay/context.hh"
#include "core/relay/echo_wire.hh"
#include "core/relay/endpoint.hh"
#include "tun/descriptor.hh"
#include "tun/payload.hh"

namespace burin::relay {

struct echo_descriptor {
    tun::descriptor number;
    bool raw = false;
};

// What a worker pings with; a family that this machine does not have, or may not use, has none.
struct echo_descriptors {
    echo_descriptor v4, v6;
    // 0, or why there is neither.
    int error = 0;
    static echo_descriptors open() noexcept;
};

struct echo_socket_counters {
    std::uint64_t sent = 0;
    std::uint64_t again = 0;        // sends repeated, because an error was another request's
    std::uint64_t socket_full = 0;  // the kernel took no more, or too many in one turn
    std::uint64_t send_errors = 0;
    std::uint64_t strange = 0;  // messages that are no answer to anything of ours
};

class echo_listener {
  public:
    virtual ~echo_listener() = default;
    // The data is valid during the call.
    virtual void on_echo_reply(std::uint16_t sequence, const tun::flow_address& from,
                               bytes_view data) noexcept = 0;
    // unreachable, prohibited or hops_exceeded.
    virtual void on_echo_error(std::uint16_t sequence, const tun::flow_address& to,
                               echo_message::kind what) noexcept = 0;
    // After stop(): nothing is pending.
    virtual void on_echo_socket_stopped() noexcept = 0;
};

class echo_socket {
  public:
    // The descriptor may be none.
    echo_socket(context&, echo_listener&, echo_descriptor, int family);
    ~echo_socket();
    echo_socket(const echo_socket&) = delete;
    echo_socket& operator=(const echo_socket&) = delete;

    bool exists() const noexcept { return _at.number.number() >= 0; }
    // `data`, at most most_echo_bytes, lies in `holder`, or is copied when that is none.
    void send(std::uint16_t sequence, const tun::flow_address& to, bytes_view data,
              const ring::buffer& holder) noexcept;
    void stop() noexcept;
    bool stopped() const noexcept { return _stopping && quiet(); }
    const echo_socket_counters& counters() const noexcept { return _counters; }

  private:
    // Replies that are looked for at once, and sends of one turn.
    static constexpr std::uint32_t burst = 4, most_sends = 256;

    struct send_op : ring::op {
        send_op* next = nullptr;
        std::array<std::byte, 8> header;
        ring::buffer holder;
        tun::payload_slice copy;
        std::array<iovec, 2> parts{};
        msghdr message{};
        endpoint to;
        tun::flow_address address;
        std::uint16_t sequence = 0;
        std::uint8_t tries = 0, empty_tries = 0;
        std::uint64_t errors_seen = 0;  // when it was sent
        int error = 0;
    };
    struct receive_op : ring::op {
        std::unique_ptr<std::byte[]> space;
        iovec part{};
        msghdr message{};
        sockaddr_storage from{};
    };

    void submit(send_op&) noexcept;
    void give_back(send_op&) noexcept;
    void begin() noexcept;
    void wait() noexcept;
    void receive() noexcept;
    void look_for_errors() noexcept;
    void settle() noexcept;
    void take(const receive_op&, std::size_t bytes) noexcept;
    void take_error(const receive_op&, std::size_t bytes) noexcept;
    void check_stopped() noexcept;
    bool quiet() const noexcept;
    bool mine(const std::byte* icmp) const noexcept;

    static void on_sent(ring::op&, ring::completion) noexcept;
    static void on_received(ring::op&, ring::completion) noexcept;
    static void on_error(ring::op&, ring::completion) noexcept;
    void on_ready(ring::completion) noexcept;
    void on_cancelled(ring::completion) noexcept;

    context& _context;
    echo_listener& _listener;
    echo_descriptor _at;
    const bool _v4;
    const std::uint16_t _id;  // of requests; the kernel has its own for SOCK_DGRAM
    std::vector<std::unique_ptr<send_op>> _sends;
    send_op* _free = nullptr;
    send_op* _unsure = nullptr;  // failed, and the error queue has not been looked at yet
    std::array<receive_op, burst> _receives;
    receive_op _errors;
    std::array<std::byte, 256> _control;
    std::uint64_t _errors_seen = 0;
    std::uint32_t _sending = 0, _receiving = 0, _found = 0;
    ring::member_op<&echo_socket::on_ready> _ready{this};
    ring::member_op<&echo_socket::on_cancelled> _cancel{this};
    bool _begun = false, _stopping = false, _told = false;
    echo_socket_counters _counters;
};

}  // namespace burin::relay
