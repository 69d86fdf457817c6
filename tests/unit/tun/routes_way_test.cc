// Which way a connection left this machine, and whether that way is still there; each case in a
// network namespace of its own with two uplinks:
//
//   this machine -- up0 192.0.2.2/24, fd00:1::2/64, default at metric 100
//                -- dsl0 100.64.0.2/24, fd00:2::2/64, default at metric 200
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>

#include "tests/catch.hh"
#include "tests/unit/tun/namespace.hh"
#include "tests/unit/tun/shell.hh"
#include "tun/device.hh"
#include "tun/route_monitor.hh"
#include "tun/routes.hh"

using namespace burin::tun;

namespace {

struct machine {
    fresh_namespace inside;
    std::optional<device> tun;
    std::optional<routes> around;

    explicit machine(const char* v4, const char* v6) {
        shell("ip link set lo up");
        uplink("up", "192.0.2", "fd00:1", "100");
        uplink("dsl", "100.64.0", "fd00:2", "200");
        tun = std::move(device::open({}).value());
        around = std::move(routes::open(tun->index(), tun->name()).value());
        network_settings settings;
        settings.addresses = {parse_interface("10.77.0.1/24").value(),
                              parse_interface("fd77::1/64").value()};
        settings.routes = {parse_network(v4).value(), parse_network(v6).value()};
        failure bad = around->apply(settings);
        INFO(bad.what);
        REQUIRE_FALSE(bad);
    }

    static void uplink(const std::string& name, const std::string& v4, const std::string& v6,
                       const std::string& metric) {
        const std::string device = name + "0";
        shell("ip link add " + device + " type veth peer name " + name + "1 && ip link set " +
              name + "1 up && ip link set " + device + " up");
        shell("ip address add " + v4 + ".2/24 dev " + device + " && ip address add " + v6 +
              "::2/64 dev " + device + " nodad");
        routes_of(name, v4, v6, metric);
    }
    static void routes_of(const std::string& name, const std::string& v4, const std::string& v6,
                          const std::string& metric) {
        shell("ip route replace default via " + v4 + ".1 dev " + name + "0 metric " + metric);
        shell("ip -6 route replace default via " + v6 + "::1 dev " + name + "0 metric " + metric);
    }

    // A connected socket as the session's is made; datagrams, so that nobody needs to answer.
    descriptor session(const char* server) {
        sockaddr_storage to{};
        const socklen_t size = ip_address::parse(server)->socket_address(443, to);
        descriptor socket(::socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        auto* address = reinterpret_cast<sockaddr*>(&to);
        REQUIRE(around->keep_outside(socket.number(), *address) == 0);
        REQUIRE(connect(socket.number(), address, size) == 0);
        return socket;
    }
    way leave(const descriptor& socket) {
        const auto found = around->way_of(socket.number());
        REQUIRE(found);
        return *found;
    }
};

#define NEEDS_MACHINE(name, ...)                      \
    if (!fresh_namespace::available()) {              \
        WARN("skipped: needs root and /dev/net/tun"); \
        return;                                       \
    }                                                 \
    machine name(__VA_ARGS__)

}  // namespace

TEST_CASE("a bound connection is lost with its interface, if there is another", "[routes]") {
    NEEDS_MACHINE(m, "0.0.0.0/0", "::/0");
    const bool v4 = GENERATE(true, false);
    const descriptor socket = m.session(v4 ? "203.0.113.7" : "2606:4700::1111");
    const way used = m.leave(socket);
    CHECK(used.local.text() == (v4 ? "192.0.2.2" : "fd00:1::2"));
    CHECK(used.bound != 0);
    CHECK(used.through == used.bound);
    CHECK_FALSE(m.around->lost(used));
    SECTION("its interface goes down") {
        shell("ip link set up0 down");
        CHECK(m.around->lost(used));
    }
    SECTION("its carrier goes") {
        shell("ip link set up1 down");
        // The kernel tells of carriers up to a second late.
        for (int i = 0; i < 500 && !m.around->lost(used); ++i) usleep(20'000);
        CHECK(m.around->lost(used));
    }
    SECTION("its default route goes") {
        shell(v4 ? "ip route del default dev up0" : "ip -6 route del default dev up0");
        CHECK(m.around->lost(used));
    }
    SECTION("its address goes") {
        shell(v4 ? "ip address del 192.0.2.2/24 dev up0" : "ip address del fd00:1::2/64 dev up0");
        CHECK(m.around->lost(used));
    }
    SECTION("its interface is made anew") {
        shell("ip link del up0");
        machine::uplink("up", "192.0.2", "fd00:1", "100");
        CHECK(m.around->lost(used));
    }
    SECTION("a better one comes") {
        machine::routes_of("dsl", "100.64.0", "fd00:2", "50");
        CHECK_FALSE(m.around->lost(used));
        CHECK(m.leave(m.session(v4 ? "203.0.113.7" : "2606:4700::1111")).bound != used.bound);
    }
    SECTION("there is no other: it may come back") {
        shell("ip link set dsl0 down && ip link set up0 down");
        CHECK_FALSE(m.around->lost(used));
        shell("ip link set up0 up");
        if (!v4) return;  // its address went with the link
        shell("ip route replace default via 192.0.2.1 dev up0 metric 100");
        CHECK_FALSE(m.around->lost(used));
    }
}

TEST_CASE("an unbound connection is lost when it would leave by another interface", "[routes]") {
    NEEDS_MACHINE(m, "10.0.0.0/8", "2001:db8::/32");
    const descriptor socket = m.session("203.0.113.7");
    const way used = m.leave(socket);
    CHECK(used.bound == 0);
    CHECK(used.through != 0);
    CHECK_FALSE(m.around->lost(used));
    SECTION("its route goes") {
        shell("ip route del default dev up0");
        CHECK(m.around->lost(used));
    }
    SECTION("a better one takes over") {
        machine::routes_of("dsl", "100.64.0", "fd00:2", "50");
        CHECK(m.around->lost(used));
    }
    SECTION("its address goes") {
        shell("ip address del 192.0.2.2/24 dev up0");
        CHECK(m.around->lost(used));
    }
    SECTION("what does not concern it changes") {
        shell("ip route add 198.51.100.0/24 via 100.64.0.1 dev dsl0 && ip link del dsl0");
        CHECK_FALSE(m.around->lost(used));
    }
}

TEST_CASE("a socket without a peer has no way", "[routes]") {
    NEEDS_MACHINE(m, "10.0.0.0/8", "2001:db8::/32");
    const descriptor alone(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    CHECK_FALSE(m.around->way_of(alone.number()));
    int pair[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    const descriptor one(pair[0]), other(pair[1]);
    CHECK_FALSE(m.around->way_of(one.number()));
}

TEST_CASE("changes of links, addresses and routes are told, questions are not", "[routes]") {
    NEEDS_MACHINE(m, "10.0.0.0/8", "2001:db8::/32");
    auto monitor = route_monitor::open();
    REQUIRE(monitor.ok());
    auto told = [&] {
        pollfd waits{monitor->number(), POLLIN, 0};
        REQUIRE(poll(&waits, 1, 20'000) == 1);
        return monitor->drain();
    };
    // The kernel may still have something to say of the fresh devices; of each question it would
    // always have.
    bool always = true;
    for (int i = 0; i < 20 && always; ++i) {
        monitor->drain();
        CHECK(m.around->underlay_for(*ip_address::parse("203.0.113.7")).ok());
        always = monitor->drain();
    }
    CHECK_FALSE(always);
    for (const char* change :
         {"ip link set dsl0 down", "ip address add 192.0.2.3/24 dev up0",
          "ip route add 198.51.100.0/24 via 192.0.2.1", "ip -6 route add 2001:db9::/32 dev up0",
          "ip -6 address add fd00:1::3/64 dev up0 nodad"}) {
        INFO(change);
        shell(change);
        CHECK(told());
    }
    // More than its buffer holds is told as well, and it goes on.
    shell(
        "for i in $(seq 1 40); do for j in $(seq 0 24); do echo route add 172.16.$i.$j via "
        "192.0.2.1; done; done | ip -batch -");
    shell(
        "for i in $(seq 1 40); do for j in $(seq 0 24); do echo route del 172.16.$i.$j via "
        "192.0.2.1; done; done | ip -batch -");
    CHECK(told());
    while (monitor->drain()) {
    }
    shell("ip link set up0 down");
    CHECK(told());
}

TEST_CASE("strict reverse path checks need a privilege later", "[routes]") {
    NEEDS_MACHINE(m, "0.0.0.0/0", "::/0");
    shell("sysctl -qw net.ipv4.conf.all.rp_filter=0");
    for (const char* scope : {"default", "up0", "dsl0"})
        shell(std::string("sysctl -qw net.ipv4.conf.") + scope + ".rp_filter=0");
    CHECK_FALSE(m.around->needs_privilege());
    shell("sysctl -qw net.ipv4.conf.dsl0.rp_filter=1");
    CHECK(m.around->needs_privilege());
    shell("sysctl -qw net.ipv4.conf.dsl0.rp_filter=2");
    CHECK_FALSE(m.around->needs_privilege());
    shell("sysctl -qw net.ipv4.conf.default.rp_filter=1");  // what comes later is strict
    CHECK(m.around->needs_privilege());
}

TEST_CASE("IPv6 that is switched off is told as that", "[routes]") {
    NEEDS_NAMESPACE(inside);
    shell("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
    auto opened = device::open({});
    REQUIRE(opened.ok());
    auto around = routes::open(opened->index(), opened->name());
    REQUIRE(around.ok());
    network_settings settings;
    settings.addresses = {parse_interface("fd77::1/64").value()};
    failure bad = around->apply(settings);
    REQUIRE(bad);
    INFO(bad.what);
    CHECK(bad.what.find("IPv6 is switched off") != std::string::npos);
}
