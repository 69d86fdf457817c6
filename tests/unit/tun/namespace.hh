// A network namespace for one test: the calling thread is inside from construction to destruction.
// Sockets, devices and /proc/sys/net that the thread meets meanwhile are the new namespace's.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>

#include "tests/catch.hh"
#include "tun/descriptor.hh"

namespace burin::tun {

class fresh_namespace {
  public:
    // Nothing when this process may not: not root, or no TUN driver.
    static bool available() { return geteuid() == 0 && access("/dev/net/tun", F_OK) == 0; }

    fresh_namespace() : _home(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
        if (!_home || unshare(CLONE_NEWNET) != 0) std::abort();
    }
    ~fresh_namespace() {
        if (setns(_home.number(), CLONE_NEWNET) != 0) std::abort();
    }
    fresh_namespace(const fresh_namespace&) = delete;
    fresh_namespace& operator=(const fresh_namespace&) = delete;

  private:
    descriptor _home;
};

}  // namespace burin::tun

// Enters a namespace until the end of the block; leaves the test where that is not possible.
#define NEEDS_NAMESPACE(name)                         \
    if (!burin::tun::fresh_namespace::available()) {  \
        WARN("skipped: needs root and /dev/net/tun"); \
        return;                                       \
    }                                                 \
    burin::tun::fresh_namespace name
