// The device among real neighbours: a second network namespace on the other end of a veth pair
// plays the LAN host, or the server behind the uplink. Needs root and /dev/net/tun.
//
//   LAN host 192.168.77.2 -- lan0 192.168.77.1 [gateway] burin0 -> 198.51.100.0/24
//   [gateway] up0 192.0.2.2 -- 192.0.2.1 server 203.0.113.7
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <utility>

#include "tests/catch.hh"
#include "tests/unit/tun/namespace.hh"
#include "tests/unit/tun/shell.hh"
#include "tun/cidr.hh"
#include "tun/device.hh"
#include "tun/routes.hh"

using namespace burin::tun;

namespace {

void sysctl(const std::string& name, int value) {
    std::ofstream file("/proc/sys/net/ipv4/" + name);
    file << value;
    file.flush();
    INFO(name);
    REQUIRE(file.good());
}

// A process in a namespace of its own, that runs `body` when told to and says what came out.
class neighbour {
  public:
    explicit neighbour(const std::function<std::string()>& body) {
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, _pair) == 0);
        _pid = fork();
        REQUIRE(_pid >= 0);
        if (_pid == 0) {
            char go = 0;
            bool ready = unshare(CLONE_NEWNET) == 0 && send(_pair[1], "u", 1, 0) == 1 &&
                         recv(_pair[1], &go, 1, 0) == 1;
            std::string said = ready ? body() : "no namespace";
            send(_pair[1], said.data(), said.size(), MSG_NOSIGNAL);
            _exit(0);
        }
        char ready = 0;
        REQUIRE(recv(_pair[0], &ready, 1, 0) == 1);
        REQUIRE(ready == 'u');
    }
    ~neighbour() {
        kill(_pid, SIGKILL);
        waitpid(_pid, nullptr, 0);
        close(_pair[0]);
        close(_pair[1]);
    }
    neighbour(const neighbour&) = delete;
    neighbour& operator=(const neighbour&) = delete;

    // One end of a veth pair moves there.
    void give(const std::string& interface) {
        shell("ip link set " + interface + " netns " + std::to_string(_pid));
    }
    void go() { REQUIRE(send(_pair[0], "g", 1, 0) == 1); }
    std::string said() {
        pollfd waiting{_pair[0], POLLIN, 0};
        if (poll(&waiting, 1, 20'000) != 1) return "nothing";
        char text[256];
        ssize_t size = recv(_pair[0], text, sizeof text, 0);
        return {text, text + (size > 0 ? size : 0)};
    }

  private:
    int _pair[2] = {-1, -1};
    pid_t _pid = -1;
};

struct gateway {
    device tun;
    routes around;
};

gateway open_gateway(const char* destination) {
    auto opened = device::open({});
    REQUIRE(opened.ok());
    auto around = routes::open(opened->index(), opened->name());
    REQUIRE(around.ok());
    network_settings settings;
    settings.addresses = {parse_interface("10.77.0.1/24").value()};
    settings.routes = {parse_network(destination).value()};
    failure bad = around->apply(settings);
    INFO(bad.what);
    REQUIRE_FALSE(bad);
    return {std::move(opened).value(), std::move(around).value()};
}

sockaddr_storage address(const char* text, std::uint16_t port) {
    sockaddr_storage to{};
    ip_address::parse(text)->socket_address(port, to);
    return to;
}

void set_patience(int descriptor) {
    timeval limit{10, 0};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

}  // namespace

TEST_CASE("a LAN host's packets need nothing but forwarding", "[gateway]") {
    NEEDS_NAMESPACE(inside);
    neighbour host([] {
        if (std::system("ip address add 192.168.77.2/24 dev lan1 && ip link set lan1 up && "
                        "ip route add default via 192.168.77.1") != 0)
            return std::string("no network");
        descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        set_patience(socket.number());
        sockaddr_storage to = address("198.51.100.9", 7);
        if (connect(socket.number(), reinterpret_cast<sockaddr*>(&to), sizeof(sockaddr_in)) != 0 ||
            send(socket.number(), "there and back", 14, 0) != 14)
            return std::string("no route");
        char text[64];
        ssize_t size = recv(socket.number(), text, sizeof text, 0);
        return std::string(text, text + (size > 0 ? size : 0));
    });
    shell("ip link add lan0 type veth peer name lan1");
    host.give("lan1");
    shell("ip address add 192.168.77.1/24 dev lan0 && ip link set lan0 up");
    sysctl("ip_forward", 1);
    sysctl("conf/all/rp_filter", 1);  // strict everywhere is fine for this direction
    gateway gate = open_gateway("198.51.100.0/24");
    host.go();
    // The packet comes with the host's own address; an answer with both swapped finds its way back.
    std::string frame(70'000, '\0');
    constexpr std::size_t ip = vnet_header_bytes, udp = ip + 20;
    for (;;) {
        pollfd waiting{gate.tun.queue(0), POLLIN, 0};
        REQUIRE(poll(&waiting, 1, 20'000) == 1);
        ssize_t size = read(gate.tun.queue(0), frame.data(), frame.size());
        REQUIRE(size > 0);
        if (frame[ip] != 0x45 || frame[ip + 9] != IPPROTO_UDP) continue;
        CHECK(frame.compare(ip + 12, 4, "\xc0\xa8\x4d\x02") == 0);
        CHECK(frame.compare(ip + 16, 4, "\xc6\x33\x64\x09") == 0);
        for (std::size_t i = 0; i < 4; ++i) std::swap(frame[ip + 12 + i], frame[ip + 16 + i]);
        for (std::size_t i = 0; i < 2; ++i) std::swap(frame[udp + i], frame[udp + 2 + i]);
        REQUIRE(write(gate.tun.queue(0), frame.data(), static_cast<std::size_t>(size)) == size);
        break;
    }
    CHECK(host.said() == "there and back");
}

TEST_CASE("the tunnel's own connection lives beneath its default route", "[gateway]") {
    NEEDS_NAMESPACE(inside);
    int strict = GENERATE(0, 1, 2);
    neighbour server([] {
        if (std::system("ip address add 192.0.2.1/24 dev up1 && ip link set up1 up && "
                        "ip link set lo up && ip address add 203.0.113.7/32 dev lo") != 0)
            return std::string("no network");
        descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_storage at = address("203.0.113.7", 443);
        if (bind(socket.number(), reinterpret_cast<sockaddr*>(&at), sizeof(sockaddr_in)) != 0 ||
            listen(socket.number(), 1) != 0)
            return std::string("no port");
        sockaddr_storage from{};
        socklen_t size = sizeof from;
        set_patience(socket.number());
        descriptor peer(::accept(socket.number(), reinterpret_cast<sockaddr*>(&from), &size));
        if (!peer) return std::string("nobody came");
        return ip_address::from(reinterpret_cast<sockaddr&>(from))->text();
    });
    shell("ip link add up0 type veth peer name up1");
    server.give("up1");
    shell("ip address add 192.0.2.2/24 dev up0 && ip link set up0 up");
    shell("ip route add default via 192.0.2.1 dev up0");
    sysctl("conf/all/rp_filter", strict);
    sysctl("conf/up0/rp_filter", strict);
    gateway gate = open_gateway("0.0.0.0/0");
    server.go();
    // The server needs a moment: its end of the wire comes up (a route without a carrier is passed
    // over), then it listens. Nothing of that is silent.
    sockaddr_storage to = address("203.0.113.7", 443);
    int error = 0;
    for (int attempt = 0; attempt < 1000; ++attempt) {
        descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        set_patience(socket.number());
        error = gate.around.keep_outside(socket.number(), reinterpret_cast<sockaddr&>(to));
        if (error == 0 &&
            connect(socket.number(), reinterpret_cast<sockaddr*>(&to), sizeof(sockaddr_in)) != 0)
            error = errno;
        if (error != ENETUNREACH && error != ECONNREFUSED && error != EHOSTUNREACH) break;
        usleep(20'000);
    }
    CHECK(error == 0);
    CHECK(server.said() == "192.0.2.2");
    // Strict checks had the address taken out of the tunnel's routes, loose ones did not.
    CHECK(gate.around.installed().size() == (strict == 1 ? 32u : 2u));
}
