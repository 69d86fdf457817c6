// The entry side of a UDP remote: a bound socket, and one channel of the live session for all who
// send to it (docs/wire.md section 9.1).
//
// The channel is opened as soon as there is a session, and again when it was refused or closed:
// with the next datagram, at most once a second. Answers go to those alone who have sent something
// within the deadline. Without a session what comes is dropped.
//
// Takes its descriptor. Destroy it after stop() has called on_entry_stopped(), or when the ring
// will not be entered any more.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/relay/datagram_channel.hh"
#include "core/relay/datagram_socket.hh"
#include "core/relay/datagram_sources.hh"

namespace burin::relay {

class datagram_entry;

// Where entries find the session; outlives them.
class datagram_uplink {
  public:
    virtual ~datagram_uplink() = default;
    // The live session's channels; nullptr: there is none.
    virtual ssh::connection* session() noexcept = 0;
    virtual void on_entry_open(const datagram_entry&) noexcept = 0;
    // The channel was refused, closed, or there was none to be had.
    virtual void on_entry_failed(const datagram_entry&, std::string_view why) noexcept = 0;
    virtual void on_entry_closed(const datagram_entry&) noexcept = 0;
    virtual void on_entry_stopped(const datagram_entry&) noexcept = 0;
};

class datagram_entry final : private datagram_owner, private datagram_receiver {
  public:
    // `target`: "host:port", as a channel names it.
    datagram_entry(datagram_context&, datagram_uplink&, int descriptor, std::string target);

    // A session is live.
    void session_ready() noexcept { open(); }
    void stop() noexcept;

    const std::string& target() const noexcept { return _target; }
    // Towards the channel, and from it; payload alone.
    std::uint64_t bytes_sent() const noexcept { return _bytes_sent; }
    std::uint64_t bytes_received() const noexcept { return _bytes_received; }

  private:
    // ---- datagram_owner ----
    void on_channel_open() noexcept override;
    void on_datagram(const datagram&, const ring::buffer& holder) noexcept override;
    void on_channel_gone(ending, std::string_view why) noexcept override;
    // ---- datagram_receiver ----
    void on_received(const datagram_run&, const endpoint* from) noexcept override;
    void on_socket_gone() noexcept override { _uplink.on_entry_stopped(*this); }

    void open() noexcept;

    datagram_context& _context;
    datagram_uplink& _uplink;
    std::string _target;
    datagram_channel _channel{_context, *this};
    datagram_socket _socket;
    datagram_sources _sources;
    ring::microseconds_t _opened = 0;  // when a channel was asked for
    bool _stopping = false;
    std::uint64_t _bytes_sent = 0, _bytes_received = 0;
};

}  // namespace burin::relay
