// What the relays of one worker share: ring, timers, receive buffers, pieces, and the lists that
// the flush of a turn works through. A relay puts itself on a list when something changed; no relay
// makes a system call.
//
// One thread. The context outlives its relays.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "core/ssh/channel.hh"
#include "ring/buffer_group.hh"
#include "ring/ring.hh"
#include "ring/timer_wheel.hh"

namespace burin::relay {

class socket_relay;
class datagram_context;

struct relay_counters {
    std::uint64_t flows = 0, receives = 0, received_bytes = 0, sends = 0, sent_bytes = 0;
    std::uint64_t partial_sends = 0, out_of_buffers = 0, resets = 0;
};

class context {
  public:
    context(ring::ring& r, ring::timer_wheel& wheel, ring::buffer_group& sockets,
            ssh::piece_pool& pool);
    ~context();
    context(const context&) = delete;
    context& operator=(const context&) = delete;

    ring::ring& ring;
    ring::timer_wheel& timers;
    ring::buffer_group& buffers;
    ssh::piece_pool& pieces;
    relay_counters counters;
    datagram_context* datagrams = nullptr;  // of the same worker; nullptr: UDP is not carried
    ring::microseconds_t now = 0;           // of this turn

    // ---- flush, in this order ----
    // Channels for flows that came in the last turn, with what their programs have said since; then
    // one sendmsg for every relay that has payload for its socket.
    void flush_sends() noexcept;
    // Receives that can go on.
    void flush_receives() noexcept;
    // Relays that ended are freed last, when no list names them.
    void bury() noexcept;

    // Sends that found no place in this turn's flush, or flows that came in it: the next turn comes
    // at once.
    bool pending() const noexcept { return _sending != nullptr || !_starting.empty(); }

    std::uint32_t alive() const noexcept { return _alive; }
    // Once a second: flows from which nothing is received just now are watched for a reset.
    void on_sweep(ring::microseconds_t) noexcept;
    // Resets every flow, for a worker that stops.
    void end_all() noexcept;

    // Bytes one receive may take now: flows that move bulk share half a megabyte a turn, which is
    // what a session seals.
    std::uint32_t receive_share() const noexcept;

  private:
    friend class socket_relay;
    static constexpr std::size_t vectors_a_turn = 8192, messages_a_turn = 1024;

    // A flow that waits for the first look at its socket.
    struct starting {
        socket_relay* relay;
        std::string_view type;
        bytes_view extra;
        bool looked;
    };
    void open_started() noexcept;

    ring::member_timer<&context::on_sweep> _sweep{this};
    std::uint32_t _alive = 0;
    socket_relay* _all = nullptr;
    std::vector<starting> _starting;
    socket_relay* _sending = nullptr;
    socket_relay* _receiving = nullptr;
    socket_relay* _dead = nullptr;
    std::uint32_t _received_this_turn = 0, _received_last_turn = 0;
    // Read by the kernel while it is in enter(); free again in the next turn.
    std::vector<iovec> _vectors;
    std::vector<msghdr> _messages;
};

}  // namespace burin::relay
