#include "tun/route_monitor.hh"

#include <sys/socket.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

namespace burin::tun {

outcome<route_monitor> route_monitor::open() {
    descriptor socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
    sockaddr_nl own{};
    own.nl_family = AF_NETLINK;
    own.nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_IFADDR |
                    RTMGRP_IPV6_ROUTE;
    if (!socket || bind(socket.number(), reinterpret_cast<const sockaddr*>(&own), sizeof own) != 0)
        return failure{errno, std::string("cannot watch routes: ") + std::strerror(errno)};
    return route_monitor(std::move(socket));
}

bool route_monitor::drain() noexcept {
    std::array<char, 16 * 1024> dropped;
    bool any = false;
    for (;;) {
        const ssize_t size = recv(number(), dropped.data(), dropped.size(), 0);
        if (size > 0 || (size < 0 && errno == ENOBUFS))
            any = true;
        else if (size == 0 || errno != EINTR)
            return any;
    }
}

}  // namespace burin::tun
