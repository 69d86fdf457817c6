// Echo requests of hosts behind the TUN, carried to a server of ours that pings the destination
// (docs/wire.md section 13.2): a host is answered when, and as, its destination answered. Silence
// stays silence; what a router or the server's routes said instead becomes an ICMP error.
//
//   host -> server: what is needed for the answer is kept under a number, and number, address and
//   data go into the channel, one a session, which the first request opens.
//   server -> host: the number finds what was kept, and the answer is written with the host's own
//   identifier and number.
//
// What waits is bounded in requests and in time; when there are more, the one that has waited
// longest makes room. Requests are limited a second, and one that finds no window is dropped, so
// that nothing stands in the way of TCP. Every drop is counted by its reason.
//
// One thread, the queue's. Time comes from the queue's context. It owns its channel; stop() closes
// it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/relay/context.hh"
#include "core/relay/echo_channel.hh"
#include "core/relay/echo_table.hh"
#include "core/relay/tun_icmp.hh"
#include "tun/frame.hh"
#include "tun/icmp.hh"

namespace burin::relay {

class tun_uplink;

struct tun_echo_settings {
    std::uint32_t most_waiting = 1024;
    // As long as ping itself waits for the last of its answers; longer than the server does.
    ring::microseconds_t timeout = 10 * ring::second;
    std::uint32_t per_second = 1000, burst = 200;
    // Before a channel that was refused for now, or closed, is asked for again.
    ring::microseconds_t retry_time = ring::second;
};

struct tun_echo_counters {
    std::uint64_t carried = 0;
    std::uint64_t answered = 0;  // by the destination
    std::uint64_t refused = 0;   // by somebody on the way, or for want of one
    std::uint64_t timed_out = 0;
    // Dropped, by reason.
    std::uint64_t limited = 0;     // too many a second
    std::uint64_t too_long = 0;    // more data than is carried
    std::uint64_t no_channel = 0;  // refused or closed lately, or none to be had
    std::uint64_t no_window = 0;
    std::uint64_t evicted = 0;  // made room for another
    std::uint64_t lost = 0;     // with the session or the channel
    std::uint64_t late = 0;     // answers that nobody waits for any more
};

class tun_echo final : private echo_owner {
  public:
    tun_echo(context&, tun_uplink&, tun_icmp&, const tun_echo_settings& = {});
    ~tun_echo() override { stop(); }
    tun_echo(const tun_echo&) = delete;
    tun_echo& operator=(const tun_echo&) = delete;

    // An echo request while a session is live. False: its server does not ping for us.
    bool take(const tun::parsed_frame& request) noexcept;
    // Another session is live.
    void session_ready() noexcept;
    void stop() noexcept;

    std::uint32_t waiting() const noexcept { return _waiting.size(); }
    const tun_echo_counters& counters() const noexcept { return _counters; }
    // A line for a person, begun with `name`.
    void report(std::string& into, std::string_view name) const;

  private:
    // ---- echo_owner ----
    void on_echo(const echo_message&, const ring::buffer& holder) noexcept override;
    void on_echo_channel_gone(ending) noexcept override;

    bool open() noexcept;
    void on_late(ring::microseconds_t now) noexcept;
    void rearm() noexcept;
    void drop_all() noexcept;

    context& _context;
    tun_uplink& _uplink;
    tun_icmp& _icmp;
    tun_echo_settings _settings;
    echo_channel _channel{_context, *this};
    echo_table<tun::echo_stub> _table;
    echo_table<tun::echo_stub>::line _waiting;
    tun::token_bucket _limit;
    ring::member_timer<&tun_echo::on_late> _late{this};
    bool _asked = false;        // a channel, at _asked_at
    bool _not_offered = false;  // by this session's server
    ring::microseconds_t _asked_at = 0;
    tun_echo_counters _counters;
};

}  // namespace burin::relay
