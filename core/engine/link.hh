// One session's connection to its peer, from accepted (or connected) socket to channels: HTTP head,
// WebSocket frames, SSH transport, SSH connection, on one socket of one worker. server_session and
// client_session say what happens on top.
//
//   in:  a receive fills a block; the WebSocket reader finds runs of payload in it; the transport
//   opens packets in place;
//        the connection hands payload to relays, which hold the block until their socket took it.
//   out: flush() seals control messages, then payload, into one arena, framed; one send is in
//   flight at a time, so what
//        waits stays on its channel, unsealed, and order is decided as late as possible.
//
// A link owns its descriptor and frees itself through its worker after on_ended(), when nothing is
// pending in the ring and its last flow is gone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "core/engine/exchange_watch.hh"
#include "core/engine/send_pace.hh"
#include "core/engine/worker.hh"
#include "core/http/websocket.hh"
#include "core/relay/socket_relay.hh"
#include "core/ssh/connection.hh"
#include "core/ssh/transport.hh"

namespace burin::engine {

// Why a session ended whose peer just closed its connection; nothing went wrong.
inline constexpr std::string_view end_of_stream = "EOF";
// A native client shows its lists within a round trip of seeing our version line. One that is
// silent for so long may wait for ours, as libssh did up to 0.8; it gets them unseen.
inline constexpr ring::microseconds_t offer_delay = ring::second;

struct link_counters {
    std::uint64_t receives = 0, received_bytes = 0, sends = 0, sent_bytes = 0;
    // Sends without a copy whose bytes the kernel is done with, and those of them that it had
    // copied all the same.
    std::uint64_t zero_copy_sends = 0, zero_copy_copied = 0;
};

struct link_options {
    ring::microseconds_t keepalive = 25 * ring::second;     // 0: none
    ring::microseconds_t ping_timeout = 25 * ring::second;  // for the answer
    // For a key exchange after the first, which is part of the login.
    ring::microseconds_t exchange_timeout = 30 * ring::second;
    ssh::connection_limits limits;
    // Longest WebSocket message taken; 0: any.
    std::uint64_t message_limit = http::websocket_reader::default_message_limit;
    // Client: a mask key that is not zero, for boxes on the way that mind; costs a pass over the
    // bytes.
    bool random_mask = false;
    // Bulk is sent without a copy; `wanted` only as long as the kernel says that it spares one.
    enum class zero_copy : std::uint8_t { off, wanted, always };
    zero_copy send_zero_copy = zero_copy::off;
};

class link : public turn_member,
             public disposable,
             public resident,
             public ssh::transport_events,
             public ssh::connection_events,
             public ssh::packet_sink,
             public zero_copy_borrower,
             public relay::flow_observer {
  public:
    link(worker&, int descriptor, ssh::role, const link_options&);
    ~link() override;

    void flush() noexcept override;
    // Ends the session; the first reason given is the one that is told. Safe from anywhere on the
    // worker.
    void end(std::string_view why) noexcept;
    bool ended() const noexcept { return _ended; }
    bool ready() const noexcept { return _ready && !_ended; }
    std::uint32_t flows() const noexcept { return _flows; }
    ssh::connection& channels() noexcept { return *_connection; }
    worker& home() noexcept { return _worker; }
    // A report of this session for a person, one line a session and one a channel; nothing of one
    // that has not logged in.
    void report(std::string& into) const override;
    void count(tally& t) const override { add_to(t.sessions); }
    void leave() noexcept override { end(""); }

    // ---- zero_copy_borrower ----
    void on_lent_sent(ring::completion) noexcept override;
    void on_lent_back(bool copied) noexcept override;

    // ---- packet_sink ----
    std::byte* room(std::size_t bytes) noexcept override;
    void commit(std::size_t bytes) noexcept override;

    // ---- flow_observer ----
    void on_flow_open(const relay::socket_relay&) noexcept override;
    void on_flow_closed(const relay::socket_relay&) noexcept override;
    void on_flow_refused(const relay::socket_relay&, std::string_view why) noexcept override;
    bool close_means_eof() const noexcept override;
    // A flow that has no relay yet (a dial under way) keeps the link alive as well.
    void hold() noexcept { ++_flows; }
    void release() noexcept;

  protected:
    // ---- what the two kinds of session say ----
    // All bytes of the HTTP head so far; returns how many were used up, or 0 for more. May call
    // become() or end().
    virtual std::size_t on_head(bytes_view) noexcept = 0;
    // Logged in and configured: channels may be opened.
    virtual void on_ended(std::string_view why) noexcept = 0;
    virtual void on_ping_sent() noexcept {}
    virtual void log(bool debug, std::string_view text) noexcept = 0;
    virtual std::string describe() const { return {}; }

    enum class framing { head, native, websocket };
    // The head is over: what follows is SSH, framed like this. `superframes`: the peer takes many
    // packets in a message.
    void become(framing, const ssh::settings&, ssh::dialect, bool superframes) noexcept;
    // Bytes outside of SSH (the HTTP head), sent before anything else.
    void send_raw(std::string_view) noexcept;
    // Sends what is pending, then closes.
    void finish_raw() noexcept { _close_after_send = true; }
    // From now on channels may be opened, pings go out.
    void set_ready() noexcept;
    // The login that the transport was told to answer later: reads nothing until it is answered.
    void hold_login() noexcept { _login_held = true; }
    void resume_login() noexcept;
    // Before login, after each turn with something new: memory that the peer makes us hold beyond
    // the objects themselves. Only while _early.
    virtual void on_held(std::size_t bytes) noexcept { (void)bytes; }
    // Fails the session when set_ready() was not called by then.
    void deadline(ring::microseconds_t at, std::string_view why) noexcept;

    // ---- transport_events, connection_events ----
    void on_message(bytes_span payload) noexcept override;
    void on_failure(std::string_view why) override;
    void on_log(ssh::log_level level, std::string_view text) override;
    void on_pending() noexcept override;
    void on_violation(std::string_view rule) noexcept override;
    void on_request_reply(bool success, bytes_view payload) noexcept override;
    ring::microseconds_t round_trip() noexcept override;
    // Answers what every session answers (ping, keepalive); false: not one of those.
    bool answer(const ssh::global_request&) noexcept;
    // Replies to other requests than pings.
    virtual void on_other_reply(bool success, bytes_view payload) noexcept {
        (void)success, (void)payload;
    }

    worker& _worker;
    const int _descriptor;
    const ssh::role _role;
    link_options _options;
    std::unique_ptr<ssh::transport> _transport;
    std::unique_ptr<ssh::connection> _connection;
    bool _peer_is_go = false;
    bool _early = false;  // server: not logged in yet
    std::uint32_t _other_requests =
        0;  // want_reply requests of ours that are not pings, not yet answered
    link_counters _counters;

  private:
    void arm_receive() noexcept;
    void on_received(ring::completion) noexcept;
    void take(ring::buffer, std::uint32_t bytes) noexcept;
    void take_head(bytes_view) noexcept;
    void read_heads() noexcept;
    void read_carried() noexcept;
    std::size_t held_bytes() const noexcept;
    void add_to(session_counts&) const noexcept;
    bool logged_in() const noexcept { return _transport != nullptr && _transport->authenticated(); }
    void take_arena() noexcept;
    void give_arena_back() noexcept;
    void process(std::byte* raw, std::byte* raw_end) noexcept;
    void keep_rest(std::byte* raw, std::byte* raw_end) noexcept;
    void fit_sends() noexcept;
    void fit_unsent() noexcept;
    void fit_unread(ring::microseconds_t now) noexcept;
    void arm_send() noexcept;
    void on_sent(ring::completion) noexcept;
    void on_cancelled(ring::completion) noexcept;
    void seal() noexcept;
    void seal_control() noexcept;
    void open_message() noexcept;
    void close_message() noexcept;
    void cancel_next() noexcept;
    // Something sealed is not sent yet.
    bool sending() const noexcept { return on_its_way() || _sent < _sealed; }
    bool on_its_way() const noexcept { return _send.in_flight || _lending; }
    bool lend() noexcept;
    void retire() noexcept;
    void on_keepalive(ring::microseconds_t) noexcept;
    void on_deadline(ring::microseconds_t) noexcept;
    void on_pause_over(ring::microseconds_t) noexcept { _worker.wake(*this); }
    void on_exchange_overdue(ring::microseconds_t) noexcept;
    void on_offer(ring::microseconds_t) noexcept;

    ring::member_op<&link::on_received> _receive{this};
    ring::member_op<&link::on_sent> _send{this};
    ring::member_op<&link::on_cancelled> _cancel{this};
    ring::member_timer<&link::on_keepalive> _keepalive{this};
    ring::member_timer<&link::on_deadline> _deadline{this};
    ring::member_timer<&link::on_pause_over> _pause{this};  // ring/shortage.hh
    ring::member_timer<&link::on_exchange_overdue> _exchange{this};
    exchange_watch _exchange_watch;
    ring::member_timer<&link::on_offer> _offer{this};
    std::string _deadline_why;

    // ---- in ----
    ring::buffer_group* _group = nullptr;  // of the receive that is armed
    framing _framing = framing::head;
    std::unique_ptr<http::websocket_reader> _reader;
    ring::buffer _block;        // where run and rest lie, while there are any
    std::byte* _run = nullptr;  // payload of SSH not yet taken
    std::byte* _run_end = nullptr;
    byte_vector _carry;          // the same, before authentication: small and of its own
    std::size_t _carry_run = 0;  // of it, payload; the others are bytes of a cut frame header

    // ---- out ----
    std::byte* _arena = nullptr;
    std::size_t _arena_bytes = 0;            // of it, for sealed packets
    std::size_t _payload_bytes = 0;          // beyond so many no packet of payload begins
    bool _payload_sealed = false;            // but for the first
    zero_copy_loans::loan* _loan = nullptr;  // the arena is lent; nullptr: it is not
    bool _lending = false;                   // its send has not completed
    // Before login: a stranger who does not read what we send holds this much, and no arena.
    std::unique_ptr<std::byte[]> _early_arena;
    std::size_t _sealed = 0;   // bytes in the arena
    std::size_t _sent = 0;     // of them, gone
    std::size_t _message = 0;  // where the open WebSocket message's payload begins; 0: none
    send_pace _pace;
    std::uint32_t _unsent = 0;  // what the kernel was told may wait unsent; 0: nothing
    ring::microseconds_t _unsent_set = 0;
    int _receive_bound = 0;  // what the receive buffer was before it was bound; 0: it is not
    ring::microseconds_t _unread_tried = 0;
    bool _superframes = false;
    bool _close_after_send = false;
    byte_vector _raw_out;  // HTTP, WebSocket control frames

    std::uint32_t _flows = 0;
    bool _ready = false, _ended = false, _said_last = false, _retired = false, _flushing = false;
    bool _closed = false;  // the descriptor
    bool _receive_cancelled = false, _send_cancelled = false;
    bool _ping_waiting = false;
    bool _login_held = false;
    ring::microseconds_t _ping_sent = 0;
    ring::microseconds_t _last_latency = 0;

    // ---- the path (link_path.cc) ----
    void look_at_path() noexcept;
    void fit_to_path() noexcept;
    void note_latency() noexcept;
    std::uint64_t moved_bytes() const noexcept {
        return _counters.received_bytes + _counters.sent_bytes;
    }
    ring::microseconds_t _socket_round_trip = 0;  // as the kernel measures it
    ring::microseconds_t _look_due = 0;           // when it is asked again at the earliest
    ring::microseconds_t _quiet_latency = 0;      // least of pings that met nothing else; 0: none
    std::uint64_t _ping_moved = 0;                // moved_bytes() when the ping was sent
};

}  // namespace burin::engine
