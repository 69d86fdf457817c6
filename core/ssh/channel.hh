// One SSH channel (RFC 4254 section 5; docs/wire.md sections 8.2 and 8.6): its windows, its queue
// of payload not yet sealed, and who stands at this end of it.
//
// The connection owns its channels; a channel_end refers to one from open()/accept() until
// on_refused() or on_closed() was called or it called close() or abort() itself. Payload waits in
// pieces: a slice of a receive buffer of the ring, or memory of its own, which small pieces share
// so that a peer who sends byte by byte costs little more than its bytes. Credit for bytes received
// is given back with connection::consumed(), when whoever takes them has really taken them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/ssh/messages.hh"
#include "crypto/wire.hh"
#include "ring/buffer_group.hh"

namespace burin::ssh {

struct channel;

// Payload on its way, in a list of its own flow. Move the bytes out of the receive buffer with
// own().
struct piece {
    piece* next = nullptr;
    ring::buffer holder;         // the receive buffer the bytes lie in, or none
    std::byte* owned = nullptr;  // else: memory of its own, from malloc
    const std::byte* data = nullptr;
    std::uint32_t size = 0;
    std::uint32_t room = 0;  // of its own memory, behind the bytes
};

// Pieces of one worker, reused; allocates only when more are in use than ever before, many at a
// time. None is in use any more when it dies.
class piece_pool {
  public:
    piece_pool() = default;
    piece_pool(const piece_pool&) = delete;
    piece_pool& operator=(const piece_pool&) = delete;

    piece* make(ring::buffer holder, bytes_view bytes) noexcept;
    // With memory of its own, uninitialised: `owned` is where the caller puts its `size` bytes.
    piece* make_owned(std::uint32_t size) noexcept;
    void drop(piece*) noexcept;
    // Copies the bytes out of the receive buffer, which goes back to its group. The memory has the
    // size of the bytes, or `capacity` when that is more.
    void own(piece&, std::uint32_t capacity = 0) noexcept;
    // Moves the bytes of `from`, which no longer counts, behind those of `to`, which has the room.
    void append(piece& to, piece* from) noexcept;
    // `bytes` fewer of a piece with memory of its own are needed (the memory stays until the piece
    // is dropped).
    void forget(const piece& p, std::uint32_t bytes) noexcept {
        if (p.owned != nullptr) _owned_bytes -= bytes;
    }

    std::uint64_t owned_bytes() const noexcept { return _owned_bytes; }
    std::uint64_t copied_out() const noexcept { return _copied_out; }
    std::uint32_t in_use() const noexcept { return _in_use; }

  private:
    static constexpr std::size_t chunk_pieces = 64;
    void grow() noexcept;

    std::vector<std::unique_ptr<piece[]>> _chunks;
    piece* _free = nullptr;
    std::uint32_t _in_use = 0;
    std::uint64_t _owned_bytes = 0;  // now
    std::uint64_t _copied_out = 0;   // ever
};

// First in, first out.
class piece_list {
  public:
    bool empty() const noexcept { return _first == nullptr; }
    piece* first() const noexcept { return _first; }
    std::uint64_t bytes() const noexcept { return _bytes; }
    void push(piece* p) noexcept {
        p->next = nullptr;
        (_first == nullptr ? _first : _last->next) = p;
        _last = p;
        _bytes += p->size;
    }
    // The first piece, which is the caller's from now on; nullptr when there is none. Not after
    // own().
    piece* pop() noexcept {
        piece* p = _first;
        if (p == nullptr) return nullptr;
        _first = p->next;
        _bytes -= p->size;
        return p;
    }
    // Takes `bytes` (no more than the first piece holds) from the front.
    void take(std::uint32_t bytes, piece_pool&) noexcept;
    // The same over as many pieces as it takes.
    void take_all_of(std::uint64_t bytes, piece_pool&) noexcept;
    void clear(piece_pool&) noexcept;
    // No piece keeps a receive buffer any longer; small ones share memory. Costs what was pushed
    // since the last call. Bytes that had memory of their own stay where they are.
    void own(piece_pool&) noexcept;

  private:
    piece* _first = nullptr;
    piece* _last = nullptr;
    piece* _last_owned = nullptr;  // what own() came to: those behind it are new
    std::uint64_t _bytes = 0;
};

enum class close_cause : std::uint8_t {
    finished,  // CLOSE after EOF
    cut_off,   // CLOSE without EOF: what was received may be incomplete
    lost,      // the session ended
};

class channel_end {
  public:
    virtual ~channel_end() = default;
    // Our open was confirmed; payload may be sent.
    virtual void on_confirmed() noexcept = 0;
    // Our open was refused; the channel is gone.
    virtual void on_refused(open_failure_reason, std::string_view text) noexcept = 0;
    // Payload in order, of a channel that we have not answered yet as well (docs/wire.md section
    // 13.4: at most early_bytes of it, and on_eof() behind); it lies in `holder`, which may be
    // shared to keep it (then: only for this turn).
    virtual void on_data(bytes_span payload, const ring::buffer& holder) noexcept = 0;
    virtual void on_eof() noexcept = 0;
    // A request about the channel to which no reply is wanted. What the end does not know it
    // ignores (RFC 4254 section 5.4).
    virtual void on_notice(std::string_view name, bytes_view rest) noexcept {
        (void)name, (void)rest;
    }
    // The channel is gone.
    virtual void on_closed(close_cause) noexcept = 0;
    // The queue ran empty, or credit came after it was used up: more may be sent. Called in the
    // flush of a turn.
    virtual void on_sendable() noexcept = 0;
    // Of `held` bytes that were delivered and not given back as credit, those that wait because
    // whoever takes them is slow: not what is under way to it. Asked before the window grows.
    virtual std::uint32_t waiting(std::uint32_t held) const noexcept { return held; }
};

enum class channel_state : std::uint8_t {
    opening,    // we asked
    abandoned,  // we asked and gave up; CLOSE goes out when the answer names the peer's id
    asked,      // the peer asked; not answered yet
    open,
    closing,  // we sent CLOSE, the peer did not yet
};

struct channel_link {
    channel* next = nullptr;
    channel** back = nullptr;  // the pointer that points at us; nullptr: not in the list
};

struct channel {
    channel_end* end = nullptr;
    channel_link ready;              // in one of its lists of channels with something to seal
    channel_link adjust;             // in its list of channels that owe the peer credit
    channel_link waiting;            // in its list of ends to be told on_sendable
    std::uint32_t local = 0;         // our id
    std::uint32_t remote = 0;        // the peer's
    std::uint32_t send_credit = 0;   // bytes the peer still takes
    std::uint32_t max_packet = 0;    // payload bytes the peer takes in one packet
    std::uint32_t receive_left = 0;  // bytes the peer may still send
    std::uint32_t window = 0;      // granted in all: receive_left + delivered and not yet credited
    std::uint32_t unbudgeted = 0;  // of the window (connection::widen)
    std::uint32_t consumed = 0;    // taken by the end, not yet credited
    std::uint32_t since_growth = 0;     // bytes received since growth_since_ms
    std::uint32_t growth_since_ms = 0;  // when the window was last looked at
    channel_state state = channel_state::opening;
    bool eof_wanted = false, eof_sent = false, eof_received = false;
    bool close_wanted = false;
    bool quick = false;        // among those that send little, while it has something to seal
    bool answered = true;      // payload came since its last quick packet, or none was sent yet
    bool early = false;        // payload may go before the answer
    std::uint32_t stalls = 0;  // times the peer's credit was used up
    std::uint32_t queued_since_ms = 0;  // when the queue began to wait or was last sealed from
    piece_list queue;                   // payload not yet sealed
    std::uint64_t bytes_sent = 0, bytes_received = 0;
};

static_assert(sizeof(channel) <= 160, "10 000 idle channels stay small");

// First in, first out; a channel leaves from anywhere in constant time.
template <channel_link channel::* Link>
class channel_list {
  public:
    channel_list() = default;
    channel_list(const channel_list&) = delete;
    channel_list& operator=(const channel_list&) = delete;

    bool empty() const noexcept { return _first == nullptr; }
    channel* first() const noexcept { return _first; }
    static bool holds(const channel& c) noexcept { return (c.*Link).back != nullptr; }
    static channel* after(const channel& c) noexcept { return (c.*Link).next; }
    void push(channel& c) noexcept {
        channel_link& link = c.*Link;
        link.next = nullptr;
        link.back = _end;
        *_end = &c;
        _end = &link.next;
    }
    void remove(channel& c) noexcept {
        channel_link& link = c.*Link;
        if (link.back == nullptr) return;
        *link.back = link.next;
        (link.next == nullptr ? _end : (link.next->*Link).back) = link.back;
        link = {};
    }

  private:
    channel* _first = nullptr;
    channel** _end = &_first;
};

}  // namespace burin::ssh
