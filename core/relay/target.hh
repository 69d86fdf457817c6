// The target of a chisel channel: `host:port`, `[v6]:port`, with `/tcp` or `/udp` behind it, or
// `socks` (docs/wire.md section 8.2). Direct-tcpip names host and port apart; both end as a target.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace burin::relay {

struct target {
    enum class kind : std::uint8_t { tcp, udp, socks };
    kind what = kind::tcp;
    std::string host;  // without brackets
    std::uint16_t port = 0;

    // `host:port`, IPv6 in brackets.
    std::string text() const;
};

// Nothing when it is none: the peer may send any bytes.
std::optional<target> parse_target(std::string_view text);

}  // namespace burin::relay
