// What a worker of the server pings with: a socket a family, shared by the worker's sessions, and
// the table that tells whose each answer is. The sequence number on the wire is the low half of the
// table's number, and an answer counts only when it comes from where the request went.
//
// echo_exit.hh is a session's part. One thread. Outlives the exits that have something waiting.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/relay/echo_socket.hh"
#include "core/relay/echo_table.hh"
#include "core/relay/echo_wire.hh"

namespace burin::relay {

class echo_exit;

struct echo_pinger_counters {
    std::uint64_t requests = 0;  // of clients
    std::uint64_t answered = 0, refused = 0, timed_out = 0;
    // Dropped, by reason.
    std::uint64_t limited = 0;      // too many a second of one session
    std::uint64_t not_allowed = 0;  // an address that no echo is sent to
    std::uint64_t evicted = 0;      // made room for another of its session
    std::uint64_t too_many = 0;     // of all sessions
    std::uint64_t no_window = 0;    // answers that the session does not take
    std::uint64_t late = 0;         // answers that nobody waits for any more
};

class echo_pinger_owner {
  public:
    virtual ~echo_pinger_owner() = default;
    // After stop(): nothing is pending.
    virtual void on_pinger_stopped() noexcept = 0;
};

class echo_pinger final : private echo_listener {
  public:
    struct request {
        echo_exit* of = nullptr;
        std::uint32_t number = 0;  // the client's
        tun::flow_address to;
    };
    using table = echo_table<request>;

    echo_pinger(context&, echo_pinger_owner&, echo_descriptors);
    echo_pinger(const echo_pinger&) = delete;
    echo_pinger& operator=(const echo_pinger&) = delete;

    void stop() noexcept;
    const echo_pinger_counters& counters() const noexcept { return _counters; }
    // A line for a person, begun with `name`.
    void report(std::string& into, std::string_view name) const;

    // ---- for its exits ----
    // A socket for this address; nullptr: this machine has none of the family.
    echo_socket* socket_for(const tun::flow_address& to) noexcept;
    table& waiting() noexcept { return _waiting; }
    echo_pinger_counters& count() noexcept { return _counters; }

  private:
    // ---- echo_listener ----
    void on_echo_reply(std::uint16_t sequence, const tun::flow_address& from,
                       bytes_view data) noexcept override;
    void on_echo_error(std::uint16_t sequence, const tun::flow_address& to,
                       echo_message::kind what) noexcept override;
    void on_echo_socket_stopped() noexcept override;

    void told(std::uint16_t sequence, const tun::flow_address& about, echo_message::kind what,
              bytes_view data) noexcept;

    echo_pinger_owner& _owner;
    table _waiting{table::most_places};
    echo_socket _v4, _v6;
    echo_pinger_counters _counters;
    bool _told = false;
};

}  // namespace burin::relay
