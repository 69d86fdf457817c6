// The server's end of a session's echo channel (docs/wire.md section 13.2): pings what the client
// asks for, and tells it what came of it. A request that nobody answers in time is forgotten; the
// client is told nothing, as nobody told us.
//
// A session may have so many requests a second and so many waiting; above that, its own oldest
// makes room. The owner keeps the exit until over(), which it may find at any time, or until it has
// gone itself; not inside a call of the exit's.
#pragma once

#include <cstdint>

#include "core/relay/echo_channel.hh"
#include "core/relay/echo_pinger.hh"
#include "tun/icmp.hh"

namespace burin::relay {

struct echo_exit_settings {
    // More than a gateway of ours lets through (tun_echo_settings).
    std::uint32_t per_second = 2000, burst = 400;
    std::uint32_t most_waiting = 1024;
    // Less than the client waits, more than a kernel looks for a neighbour (3 s).
    ring::microseconds_t timeout = 8 * ring::second;
};

class echo_exit final : private echo_owner {
  public:
    // Takes the channel that the peer asks for.
    echo_exit(context&, echo_pinger&, ssh::connection&, ssh::channel&,
              const echo_exit_settings& = {});
    ~echo_exit() override;
    echo_exit(const echo_exit&) = delete;
    echo_exit& operator=(const echo_exit&) = delete;

    // The channel is gone.
    bool over() const noexcept { return !_channel.exists(); }

    // ---- for the pinger ----
    // What came of a request of ours.
    void tell(std::uint32_t sequence, echo_pinger::request, echo_message::kind what,
              bytes_view data) noexcept;

  private:
    // ---- echo_owner ----
    void on_echo(const echo_message&, const ring::buffer& holder) noexcept override;
    void on_echo_channel_gone(ending) noexcept override { forget_all(); }

    void on_late(ring::microseconds_t now) noexcept;
    void say(std::uint32_t number, echo_message::kind what, bytes_view data) noexcept;
    void forget_all() noexcept;

    context& _context;
    echo_pinger& _pinger;
    echo_exit_settings _settings;
    echo_channel _channel{_context, *this};
    echo_pinger::table::line _waiting;
    tun::token_bucket _limit;
    ring::member_timer<&echo_exit::on_late> _late{this};
};

}  // namespace burin::relay
