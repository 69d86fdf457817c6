// What every upgrade request here has (docs/wire.md section 2.1).
#pragma once

#include <string_view>

namespace burin::http {

inline constexpr std::string_view upgrade_lines =
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chisel-v3\r\n";

}  // namespace burin::http
