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
// Loss: the host's SACKs fill a scoreboard, RACK-TLP (RFC 8985) says what is lost, and only that is
// sent again, at the pace of RFC 6937, under CUBIC; or all is sent at the pace of BBR, to which
// loss is no congestion. A host without SACK gets NewReno's evidence on the same board. ECN as RFC
// 3168 has it, where a mark is what a loss is to CUBIC; a flow under BBR does not agree on it.
// Timestamps (RFC 7323) are read over and not answered: D-SACK tells spurious repairs without them,
// RACK needs none, and 2^32 bytes take longer to wrap here than any frame lives between a host and
// its gateway; they would cost 12 bytes a segment.
//
// Who owns what: the relay owns flows and destroys each after closed(), outside of any callback and
// before the context. The context owns list nodes; a frame's payload belongs to the relay; a slice
// belongs to the flow from send() to acked().
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "tun/clock.hh"
#include "tun/congestion_control.hh"
#include "tun/frame.hh"
#include "tun/payload_pool.hh"
#include "tun/sequence.hh"
#include "tun/tcp_bbr_control.hh"
#include "tun/tcp_congestion.hh"
#include "tun/tcp_reassembly.hh"
#include "tun/tcp_recovery.hh"
#include "tun/tcp_sack.hh"
#include "tun/tcp_scoreboard.hh"
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
    timed_out,      // the host is gone, or kept its end shut past all limits; RST was sent
    aborted,        // abort(), refuse() or drop()
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
    // The host has completed the handshake.
    virtual void established(tcp_flow&) noexcept {}
    // TIME_WAIT begins: both streams are through, and of the flow nothing is left but its numbers.
    virtual void lingers(tcp_flow&) noexcept {}
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
    // A host that has vanished without a word (a phone out of reach) is found out half an hour
    // after its last: late enough for a laptop that slept through lunch, early enough that such
    // flows do not pile up for RFC 9293's two hours (section 3.8.4).
    time_us keepalive_after = 600'000'000;
    time_us keepalive_interval = 75'000'000;
    std::uint8_t keepalive_probes = 16;
    // A host that answers probes but takes nothing (RFC 6429 allows an end to that): what waits for
    // it is memory of ours.
    time_us most_shut = 1800'000'000;
    // After our FIN is acknowledged and nothing came for so long, the host has forgotten to close.
    // RFC 5382 section 5 asks middle boxes for at least four minutes.
    time_us half_closed_after = 1800'000'000;
    // Short on purpose: ports here are the host's, and a SYN may take the place over at once.
    time_us time_wait = 5'000'000;
    // Unacknowledged slices pin their block no longer than this.
    time_us compact_after = 50'000;
    congestion_control congestion = congestion_control::cubic;  // of what we send
    hash_key isn_key;                                           // RFC 6528's secret
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
    std::uint64_t fast_retransmits = 0;  // recoveries begun by acknowledgements
    std::uint64_t spurious_repairs = 0;  // recoveries that D-SACK showed to be unneeded, undone
    std::uint64_t tail_probes = 0;
    std::uint64_t ecn_reductions = 0;
    std::uint64_t paced_waits = 0;    // for the next burst, under BBR
    std::uint64_t window_probes = 0;  // of a shut window
    std::uint64_t keepalive_probes = 0;
    std::uint64_t duplicate_segments = 0;  // nothing new, or outside the window
    std::uint64_t out_of_order_segments = 0;
    std::uint64_t reassembly_refused = 0;
    std::uint64_t challenge_acks = 0;
    std::uint64_t bad_acks = 0;
    std::uint64_t bad_sacks = 0;  // blocks of what was never sent, or turned inside out
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
    const tcp_statistics& statistics() const noexcept { return _statistics; }
    payload_pool& pool() noexcept { return _pool; }
    const scoreboard_pool& scoreboards() const noexcept { return _scoreboards; }

  private:
    friend class tcp_flow;
    tcp_events& _events;
    tcp_settings _settings;
    tcp_flow* _first = nullptr;
    tcp_flow* _last = nullptr;
    std::uint32_t _listed = 0;
    payload_pool _pool;
    scoreboard_pool _scoreboards;
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
    // The same without a word: a host that still tries begins anew.
    void drop() noexcept;
    // How many bytes, from the next one to be delivered, the owner can take. Falls by itself with
    // every deliver(). Give what is really there: a value below advertised() takes nothing back,
    // and what the host sends beyond it waits here, 64 KiB of it at most, until there is credit
    // again.
    void set_receive_credit(std::uint32_t bytes) noexcept;
    // The path takes no packets larger than `mtu` bytes (ICMP's word, RFC 1191 and RFC 8201; the
    // caller asks is_in_flight() about the quoted packet first): smaller segments from now on, and
    // what is out goes again, without blame on the path's capacity.
    void on_packet_too_big(std::uint32_t mtu) noexcept;
    // RFC 5927 section 4.1: an ICMP error that quotes any other sequence number is forged or stale.
    bool is_in_flight(sequence quoted) const noexcept {
        if (_state == tcp_state::syn_received) return quoted == _first;
        return _una <= quoted && quoted < _next;
    }
    // The timer asked for by arm().
    void on_timer(time_us now) noexcept;
    // One flow's part of tcp_context::flush(). False: emit() had no room.
    bool flush(time_us now) noexcept;

    void set_owner(void* owner) noexcept { _owner = owner; }
    void* owner() const noexcept { return _owner; }
    const flow_key& key() const noexcept { return _key; }
    // Of the host's SYN.
    sequence host_first() const noexcept { return _host_first; }
    tcp_state state() const noexcept { return _state; }
    // Bytes still unclaimed of the credit, and bytes the host may send at this moment.
    std::uint32_t receive_credit() const noexcept { return _credit; }
    std::uint32_t advertised() const noexcept;
    // Bytes of send() that the host has not acknowledged.
    std::uint32_t unacknowledged() const noexcept { return _queue.bytes(); }
    std::uint32_t unsent() const noexcept { return _queue.unsent(); }  // of them
    std::uint32_t in_flight() const noexcept { return static_cast<std::uint32_t>(_next - _una); }
    // Bytes kept for the host's sake ahead of a gap.
    std::uint32_t reassembly_bytes() const noexcept { return _reassembly.bytes(); }
    std::uint32_t peer_window() const noexcept { return _peer_window; }
    std::uint32_t congestion_window() const noexcept {
        return _bbr != nullptr ? _bbr->model.window() : _congestion.window();
    }
    congestion_control control() const noexcept {
        return _bbr != nullptr ? congestion_control::bbr : congestion_control::cubic;
    }
    // Bytes a second; 0 without BBR.
    std::uint64_t pacing_rate() const noexcept {
        return _bbr != nullptr ? static_cast<std::uint64_t>(_bbr->pacer.rate() * 1e6f) : 0;
    }
    std::uint32_t smoothed_rtt_us() const noexcept { return _rtt.smoothed_us(); }
    std::uint32_t segment_bytes() const noexcept { return _mss; }
    bool uses_sack() const noexcept { return _sack_permitted; }
    bool uses_ecn() const noexcept { return _ecn; }
    bool fin_received() const noexcept { return _fin_received; }
    bool fin_sent() const noexcept { return _fin_sent; }
    time_us deadline() const noexcept;

  private:
    friend class tcp_context;

    enum class phase : std::uint8_t { normal, recovery, timed_out };
    // What _loss_at is for (RFC 8985 section 8: never both).
    enum class loss_timer : std::uint8_t { tail_probe, reordering };
    enum class freshness { first_time, again };

    // tcp.cc: life and the owner's calls.
    void take_syn(const parsed_frame& syn) noexcept;
    void close(tcp_close reason) noexcept;
    void let_go() noexcept;
    void give_up() noexcept;
    void want_flush() noexcept;
    void leave_list() noexcept;
    void finish_if_done() noexcept;
    // Of IP and TCP, without options.
    std::uint32_t header_bytes() const noexcept {
        return static_cast<std::uint32_t>(ip_header_bytes(_key) + tcp_header_bytes);
    }
    sequence send_end() const noexcept { return _una + _queue.bytes(); }  // where the FIN goes

    // tcp_timers.cc
    void schedule() noexcept;
    void start_timers(time_us now) noexcept;
    void restart_timers(time_us now) noexcept;
    void compact(time_us now) noexcept;
    void on_retransmit_timer(time_us now) noexcept;
    void on_loss_timer(time_us now) noexcept;
    void on_idle_timer(time_us now) noexcept;
    bool waits_for_window() const noexcept;

    // tcp_input.cc
    void on_segment_opening(const parsed_frame& frame) noexcept;
    segment_outcome on_segment_time_wait(const parsed_frame& frame, time_us now) noexcept;
    void on_segment_synchronized(const parsed_frame& frame, time_us now) noexcept;
    bool is_acceptable(const parsed_frame& frame) const noexcept;
    void on_unacceptable(const parsed_frame& frame, time_us now) noexcept;
    bool complete_handshake(const parsed_frame& frame, time_us now) noexcept;
    bool on_ack(const parsed_frame& frame, time_us now) noexcept;
    void on_window_change(std::uint32_t window, time_us now) noexcept;
    void on_payload(const parsed_frame& frame, time_us now) noexcept;
    void on_payload_ahead(sequence seq, bytes_view bytes, std::uint16_t gso_size) noexcept;
    void note_duplicate(sequence start, sequence end) noexcept;
    void deliver(bytes_view bytes, payload_holder* holder) noexcept;
    void deliver_reassembled() noexcept;
    void take_fin_if_reached() noexcept;
    void owe_ack() noexcept;
    void owe_duplicate_acks(std::size_t count) noexcept;
    void challenge(time_us now) noexcept;

    // tcp_loss.cc
    void on_news(const parsed_frame& frame, time_us now) noexcept;
    void take_sack(const parsed_frame& frame, tcp_delivery& news) noexcept;
    void on_duplicate_ack(time_us now) noexcept;
    void on_congestion_report(sequence ack) noexcept;
    void judge_tail_probe(sequence ack) noexcept;
    void find_losses(time_us now) noexcept;
    void lose_front(std::uint32_t count) noexcept;
    void on_loss(time_us now) noexcept;
    void on_timeout() noexcept;
    void on_repaired_for_nothing(std::uint32_t bytes) noexcept;
    // Bytes thought to be in the network. What Reno's duplicates stand for may be on the board as
    // lost by now, so the two do not simply add up.
    std::uint32_t pipe() const noexcept {
        const std::uint32_t out = in_flight() - _board.sacked_bytes() - _board.lost_bytes();
        return out - std::min(out, _reno.left_bytes());
    }

    // tcp_paced.cc; but for the first, only with _bbr.
    void choose_control(time_us now) noexcept;
    void tell_model(const tcp_delivery& news, std::uint32_t arrived, time_us now) noexcept;
    std::uint32_t paced_room(time_us now) const noexcept;
    void wait_for_pace(time_us now) noexcept;

    // tcp_output.cc
    bool emit(sequence seq, std::uint8_t flags, std::span<const payload_piece> pieces,
              std::uint32_t bytes, freshness fresh) noexcept;
    bool emit_syn_ack(time_us now) noexcept;
    bool emit_reset(sequence seq, sequence ack, std::uint8_t flags) noexcept;
    std::uint32_t emit_again(sequence start, std::uint32_t count, time_us now) noexcept;
    bool emit_repairs(time_us now, bool& more) noexcept;
    bool emit_data(time_us now, bool& more) noexcept;
    bool emit_tail_probe(time_us now) noexcept;
    bool emit_acks() noexcept;
    void on_tail_probe_sent(time_us now) noexcept;
    std::uint32_t congestion_room(time_us now) const noexcept;
    std::uint32_t peer_room() const noexcept;
    std::uint32_t whole_segments() const noexcept;
    bool fin_is_next() const noexcept;
    std::uint32_t window_target() const noexcept;
    bool may_raise(std::uint32_t target) const noexcept;
    std::uint16_t window_field() noexcept;

    // Hot: what every frame touches.
    tcp_context& _context;
    void* _owner = nullptr;
    tcp_flow* _previous = nullptr;
    tcp_flow* _following = nullptr;
    tcp_state _state = tcp_state::opening;
    phase _phase = phase::normal;
    loss_timer _loss_timer = loss_timer::tail_probe;
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
    bool _sack_permitted : 1 = false;
    bool _ecn : 1 = false;
    bool _echo_congestion : 1 = false;  // ECE until the host's CWR
    bool _cwr_owed : 1 = false;
    bool _congestion_told : 1 = false;  // by ECN, _cwr_end is meaningful
    bool _tail_probe_owed : 1 = false;
    bool _tail_probe_out : 1 = false;      // up to _tail_probe_end
    bool _tail_probe_repeat : 1 = false;   // and it was no new data
    bool _tail_probe_doubled : 1 = false;  // D-SACK: the host had that already
    std::uint8_t _acks_owed = 0;
    std::uint8_t _receive_shift = 0;
    std::uint8_t _send_shift = 0;
    std::uint8_t _retries = 0;
    std::uint8_t _idle_probes = 0;  // keep-alives without an answer
    std::uint32_t _mss = 0;         // of what we send: the host's, bounded by the device

    sequence _receive_next;  // RCV.NXT
    sequence _edge;          // the right edge of the window, as ever shown
    std::uint32_t _credit = 0;
    std::uint32_t _max_credit = 0;
    sequence _una;   // SND.UNA
    sequence _next;  // SND.NXT; never goes back
    std::uint32_t _peer_window = 0;
    std::uint32_t _max_peer_window = 0;
    sequence _window_seq;  // SND.WL1

    sequence _timed_end;
    time_us _timed_at = 0;
    time_us _last_data_at = 0;
    time_us _heard_at = 0;
    time_us _retransmit_at = never_us;  // also: probe of a shut window, SYN-ACK, end of TIME_WAIT
    time_us _loss_at = never_us;
    time_us _compact_at = never_us;
    time_us _idle_at = never_us;
    time_us _armed_at = never_us;
    tcp_congestion _congestion;
    std::unique_ptr<tcp_bbr_control> _bbr;  // null: CUBIC
    rtt_estimator _rtt;
    send_times _times;
    rack _rack;
    tcp_scoreboard _board;
    tcp_send_queue _queue;
    tcp_reassembly _reassembly;

    // Cold.
    sack_list _sacks;  // to be told to the host
    reno_recovery _reno;
    rate_reduction _reduction;
    sequence _recover;                  // the recovery ends when this is acknowledged
    sequence _repaired_from;            // what its repairs began with
    std::uint32_t _repaired_bytes = 0;  // of it, not yet known to have been for nothing
    sequence _tail_probe_end;
    sequence _cwr_end;  // ECN's reports count again from here on
    time_us _challenged_at = 0;
    time_us _shut_at = 0;  // the host's window is shut since
    time_us _heard_data_at = 0;
    sequence _fin_place;   // the host's FIN
    sequence _host_first;  // IRS
    sequence _first;       // ISS
    flow_key _key;
};
// A third of it is the scoreboard's own ranges, RACK's times and CUBIC's curve: what it takes to
// mend a loss without touching the allocator. Ten thousand idle flows are 7 MB.
static_assert(sizeof(tcp_flow) <= 712);

}  // namespace burin::tun
