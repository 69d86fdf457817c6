// What a worker's parts add to its tally: counters that they keep anyway, under the names of
// metrics.hh. The parts know nothing of it. Each is called on its worker's thread.
#pragma once

#include "core/engine/metrics.hh"
#include "core/relay/context.hh"
#include "core/relay/datagram_context.hh"
#include "core/relay/dialer.hh"
#include "core/relay/echo_pinger.hh"
#include "core/relay/tun_queue.hh"
#include "ring/budget.hh"

namespace burin::engine {

void count(tally&, const relay::context&);
void count(tally&, const relay::datagram_context&);
void count(tally&, const relay::dialer&);
void count(tally&, const relay::echo_pinger&);
void count(tally&, const relay::tun_queue&);
void count(tally&, const ring::budget&);

// Of this process, as the kernel tells: any thread. What cannot be read is left out.
void count_process(tally&);

}  // namespace burin::engine
