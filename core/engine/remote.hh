// Remotes, the way chisel writes what is to be forwarded (docs/wire.md section 10.4).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace burin::engine {

// Names and order of the members are those of the config request (docs/wire.md section 7). Hosts
// keep their brackets and ports are the text that was written, "080" included.
struct remote {
    std::string local_host, local_port, local_proto;
    std::string remote_host, remote_port, remote_proto;
    bool socks = false, reverse = false, stdio = false;

    // "host:port" of either side, as it is dialled, listened on or sent in a channel's target.
    std::string local() const;
    std::string target() const;
    bool datagrams() const { return remote_proto == "udp"; }
    // The form in logs: "3000=>google.com:80", "R:2222=>localhost:22", "53=>1.1.1.1:53/udp".
    std::string text() const;

    friend bool operator==(const remote&, const remote&) = default;
};

struct remote_reading {
    std::optional<remote> value;
    std::string error;  // Go's words; empty when there is a value
};
remote_reading parse_remote(std::string_view text);

// 1..65535 of a port's text, 0 when it is none. A sign and leading zeros pass, as in Go.
unsigned port_number(std::string_view text) noexcept;

}  // namespace burin::engine
