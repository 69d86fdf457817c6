// The kernel's route netlink (rtnetlink(7)) as a few questions and orders: links, addresses,
// routes, rules. One object is one socket, used by one thread, and speaks of the network namespace
// that the thread was in at open(). Calls block for the kernel's answer (microseconds; a dump of a
// full Internet table takes longer), so they belong to start-up and reconnection, never to a
// worker's turn under load.
//
// Failures carry errno and the kernel's own words (extended acknowledgement) where it has any.
// Orders need CAP_NET_ADMIN, questions need nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tun/cidr.hh"
#include "tun/outcome.hh"

struct mnl_socket;
struct nlmsghdr;

namespace burin::tun {

struct link {
    int index = 0;
    std::string name;
    unsigned mtu_bytes = 0;
    unsigned queue_frames = 0;  // txqueuelen
    bool up = false;
    bool running = false;  // has a carrier
};

// What is absent stays as it is.
struct link_change {
    std::optional<unsigned> mtu_bytes = {};
    std::optional<unsigned> queue_frames = {};
    std::optional<bool> up = {};
};

struct hop {
    int link_index = 0;
    std::optional<ip_address> gateway = {};
};

struct route {
    static constexpr std::uint32_t main_table = 254;  // RT_TABLE_MAIN
    static constexpr std::uint8_t unicast = 1;        // RTN_UNICAST
    static constexpr std::uint8_t local = 2;          // RTN_LOCAL: this machine

    cidr destination;
    std::vector<hop> hops;  // several: equal-cost multipath; dead ones are left out
    std::uint32_t metric = 0;
    std::uint32_t table = main_table;
    std::uint8_t kind = unicast;  // RTN_*
};

// A policy rule: packets with (mark & mask) == mark look into `table`. Rules outlive the process.
struct rule {
    int family = 0;  // AF_INET or AF_INET6
    std::uint32_t priority = 0;
    std::uint32_t mark = 0;
    std::uint32_t mask = 0xffffffff;
    std::uint32_t table = route::main_table;
};

class netlink {
  public:
    static outcome<netlink> open();
    netlink(netlink&&) noexcept;
    netlink& operator=(netlink&&) noexcept;
    ~netlink();

    // ENODEV when there is none.
    outcome<link> find_link(const std::string& name);
    outcome<link> find_link(int index);
    failure change_link(int index, const link_change&);

    // EEXIST when the interface has it. IPv6 addresses are usable at once (no duplicate detection:
    // a TUN device has no neighbours).
    failure add_address(int index, const cidr&);
    outcome<std::vector<cidr>> addresses(int index);

    // EEXIST when a route of the same destination, metric and table exists.
    failure add_route(const route&);
    failure delete_route(const route&);
    // Calls back for each route of the family in `table`; cached and cloned ones are left out.
    failure each_route(int family, std::uint32_t table,
                       const std::function<void(const route&)>& visit);
    // What the kernel would do with a packet from this machine to `to` now: local, unicast with one
    // hop, or ENETUNREACH / EHOSTUNREACH.
    outcome<route> route_to(const ip_address& to);

    failure add_rule(const rule&);
    failure delete_rule(const rule&);

  private:
    struct closer {
        void operator()(mnl_socket*) const noexcept;
    };
    explicit netlink(mnl_socket*);

    using visitor = std::function<void(const nlmsghdr&)>;
    // Sends and reads until the kernel's acknowledgement, its error, or the end of a dump.
    failure talk(nlmsghdr& request, const visitor& visit = {});
    failure change_route(const route&, std::uint16_t type, std::uint16_t flags);
    failure change_rule(const rule&, std::uint16_t type, std::uint16_t flags);
    outcome<link> ask_link(int index, const std::string& name);

    std::unique_ptr<mnl_socket, closer> _socket;
    std::vector<char> _buffer;
    std::uint32_t _sequence = 0;
};

}  // namespace burin::tun
