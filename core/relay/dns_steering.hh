// Where the channel of a TUN flow leads: to the flow's own destination, or, when a resolver was
// named (--dns) and the flow goes to port 53 of whomever, to that resolver, reached from the far
// end of the tunnel. Frames keep the address that the host asked: it never notices. The same for
// TCP and UDP (which appends its "/udp", docs/wire.md section 8.2).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tun/flow_key.hh"

namespace burin::relay {

class dns_steering {
  public:
    static constexpr std::uint16_t dns_port = 53;

    // Steers nothing.
    dns_steering() = default;
    // "10.0.0.53", "10.0.0.53:5353", "fd00::53", "[fd00::53]", "[fd00::53]:5353"; nullopt for
    // anything else, names included.
    static std::optional<dns_steering> parse(std::string_view text);

    bool on() const noexcept { return !_resolver.empty(); }
    // "host:port", IPv6 in brackets; empty when off.
    const std::string& resolver() const noexcept { return _resolver; }
    bool steers(const tun::flow_key& key) const noexcept {
        return on() && key.destination_port == dns_port;
    }
    // The target of the flow's channel, without a protocol.
    std::string target(const tun::flow_key&) const;

  private:
    std::string _resolver;
};

}  // namespace burin::relay
