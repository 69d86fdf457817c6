// `burin server`: one exclusive listener whose connections are dealt to workers before their first
// byte.
#pragma once

#include "core/engine/settings.hh"

namespace burin::engine {

// Runs until a signal ends it; returns the exit status. Errors are told on stderr.
int run_server(const server_settings&);

}  // namespace burin::engine
