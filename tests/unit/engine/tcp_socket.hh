// A TCP socket that nothing was done with, for tests of options.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/catch.hh"

namespace burin::engine {

class tcp_socket {
  public:
    tcp_socket() = default;
    ~tcp_socket() { ::close(_descriptor); }
    tcp_socket(const tcp_socket&) = delete;
    tcp_socket& operator=(const tcp_socket&) = delete;
    int number() const { return _descriptor; }
    int told(int name, int level = SOL_SOCKET) const {
        int value = -1;
        socklen_t size = sizeof value;
        REQUIRE(getsockopt(_descriptor, level, name, &value, &size) == 0);
        return value;
    }

  private:
    int _descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
};

}  // namespace burin::engine
