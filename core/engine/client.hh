// `burin client`: listeners and TUN on this side, a session to the server on every worker, kept up.
#pragma once

#include "core/engine/settings.hh"

namespace burin::engine {

// Runs until a signal ends it or it gives up; returns the exit status. Errors are told on stderr.
int run_client(const client_settings&);

}  // namespace burin::engine
