// A TCP socket at one end, a channel at the other; the same object on both sides of the tunnel.
//
//   socket -> channel: one receive at a time, no longer than the channel's credit, armed only while
//   there is some; the bytes are queued on the channel where they lie and sealed in the flush.
//   channel -> socket: the pieces of a turn go out in one sendmsg that does not wait; what the
//   socket does not take moves to memory of exact size and waits there. Credit goes back to the
//   peer when the socket took the bytes.
//
// The end of a stream tells the truth (docs/wire.md section 8.6): EOF becomes FIN and FIN becomes
// EOF; everything else that ends a flow (reset, lost session, CLOSE without EOF) becomes a reset,
// so that a cut-off transfer never looks whole.
//
// A relay owns its descriptor and itself: it is made with new by start() or dialled() and freed by
// its context when both sides are done and nothing is pending in the ring. Its observer is told
// once.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/relay/context.hh"
#include "core/ssh/connection.hh"

namespace burin::relay {

// Whoever keeps count of flows.
class flow_observer {
  public:
    virtual ~flow_observer() = default;
    virtual void on_flow_open(const socket_relay&) noexcept = 0;
    // Both sides have ended; `relay` is freed after the call.
    virtual void on_flow_closed(const socket_relay&) noexcept = 0;
    // The peer refused to open the channel of an entry flow.
    virtual void on_flow_refused(const socket_relay&, std::string_view why) noexcept = 0;
    // CLOSE without EOF is this peer's only way to end a flow (Go up to 1.11).
    virtual bool close_means_eof() const noexcept = 0;
};

// What came with an open while its destination was dialled (docs/wire.md section 13.4). It keeps no
// receive buffer.
struct early_payload {
    explicit early_payload(ssh::piece_pool& p) : pool(p) {}
    ~early_payload() { pieces.clear(pool); }
    early_payload(const early_payload&) = delete;
    early_payload& operator=(const early_payload&) = delete;
    void add(bytes_span payload, const ring::buffer& holder) noexcept {
        pieces.push(pool.make(holder.share(), payload));
        pieces.own(pool);
    }

    ssh::piece_pool& pool;
    ssh::piece_list pieces;
    bool ended = false;  // EOF behind it
};

class socket_relay final : public ssh::channel_end {
  public:
    // Entry side: a connection that was accepted here asks the peer for a channel. Takes the
    // descriptor, which closes with a reset unless told otherwise (SO_LINGER, which accepted ones
    // inherit); when no channel is to be had the connection is reset. Where the peer takes early
    // data, the open goes a turn later, with what the socket has by then: `type` and `extra` must
    // live as long as the flow. `number` is what logs call the flow, `origin` whatever tells the
    // observer where it came in.
    static socket_relay* start(context&, ssh::connection&, flow_observer&, int descriptor,
                               std::string_view type, bytes_view extra, std::uint32_t number,
                               std::uint32_t origin = 0);
    // Exit side: a connection that was dialled for the peer's channel, which is accepted here.
    // Takes the descriptor, and what the peer has sent already.
    static socket_relay* dialled(context&, ssh::connection&, flow_observer&, int descriptor,
                                 ssh::channel&, std::uint32_t number, early_payload* = nullptr);

    void on_confirmed() noexcept override;
    void on_refused(ssh::open_failure_reason, std::string_view text) noexcept override;
    void on_data(bytes_span payload, const ring::buffer& holder) noexcept override;
    void on_eof() noexcept override;
    void on_closed(ssh::close_cause) noexcept override;
    void on_sendable() noexcept override;

    std::uint32_t number() const noexcept { return _number; }
    std::uint32_t origin() const noexcept { return _origin; }
    // Towards the channel, and from it.
    std::uint64_t bytes_sent() const noexcept { return _bytes_sent; }
    std::uint64_t bytes_received() const noexcept { return _bytes_received; }
    const ssh::channel* channel() const noexcept { return _channel; }
    std::uint64_t waiting_bytes() const noexcept { return _out.bytes(); }

  private:
    friend class context;
    socket_relay(context&, ssh::connection&, flow_observer&, int descriptor, std::uint32_t number);

    void ask(std::string_view type, bytes_view extra) noexcept;
    void want_receive() noexcept;
    void arm_receive() noexcept;
    void on_received(ring::completion) noexcept;
    void watch() noexcept;
    void on_watched(ring::completion) noexcept;
    void want_send() noexcept;
    void arm_send() noexcept;
    void on_sent(ring::completion) noexcept;
    void on_cancelled(ring::completion) noexcept;
    void settle() noexcept;
    enum class ending { graceful, reset };
    void end(ending) noexcept;
    void cancel_next() noexcept;
    void retire() noexcept;
    ~socket_relay() override;

    context& _context;
    ssh::connection& _connection;
    flow_observer& _observer;
    ssh::channel* _channel = nullptr;
    ring::member_op<&socket_relay::on_received> _receive{this};
    ring::member_op<&socket_relay::on_sent> _send{this};
    ring::member_op<&socket_relay::on_cancelled> _cancel{this};
    socket_relay* _next = nullptr;  // in the list of all
    socket_relay** _back = nullptr;
    socket_relay* _next_sending = nullptr;
    socket_relay* _next_receiving = nullptr;
    socket_relay* _next_dead = nullptr;
    // For the socket; while the flow is starting, what it was the first to say.
    ssh::piece_list _out;
    std::uint64_t _bytes_sent = 0, _bytes_received = 0;
    int _descriptor;
    std::uint32_t _number;
    std::uint32_t _origin = 0;
    std::uint32_t _last_received = 0;  // bytes of the last receive
    bool _listed_sending = false, _listed_receiving = false;
    bool _starting = false;      // in the context's list of those, without a channel yet
    bool _read_ended = false;    // FIN of the socket seen, EOF sent
    bool _write_ending = false;  // EOF of the channel seen: FIN after what is queued
    bool _write_ended = false;
    bool _receive_cancelled = false, _send_cancelled = false;
    bool _watching = false;  // _receive is a poll for a reset
    bool _ending = false, _dead = false;
    // Sweeps without progress of a flow whose channel is gone, or not answered yet.
    std::uint8_t _still = 0;
};

static_assert(sizeof(socket_relay) <= 256, "10 000 idle flows stay small");

}  // namespace burin::relay
