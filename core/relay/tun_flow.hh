// One TCP connection of a host behind the TUN, and the channel that carries it: the terminator
// (tun/tcp.hh) on one side, a channel_end on the other.
//
//   host -> channel: payload goes where it lies, in the frame's slot, to the channel's queue. The
//   window shown to the host is the credit that the peer gave and that this flow's share of the
//   worker's budget leaves; a flow that uses a part of its share within a round trip earns more.
//   channel -> host: slices of the session's receive block, held until the host's ACK, which is
//   also when the peer gets its credit back: a slow host closes its window, and the far end stops
//   reading.
//
// SYN-ACK follows the channel's confirmation. A refusal is told as the network between would have
// told it (refusal.hh): RST, an ICMP error about the SYN, or silence where the far end heard
// nothing either. The end of a stream tells the truth
// (docs/wire.md section 8.6): FIN only for EOF, and EOF only for FIN; a lost session, CLOSE without
// EOF and a host that gave up become resets.
//
// A flow is half-open until the host's handshake is complete, and may have to give way until then
// (half_open.hh). It does so without a word: a host that still tries sends its SYN again, one that
// never was there is no trouble to anybody, and a reset would claim that the destination refused.
//
// The queue owns its flows and frees one in the flush after it ended. A flow refers to its channel
// until one of the two has ended.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/ssh/connection.hh"
#include "ring/timer_wheel.hh"
#include "tun/tcp.hh"

namespace burin::relay {

class tun_queue;

class tun_flow final : public ssh::channel_end {
  public:
    tun_flow(tun_queue&, tun::tcp_context&, const tun::parsed_frame& syn, std::uint32_t index,
             std::uint32_t number, ring::microseconds_t now);
    ~tun_flow() override;

    // Asks for a channel to the flow's destination. Called once, maybe some time after the SYN.
    void open(ssh::connection&) noexcept;
    // No channel yet: refused when none was asked for until `deadline`.
    void wait(ring::microseconds_t deadline) noexcept;
    // RST to the host, at the next flush that has room for it; the channel ends at once.
    void reset() noexcept;
    // Another worker has taken the host's connection up: this flow is gone without a word. False:
    // it has a channel, and stays.
    bool yield() noexcept;
    // Ends at once, and the host is told nothing.
    void give_way() noexcept { _tcp.drop(); }

    // ---- channel_end ----
    void on_confirmed() noexcept override;
    void on_refused(ssh::open_failure_reason, std::string_view text) noexcept override;
    void on_data(bytes_span payload, const ring::buffer& holder) noexcept override;
    void on_eof() noexcept override;
    void on_closed(ssh::close_cause) noexcept override;
    void on_sendable() noexcept override;
    std::uint32_t waiting(std::uint32_t) const noexcept override { return _tcp.unsent(); }

    // ---- what the terminator says, through the queue ----
    void deliver(bytes_view, tun::payload_holder*) noexcept;
    void finished() noexcept;
    void acked(std::uint32_t bytes) noexcept;
    void arm(ring::microseconds_t deadline) noexcept;
    void lingers() noexcept;
    void closed(tun::tcp_close) noexcept;

    std::uint32_t index() const noexcept { return _index; }
    // What logs call the flow.
    std::uint32_t number() const noexcept { return _number; }
    std::string target() const;
    // Towards the channel, and from it.
    std::uint64_t bytes_sent() const noexcept { return _bytes_sent; }
    std::uint64_t bytes_received() const noexcept { return _bytes_received; }
    // The SYN waits for a session.
    bool waiting() const noexcept {
        return _stage == stage::waiting && _tcp.state() != tun::tcp_state::closed;
    }
    // The peer has not answered yet.
    bool asked() const noexcept { return _stage == stage::asked; }
    tun::tcp_flow& tcp() noexcept { return _tcp; }
    const tun::tcp_flow& tcp() const noexcept { return _tcp; }
    // A line of a report.
    std::string describe() const;

  private:
    friend class tun_queue;
    enum class stage : std::uint8_t {
        waiting,    // for a session
        asked,      // the channel is being opened
        confirmed,  // SYN-ACK was allowed
        told,       // the observer knows that it is over
    };

    // What the flush of a turn has to do for this flow. True: again in the next one.
    bool work() noexcept;
    void on_timer(ring::microseconds_t) noexcept;
    void rearm() noexcept;
    std::uint32_t receivable() noexcept;
    void maybe_grow() noexcept;
    // Of its share, what neither bytes nor a promise to the host fill.
    void give_back_unused() noexcept;
    // Both streams are through: the channel need not wait for TIME_WAIT.
    void close_channel_if_done() noexcept;
    void give_up_channel() noexcept;
    void give_back_share() noexcept;
    void tell_closed() noexcept;

    tun_queue& _queue;
    ssh::connection* _connection = nullptr;
    ssh::channel* _channel = nullptr;
    tun_flow* _next = nullptr;  // in the queue's list of flows with something to do
    tun_flow** _back = nullptr;
    std::uint32_t _share = 0;         // bytes of ours that this flow may fill
    std::uint32_t _charged = 0;       // of them, taken from the budget
    std::uint32_t _epoch_bytes = 0;   // delivered since _epoch_start
    std::uint32_t _counted = 0;       // the queue's epoch in which this flow moved last
    std::uint32_t _orphan_bytes = 0;  // unacknowledged when the orphan was last looked at
    std::uint32_t _index;
    std::uint32_t _number;
    std::uint32_t _time_wait_next = 0, _time_wait_before = 0;  // in the queue's list of those
    stage _stage = stage::waiting;
    bool _eof = false;        // of the channel
    bool _doomed = false;     // RST as soon as there is room
    bool _lingering = false;  // in TIME_WAIT
    ring::microseconds_t _epoch_start = 0;
    ring::microseconds_t _tcp_deadline = ring::timer_wheel::never;
    ring::microseconds_t _own_deadline = ring::timer_wheel::never;
    std::uint64_t _bytes_sent = 0, _bytes_received = 0;
    ring::member_timer<&tun_flow::on_timer> _timer{this};
    tun::tcp_flow _tcp;
};

static_assert(sizeof(tun_flow) <= 896, "10 000 idle flows stay below 9 MB");

}  // namespace burin::relay
