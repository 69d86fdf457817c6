// A UDP channel (docs/wire.md section 9): records to the peer, records from it, on whichever side
// the channel was opened.
//
//   out: a record that finds credit goes where it lies; one that finds none at the end of the turn
//   either waits in memory of its own, and when too much waits the oldest is dropped. Little is
//   queued on the channel itself, so what goes out is never older than it must be, and a flood
//   stands in nobody's way. in: the gob reader finds records in the session's receive block. Credit
//   goes back at once: a datagram that the far side cannot get rid of is lost, as on any wire. A
//   stream that is no gob ends this channel and nothing else.
//
// The owner embeds it, and is told when the channel is gone; it may open the next one then. One
// thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/relay/datagram_context.hh"
#include "core/relay/datagram_socket.hh"
#include "core/relay/gob.hh"
#include "core/relay/refusal.hh"
#include "core/ssh/connection.hh"

namespace burin::relay {

class datagram_owner {
  public:
    virtual ~datagram_owner() = default;
    // The peer has confirmed our open.
    virtual void on_channel_open() noexcept = 0;
    // A record. Its bytes lie in `holder`, which may be shared for this turn, or (when that is
    // none) in memory that is valid during the call.
    virtual void on_datagram(const datagram&, const ring::buffer& holder) noexcept = 0;
    // A datagram of this source did not reach the target; never `silent`.
    virtual void on_unreachable(refusal why, std::string_view source) noexcept {
        (void)why, (void)source;
    }
    enum class ending : std::uint8_t {
        refused,  // our open
        closed,   // by the peer
        broken,   // by us: what came was no gob
        lost,     // with the session
    };
    // The channel is gone; `why` is a text for a person.
    virtual void on_channel_gone(ending, std::string_view why) noexcept = 0;
};

class datagram_channel final : public ssh::channel_end {
  public:
    datagram_channel(datagram_context& c, datagram_owner& owner) noexcept
        : _context(c), _owner(owner) {}
    ~datagram_channel() override;

    // Entry side: asks for a channel to `target` ("host:port"). False: there is none to be had now.
    bool open(ssh::connection&, std::string_view target) noexcept;
    // Exit side: takes the channel that the peer asks for.
    void accept(ssh::connection&, ssh::channel&) noexcept;
    // CLOSE behind what is queued, when there is a channel. The owner is not told.
    void close() noexcept;
    // There is one, or it is being opened: send() may be called.
    bool exists() const noexcept { return _channel != nullptr; }
    // Datagrams of one source side by side, `size` bytes each but for a shorter last one. They
    // become records where they lie when these can go at once and `holder` (which may be none) has
    // the room around them, and are copied one by one else.
    void send(const ring::buffer& holder, bytes_span payload, std::uint32_t size,
              std::string_view source) noexcept;
    // One datagram from anywhere, copied.
    void send_copy(std::string_view source, bytes_view payload) noexcept;
    // What a socket received; larger datagrams than the setting are cut.
    void send_received(const datagram_run&, std::string_view source) noexcept;

    // Tells a peer that knows of it what became of a datagram of `source`. The channel may be gone
    // after it.
    void tell_unreachable(refusal why, std::string_view source) noexcept;

    const ssh::channel* channel() const noexcept { return _channel; }
    std::uint32_t waiting_bytes() const noexcept { return _backlog.bytes(); }

  private:
    friend class datagram_context;
    // ---- channel_end ----
    void on_confirmed() noexcept override;
    void on_refused(ssh::open_failure_reason, std::string_view text) noexcept override;
    void on_data(bytes_span payload, const ring::buffer& holder) noexcept override;
    void on_eof() noexcept override;
    void on_notice(std::string_view name, bytes_view rest) noexcept override;
    void on_closed(ssh::close_cause) noexcept override;
    void on_sendable() noexcept override;

    void attach(ssh::connection&, ssh::channel*) noexcept;
    void detach() noexcept;
    // What is queued now goes at once.
    bool flows(std::size_t bytes) const noexcept;
    // False: there is no place for it, and it is to be copied.
    bool put_aside(const ring::buffer& holder, bytes_span payload, std::uint32_t size,
                   std::string_view source) noexcept;
    void settle(late_run&) noexcept;
    void drop_oldest_late() noexcept;
    void wait(ssh::piece*) noexcept;
    void drain() noexcept;
    void account() noexcept;

    datagram_context& _context;
    datagram_owner& _owner;
    ssh::connection* _connection = nullptr;
    ssh::channel* _channel = nullptr;
    datagram_backlog _backlog;
    late_run* _late = nullptr;  // younger than the backlog, the oldest first
    late_run* _last_late = nullptr;
    std::uint32_t _late_bytes = 0;
    gob_reader _reader;
    std::size_t _accounted = 0;  // of the reader's memory, in the context's sum
    bool _confirmed = false;
    std::uint32_t _life = 0;  // tells whether the channel is still the same after a call
};

}  // namespace burin::relay
