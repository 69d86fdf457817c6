// Prefixes, and the routes around a device, each case in a network namespace of its own with a veth
// pair as the uplink:
//
//   this machine -- up0 192.0.2.2/24, default via 192.0.2.1 -- up1 (same namespace, no address)
#include "tun/routes.hh"

#include <net/if.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>

#include "tests/catch.hh"
#include "tests/unit/tun/namespace.hh"
#include "tests/unit/tun/shell.hh"
#include "tun/cidr.hh"
#include "tun/device.hh"
#include "tun/netlink.hh"

using namespace burin::tun;

namespace {

ip_address ip(const char* text) {
    return ip_address::parse(text).value();
}
cidr net(const char* text) {
    return parse_network(text).value();
}

std::string why(const outcome<cidr>& parsed) {
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code == EINVAL);
    return parsed.error().what;
}

void make_uplink() {
    shell("ip link set lo up && ip link add up0 type veth peer name up1");
    shell("ip link set up1 up && ip address add 192.0.2.2/24 dev up0 && ip link set up0 up");
    shell("ip -6 address add fd00:1::2/64 dev up0 nodad");
    shell("ip route add default via 192.0.2.1 dev up0 metric 100");
    shell("ip -6 route add default via fd00:1::1 dev up0 metric 100");
}

std::vector<std::string> routes_of(netlink& kernel, int family, int index) {
    std::vector<std::string> found;
    auto keep = [&](const route& one) {
        for (const hop& next : one.hops)
            if (next.link_index == index) found.push_back(one.destination.text());
    };
    REQUIRE_FALSE(kernel.each_route(family, route::main_table, keep));
    std::sort(found.begin(), found.end());
    return found;
}

struct gateway {
    device tun;
    routes around;
};

gateway open_gateway(const network_settings& settings, const std::string& name = "burin%d") {
    auto opened = device::open({name});
    INFO((opened ? std::string() : opened.error().what));
    REQUIRE(opened.ok());
    auto around = routes::open(opened->index(), opened->name());
    REQUIRE(around.ok());
    failure bad = around->apply(settings);
    INFO(bad.what);
    REQUIRE_FALSE(bad);
    return {std::move(opened).value(), std::move(around).value()};
}

network_settings usual(std::vector<cidr> destinations) {
    network_settings settings;
    settings.addresses = {parse_interface("10.77.0.1/24").value(),
                          parse_interface("fd77::1/64").value()};
    settings.routes = std::move(destinations);
    return settings;
}

}  // namespace

TEST_CASE("addresses are read and written", "[cidr]") {
    CHECK(ip("192.0.2.1").text() == "192.0.2.1");
    CHECK(ip("2001:DB8::1").text() == "2001:db8::1");
    for (const char* bad : {"", "1.2.3", "1.2.3.4.5", "01.2.3.4", "::g", "fe80::1%eth0", "[::1]",
                            "host", "1.2.3.4 ", "1.2.3.4/8"}) {
        INFO(bad);
        CHECK_FALSE(ip_address::parse(bad));
    }
    CHECK(ip("127.9.9.9").loopback());
    CHECK(ip("::1").loopback());
    CHECK_FALSE(ip("::2").loopback());
    CHECK_FALSE(ip("1::1").loopback());
    CHECK(ip("fe80::1").link_local_v6());
    CHECK(ip("febf::1").link_local_v6());
    CHECK_FALSE(ip("fec0::1").link_local_v6());

    sockaddr_storage to{};
    CHECK(ip("192.0.2.1").socket_address(80, to) == sizeof(sockaddr_in));
    CHECK(ip_address::from(reinterpret_cast<sockaddr&>(to)) == ip("192.0.2.1"));
    CHECK(ip("2001:db8::1").socket_address(80, to) == sizeof(sockaddr_in6));
    CHECK(ip_address::from(reinterpret_cast<sockaddr&>(to)) == ip("2001:db8::1"));
    ip("::ffff:192.0.2.1").socket_address(80, to);
    CHECK(ip_address::from(reinterpret_cast<sockaddr&>(to)) == ip("192.0.2.1"));
    to.ss_family = AF_UNIX;
    CHECK_FALSE(ip_address::from(reinterpret_cast<sockaddr&>(to)));
}

TEST_CASE("prefixes are parsed, or refused with a reason", "[cidr]") {
    CHECK(parse_interface("10.9.0.1/24").value().text() == "10.9.0.1/24");
    CHECK(parse_interface("10.9.0.1").value().text() == "10.9.0.1/32");
    CHECK(parse_interface("10.9.0.0/31").value().text() == "10.9.0.0/31");
    CHECK(parse_interface("fd00::1/64").value().network().text() == "fd00::");
    CHECK(parse_network("0.0.0.0/0").value().text() == "0.0.0.0/0");
    CHECK(parse_network("::/0").value().text() == "::/0");
    CHECK(parse_network("10.0.0.1").value().text() == "10.0.0.1/32");

    CHECK(why(parse_network("10.0.0.0/33")) ==
          "'10.0.0.0/33' needs a prefix length of 0 to 32 after the slash");
    CHECK(why(parse_network("::/129")).find("0 to 128") != std::string::npos);
    for (const char* bad : {"10.0.0.0/", "10.0.0.0/x", "10.0.0.0/8x", "10.0.0.0/-1",
                            "10.0.0.0/99999999999", "10.0.0.0/ 8", "10.0.0.0/+8"})
        CHECK(why(parse_network(bad)).find("prefix length") != std::string::npos);
    CHECK(why(parse_network("lan")) ==
          "'lan' is not an IP address or prefix; write it like 10.9.0.0/24 or fd00::/64");
    CHECK(why(parse_network("a\nb\x1b")).find("'a?b?'") == 0);
    CHECK(why(parse_network("10.9.0.5/8")) ==
          "'10.9.0.5/8' has bits set beyond its prefix length; did you mean 10.0.0.0/8?");
    CHECK(why(parse_network("fd00::1/64")).find("fd00::/64?") != std::string::npos);
    CHECK(why(parse_network("224.0.0.0/4")).find("multicast") != std::string::npos);
    CHECK(why(parse_network("127.0.0.0/8")).find("this machine") != std::string::npos);
    CHECK(why(parse_network("::1")).find("this machine") != std::string::npos);
    CHECK(why(parse_interface("10.9.0.0/24")).find("network's own") != std::string::npos);
    CHECK(why(parse_interface("10.9.0.255/24")).find("broadcast") != std::string::npos);
    CHECK(parse_interface("10.9.0.254/24").ok());
    CHECK(why(parse_interface("0.0.0.0/8")).find("interface") != std::string::npos);
    CHECK(why(parse_interface("127.0.0.2/8")).find("interface") != std::string::npos);
    CHECK(why(parse_interface("239.1.1.1/24")).find("interface") != std::string::npos);
    CHECK(why(parse_interface("10.0.0.1/0")).find("at least 1") != std::string::npos);
}

TEST_CASE("subtraction leaves everything but what is excluded", "[cidr]") {
    std::vector<cidr> none;
    CHECK(subtract(net("10.0.0.0/8"), none) == std::vector<cidr>{net("10.0.0.0/8")});
    std::vector<cidr> self{net("0.0.0.0/0")};
    CHECK(subtract(net("10.0.0.0/8"), self).empty());
    std::vector<cidr> other{net("::/0"), net("192.168.0.0/16")};
    CHECK(subtract(net("10.0.0.0/8"), other) == std::vector<cidr>{net("10.0.0.0/8")});
    std::vector<cidr> half{net("10.128.0.0/9")};
    CHECK(subtract(net("10.0.0.0/8"), half) == std::vector<cidr>{net("10.0.0.0/9")});
    std::vector<cidr> host{net("192.0.2.1")};
    CHECK(subtract(net("0.0.0.0/0"), host).size() == 32);
    std::vector<cidr> host6{net("2001:db8::1")};
    CHECK(subtract(net("::/0"), host6).size() == 128);

    unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    auto draw = [&](unsigned shortest) {
        in_addr raw{static_cast<std::uint32_t>(random())};
        unsigned prefix = shortest + static_cast<unsigned>(random() % (33 - shortest));
        return cidr{ip_address(raw).masked(prefix), prefix};
    };
    for (int round = 0; round < 50; ++round) {
        cidr whole = draw(0);
        std::vector<cidr> holes;
        for (int i = 0; i < 4; ++i) holes.push_back(draw(0));
        std::vector<cidr> parts = subtract(whole, holes);
        for (int probe = 0; probe < 100; ++probe) {
            ip_address at(in_addr{static_cast<std::uint32_t>(random())});
            auto has = [&](const cidr& c) { return c.contains(at); };
            bool expected = whole.contains(at) && std::none_of(holes.begin(), holes.end(), has);
            CHECK(std::count_if(parts.begin(), parts.end(), has) == (expected ? 1 : 0));
        }
    }
}

TEST_CASE("netlink answers with the kernel's words", "[netlink]") {
    NEEDS_NAMESPACE(inside);
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    auto lo = kernel->find_link("lo");
    REQUIRE(lo.ok());
    CHECK(lo->index == 1);
    CHECK(kernel->find_link(1)->name == "lo");
    CHECK(kernel->find_link("none").error().code == ENODEV);
    CHECK(kernel->find_link(4711).error().code == ENODEV);
    CHECK(kernel->find_link("").error().code == ENODEV);
    CHECK(kernel->change_link(4711, {{}, {}, true}).code == ENODEV);
    // lo is down: the kernel says so in words (extended acknowledgement).
    route refused{net("10.0.0.0/8"), {{1, {}}}};
    failure bad = kernel->add_route(refused);
    CHECK(bad.code == ENETDOWN);
    refused.hops = {{4711, {}}};
    CHECK(kernel->add_route(refused).code == ENODEV);
    CHECK(kernel->route_to(ip("192.0.2.1")).error().code == ENETUNREACH);
    REQUIRE_FALSE(kernel->change_link(1, {{}, {}, true}));
    CHECK(kernel->find_link("lo")->up);
    bad = kernel->add_address(1, {ip("10.0.0.1"), 33});
    CHECK(bad.code == EINVAL);
    CHECK(bad.what.find('(') != std::string::npos);
    CHECK_FALSE(kernel->add_address(1, {ip("10.0.0.1"), 32}));
    CHECK(kernel->add_address(1, {ip("10.0.0.1"), 32}).code == EEXIST);
    auto have = kernel->addresses(1);
    REQUIRE(have.ok());
    CHECK(std::count(have->begin(), have->end(), cidr{ip("10.0.0.1"), 32}) == 1);
    CHECK(kernel->route_to(ip("10.0.0.1"))->kind == route::local);
    CHECK(kernel->delete_route({net("10.0.0.0/8"), {{1, {}}}}).code == ESRCH);
}

TEST_CASE("rules come and go", "[netlink]") {
    NEEDS_NAMESPACE(inside);
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    for (int family : {AF_INET, AF_INET6}) {
        rule one{family, 4711, 0x42, 0xff, 300};
        CHECK_FALSE(kernel->add_rule(one));
        CHECK(kernel->add_rule(one).code == EEXIST);
        CHECK_FALSE(kernel->delete_rule(one));
        CHECK(kernel->delete_rule(one).code == ENOENT);
    }
}

TEST_CASE("a large table is listed whole, multipath hops included", "[netlink]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    int up0 = kernel->find_link("up0")->index;
    for (unsigned i = 0; i < 2000; ++i) {
        in_addr raw{htonl(0x0a000000u + i * 256)};
        REQUIRE_FALSE(kernel->add_route({{ip_address(raw), 24}, {{up0, ip("192.0.2.1")}}, 7}));
    }
    shell("ip route add 172.16.0.0/12 nexthop via 192.0.2.1 dev up0 nexthop via 192.0.2.3 dev up0");
    int seen = 0, with_gateway = 0;
    std::vector<hop> several;
    REQUIRE_FALSE(kernel->each_route(AF_INET, route::main_table, [&](const route& one) {
        if (one.metric == 7) ++seen;
        if (one.metric == 7 && one.hops.front().gateway == ip("192.0.2.1")) ++with_gateway;
        if (one.destination == net("172.16.0.0/12")) several = one.hops;
    }));
    CHECK(seen == 2000);
    CHECK(with_gateway == 2000);
    REQUIRE(several.size() == 2);
    CHECK(several[1].gateway == ip("192.0.2.3"));
    int elsewhere = 0;
    CHECK_FALSE(kernel->each_route(AF_INET, 4711, [&](const route&) { ++elsewhere; }));
    CHECK(elsewhere == 0);
}

TEST_CASE("address, size and routes are applied and vanish with the device", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    int index = 0;
    {
        network_settings settings = usual({net("10.0.0.0/8"), net("2001:db8::/32")});
        settings.mtu_bytes = 1400;
        settings.queue_frames = 2000;
        gateway gate = open_gateway(settings);
        index = gate.tun.index();
        auto found = kernel->find_link(index);
        REQUIRE(found.ok());
        CHECK(found->mtu_bytes == 1400);
        CHECK(found->queue_frames == 2000);
        CHECK(found->up);
        CHECK(found->running);
        auto have = kernel->addresses(index);
        REQUIRE(have.ok());
        for (const cidr& wanted : settings.addresses)
            CHECK(std::count(have->begin(), have->end(), wanted) == 1);
        CHECK(routes_of(kernel.value(), AF_INET, index) ==
              std::vector<std::string>{"10.0.0.0/8", "10.77.0.0/24"});
        CHECK(kernel->route_to(ip("10.1.2.3"))->hops.front().link_index == index);
        CHECK(kernel->route_to(ip("2001:db8::9"))->hops.front().link_index == index);
    }
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (kernel->find_link(index).ok() && std::chrono::steady_clock::now() < until) usleep(5000);
    CHECK_FALSE(kernel->find_link(index).ok());
    CHECK(routes_of(kernel.value(), AF_INET, index).empty());
    CHECK(routes_of(kernel.value(), AF_INET6, index).empty());
    CHECK(kernel->route_to(ip("10.1.2.3"))->hops.front().gateway == ip("192.0.2.1"));
}

TEST_CASE("SIGKILL leaves no device, address or route", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        auto opened = device::open({"killed", 2});
        if (!opened) _exit(1);
        auto around = routes::open(opened->index(), opened->name());
        if (!around || around->apply(usual({net("0.0.0.0/0"), net("::/0")}))) _exit(2);
        if (write(ready[1], "r", 1) != 1) _exit(3);
        for (;;) pause();
    }
    close(ready[1]);
    char byte = 0;
    bool started = read(ready[0], &byte, 1) == 1;
    close(ready[0]);
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    auto link = kernel->find_link("killed");
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    REQUIRE(started);
    REQUIRE(link.ok());
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (kernel->find_link("killed").ok() && std::chrono::steady_clock::now() < until)
        usleep(5000);
    CHECK_FALSE(kernel->find_link("killed").ok());
    CHECK(routes_of(kernel.value(), AF_INET, link->index).empty());
    CHECK(routes_of(kernel.value(), AF_INET6, link->index).empty());
    CHECK(kernel->route_to(ip("8.8.8.8"))->hops.front().gateway == ip("192.0.2.1"));
    CHECK(kernel->route_to(ip("2606::1"))->hops.front().gateway == ip("fd00:1::1"));
}

TEST_CASE("default routes win without replacing the uplink's", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    gateway gate = open_gateway(usual({net("0.0.0.0/0"), net("::/0")}));
    int index = gate.tun.index();
    int up0 = kernel->find_link("up0")->index;
    for (const char* far : {"8.8.8.8", "203.0.113.7", "2606:4700::1111", "fd99::1"})
        CHECK(kernel->route_to(ip(far))->hops.front().link_index == index);
    // The LAN's own prefixes stay the LAN's.
    for (const char* near : {"192.0.2.9", "fd00:1::9"})
        CHECK(kernel->route_to(ip(near))->hops.front().link_index == up0);
    CHECK(gate.around.installed().size() == 4);
}

TEST_CASE("the way beneath the tunnel is found", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    gateway gate = open_gateway(usual({net("0.0.0.0/0"), net("::/0"), net("198.51.100.0/24")}));
    routes& around = gate.around;
    auto way = [&](const char* to) {
        auto found = around.underlay_for(ip(to));
        INFO((found ? std::string() : found.error().what));
        REQUIRE(found.ok());
        return found.value();
    };
    // This machine, under any of its names: no binding.
    for (const char* self : {"127.0.0.1", "::1", "192.0.2.2", "10.77.0.1", "fe80::1"})
        CHECK(way(self).index == 0);
    CHECK(way("8.8.8.8").interface == "up0");
    CHECK(way("8.8.8.8").gateway == ip("192.0.2.1"));
    CHECK(way("198.51.100.7").interface == "up0");
    CHECK(way("192.0.2.9").interface == "up0");
    CHECK_FALSE(way("192.0.2.9").gateway);
    CHECK(way("2606:4700::1111").interface == "up0");
    CHECK(way("2606:4700::1111").gateway == ip("fd00:1::1"));

    // Another uplink appears with a longer prefix, then goes: the answer follows.
    shell(
        "ip link add dsl0 type veth peer name dsl1 && ip link set dsl1 up && ip address add "
        "100.64.0.2/24 dev dsl0");
    shell("ip link set dsl0 up && ip route add 8.8.8.0/24 via 100.64.0.1 dev dsl0");
    CHECK(way("8.8.8.8").interface == "dsl0");
    shell("ip route add default via 100.64.0.1 dev dsl0 metric 50");
    CHECK(way("9.9.9.9").interface == "dsl0");
    shell("ip link del dsl0");
    CHECK(way("8.8.8.8").interface == "up0");
    CHECK(way("9.9.9.9").interface == "up0");

    shell("ip route del default via 192.0.2.1");
    auto nowhere = around.underlay_for(ip("8.8.8.8"));
    REQUIRE_FALSE(nowhere.ok());
    CHECK(nowhere.error().code == ENETUNREACH);
    CHECK(nowhere.error().what.find("no route to 8.8.8.8 but through burin0") == 0);
}

TEST_CASE("what the tunnel does not cover needs no binding", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    gateway gate = open_gateway(usual({net("198.51.100.0/24")}));
    auto found = gate.around.underlay_for(ip("8.8.8.8"));
    REQUIRE(found.ok());
    CHECK(found->index == 0);
    CHECK(gate.around.underlay_for(ip("198.51.100.7"))->interface == "up0");
    shell("ip route del default via 192.0.2.1");
    CHECK(gate.around.underlay_for(ip("8.8.8.8")).error().code == ENETUNREACH);
}

TEST_CASE("a bound socket's packets leave beneath the tunnel", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    gateway gate = open_gateway(usual({net("0.0.0.0/0"), net("::/0")}));
    for (const char* server : {"203.0.113.7", "2606:4700::1111"}) {
        sockaddr_storage to{};
        socklen_t size = ip(server).socket_address(443, to);
        enum class hook { none, outside };
        auto source = [&](hook wanted) {
            descriptor socket(::socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            auto* address = reinterpret_cast<sockaddr*>(&to);
            if (wanted == hook::outside)
                REQUIRE(gate.around.keep_outside(socket.number(), *address) == 0);
            REQUIRE(connect(socket.number(), address, size) == 0);
            sockaddr_storage own{};
            socklen_t own_size = sizeof own;
            getsockname(socket.number(), reinterpret_cast<sockaddr*>(&own), &own_size);
            return ip_address::from(reinterpret_cast<sockaddr&>(own))->text();
        };
        bool v4 = to.ss_family == AF_INET;
        CHECK(source(hook::none) == (v4 ? "10.77.0.1" : "fd77::1"));
        CHECK(source(hook::outside) == (v4 ? "192.0.2.2" : "fd00:1::2"));
    }
    shell("ip route del default via 192.0.2.1");
    sockaddr_storage to{};
    ip("203.0.113.7").socket_address(443, to);
    descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    CHECK(gate.around.keep_outside(socket.number(), reinterpret_cast<sockaddr&>(to)) ==
          ENETUNREACH);
    ip("127.0.0.1").socket_address(443, to);
    CHECK(gate.around.keep_outside(socket.number(), reinterpret_cast<sockaddr&>(to)) == 0);
}

TEST_CASE("strict reverse path checks are seen, and exclusion answers them", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    auto set = [](const char* scope, int value) {
        std::ofstream file(std::string("/proc/sys/net/ipv4/conf/") + scope + "/rp_filter");
        file << value;
        file.flush();
        REQUIRE(file.good());
    };
    set("all", 0);
    set("up0", 0);
    gateway gate = open_gateway(usual({net("0.0.0.0/0")}));
    ip_address server = ip("203.0.113.7");
    CHECK_FALSE(gate.around.underlay_for(server)->strict_reverse_path);
    set("up0", 1);
    CHECK(gate.around.underlay_for(server)->strict_reverse_path);
    set("all", 2);
    CHECK_FALSE(gate.around.underlay_for(server)->strict_reverse_path);
    set("all", 1);
    CHECK(gate.around.underlay_for(server)->strict_reverse_path);

    REQUIRE_FALSE(gate.around.exclude({{server, 32}}));
    int up0 = kernel->find_link("up0")->index;
    CHECK(kernel->route_to(server)->hops.front().link_index == up0);
    CHECK(gate.around.underlay_for(server)->index == 0);
    for (const char* beside : {"203.0.113.6", "203.0.113.8", "0.1.0.1", "223.255.255.254"})
        CHECK(kernel->route_to(ip(beside))->hops.front().link_index == gate.tun.index());
    CHECK(gate.around.installed().size() == 32);
    // Another server, then none.
    REQUIRE_FALSE(gate.around.exclude({net("198.51.100.1")}));
    CHECK(kernel->route_to(server)->hops.front().link_index == gate.tun.index());
    CHECK(kernel->route_to(ip("198.51.100.1"))->hops.front().link_index == up0);
    REQUIRE_FALSE(gate.around.exclude({}));
    CHECK(routes_of(kernel.value(), AF_INET, gate.tun.index()) ==
          std::vector<std::string>{"0.0.0.0/1", "10.77.0.0/24", "128.0.0.0/1"});

    // The hook does it by itself, for the latest few servers.
    for (unsigned i = 1; i <= routes::outside_limit + 1; ++i) {
        in_addr raw{htonl(0xcb007100u + i)};  // 203.0.113.i
        sockaddr_storage to{};
        ip_address(raw).socket_address(443, to);
        descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        CHECK(gate.around.keep_outside(socket.number(), reinterpret_cast<sockaddr&>(to)) == 0);
        CHECK(kernel->route_to(ip_address(raw))->hops.front().link_index == up0);
    }
    CHECK(kernel->route_to(ip("203.0.113.2"))->hops.front().link_index == up0);
    CHECK(kernel->route_to(ip("203.0.113.1"))->hops.front().link_index == gate.tun.index());
}

TEST_CASE("overlapping and repeated routes are installed once", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    network_settings settings = usual({net("10.0.0.0/8"), net("10.0.0.0/8"), net("10.1.0.0/16")});
    settings.excluded = {net("10.1.2.0/24"), net("10.128.0.0/9")};
    gateway gate = open_gateway(settings);
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    int index = gate.tun.index();
    CHECK(kernel->route_to(ip("10.1.3.1"))->hops.front().link_index == index);
    CHECK(kernel->route_to(ip("10.9.9.9"))->hops.front().link_index == index);
    CHECK(kernel->route_to(ip("10.1.2.3"))->hops.front().link_index != index);
    CHECK(kernel->route_to(ip("10.200.0.1"))->hops.front().link_index != index);
}

TEST_CASE("a failed step says which, on what and why", "[routes]") {
    NEEDS_NAMESPACE(inside);
    make_uplink();
    auto opened = device::open({"tell"});
    REQUIRE(opened.ok());
    auto fails = [&](const network_settings& settings) {
        auto around = routes::open(opened->index(), opened->name());
        REQUIRE(around.ok());
        failure bad = around->apply(settings);
        REQUIRE(bad);
        INFO(bad.what);
        return bad;
    };
    network_settings settings;
    settings.mtu_bytes = 10;
    failure bad = fails(settings);
    CHECK(bad.code == EINVAL);
    CHECK(bad.what.find("cannot set MTU 10 and queue length 4096 of tell: ") == 0);

    // up0's connected route: the same destination at the same metric.
    bad = fails(usual({net("192.0.2.0/24")}));
    CHECK(bad.code == EEXIST);
    CHECK(bad.what ==
          "cannot route 192.0.2.0/24 to tell: File exists; up0 has that route (ip route show "
          "192.0.2.0/24), or give --route a longer or shorter prefix");

    bad = fails(usual({}));  // the address is there from the attempt before
    CHECK(bad.code == EEXIST);
    CHECK(bad.what.find("cannot give tell the address 10.77.0.1/24: File exists") == 0);
}
