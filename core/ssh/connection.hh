// The SSH connection layer of one session (RFC 4254; docs/wire.md section 8): channel table,
// windows, global requests, and the scheduler that decides whose payload is sealed next. A machine
// without I/O: messages come in opened from the transport, packets go out sealed into a packet_sink
// when the owner flushes.
//
// It owns its channels; see channel.hh for what a channel_end may rely on. Nothing is allocated for
// payload in flight. A peer that breaks a rule of RFC 4254 ends the connection: fail() names the
// rule.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/ssh/channel.hh"
#include "core/ssh/messages.hh"
#include "core/ssh/transport.hh"
#include "ring/budget.hh"
#include "ring/clock.hh"

namespace burin::ssh {

// Where sealed packets go: the arena of the session, with whatever framing surrounds them there.
class packet_sink {
  public:
    virtual ~packet_sink() = default;
    // Room for one packet of `bytes`, or nullptr when this turn's share is used up.
    virtual std::byte* room(std::size_t bytes) noexcept = 0;
    virtual void commit(std::size_t bytes) noexcept = 0;
};

// What the session above decides.
class connection_events {
  public:
    virtual ~connection_events() = default;
    // The peer opens a channel. Answer with accept() or refuse(), now or later.
    virtual void on_open(channel&, const channel_open&) noexcept = 0;
    // Replies are sent with reply(); requests are answered in order.
    virtual void on_global_request(const global_request&) noexcept = 0;
    virtual void on_request_reply(bool success, bytes_view payload) noexcept = 0;
    // There is something to flush: pending(), or control messages in the transport.
    virtual void on_pending() noexcept = 0;
    // A rule was broken; the session ends the connection after this call.
    virtual void on_violation(std::string_view rule) noexcept = 0;
    // How long a byte and the credit for it take there and back when nothing is in their way; 0:
    // not known. Asked, seldom, when a large window is as good as used up.
    virtual ring::microseconds_t round_trip() noexcept { return 0; }
};

struct connection_limits {
    std::uint32_t max_channels = 10'000;
    // Bytes a channel, as far as the path needs them and the budget goes: 1 Gbit/s over 200 ms are
    // 25 MB, of which a sender sees three quarters at times, and a window ends at two to four times
    // what a round trip brings.
    std::uint32_t window_max = 64u << 20;
    // Asked when a channel opens and when its window might change.
    ring::microseconds_t (*clock)() = &ring::monotonic_now;
};

struct connection_counters {
    std::uint64_t channels_opened = 0, channels_refused = 0, dropped_bytes = 0, adjusts_sent = 0;
    std::uint64_t quick_packets = 0;  // sealed for channels that send little and are answered
    std::uint64_t windows_grown = 0, windows_shrunk = 0;
};

// What may go behind an open of ours before its answer: only what waits for nothing but the far
// end.
enum class early : std::uint8_t { nothing, data };

class connection {
  public:
    connection(transport&, connection_events&, ring::budget&, piece_pool&,
               const connection_limits&);
    ~connection();
    connection(const connection&) = delete;
    connection& operator=(const connection&) = delete;

    // ---- messages in ----
    // One message, 80 to 100, opened in place inside `holder`.
    void receive(bytes_span payload, const ring::buffer& holder) noexcept;

    // ---- opening ----
    // Asks the peer for a channel; nullptr when there is no budget, the limit is reached, or the
    // session is over.
    // With `early`, when the peer takes early data, payload may go right behind the open.
    channel* open(channel_end&, std::string_view type, bytes_view extra,
                  early goes = early::nothing) noexcept;
    void accept(channel&, channel_end&) noexcept;
    void refuse(channel&, open_failure_reason, std::string_view text) noexcept;

    // ---- payload ----
    // Bytes that may be queued now: credit of the peer not yet spoken for; 0 unless open, or not
    // answered and early. Also 0 while the session has more than queued_limit_bytes to seal;
    // on_sendable() follows then, too.
    std::uint32_t sendable(channel&) noexcept;
    // Queues payload, at most sendable(); sealed in a later flush.
    void send(channel&, ring::buffer holder, bytes_view bytes) noexcept;
    // The same with a piece of the worker's pool, which it takes. One with memory of its own may go
    // beyond sendable(): it then waits for the peer's credit and keeps no receive buffer.
    void send(channel&, piece*) noexcept;
    // EOF after everything queued.
    void send_eof(channel&) noexcept;
    // CLOSE after everything queued (and EOF if wanted); the end is detached at once.
    void close(channel&) noexcept;
    // CLOSE now, without what is queued; the end is detached at once. An open that was not answered
    // yet is taken back, from a peer that knows how; with any other, the channel keeps its place
    // until the answer.
    void abort(channel&) noexcept;
    // The end took `bytes` that on_data() gave it.
    void consumed(channel&, std::uint32_t bytes) noexcept;

    // Credit beyond the budget, once, for an end that takes what comes at once and keeps none of
    // it. At most what window_max leaves.
    void widen(channel&, std::uint32_t bytes) noexcept;

    // ---- requests ----
    void reply(bool success, bytes_view payload) noexcept;
    // want_reply is set; replies arrive in order at on_request_reply.
    void request(std::string_view name, bytes_view rest) noexcept;
    // A request about an open channel, to which no reply is wanted. The session may be over with
    // it.
    void notify(channel&, std::string_view name, bytes_view rest) noexcept;
    // What a cancel-open request says (docs/wire.md section 8.9): the peer takes an open back. The
    // end that was to answer it is told on_closed(cut_off).
    void take_back(bytes_view rest) noexcept;

    // ---- flush ----
    // Whether flush() would write anything.
    bool pending() const noexcept;
    // Bytes of one turn in the round robin, from the next turn on. Rounded down to full packets, of
    // which it has two at least; that many it has until somebody sets them.
    void set_turn_bytes(std::uint32_t bytes) noexcept;
    // Payload of a packet at most, where that is less than max_payload_bytes: a packet cannot be
    // passed once it is sealed.
    void set_packet_bytes(std::uint32_t bytes) noexcept;
    // Credit, then payload by deficit round robin, as long as the sink gives room.
    void flush_adjusts() noexcept;
    void flush_data(packet_sink&) noexcept;
    // Tells the ends that can go on; they may queue for the next turn.
    void tell_sendable() noexcept;
    // Payload still queued keeps no receive buffer.
    void own_queued() noexcept;

    // The session ended: every end is told on_closed(lost); the table is empty afterwards.
    void lose() noexcept;

    // lose() was called, or a rule was broken: nothing more is sent.
    bool over() const noexcept { return _failed; }
    std::uint32_t open_channels() const noexcept { return _count; }
    // Of them, ours that the peer has not answered yet, abandoned ones included.
    std::uint32_t unanswered() const noexcept { return _unanswered; }
    std::uint64_t queued_bytes() const noexcept { return _queued_bytes; }
    const connection_counters& counters() const noexcept { return _counters; }
    // How long the channel's queue has waited without being sealed from, in milliseconds; 0: it is
    // empty.
    std::uint32_t queue_age_ms(const channel&) const noexcept;
    // For reports; nullptr entries are free ids.
    std::span<channel* const> channels() const noexcept { return _table; }
    bool peer_sends_eof() const noexcept { return _peer_sends_eof; }
    void set_peer_sends_eof() noexcept { _peer_sends_eof = true; }
    // Both ends know cancel-open.
    bool takes_opens_back() const noexcept { return _takes_opens_back; }
    void set_takes_opens_back() noexcept { _takes_opens_back = true; }
    // Both ends know early-data.
    bool takes_early_data() const noexcept { return _takes_early_data; }
    void set_takes_early_data() noexcept { _takes_early_data = true; }
    // Both ends know `unreachable`.
    bool tells_unreachable() const noexcept { return _tells_unreachable; }
    void set_tells_unreachable() noexcept { _tells_unreachable = true; }

  private:
    channel* make(channel_state) noexcept;
    void free(channel&) noexcept;
    channel* find(std::uint32_t id) noexcept;
    void violation(std::string_view rule) noexcept;
    void mark_ready(channel&) noexcept;
    void take_turn(channel&, bool quick) noexcept;
    void leave_turn(channel&) noexcept;
    bool turn_over(channel&) noexcept;
    bool flush_quick(packet_sink&) noexcept;
    bool flush_bulk(packet_sink&) noexcept;
    bool seal_packet(channel&, std::uint32_t most, packet_sink&) noexcept;
    // False: as queue().
    bool finish_if_due(channel&) noexcept;
    // Of the channel's queue: bytes of the next packet, at most `most`; and those bytes in a row,
    // valid until the next call.
    static std::uint32_t next_packet(const channel&, std::uint32_t most) noexcept;
    bytes_view side_by_side(const channel&, std::uint32_t size) noexcept;
    bool send_close(channel&) noexcept;
    void want_more(channel&) noexcept;
    void fit_window(channel&) noexcept;
    void shrink(channel&, std::uint64_t to) noexcept;
    std::uint32_t now_ms() const noexcept;
    // Queues what was built in _scratch. False: the session is over. It may have ended right here,
    // because the transport's queue is full, and every channel is gone then: touch none.
    bool queue() noexcept;
    static bool answered(const channel&) noexcept;
    static bool may_send(const channel&) noexcept;
    // The channel has its answer, or is gone without.
    void settle(const channel&) noexcept;

    void note_remote(channel&) noexcept;
    // nullptr: there is none any more.
    channel* find_remote(std::uint32_t id) const noexcept;
    void take(channel&, bytes_span data, const ring::buffer& holder) noexcept;

    void on_data(bytes_span payload, const ring::buffer& holder) noexcept;
    void on_early(bytes_span payload, const ring::buffer& holder) noexcept;
    void on_early_data(bytes_span payload, const ring::buffer& holder) noexcept;
    void on_early_eof(bytes_view) noexcept;
    void on_open(bytes_view) noexcept;
    void on_confirmation(bytes_view) noexcept;
    void on_open_failure(bytes_view) noexcept;
    void on_adjust(bytes_view) noexcept;
    void on_eof(bytes_view) noexcept;
    void on_close(bytes_view) noexcept;
    void on_channel_request(bytes_view) noexcept;
    void on_channel_reply(bytes_view) noexcept;
    void on_extended_data(bytes_view) noexcept;

    transport& _transport;
    connection_events& _events;
    ring::budget& _budget;
    piece_pool& _pieces;
    connection_limits _limits;
    std::vector<channel*> _table;          // by local id
    std::vector<std::uint32_t> _free_ids;  // a heap: the lowest first
    channel_list<&channel::ready> _ready;
    channel_list<&channel::ready> _quick;  // had no more than a small packet when they came
    channel_list<&channel::adjust> _adjust;
    channel_list<&channel::waiting> _waiting;
    bool _quick_turn = false;      // whose turn it is: the quick ones' or the first ready one's
    std::uint32_t _turn_left = 0;  // bytes that may still be sealed in it; 0: a new turn
    std::uint32_t _turn_bytes;
    std::uint32_t _packet_bytes;
    std::uint32_t _count = 0;
    std::uint32_t _unanswered = 0;  // of the opens that we sent
    std::uint32_t _asked = 0;       // of those that the peer sent
    // Those that the peer opened, by its ids, where it may name them by these.
    std::vector<channel*> _by_remote;
    std::uint64_t _queued_bytes = 0;
    bool _peer_sends_eof = false;
    bool _takes_opens_back = false;
    bool _takes_early_data = false;
    bool _tells_unreachable = false;
    bool _failed = false;
    byte_vector _scratch;
    byte_vector _shared;  // small pieces of one packet
    connection_counters _counters;
};

// Payload bytes in one packet that we send, whatever larger size the peer offers, and that we
// accept.
inline constexpr std::uint32_t max_payload_bytes = 32768;
// Of a turn in the round robin.
inline constexpr std::uint32_t least_turn_packets = 2;

// The global request that takes an open back: the sender's id of the CHANNEL_OPEN, no reply wanted.
inline constexpr std::string_view cancel_open_name = "cancel-open@burin";

// docs/wire.md section 13.4: how much may go behind an open before its answer, and on which of the
// opener's channels: whoever is asked keeps them by these numbers. Every channel's window has room
// for it, so it is counted and held as part of that.
inline constexpr std::uint32_t early_bytes = 16 * 1024, early_channels = 16 * 1024;
static_assert(early_bytes <= ring::budget::base_bytes);

// What a session may have queued before its channels wait, whatever credit they have: eight sends.
// A session whose own connection is stuck holds little more, with thousands of busy channels.
inline constexpr std::uint64_t queued_limit_bytes = 4u << 20;

}  // namespace burin::ssh
