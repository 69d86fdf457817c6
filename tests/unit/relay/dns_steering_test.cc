#include "core/relay/dns_steering.hh"

#include "tests/unit/relay/tun_bench.hh"

using namespace burin;
using namespace burin::relay;

namespace {

tun::flow_key to(std::uint16_t port, tun::ip_protocol protocol = tun::ip_protocol::tcp) {
    tun::flow_key key;
    key.source = tun::flow_address::v4(0x0a050002);
    key.destination = tun::flow_address::v4(0x08080808);
    key.source_port = 40'000;
    key.destination_port = port;
    key.protocol = protocol;
    return key;
}

tun::flow_key to_v6(std::uint16_t port) {
    tun::flow_key key = to(port);
    key.destination = {};
    key.destination.bytes[0] = 0x20, key.destination.bytes[1] = 0x01;
    key.destination.bytes[15] = 9;
    return key;
}

}  // namespace

TEST_CASE("a resolver is an address, with or without a port") {
    const std::pair<const char*, const char*> good[] = {
        {"10.0.0.53", "10.0.0.53:53"},          {"10.0.0.53:5353", "10.0.0.53:5353"},
        {"fd00::53", "[fd00::53]:53"},          {"[fd00::53]", "[fd00::53]:53"},
        {"[fd00::53]:5353", "[fd00::53]:5353"}, {"::1", "[::1]:53"},
    };
    for (const auto& [text, resolver] : good) {
        CAPTURE(text);
        const auto parsed = dns_steering::parse(text);
        CHECK((parsed ? parsed->resolver() : "") == resolver);
    }
    for (const char* bad :
         {"", ":53", "name", "name:53", "10.0.0.53:", "10.0.0.53:0", "10.0.0.53:65536",
          "10.0.0.53:x", "10.0.0.53/udp", "10.0.0.53:53/tcp", "10.0.0", "fd00::53]:53", "[fd00::53",
          "[10.0.0.53]", "fe80::1%lo", "[fe80::1%lo]:53", "socks", "[]:53", "10.0.0.53 "}) {
        CAPTURE(bad);
        CHECK_FALSE(dns_steering::parse(bad));
    }
}

TEST_CASE("flows to port 53 lead to the resolver, others where they say") {
    const dns_steering off;
    CHECK_FALSE(off.on());
    CHECK(off.target(to(53)) == "8.8.8.8:53");
    CHECK(off.target(to_v6(53)) == "[2001::9]:53");
    const dns_steering on = dns_steering::parse("[fd00::53]:5353").value();
    CHECK(on.steers(to(53)));
    CHECK(on.target(to(53)) == "[fd00::53]:5353");
    CHECK(on.target(to(53, tun::ip_protocol::udp)) == "[fd00::53]:5353");
    CHECK(on.target(to_v6(53)) == "[fd00::53]:5353");
    for (std::uint16_t other : {52, 54, 853, 80, 0}) {
        CHECK_FALSE(on.steers(to(other)));
        CHECK(on.target(to(other)) == "8.8.8.8:" + std::to_string(other));
    }
}

TEST_CASE("a steered host never notices") {
    tun_queue_settings settings;
    settings.dns = dns_steering::parse("10.1.2.3:5300").value();
    tun_bench b(settings);
    tun_host& h = b.host(4000, 53);
    const auto [far, dialled] = tcp_pair();
    program destination(far, 1);
    b.exit->next_descriptor = dialled;
    h.syn();
    b.go_until([&] { return h.answered; });
    REQUIRE(b.opened.size() == 1);
    CHECK(b.opened[0] == "10.1.2.3:5300");
    CHECK(h.frames.front().ack == h.seq);
    h.acknowledge();
    b.go_quiet();
    h.rst();
    b.check_nothing_left();
}
