// The channel that carries echo requests and their answers between our own ends (docs/wire.md
// section 13.2), on whichever side it was opened.
//
// A message that finds credit goes to the channel; one that finds none, or comes before the channel
// is confirmed, waits in bounded memory, and what finds no room there is refused: an echo that is
// late is worth nothing. Little is queued on the channel itself. Credit for what was received goes
// back at once. A stream that breaks the rules ends this channel and nothing else.
//
// The owner embeds it, and is told when the channel is gone. One thread.
#pragma once

#include <cstdint>
#include <string_view>

#include "core/relay/context.hh"
#include "core/relay/datagram_context.hh"
#include "core/relay/echo_wire.hh"
#include "core/ssh/connection.hh"

namespace burin::relay {

// A name of RFC 4250 section 4.6.1's second form.
inline constexpr std::string_view echo_channel_type = "echo@burin";

class echo_owner {
  public:
    virtual ~echo_owner() = default;
    // A message, neither malformed nor of an unknown kind. Its data lies in `holder`, which may be
    // shared for this turn, or (when that is none) in memory that is valid during the call. Does
    // not close the channel.
    virtual void on_echo(const echo_message&, const ring::buffer& holder) noexcept = 0;
    enum class ending : std::uint8_t {
        refused,      // our open, for now
        not_offered,  // our open: the peer does not do this for us
        closed,       // by the peer, or by us for what it said
        lost,         // with the session
    };
    // The channel is gone; another may be opened.
    virtual void on_echo_channel_gone(ending) noexcept = 0;
};

class echo_channel final : public ssh::channel_end {
  public:
    echo_channel(context& c, echo_owner& owner) noexcept : _context(c), _owner(owner) {}
    ~echo_channel() override;

    // Client: asks for the channel. False: there is none to be had now.
    bool open(ssh::connection&) noexcept;
    // Server: takes the one that the peer asks for.
    void accept(ssh::connection&, ssh::channel&) noexcept;
    // The owner is not told.
    void close() noexcept;
    // There is one, or it is being opened: send() may be called.
    bool exists() const noexcept { return _channel != nullptr; }

    // A copy of the message is sent or waits; false: there is no room for it.
    bool send(const echo_message&) noexcept;
    // Messages of kinds that are not known here.
    std::uint64_t unknown() const noexcept { return _unknown; }

  private:
    // ---- channel_end ----
    void on_confirmed() noexcept override;
    void on_refused(ssh::open_failure_reason, std::string_view text) noexcept override;
    void on_data(bytes_span payload, const ring::buffer& holder) noexcept override;
    void on_eof() noexcept override;
    void on_closed(ssh::close_cause) noexcept override;
    void on_sendable() noexcept override { drain(); }

    bool takes_more() noexcept;
    void drain() noexcept;
    void attach(ssh::connection&, ssh::channel*) noexcept;
    void detach() noexcept;

    context& _context;
    echo_owner& _owner;
    ssh::connection* _connection = nullptr;
    ssh::channel* _channel = nullptr;
    datagram_backlog _waiting;
    echo_reader _reader;
    bool _confirmed = false;
    std::uint64_t _unknown = 0;
};

}  // namespace burin::relay
