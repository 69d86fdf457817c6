#include "tun/routes.hh"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <optional>
#include <utility>

#include "tun/descriptor.hh"

namespace burin::tun {
namespace {

// IPv6 reads metric 0 as 1024, behind the kernel's own 256: one is the strongest that can be said.
std::uint32_t strongest_metric(const cidr& destination) {
    return destination.address.family() == AF_INET6 ? 1 : 0;
}

// The larger of the two settings counts (the kernel's ip-sysctl.rst, rp_filter): 1 is strict, 2
// loose.
bool checks_reverse_path_strictly(const std::string& interface) {
    int effective = 0;
    for (const std::string& scope : {std::string("all"), interface}) {
        std::ifstream file("/proc/sys/net/ipv4/conf/" + scope + "/rp_filter");
        int value = 0;
        if (file >> value) effective = std::max(effective, value);
    }
    return effective == 1;
}

std::string hint(int error) {
    if (error == EPERM || error == EACCES) return "; this needs CAP_NET_ADMIN: run as root";
    return {};
}

bool ipv6_is_off(const std::string& interface) {
    std::ifstream file("/proc/sys/net/ipv6/conf/" + interface + "/disable_ipv6");
    int value = 0;
    return !(file >> value) || value != 0;
}

// Whether this machine has the address still: only then a socket may have it.
bool own_address(const ip_address& address) {
    sockaddr_storage to{};
    const socklen_t size = address.socket_address(0, to);
    descriptor probe(::socket(address.family(), SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return !probe || bind(probe.number(), reinterpret_cast<const sockaddr*>(&to), size) == 0 ||
           errno != EADDRNOTAVAIL;
}

}  // namespace

routes::routes(netlink socket, int index, std::string name)
    : _netlink(std::move(socket)), _index(index), _name(std::move(name)) {}

outcome<routes> routes::open(int device_index, std::string device_name) {
    auto socket = netlink::open();
    if (!socket) return socket.error();
    return routes(std::move(socket).value(), device_index, std::move(device_name));
}

failure routes::apply(const network_settings& settings) {
    std::lock_guard held(*_lock);
    _settings = settings;
    if (failure bad = _netlink.change_link(_index, {settings.mtu_bytes, settings.queue_frames, {}}))
        return {bad.code, "cannot set MTU " + std::to_string(settings.mtu_bytes) +
                              " and queue length " + std::to_string(settings.queue_frames) +
                              " of " + _name + ": " + bad.what + hint(bad.code)};
    for (const cidr& address : settings.addresses) {
        if (failure bad = _netlink.add_address(_index, address)) {
            bool off = address.address.family() == AF_INET6 && ipv6_is_off(_name);
            return {bad.code, "cannot give " + _name + " the address " + address.text() + ": " +
                                  bad.what +
                                  (off ? "; IPv6 is switched off here (sysctl "
                                         "net.ipv6.conf.default.disable_ipv6)"
                                       : hint(bad.code))};
        }
    }
    if (failure bad = _netlink.change_link(_index, {{}, {}, true}))
        return {bad.code, "cannot set " + _name + " up: " + bad.what + hint(bad.code)};
    return settle({});
}

std::vector<cidr> routes::wanted() const {
    std::vector<cidr> outside = _settings.excluded;
    outside.insert(outside.end(), _outside.begin(), _outside.end());
    std::vector<cidr> all;
    for (const cidr& route : _settings.routes) {
        for (const cidr& piece : subtract(route, outside)) {
            if (piece.prefix > 0) {
                all.push_back(piece);
                continue;
            }
            all.push_back({piece.address, 1});
            all.push_back({piece.address.flipped(0), 1});
        }
    }
    std::sort(all.begin(), all.end());
    all.erase(std::unique(all.begin(), all.end()), all.end());
    return all;
}

failure routes::add(const cidr& destination) {
    route added{destination, {{_index, {}}}, strongest_metric(destination)};
    failure bad = _netlink.add_route(added);
    if (!bad) return {};
    std::string what = "cannot route " + destination.text() + " to " + _name + ": " + bad.what;
    if (bad.code != EEXIST) return {bad.code, what + hint(bad.code)};
    // Whose is it? Best effort: the message is right without.
    std::string owner;
    auto look = [&](const route& other) {
        if (other.destination != destination || other.hops.empty() || other.metric != added.metric)
            return;
        if (auto found = _netlink.find_link(other.hops.front().link_index)) owner = found->name;
    };
    (void)_netlink.each_route(destination.address.family(), route::main_table, look);
    what += owner.empty() ? "; remove that route" : "; " + owner + " has that route";
    return {bad.code, what + " (ip route show " + destination.text() +
                          "), or give --route a longer or shorter prefix"};
}

failure routes::remove(const cidr& destination) {
    failure bad =
        _netlink.delete_route({destination, {{_index, {}}}, strongest_metric(destination)});
    // Somebody else took it away, which is what was wanted.
    if (!bad || bad.code == ESRCH) return {};
    return {bad.code, "cannot take the route " + destination.text() + " from " + _name + ": " +
                          bad.what + hint(bad.code)};
}

failure routes::settle(std::vector<cidr> outside) {
    _outside = std::move(outside);
    std::vector<cidr> next = wanted();
    std::vector<cidr> added, gone;
    std::set_difference(next.begin(), next.end(), _installed.begin(), _installed.end(),
                        std::back_inserter(added));
    std::set_difference(_installed.begin(), _installed.end(), next.begin(), next.end(),
                        std::back_inserter(gone));
    for (const cidr& destination : added) {
        if (failure bad = add(destination)) return bad;
        _installed.push_back(destination);
    }
    for (const cidr& destination : gone) {
        if (failure bad = remove(destination)) return bad;
        std::erase(_installed, destination);
    }
    std::sort(_installed.begin(), _installed.end());
    return {};
}

outcome<hop> routes::beneath(const ip_address& server) {
    std::optional<route> best;
    auto look = [&](const route& one) {
        if (one.kind != route::unicast || !one.destination.contains(server)) return;
        route kept = one;
        std::erase_if(kept.hops, [&](const hop& next) { return next.link_index == _index; });
        if (kept.hops.empty()) return;
        bool better =
            !best || kept.destination.prefix > best->destination.prefix ||
            (kept.destination.prefix == best->destination.prefix && kept.metric < best->metric);
        if (better) best = std::move(kept);
    };
    if (failure bad = _netlink.each_route(server.family(), route::main_table, look))
        return failure{bad.code, "cannot list routes: " + bad.what};
    if (!best)
        return failure{ENETUNREACH, "no route to " + server.text() + " but through " + _name +
                                        "; the tunnel's own connection needs one outside of it"};
    return best->hops.front();
}

outcome<underlay> routes::find_underlay(const ip_address& server) {
    if (server.loopback() || server.link_local_v6()) return underlay{};
    auto answer = _netlink.route_to(server);
    if (answer && answer->kind == route::local) return underlay{};
    auto covers = [&](const cidr& prefix) { return prefix.contains(server); };
    bool covered = std::any_of(_installed.begin(), _installed.end(), covers) ||
                   std::any_of(_settings.addresses.begin(), _settings.addresses.end(), covers);
    if (!covered) {
        if (!answer) return answer.error();
        return underlay{};
    }
    bool shadowed = !answer || answer->hops.empty() || answer->hops.front().link_index == _index;
    hop next;
    if (shadowed) {
        auto found = beneath(server);
        if (!found) return found.error();
        next = found.value();
    } else {
        next = answer->hops.front();
    }
    auto uplink = _netlink.find_link(next.link_index);
    if (!uplink) return uplink.error();
    underlay way{next.link_index, uplink->name, next.gateway, false};
    way.strict_reverse_path =
        shadowed && server.family() == AF_INET && checks_reverse_path_strictly(way.interface);
    return way;
}

failure routes::exclude(std::vector<cidr> outside) {
    std::lock_guard held(*_lock);
    return settle(std::move(outside));
}

outcome<underlay> routes::underlay_for(const ip_address& server) {
    std::lock_guard held(*_lock);
    return find_underlay(server);
}

std::optional<way> routes::way_of(int descriptor) {
    sockaddr_storage name{};
    auto address = [&](auto ask) -> std::optional<ip_address> {
        socklen_t size = sizeof name;
        auto* generic = reinterpret_cast<sockaddr*>(&name);
        if (ask(descriptor, generic, &size) != 0) return {};
        return ip_address::from(*generic);
    };
    auto local = address(getsockname), peer = address(getpeername);
    if (!local || !peer) return {};
    way found{*local, *peer};
    socklen_t size = sizeof found.bound;
    getsockopt(descriptor, SOL_SOCKET, SO_BINDTOIFINDEX, &found.bound, &size);
    found.through = found.bound;
    if (found.bound != 0) return found;
    std::lock_guard held(*_lock);
    auto answer = _netlink.route_to(*peer);
    if (!answer || answer->hops.empty()) return {};
    found.through = answer->hops.front().link_index;
    return found;
}

bool routes::leads(const ip_address& peer, int link_index) {
    bool found = false;
    auto look = [&](const route& one) {
        if (one.kind != route::unicast || !one.destination.contains(peer)) return;
        for (const hop& next : one.hops) found = found || next.link_index == link_index;
    };
    // What cannot be asked is no reason to end anything.
    return _netlink.each_route(peer.family(), route::main_table, look) || found;
}

bool routes::lost(const way& used) {
    std::lock_guard held(*_lock);
    bool gone = !own_address(used.local);
    if (!gone && used.bound != 0) gone = !leads(used.peer, used.bound);
    if (!gone && used.bound == 0) {
        auto answer = _netlink.route_to(used.peer);
        gone = answer && !answer->hops.empty() && answer->hops.front().link_index != used.through;
    }
    return gone && find_underlay(used.peer).ok();
}

bool routes::needs_privilege() const {
    std::error_code bad;
    for (const auto& one : std::filesystem::directory_iterator("/proc/sys/net/ipv4/conf", bad))
        if (checks_reverse_path_strictly(one.path().filename())) return true;
    return false;
}

std::vector<cidr> routes::installed() const {
    std::lock_guard held(*_lock);
    return _installed;
}

int routes::keep_outside(int descriptor, const sockaddr& server) {
    auto address = ip_address::from(server);
    if (!address) return EAFNOSUPPORT;
    std::lock_guard held(*_lock);
    auto way = find_underlay(*address);
    if (!way) return way.error().code;
    if (way->index == 0) return 0;
    if (way->strict_reverse_path) {
        std::vector<cidr> outside = _outside;
        outside.push_back({*address, address->bits()});
        if (outside.size() > outside_limit) outside.erase(outside.begin());
        if (failure bad = settle(std::move(outside))) return bad.code;
    }
    int bound = setsockopt(descriptor, SOL_SOCKET, SO_BINDTODEVICE, way->interface.data(),
                           static_cast<socklen_t>(way->interface.size()));
    return bound == 0 ? 0 : errno;
}

}  // namespace burin::tun
