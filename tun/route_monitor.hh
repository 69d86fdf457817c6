// Tells that links, addresses or routes of a network namespace have changed (rtnetlink(7)'s
// multicast groups). Not what has changed: whoever is told looks again. One thread; needs no
// privilege.
#pragma once

#include "tun/descriptor.hh"
#include "tun/outcome.hh"

namespace burin::tun {

class route_monitor {
  public:
    // For the namespace of the calling thread.
    static outcome<route_monitor> open();

    // Readable when something has changed.
    int number() const noexcept { return _socket.number(); }
    // Takes what is there without waiting; true when there was anything, also what the kernel had
    // no room to tell.
    bool drain() noexcept;

  private:
    explicit route_monitor(descriptor socket) : _socket(std::move(socket)) {}
    descriptor _socket;
};

}  // namespace burin::tun
