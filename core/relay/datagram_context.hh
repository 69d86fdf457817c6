// What the UDP sockets and UDP channels of one worker share: receives, sends, bounds and counters
// (docs/wire.md section 9). Nothing here waits for anything: what finds no room is dropped and
// counted, so that datagrams never hold up a TCP flow.
//
// One thread. The context outlives its sockets; destroy it when the ring will not be entered any
// more.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay/endpoint.hh"
#include "core/ssh/channel.hh"
#include "ring/buffer_group.hh"
#include "ring/ring.hh"
#include "ring/timer_wheel.hh"
#include "tun/payload.hh"

namespace burin::relay {

class datagram_channel;
class datagram_socket;

struct datagram_settings {
    // What is read of one datagram; the rest is cut off (CHISEL_UDP_MAX_SIZE).
    std::uint32_t max_bytes = 9012;
    // Sources of one channel that are remembered; the one that was silent longest makes room
    // (CHISEL_UDP_MAX_CONNS).
    std::uint32_t most_sources = 100;
    // A source, and an outgoing socket, is forgotten when nothing went either way for so long
    // (CHISEL_UDP_DEADLINE).
    ring::microseconds_t deadline = 15 * ring::second;
    // Outgoing sockets of a worker.
    std::uint32_t most_sockets = 10'000;
    // Bytes that all channels of a worker hold: records that wait for credit, half of it at most,
    // and those that came in parts. A share of --memory.
    std::uint64_t most_held_bytes = 16u << 20;
    // The datagram that found no descriptor is lost; the source's next one may find some.
    relief_hook ran_out = {};
};

// Bytes of records that wait for the credit of their channel: 4 ms of 50 000 of the usual size a
// second, for ends that share their cores. On a slow link more would be stale before they arrive.
inline constexpr std::uint32_t most_waiting_bytes = 256 * 1024;

struct datagram_counters {
    std::uint64_t received = 0, received_bytes = 0;  // datagrams, by sockets
    std::uint64_t sent = 0, sent_bytes = 0;
    std::uint64_t runs_received = 0, runs_sent = 0;  // of several datagrams, by one system call
    std::uint64_t runs_refused = 0;                  // by the kernel, and sent one by one
    std::uint64_t sockets_opened = 0, sockets_expired = 0, sockets_evicted = 0;
    std::uint64_t icmp_errors = 0;      // a destination that is not there: harmless
    std::uint64_t channels_broken = 0;  // by a stream that is no gob
    std::uint64_t out_of_buffers = 0;
    // Dropped, by reason.
    std::uint64_t no_channel = 0;      // no session, or the channel is not to be had
    std::uint64_t no_window = 0;       // the oldest of those that wait for credit
    std::uint64_t no_address = 0;      // the target's name does not resolve
    std::uint64_t no_socket = 0;       // none to be had, or as many as there may be
    std::uint64_t unknown_source = 0;  // an answer to one who has not asked, or not lately
    std::uint64_t socket_full = 0;     // the kernel took no more
    std::uint64_t send_errors = 0;
};

// Records that wait, each in a piece with memory of its own.
class datagram_backlog {
  public:
    bool empty() const noexcept { return _first == nullptr; }
    std::uint32_t bytes() const noexcept { return _bytes; }
    void push(ssh::piece* p) noexcept {
        p->next = nullptr;
        (_first == nullptr ? _first : _last->next) = p;
        _last = p;
        _bytes += p->size;
    }
    // The oldest, which becomes the caller's.
    ssh::piece* pop() noexcept {
        ssh::piece* p = _first;
        _first = p->next;
        p->next = nullptr;
        _bytes -= p->size;
        return p;
    }

  private:
    ssh::piece* _first = nullptr;
    ssh::piece* _last = nullptr;
    std::uint32_t _bytes = 0;
};

// Datagrams of one source that found no room when they came, in the block they came in.
struct late_run {
    static constexpr std::size_t most_source_bytes = 64;
    datagram_channel* whose = nullptr;  // nothing: dropped
    late_run* next = nullptr;           // of the same channel
    ring::buffer holder;
    bytes_span payload;
    std::uint32_t size = 0;  // of each, but for a shorter last one
    std::uint8_t source_bytes = 0;
    std::array<char, most_source_bytes> source;
};

class datagram_context {
  public:
    // `buffers` has buffer_shape().
    datagram_context(ring::ring&, ring::timer_wheel&, ring::buffer_group& buffers, ssh::piece_pool&,
                     const datagram_settings&);
    ~datagram_context();
    datagram_context(const datagram_context&) = delete;
    datagram_context& operator=(const datagram_context&) = delete;

    // The shape that `buffers` must have: for whatever a socket may give at once, with room around
    // it for records.
    static ring::buffer_group::shape buffer_shape(std::uint16_t id) noexcept;

    ring::ring& ring;
    ring::timer_wheel& timers;
    ring::buffer_group& buffers;
    ssh::piece_pool& pieces;
    const datagram_settings settings;
    datagram_counters counters;
    ring::microseconds_t now = 0;  // of this turn
    std::uint64_t held_bytes = 0;  // waiting and half received
    std::uint32_t sockets = 0;     // outgoing ones

    // Whether records that wait for credit may be `bytes` more.
    bool may_wait(std::uint64_t bytes) const noexcept {
        return held_bytes + bytes <= settings.most_held_bytes / 2;
    }
    // A place for a run until settle(), so that of a flood what is dropped is never copied.
    // nullptr: as many wait as may, or they are being settled now.
    late_run* take_late() noexcept;
    // Each late run goes to its channel once more, in order: before the sessions' flush.
    void settle() noexcept;
    // Sends of this turn, and receives that can go on.
    void flush() noexcept;
    // What ended is freed here, when nobody on the stack refers to it any longer.
    class mortal {
      public:
        virtual ~mortal() = default;

      private:
        friend class datagram_context;
        mortal* _next_dead = nullptr;
    };
    void bury(mortal*) noexcept;
    // Closes every socket, for a worker that stops.
    void end_all() noexcept;
    // Sockets that the ring still knows.
    std::uint32_t alive() const noexcept { return _alive; }
    // One line for a person, begun with `name`.
    void report(std::string& into, std::string_view name) const;

  private:
    friend class datagram_socket;
    static constexpr std::uint32_t most_sends = 4096, chunk = 32;
    // Blocks that wait for the end of the turn are not to be had for receives meanwhile.
    static constexpr std::uint32_t most_late = 32;
    // What older kernels take of segments in one send (UDP_MAX_SEGMENTS), and of bytes.
    static constexpr std::uint32_t most_parts = 64, most_run_bytes = 65'000;

    // One sendmsg: a datagram, or a run of equal ones of which the last may be shorter.
    struct send_op : ring::op {
        send_op* next = nullptr;
        datagram_socket* who = nullptr;
        std::uint32_t count = 0, bytes = 0, size = 0;
        bool full = false;
        msghdr message{};
        endpoint to;
        std::array<iovec, most_parts> parts;
        // Of a run's bytes: two receive blocks, when it lies in the end of one and the beginning of
        // the next, and memory of its own for the datagram that was cut between them.
        std::array<ring::buffer, 2> holders;
        tun::payload_slice copy;
        alignas(cmsghdr) std::array<std::byte, CMSG_SPACE(sizeof(std::uint16_t))> control;
    };
    send_op* take_send() noexcept;
    void give_back(send_op*) noexcept;
    void submit(send_op&) noexcept;
    static void on_sent(ring::op&, ring::completion) noexcept;

    datagram_socket* _all = nullptr;
    datagram_socket* _receiving = nullptr;  // to be armed in the next flush
    mortal* _dead = nullptr;
    std::uint32_t _alive = 0;
    std::array<late_run, most_late> _late;
    std::uint32_t _late_count = 0;
    bool _settling = false;
    send_op* _first_send = nullptr;  // to be submitted in the next flush, in order
    send_op* _last_send = nullptr;
    send_op* _free_sends = nullptr;
    std::uint32_t _sends_made = 0;
    std::vector<std::unique_ptr<send_op[]>> _send_chunks;
};

}  // namespace burin::relay
