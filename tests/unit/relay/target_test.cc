// What a chisel channel may ask for (docs/wire.md section 8.2).
#include "core/relay/target.hh"

#include <random>

#include "tests/catch.hh"

using burin::relay::parse_target;
using burin::relay::target;

TEST_CASE("targets of chisel channels", "[target]") {
    struct {
        const char* text;
        target::kind what;
        const char* host;
        unsigned port;
        const char* printed;
    } const good[] = {
        {"example.com:80", target::kind::tcp, "example.com", 80, "example.com:80"},
        {"Example.COM:80", target::kind::tcp, "Example.COM", 80, "Example.COM:80"},
        // A suffix lowers the host's case.
        {"Example.COM:80/udp", target::kind::udp, "example.com", 80, "example.com:80"},
        {"Example.COM:80/UDP", target::kind::udp, "example.com", 80, "example.com:80"},
        {"Example.COM:80/Tcp", target::kind::tcp, "example.com", 80, "example.com:80"},
        {"10.0.0.1:65535", target::kind::tcp, "10.0.0.1", 65535, "10.0.0.1:65535"},
        {"[::1]:1", target::kind::tcp, "::1", 1, "[::1]:1"},
        {"[FE80::1%eth0]:22/udp", target::kind::udp, "fe80::1%eth0", 22, "[fe80::1%eth0]:22"},
        {"[example.com]:80", target::kind::tcp, "example.com", 80, "example.com:80"},
        {":80", target::kind::tcp, "127.0.0.1", 80, "127.0.0.1:80"},
        {"[]:80", target::kind::tcp, "127.0.0.1", 80, "127.0.0.1:80"},
        {"socks", target::kind::socks, "", 0, "socks"},
    };
    for (const auto& one : good) {
        CAPTURE(one.text);
        const auto got = parse_target(one.text);
        REQUIRE(got.has_value());
        CHECK(got->what == one.what);
        CHECK(got->host == one.host);
        CHECK(got->port == one.port);
        CHECK(got->text() == one.printed);
    }
}

TEST_CASE("what is no target is none", "[target]") {
    for (const char* text : {"",
                             ":",
                             "host",
                             "host:",
                             "host:0",
                             "host:65536",
                             "host:99999999999999",
                             "host:-1",
                             "host:+1",
                             "host: 1",
                             "host:1 ",
                             "host:1x",
                             "host:http",
                             "a:b:1",
                             "::1:80",
                             "[::1]",
                             "[::1]:",
                             "[::1:80",
                             "::1]:80",
                             "[[::1]]:80",
                             "a]:80",
                             "[a:80",
                             "ho st:80",
                             "host/x:80",
                             "host\\:80",
                             "h\xc3\xb6st:80",
                             "host:80/sctp",
                             "host:80/",
                             "/udp",
                             ":/udp",
                             "socks/udp",
                             "SOCKS",
                             "socks:",
                             "host:80/udp/tcp"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_target(text).has_value());
    }
    CHECK_FALSE(parse_target(std::string("ho\0st:80", 8)).has_value());
    CHECK_FALSE(parse_target(std::string(600, 'a') + ":80").has_value());
}

TEST_CASE("a target survives being printed and read again", "[target]") {
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    const std::string letters = "aZ09.-_:[]%/ \\x\x01\xff";
    unsigned good = 0;
    for (int round = 0; round < 200'000; ++round) {
        std::string text;
        for (unsigned size = static_cast<unsigned>(random() % 12); size > 0; --size)
            text += letters[random() % letters.size()];
        if (random() % 2) text.append(1, ':').append(std::to_string(random() % 70'000));
        const auto got = parse_target(text);
        if (!got) continue;
        ++good;
        CAPTURE(text);
        const auto again = parse_target(got->text());
        REQUIRE(again.has_value());
        REQUIRE(again->host == got->host);
        REQUIRE(again->port == got->port);
    }
    CHECK(good > 100);
}
