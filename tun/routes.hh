// What the tunnel's device needs around it: its address, size and routes, and a way for the
// tunnel's own connection that does not lead back into the tunnel.
//
// Nothing here needs undoing. Addresses and routes are tied to the device, which is not persistent:
// when the process ends, also by SIGKILL, the kernel removes the device and all of them. The
// tunnel's own connection keeps out by SO_BINDTODEVICE, which dies with its socket: a bound
// socket's route look-up passes over routes of other interfaces, so the uplink's default route is
// found beneath the tunnel's longer prefixes. Compared with what is usual: a host route to the
// server stays behind after a crash and lets every program's traffic to that address leak beside
// the tunnel; marks with policy rules stay behind as well. One case needs more: where the uplink
// checks reverse paths strictly (rp_filter = 1), the kernel would drop the server's answers,
// because its own route to the server leads into the tunnel. underlay::strict_reverse_path tells;
// then exclude() the server's addresses: the tunnel's routes are split so that they do not cover
// them, which again dies with the device.
//
// Default routes: 0.0.0.0/0 is installed as 0.0.0.0/1 and 128.0.0.0/1 (::/0 alike), so that it wins
// over the uplink's default route whatever its metric, without replacing it, while the LAN's own,
// longer prefixes still win over the tunnel.
//
// What the operator of a gateway sets, and this program never touches:
//   sysctl net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1), so that the kernel forwards the
//   LAN's packets to the device; and, where a firewall's forward policy is "drop", a rule that
//   accepts packets from the LAN to the device and back. No address translation is needed: flows
//   end in this process. rp_filter may be strict on the LAN's interface and on the device, because
//   every answer comes from an address that is routed to the device.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tun/cidr.hh"
#include "tun/netlink.hh"
#include "tun/outcome.hh"

namespace burin::tun {

struct network_settings {
    std::vector<cidr> addresses = {};  // from parse_interface()
    std::vector<cidr> routes = {};     // from parse_network()
    std::vector<cidr> excluded = {};   // parts of `routes` that stay outside of the tunnel
    // Ethernet's size: the path behind is TCP again, and superframes make the size cheap.
    unsigned mtu_bytes = 1500;
    // The driver drops what does not fit (500 by default) without back-pressure. 4096 hold what 256
    // flows at sixteen segments each can have under way; an entry is a pointer.
    unsigned queue_frames = 4096;
};

// How a connection to one address leaves this machine.
struct underlay {
    // 0 and empty: bind to nothing. The address is this machine's or link-local, or no route of the
    // tunnel covers it.
    int index = 0;
    std::string interface;
    std::optional<ip_address> gateway;
    // The interface's answers would be dropped unless exclude() is given this address.
    bool strict_reverse_path = false;
};

// A connection as it leaves this machine: what must stay for it to live.
struct way {
    ip_address local;
    ip_address peer;
    int bound = 0;    // index of the interface that it is bound to; 0: none
    int through = 0;  // index of the interface that it leaves by
};

// Any thread may call; apply() comes first.
class routes {
  public:
    // For a device that exists in the calling thread's network namespace.
    static outcome<routes> open(int device_index, std::string device_name);

    // Size, addresses, up, routes, in this order. A failure names the step; closing the device
    // undoes those before. Called once.
    failure apply(const network_settings&);

    // Replaces what stays outside of the tunnel beside network_settings::excluded. New pieces are
    // added before old ones go, so that no moment leaves covered traffic without a route. Needs
    // CAP_NET_ADMIN still.
    failure exclude(std::vector<cidr> outside);

    // For the session's socket, before each connect: the route of the moment, the tunnel's own
    // routes left out. ENETUNREACH when only the tunnel leads there. Blocks for netlink only.
    outcome<underlay> underlay_for(const ip_address& server);

    // Both for a new socket that is about to connect to `server`: binds it to its underlay, and
    // takes the address out of the tunnel's routes where reverse paths are checked strictly (the
    // latest `outside_limit` addresses are kept out). 0 or a positive errno. Made to be the hook of
    // sessions and name resolvers.
    int keep_outside(int descriptor, const sockaddr& server);
    static constexpr std::size_t outside_limit = 8;

    // Of a connected socket, at the time of its connection; nullopt when it is none.
    std::optional<way> way_of(int descriptor);
    // The connection cannot go on this way, and another one would have a way: its address is this
    // machine's no longer, its interface leads to the peer no longer, or, when it is bound to none,
    // it would leave by another one now. False when there is no other way either: this one may come
    // back. Reads the routing table, once more before it says yes; needs no privilege.
    bool lost(const way&);

    // keep_outside() may have to change routes, which needs CAP_NET_ADMIN: some interface of this
    // machine checks reverse paths strictly. Looks at the settings of now.
    bool needs_privilege() const;

    // The prefixes that are installed now.
    std::vector<cidr> installed() const;

  private:
    routes(netlink socket, int index, std::string name);

    failure settle(std::vector<cidr> outside);
    outcome<underlay> find_underlay(const ip_address& server);
    std::vector<cidr> wanted() const;
    failure add(const cidr&);
    failure remove(const cidr&);
    // Some route of the main table leads to `peer` by this interface.
    bool leads(const ip_address& peer, int link_index);
    // The best route to `server` in the main table that is not the device's.
    outcome<hop> beneath(const ip_address& server);

    // Sessions of several workers connect at their own time; held for netlink's answers only.
    // Behind a pointer, so that the object moves.
    std::unique_ptr<std::mutex> _lock = std::make_unique<std::mutex>();
    netlink _netlink;
    int _index;
    std::string _name;
    network_settings _settings;
    std::vector<cidr> _outside;
    std::vector<cidr> _installed;
};

}  // namespace burin::tun
