// The line of an HTTP request that was answered, as chisel writes it on standard output with -v
// (docs/wire.md section 10.8).
#pragma once

#include <chrono>
#include <string>

#include "core/http/upgrade.hh"
#include "core/relay/endpoint.hh"

namespace burin::engine {

// "2006/01/02 15:04:05.000 GET /health 200 6µs 3B (192.0.2.1)" and a newline, local time. The
// address is what a proxy in front said, else the peer's; a loopback one is left out.
std::string request_line(const http::server_decision& answered, const relay::endpoint& peer,
                         std::chrono::system_clock::time_point at, std::chrono::microseconds took);

}  // namespace burin::engine
