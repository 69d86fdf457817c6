#include "core/engine/echo_service.hh"

#include <fmt/format.h>
#include <unistd.h>

#include "core/relay/dialer.hh"

namespace burin::engine {

relay::echo_pinger& echo_service::pinger(worker& w) {
    if (_pinger == nullptr) {
        _worker = &w;
        _pinger = std::make_unique<relay::echo_pinger>(w.relays(), *this, std::move(_at));
        w.add(*this);
        w.at_end([this] {
            _worker->remove(*this);
            _pinger.reset();
        });
    }
    return *_pinger;
}

void echo_service::report(std::string& into) const {
    _pinger->report(into, fmt::format("worker {}: echo", _worker->index()));
}

std::vector<std::unique_ptr<echo_service>> open_echo_services(unsigned workers, std::string& why) {
    std::vector<std::unique_ptr<echo_service>> all;
    for (unsigned i = 0; i < workers; ++i) {
        relay::echo_descriptors at = relay::echo_descriptors::open();
        if (at.error != 0) {
            why = fmt::format(
                "Clients' gateways answer pings themselves: no ICMP socket for this process ({}); "
                "set the sysctl net.ipv4.ping_group_range so that it holds group {}",
                relay::errno_words(at.error), getegid());
            return {};
        }
        all.push_back(std::make_unique<echo_service>(std::move(at)));
    }
    return all;
}

}  // namespace burin::engine
