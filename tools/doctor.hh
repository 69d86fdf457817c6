// `burin doctor [--json] [server]`: what this machine has for a tunnel, and what to change for
// which gain (docs/observability.md).
#pragma once

#include <string>
#include <vector>

namespace burin::tools {

// `arguments` are those behind the command's name. Prints; returns the exit status: 0 when a tunnel
// can run here, 1 when it cannot, 2 for arguments that are wrong.
int run_doctor(const std::vector<std::string>& arguments);

}  // namespace burin::tools
