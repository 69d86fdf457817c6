// One TCP connection of a host behind the TUN, ended here (RFC 9293): the far end that the host
// believes it talks to. A machine without I/O, clock or threads: frames and a time in, frames and
// decisions out. It knows neither rings nor SSH; the relay on top glues it to a channel.
//
// The life of a flow:
//   SYN          -> tcp_flow is made in `opening`: nothing is answered while the channel is opened
//   confirmed    -> accept(): SYN-ACK with the first window; refused -> refuse(): RST
//   in-order data-> tcp_events::deliver(), straight from the frame; the window shown is the credit
//                   that set_receive_credit() gave, and its right edge never moves back
//   tunnel data  -> send(): slices are held until the host's ACK, then tcp_events::acked() tells
//                   how many bytes may be given back to the far side as window
//   end          -> send_fin() and tcp_events::finished() for EOF either way, abort() for RST
//   last of all  -> tcp_events::closed(), exactly once
//
// Nothing is emitted while frames are taken in, but for resets: a flow that has something to say
// puts itself on the context's list, and tcp_context::flush(), once a turn, lets each speak: data
// in superframes with the ACK on it, or one ACK.
//
// Who owns what: the relay owns flows and destroys each after closed(), outside of any callback and
// before the context. The context owns list nodes; a frame's payload belongs to the relay; a slice
// belongs to the flow from send() to acked().
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "tun/clock.hh"
#include "tun/frame.hh"
#include "tun/payload_pool.hh"
#include "tun/sequence.hh"
#include "tun/tcp_congestion.hh"
#include "tun/tcp_reassembly.hh"
#include "tun/tcp_recovery.hh"
#include "tun/tcp_send_queue.hh"

namespace burin::tun {

class tcp_flow;

// A frame on its way to the TUN: headers, then the pieces in order. All of it is borrowed for the
// call: copy the header, hold() the pieces for as long as the write takes.
struct tcp_frame {
    bytes_view header;
    std::span<const payload_piece> payload;
    std::uint32_t payload_bytes = 0;
};

enum class tcp_close : std::uint8_t {
    finished,       // FIN both ways, all acknowledged
    reset_by_host,  // RST that passed RFC 5961's checks
    timed_out,      // the host acknowledged nothing for all retransmissions; RST was sent
    aborted,        // abort() or refuse()
};
std::string_view to_text(tcp_close reason) noexcept;

// What a flow tells its owner. Inside a callback the owner may call send(), send_fin(),
// set_receive_credit() and abort() of that flow, but not destroy it.
class tcp_events {
  public:
    // False: no room this turn. The flow keeps what it wanted to say and stays on the list (a RST
    // is given up).
    virtual bool emit(tcp_flow&, const tcp_frame&) noexcept = 0;
    // The next bytes of the stream, never more than the credit. `holder` is null when they lie in
    // the frame being taken in; else they waited for a gap and the holder may be retained.
    virtual void deliver(tcp_flow&, bytes_view, payload_holder* holder) noexcept = 0;
    // The host's FIN: nothing will be delivered any more.
    virtual void finished(tcp_flow&) noexcept = 0;
    // The host has these bytes of send(); their slices are dropped.
    virtual void acked(tcp_flow&, std::uint32_t bytes) noexcept = 0;
    // Call on_timer() at `deadline` or later. Only ever earlier than the last one asked for and not
    // yet fired; a later deadline is found by on_timer() itself, so busy flows leave wheels alone.
    virtual void arm(tcp_flow&, time_us deadline) noexcept = 0;
    // The flow is over and holds nothing; no other callback follows.
    virtual void closed(tcp_flow&, tcp_close reason) noexcept = 0;

  protected:
    ~tcp_events() = default;
};

struct tcp_settings {
    std::uint16_t mtu = 1500;       // of the device: bounds the segments either side sends
    std::uint8_t window_shift = 8;  // units of 256 bytes, up to 16 MiB; larger ones round worse
    // Consecutive retransmissions without an answer before a flow counts as dead: some 100 s from a
    // short round trip (RFC 9293 section 3.8.3: R2 at least 100 seconds).
    std::uint8_t max_retries = 9;
    std::uint8_t max_handshake_retries = 5;
    // Short on purpose: ports here are the host's, and a SYN may take the place over at once.
    time_us time_wait = 5'000'000;
    // Unacknowledged slices pin their block no longer than this.
    time_us compact_after = 50'000;
    hash_key isn_key;  // RFC 6528's secret
};

// Since start; plain counters of one worker.
struct tcp_statistics {
    std::uint64_t segments_in = 0;
    std::uint64_t frames_out = 0;
    std::uint64_t superframes_out = 0;
    std::uint64_t acks_out = 0;  // without payload
    std::uint64_t resets_in = 0;
    std::uint64_t resets_out = 0;
    std::uint64_t retransmitted_bytes = 0;
    std::uint64_t timeouts = 0;
    std::uint64_t fast_retransmits = 0;
    std::uint64_t window_probes = 0;
    std::uint64_t duplicate_segments = 0;  // nothing new, or outside the window
    std::uint64_t out_of_order_segments = 0;
    std::uint64_t reassembly_refused = 0;
    std::uint64_t challenge_acks = 0;
    std::uint64_t bad_acks = 0;
};

// What the flows of one worker share.
class tcp_context {
  public:
    tcp_context(tcp_events& events, const tcp_settings& settings) noexcept
        : _events(events), _settings(settings) {}
    tcp_context(const tcp_context&) = delete;
    tcp_context& operator=(const tcp_context&) = delete;

    // Every flow that has something to say says it, each once and at most tcp_flow::flush_bytes;
    // what has more left is on the list again. Ends early when emit() has no room.
    void flush(time_us now) noexcept;
    // Somebody waits for flush(): do not sleep.
    bool pending() const noexcept { return _first != nullptr; }

    tcp_events& events() noexcept { return _events; }
    const tcp_settings& settings() const noexcept { return _settings; }
    tcp_statistics& statistics() noexcept { return _statistics; }
    payload_pool& pool() noexcept { return _pool; }

  private:
    friend class tcp_flow;
    tcp_events& _events;
    tcp_settings _settings;
    tcp_flow* _first = nullptr;
    tcp_flow* _last = nullptr;
    std::uint32_t _listed = 0;
    payload_pool _pool;
    tcp_statistics _statistics;
};

enum class tcp_state : std::uint8_t {
    opening,       // SYN seen, the channel is being opened
    syn_received,  // SYN-ACK sent (RFC 9293's SYN-RECEIVED)
    open,          // ESTABLISHED to LAST-ACK; which of them follows from the two FINs
    time_wait,
    closed
};

class tcp_flow {
  public:
    static constexpr std::uint32_t flush_bytes = 512 * 1024;  // a flow's part of one turn

    // `syn` has SYN and neither ACK nor RST; its payload, if any, is left to be sent again.
    tcp_flow(tcp_context& context, const parsed_frame& syn, time_us now) noexcept;
    ~tcp_flow();
    tcp_flow(const tcp_flow&) = delete;
    tcp_flow& operator=(const tcp_flow&) = delete;

    // `opening` only. The channel is confirmed: SYN-ACK, showing `credit` bytes as the first
    // window.
    void accept(std::uint32_t credit, time_us now) noexcept;
    // `opening` only. RST, then closed(aborted).
    void refuse() noexcept;

    enum class segment_outcome {
        taken,
        // A SYN that takes over from TIME_WAIT: this flow has closed itself, and the frame wants a
        // new one, which then calls succeed(old).
        reopen,
    };
    // A frame of this flow.
    segment_outcome on_segment(const parsed_frame& frame, time_us now) noexcept;
    // RFC 9293 section 3.6.1: the new flow's sequence numbers start above the old one's. Before
    // accept().
    void succeed(const tcp_flow& before) noexcept;

    // Bytes for the host. False: the flow takes none any more (closed, send_fin() was called) or
    // memory was refused; the slice is dropped, and the stream is then broken: abort().
    bool send(payload_slice slice, time_us now) noexcept;
    // EOF after what send() was given.
    void send_fin(time_us now) noexcept;
    // RST now, whatever is queued is dropped, closed(aborted).
    void abort() noexcept;
    // How many bytes, from the next one to be delivered, the owner can take. Falls by itself with
    // every deliver(). Give what is really there: a value below advertised() takes nothing back,
    // and what the host sends beyond it waits here, 64 KiB of it at most, until there is credit
    // again.
    void set_receive_credit(std::uint32_t bytes) noexcept;
    // The timer asked for by arm().
    void on_timer(time_us now) noexcept;
    // One flow's part of tcp_context::flush(). False: emit() had no room.
    bool flush(time_us now) noexcept;

    void set_owner(void* owner) noexcept { _owner = owner; }
    void* owner() const noexcept { return _owner; }
    const flow_key& key() const noexcept { return _key; }
    tcp_state state() const noexcept { return _state; }
    // Bytes still unclaimed of the credit, and bytes the host may send at this moment.
    std::uint32_t receive_credit() const noexcept { return _credit; }
    std::uint32_t advertised() const noexcept;
    // Bytes of send() that the host has not acknowledged.
    std::uint32_t unacknowledged() const noexcept { return _queue.bytes(); }
    std::uint32_t in_flight() const noexcept { return static_cast<std::uint32_t>(_next - _una); }
    // Bytes kept for the host's sake ahead of a gap.
    std::uint32_t reassembly_bytes() const noexcept { return _reassembly.bytes(); }
    std::uint32_t peer_window() const noexcept { return _peer_window; }
    std::uint32_t congestion_window() const noexcept { return _congestion.window(); }
    std::uint32_t smoothed_rtt_us() const noexcept { return _rtt.smoothed_us(); }
    std::uint32_t segment_bytes() const noexcept { return _mss; }
    bool fin_received() const noexcept { return _fin_received; }
    bool fin_sent() const noexcept { return _fin_sent; }
    time_us deadline() const noexcept;

  private:
    friend class tcp_context;

    // tcp.cc: life, timers, the owner's calls.
    void take_syn(const parsed_frame& syn) noexcept;
    void close(tcp_close reason) noexcept;
    void want_flush() noexcept;
    void leave_list() noexcept;
    void schedule() noexcept;
    void on_retransmit_timer(time_us now) noexcept;
    void finish_if_done() noexcept;
    // Of IP and TCP, without options.
    std::uint32_t header_bytes() const noexcept {
        return static_cast<std::uint32_t>(ip_header_bytes(_key) + tcp_header_bytes);
    }
    sequence send_end() const noexcept { return _una + _queue.bytes(); }  // where the FIN goes

    // tcp_input.cc
    void on_segment_opening(const parsed_frame& frame) noexcept;
    segment_outcome on_segment_time_wait(const parsed_frame& frame, time_us now) noexcept;
    void on_segment_synchronized(const parsed_frame& frame, time_us now) noexcept;
    bool is_acceptable(const parsed_frame& frame) const noexcept;
    void on_unacceptable(const parsed_frame& frame, time_us now) noexcept;
    bool complete_handshake(const parsed_frame& frame, time_us now) noexcept;
    bool on_ack(const parsed_frame& frame, time_us now) noexcept;
    void on_new_ack(sequence ack, time_us now) noexcept;
    void on_duplicate_ack(time_us now) noexcept;
    void on_payload(const parsed_frame& frame) noexcept;
    void deliver(bytes_view bytes, payload_holder* holder) noexcept;
    void deliver_reassembled() noexcept;
    void take_fin_if_reached() noexcept;
    void owe_ack() noexcept;
    void owe_duplicate_acks(std::size_t count) noexcept;
    void challenge(time_us now) noexcept;

    // tcp_output.cc
    bool emit(sequence seq, std::uint8_t flags, std::span<const payload_piece> pieces,
              std::uint32_t bytes) noexcept;
    bool emit_syn_ack(time_us now) noexcept;
    bool emit_reset(sequence seq, sequence ack, std::uint8_t flags) noexcept;
    bool emit_repair() noexcept;
    bool emit_data(time_us now, bool& more) noexcept;
    bool emit_acks() noexcept;
    std::uint32_t send_allowance() const noexcept;
    std::uint32_t whole_segments() const noexcept;
    bool fin_is_next() const noexcept;
    void start_timer(time_us now) noexcept;
    std::uint32_t window_target() const noexcept;
    bool may_raise(std::uint32_t target) const noexcept;
    std::uint16_t window_field() noexcept;

    // Hot: what every frame touches.
    tcp_context& _context;
    void* _owner = nullptr;
    tcp_flow* _previous = nullptr;
    tcp_flow* _following = nullptr;
    tcp_state _state = tcp_state::opening;
    bool _listed : 1 = false;
    bool _fin_queued : 1 = false;  // send_fin() was called
    bool _fin_sent : 1 = false;    // at least once
    bool _fin_acked : 1 = false;
    bool _fin_seen : 1 = false;      // the host's FIN has a place, perhaps behind a gap
    bool _fin_received : 1 = false;  // and everything before it was delivered
    bool _host_closed_first : 1 = false;
    bool _probe_owed : 1 = false;
    bool _timing : 1 = false;  // a round trip is being measured
    bool _delivering : 1 = false;
    bool _handshake_repeated : 1 = false;
    std::uint8_t _acks_owed = 0;
    std::uint8_t _receive_shift = 0;
    std::uint8_t _send_shift = 0;
    std::uint8_t _retries = 0;
    std::uint32_t _mss = 0;  // of what we send: the host's, bounded by the device

    sequence _receive_next;  // RCV.NXT
    sequence _edge;          // the right edge of the window, as ever shown
    std::uint32_t _credit = 0;
    std::uint32_t _max_credit = 0;
    sequence _una;   // SND.UNA
    sequence _next;  // SND.NXT; goes back to _una on a timeout
    sequence _max;   // the highest SND.NXT ever
    std::uint32_t _peer_window = 0;
    std::uint32_t _max_peer_window = 0;
    sequence _window_seq;                // SND.WL1
    std::uint32_t _repair_segments = 0;  // to be sent again from _una, once

    tcp_congestion _congestion;
    loss_recovery _recovery;
    rtt_estimator _rtt;
    sequence _timed_end;
    time_us _timed_at = 0;
    time_us _last_data_at = 0;
    time_us _retransmit_at = never_us;  // also: probe, SYN-ACK, end of TIME_WAIT
    time_us _compact_at = never_us;
    time_us _armed_at = never_us;
    tcp_send_queue _queue;
    tcp_reassembly _reassembly;

    // Cold.
    time_us _challenged_at = 0;
    sequence _fin_place;   // the host's FIN
    sequence _host_first;  // IRS
    sequence _first;       // ISS
    flow_key _key;
};
static_assert(sizeof(tcp_flow) <= 512);

}  // namespace burin::tun
