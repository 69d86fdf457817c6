// A TCP or UDP address with its port: what a name resolves to and a socket connects to. A plain
// value of 32 bytes.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace burin::relay {

class endpoint {
  public:
    // 0.0.0.0:0
    endpoint() noexcept;
    // From a socket address; nullopt for a family that is not IP or a size that does not fit.
    static std::optional<endpoint> from(const sockaddr* address, socklen_t bytes) noexcept;
    // From an address as people write it, without brackets: "127.0.0.1", "::1", "fe80::1%eth0".
    // nullopt for everything else, names included.
    static std::optional<endpoint> literal(std::string_view text, std::uint16_t port);

    int family() const noexcept { return _any.generic.sa_family; }
    std::uint16_t port() const noexcept;
    void set_port(std::uint16_t) noexcept;
    bool loopback() const noexcept;

    const sockaddr* address() const noexcept { return &_any.generic; }
    socklen_t bytes() const noexcept {
        return family() == AF_INET ? sizeof _any.v4 : sizeof _any.v6;
    }
    // As Go prints it: "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80".
    std::string text() const;
    bool operator==(const endpoint&) const noexcept;

  private:
    union {
        sockaddr generic;
        sockaddr_in v4;
        sockaddr_in6 v6;
    } _any;
};

// Called with each socket that is made here, before it connects to `to`: binds it to an interface
// or marks it. 0, or a positive errno that ends this one attempt. Empty: nothing to do.
using socket_hook = std::function<int(int descriptor, const endpoint& to)>;

// Called when the kernel has no descriptor for a socket (EMFILE, ENFILE): true when others give
// theirs back, so that asking again a little later has a point. Empty: nobody does.
using relief_hook = std::function<bool()>;

constexpr bool no_descriptor(int error) noexcept {
    return error == EMFILE || error == ENFILE;
}

}  // namespace burin::relay
