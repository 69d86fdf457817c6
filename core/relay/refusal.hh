// Why the far end did not reach a destination, and what a host behind the TUN is told of it: what
// the network between would have said, had the host been there itself (docs/wire.md section 8.2 for
// the texts of failed dials, 13.3 for datagrams).
#pragma once

#include <cstdint>
#include <string_view>

#include "core/ssh/messages.hh"
#include "tun/icmp.hh"

namespace burin::relay {

// The numbers travel (docs/wire.md section 13.3), but for `silent`.
enum class refusal : std::uint8_t {
    silent = 0,   // nobody answered, or the far end has no room now: the host is left to try again
    refused = 1,  // by the destination: RST, or "port unreachable" for a datagram
    host_unreachable = 2,
    network_unreachable = 3,
    prohibited = 4,
};

// Of an open that was refused. The text is that of our server or of Go's, both of which end with
// the errno's words; one that says nothing known is a refusal, which every host understands.
refusal refusal_of(ssh::open_failure_reason, std::string_view text) noexcept;
// Of what a socket says about a datagram or its destination; `silent` for every other errno.
refusal refusal_of(int error) noexcept;

// For a datagram, or a SYN that was not `refused`. Not of `silent`.
tun::icmp_error icmp_error_of(refusal) noexcept;

}  // namespace burin::relay
