// Every row of docs/wire.md section 10.4.
#include "core/engine/remote.hh"

#include "tests/catch.hh"

using namespace burin::engine;

TEST_CASE("remotes are read as chisel reads them") {
    struct row {
        std::string_view text, local, target, proto;
        bool reverse, socks, stdio;
        std::string_view logged;
    };
    const row rows[] = {
        {"3000", "0.0.0.0:3000", "127.0.0.1:3000", "tcp", false, false, false, "3000=>3000"},
        {"example.com:3000", "0.0.0.0:3000", "example.com:3000", "tcp", false, false, false,
         "3000=>example.com:3000"},
        {"3000:google.com:80", "0.0.0.0:3000", "google.com:80", "tcp", false, false, false,
         "3000=>google.com:80"},
        {"192.168.0.5:3000:google.com:80", "192.168.0.5:3000", "google.com:80", "tcp", false, false,
         false, "192.168.0.5:3000=>google.com:80"},
        {"1:2", "0.0.0.0:1", "127.0.0.1:2", "tcp", false, false, false, "1=>2"},
        {"host:1:2", "0.0.0.0:1", "host:2", "tcp", false, false, false, "1=>host:2"},
        {"localhost:3000:localhost:4000", "localhost:3000", "localhost:4000", "tcp", false, false,
         false, "localhost:3000=>localhost:4000"},
        {"socks", "127.0.0.1:1080", "socks", "tcp", false, true, false, "127.0.0.1:1080=>socks"},
        {"5000:socks", "127.0.0.1:5000", "socks", "tcp", false, true, false,
         "127.0.0.1:5000=>socks"},
        {"0.0.0.0:5000:socks", "0.0.0.0:5000", "socks", "tcp", false, true, false, "5000=>socks"},
        {"R:2222:localhost:22", "0.0.0.0:2222", "localhost:22", "tcp", true, false, false,
         "R:2222=>localhost:22"},
        {"R:socks", "127.0.0.1:1080", "socks", "tcp", true, true, false, "R:127.0.0.1:1080=>socks"},
        {"R:5000:socks", "127.0.0.1:5000", "socks", "tcp", true, true, false,
         "R:127.0.0.1:5000=>socks"},
        {"R:127.0.0.1:3000", "0.0.0.0:3000", "127.0.0.1:3000", "tcp", true, false, false,
         "R:3000=>3000"},
        {"stdio:example.com:22", "stdio", "example.com:22", "tcp", false, false, true,
         "stdio=>example.com:22"},
        {"stdio:22", "stdio", "127.0.0.1:22", "tcp", false, false, true, "stdio=>22"},
        {"1.1.1.1:53/udp", "0.0.0.0:53", "1.1.1.1:53", "udp", false, false, false,
         "53=>1.1.1.1:53/udp"},
        {"53/udp", "0.0.0.0:53", "127.0.0.1:53", "udp", false, false, false, "53=>53/udp"},
        {"5353:1.1.1.1:53/udp", "0.0.0.0:5353", "1.1.1.1:53", "udp", false, false, false,
         "5353=>1.1.1.1:53/udp"},
        {"5353/udp:1.1.1.1:53/udp", "0.0.0.0:5353", "1.1.1.1:53", "udp", false, false, false,
         "5353=>1.1.1.1:53/udp"},
        {"[::1]:8080:google.com:80", "[::1]:8080", "google.com:80", "tcp", false, false, false,
         "[::1]:8080=>google.com:80"},
        {"R:[::]:3000:[::1]:3000", "[::]:3000", "[::1]:3000", "tcp", true, false, false,
         "R:[::]:3000=>[::1]:3000"},
        {"[::1]:3000", "0.0.0.0:3000", "[::1]:3000", "tcp", false, false, false,
         "3000=>[::1]:3000"},
        {"::1:3000", "0.0.0.0:1", "127.0.0.1:3000", "tcp", false, false, false, "1=>3000"},
        {"3000:", "0.0.0.0:3000", "127.0.0.1:3000", "tcp", false, false, false, "3000=>3000"},
        {":3000", "0.0.0.0:3000", "127.0.0.1:3000", "tcp", false, false, false, "3000=>3000"},
        {"stdio", "stdio", "127.0.0.1:", "tcp", false, false, true, "stdio=>"},
        {"53/UDP", "0.0.0.0:53", "127.0.0.1:53", "udp", false, false, false, "53=>53/udp"},
        {"080", "0.0.0.0:080", "127.0.0.1:080", "tcp", false, false, false, "080=>080"},
        {"+80", "0.0.0.0:+80", "127.0.0.1:+80", "tcp", false, false, false, "+80=>+80"},
        {"3000:socks:80", "0.0.0.0:3000", "socks:80", "tcp", false, false, false, "3000=>socks:80"},
        // A host with a protocol is written in lower case.
        {"3000:Example.COM:80/tcp", "0.0.0.0:3000", "Example.COM:80", "tcp", false, false, false,
         "3000=>Example.COM:80"},
        {"r:80", "0.0.0.0:80", "r:80", "tcp", false, false, false, "80=>r:80"},
    };
    for (const row& r : rows) {
        CAPTURE(r.text);
        remote_reading reading = parse_remote(r.text);
        REQUIRE(reading.value);
        CHECK(reading.error.empty());
        CHECK(reading.value->local() == r.local);
        CHECK(reading.value->target() == r.target);
        CHECK(reading.value->remote_proto == r.proto);
        CHECK(reading.value->local_proto == r.proto);
        CHECK(reading.value->reverse == r.reverse);
        CHECK(reading.value->socks == r.socks);
        CHECK(reading.value->stdio == r.stdio);
        CHECK(reading.value->text() == r.logged);
    }
}

TEST_CASE("bad remotes fail with Go's words") {
    struct row {
        std::string_view text, error;
    };
    const row rows[] = {
        {"0", "Missing ports"},
        {"65536", "Missing ports"},
        {"foo", "Missing ports"},
        {"foo:bar", "Missing ports"},
        {"1:host", "Missing ports"},
        {"-1", "Missing ports"},
        {"++80", "Missing ports"},
        {"a:b:c:d:e", "Invalid remote"},
        {"R:", "Invalid remote"},
        {"", "Invalid remote"},
        {":::", "Invalid remote"},
        {"[]", "Invalid remote"},
        {"ho st:80", "Invalid host"},
        {"a/b:80", "Invalid host"},
        {"u@h:80", "Invalid host"},
        {"h\x01:80", "Invalid host"},
        {"5353/udp:1.1.1.1:53", "cross-protocol remotes are not supported yet"},
        {"5000/udp:socks", "only TCP SOCKS is supported"},
        {"R:stdio:22", "stdio cannot be reversed"},
    };
    for (const row& r : rows) {
        CAPTURE(r.text);
        remote_reading reading = parse_remote(r.text);
        CHECK_FALSE(reading.value);
        CHECK(reading.error == r.error);
    }
}
