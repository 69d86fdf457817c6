// The server's pings for its clients, one a worker (core/relay/echo_pinger.hh): holds the sockets
// that were opened while the process might, until the first client wants them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/engine/metrics_sources.hh"
#include "core/engine/worker.hh"
#include "core/relay/echo_pinger.hh"

namespace burin::engine {

class echo_service final : public resident, public relay::echo_pinger_owner {
  public:
    explicit echo_service(relay::echo_descriptors at) : _at(std::move(at)) {}

    // On the worker's thread, whose it is from the first call on until the worker ends.
    relay::echo_pinger& pinger(worker&);

    // ---- resident ----
    void leave() noexcept override { _pinger->stop(); }
    void report(std::string& into) const override;
    void count(tally& t) const override { engine::count(t, *_pinger); }
    // ---- echo_pinger_owner ----
    void on_pinger_stopped() noexcept override { _worker->remove(*this); }

  private:
    relay::echo_descriptors _at;
    worker* _worker = nullptr;
    std::unique_ptr<relay::echo_pinger> _pinger;
};

// One for each worker; before privileges are given up. None, and a line for a person in `why`, when
// this process may have no ICMP socket.
std::vector<std::unique_ptr<echo_service>> open_echo_services(unsigned workers, std::string& why);

}  // namespace burin::engine
