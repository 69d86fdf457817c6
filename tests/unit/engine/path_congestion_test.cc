// The kernel's congestion controls by name; every kernel has reno, and lets everybody choose it.
#include "core/engine/path_congestion.hh"

#include <netinet/tcp.h>

#include "tests/catch.hh"
#include "tests/unit/engine/tcp_socket.hh"

using namespace burin::engine;

TEST_CASE("a socket takes the congestion control that is named") {
    CHECK(why_no_congestion_control("reno").empty());
    CHECK(allowed_to_all("reno"));
    const tcp_socket s;
    REQUIRE(set_congestion_control(s.number(), "reno"));
    char name[16] = {};
    socklen_t size = sizeof name;
    REQUIRE(getsockopt(s.number(), IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0);
    CHECK(std::string(name) == "reno");
}

TEST_CASE("a congestion control that there is not is refused with those that there are") {
    const std::string why = why_no_congestion_control("burin-none");
    CHECK(why.starts_with("--congestion burin-none: "));
    CHECK(why.find("reno") != why.npos);
    CHECK_FALSE(allowed_to_all("burin-none"));
    const tcp_socket s;
    CHECK_FALSE(set_congestion_control(s.number(), "burin-none"));
    CHECK_FALSE(set_congestion_control(-1, "reno"));
}

TEST_CASE("names of congestion controls") {
    for (const char* name : {"bbr", "cubic", "dctcp", "tcp_x-9", "abcdefghijklmno"}) {
        CAPTURE(name);
        CHECK(sound_congestion_name(name));
    }
    for (const char* name : {"", "abcdefghijklmnop", "BBR", "bbr cubic", "b/r", "bbr\n"}) {
        CAPTURE(name);
        CHECK_FALSE(sound_congestion_name(name));
    }
}
