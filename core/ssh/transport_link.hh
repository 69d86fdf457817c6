// What the stages of one transport share: the key exchange and the authentication write their
// messages through it and end the connection through it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/ssh/transport.hh"
#include "core/ssh/transport_packets.hh"
#include "core/ssh/version_line.hh"

namespace burin::ssh {

// RFC 4253 section 11.1, those that are used here.
enum class disconnect_reason : std::uint32_t {
    host_not_allowed = 1,
    protocol_error = 2,
    key_exchange_failed = 3,
    mac_error = 5,
    service_not_available = 7,
    host_key_not_verifiable = 9,
    by_application = 11,
    no_more_methods = 14,
};

struct transport_link {
    transport_link(const settings& config_, role side_, dialect speaks_, transport_events& events_)
        : config(config_),
          side(side_),
          speaks(speaks_),
          events(events_),
          packets(config_, own_version(side_, speaks_)) {}

    const settings& config;
    const role side;
    const dialect speaks;
    transport_events& events;
    packet_layer packets;
    std::string peer_version;
    bool authenticated = false;
    bool ended = false;

    // Queues an ordinary message; a full queue ends the connection.
    bool queue(bytes_view payload);
    // Ends the connection: DISCONNECT to the peer, on_failure() to the owner. `why` is fit for a
    // log; the second form tells the peer something else.
    void fail(disconnect_reason reason, std::string_view why) { fail(reason, why, why); }
    void fail(disconnect_reason reason, std::string_view why, std::string_view told);
    // The same without DISCONNECT: there is nobody to read it.
    void fail_silently(std::string_view why);
    // Only DISCONNECT.
    void disconnect(std::uint32_t reason, std::string_view told);
};

}  // namespace burin::ssh
