// A tunnel on this machine: a far end of the load, `burin server` and `burin client`, each a
// process of this program, on loopback ports that were free, with a password that nobody else has.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tools/bench/child.hh"

namespace burin::tools::bench {

struct local_tunnel {
    std::unique_ptr<child> destination, server, client;
    std::string direct_port;  // the far end itself
    std::string tunnel_port;  // through the tunnel

    // Ready for load when it returns. Throws std::runtime_error with what kept it.
    local_tunnel(const std::vector<std::string>& server_flags,
                 const std::vector<std::string>& client_flags);

    // Empty while all three run; then what ended, and its last words.
    std::string gone();
};

}  // namespace burin::tools::bench
