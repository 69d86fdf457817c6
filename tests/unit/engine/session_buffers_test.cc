// Buffers that are forced, and given back to the kernel's own fitting. Without CAP_NET_ADMIN the
// kernel refuses, and that is what is tested then.
#include "core/engine/session_buffers.hh"

#include <netinet/tcp.h>

#include "tests/catch.hh"
#include "tests/unit/engine/tcp_socket.hh"

using namespace burin;
using namespace burin::engine;

namespace {

constexpr int so_buf_lock = 72;
constexpr int mib = 1 << 20;

bool may_force() {
    const tcp_socket probe;
    return force_buffers(probe.number(), 16 * mib);
}

}  // namespace

TEST_CASE("what the kernel grants is compared with what may be under way") {
    // Debian 12: 6 MiB and 4, and a scale of 7.
    const buffer_limits usual{6u << 20, 4u << 20, 65535u << 7};
    CHECK(usual.hold(2u << 20));
    CHECK_FALSE(usual.hold((2u << 20) + 1));
    const buffer_limits raised{128u << 20, 128u << 20, 65535u << 11};
    CHECK(raised.hold(64u << 20));
    // Large buffers, and a window that cannot be told.
    const buffer_limits unscaled{128u << 20, 128u << 20, 65535u << 7};
    CHECK_FALSE(unscaled.hold(64u << 20));
    const buffer_limits here = buffer_limits::read();
    CHECK(here.receive_bytes >= 4096);
    CHECK(here.send_bytes >= 4096);
    CHECK(here.shown_bytes >= 65535);
    CHECK_FALSE(buffer_limits{}.hold(1));
}

TEST_CASE("a near path's buffers are the kernel's again, a long one's stay") {
    if (!may_force()) return;  // the kernel refuses: no CAP_NET_ADMIN
    const tcp_socket s;
    REQUIRE(force_buffers(s.number(), 16 * mib));
    CHECK(s.told(SO_SNDBUF) == 32 * mib);
    CHECK(s.told(SO_RCVBUF) == 32 * mib);
    CHECK(s.told(so_buf_lock) == 3);
    SECTION("near") {
        fit_buffers(s.number(), long_round_trip - 1);
        CHECK(s.told(so_buf_lock) == 0);
        CHECK(s.told(SO_SNDBUF) < mib);
        CHECK(s.told(SO_RCVBUF) < mib);
        CHECK(s.told(TCP_NOTSENT_LOWAT, IPPROTO_TCP) <= 0);
    }
    SECTION("not known") {
        fit_buffers(s.number(), 0);
        CHECK(s.told(so_buf_lock) == 0);
    }
    SECTION("long") {
        fit_buffers(s.number(), long_round_trip);
        CHECK(s.told(so_buf_lock) == 3);
        CHECK(s.told(SO_SNDBUF) == 32 * mib);
        CHECK(s.told(TCP_NOTSENT_LOWAT, IPPROTO_TCP) == mib);
    }
    SECTION("long, and somebody bounds it closer") {
        const int closer = 128 * 1024;
        REQUIRE(setsockopt(s.number(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &closer, sizeof closer) ==
                0);
        fit_buffers(s.number(), long_round_trip);
        CHECK(s.told(TCP_NOTSENT_LOWAT, IPPROTO_TCP) == closer);
    }
    SECTION("a stranger's receive buffer") {
        fit_receive_buffer(s.number());
        CHECK(s.told(so_buf_lock) == 1);
        CHECK(s.told(SO_RCVBUF) < mib);
        CHECK(s.told(SO_SNDBUF) == 32 * mib);
        // And whatever its path, it is not enlarged again.
        fit_buffers(s.number(), 2 * long_round_trip);
        CHECK(s.told(SO_RCVBUF) < mib);
    }
}

TEST_CASE("what is spaced out is not slowed down") {
    const tcp_socket s;
    const auto rate = [&s] {
        std::uint64_t value = 0;
        socklen_t size = sizeof value;
        REQUIRE(getsockopt(s.number(), SOL_SOCKET, SO_MAX_PACING_RATE, &value, &size) == 0);
        REQUIRE(size == sizeof value);
        return value;
    };
    // All ones is what a socket that nobody spaces has.
    constexpr std::uint64_t none = ~std::uint64_t{0};
    REQUIRE(rate() == none);
    space_sends(s.number());
    CHECK(rate() == none - 1);
}

TEST_CASE("what lies unread is bounded for a while, and the kernel's own afterwards") {
    const tcp_socket s;
    const int most =
        static_cast<int>(std::min<std::uint64_t>(buffer_limits::read().receive_bytes, 1u << 30));
    // As large as the kernel fits it to a stream.
    free_receive_queue(s.number(), most);
    CHECK(s.told(so_buf_lock) == 0);
    const int large = s.told(SO_RCVBUF);
    CHECK(large >= most / 4 * 3);
    CHECK(large <= most);
    CHECK(s.told(SO_RCVLOWAT) == 1);
    CHECK(bound_receive_queue(s.number()) == large);
    CHECK(s.told(so_buf_lock) == 2);
    CHECK(s.told(SO_RCVBUF) <= mib / 2);
    CHECK(bound_receive_queue(s.number()) == 0);  // it is already
    // Whatever net.core.rmem_max is.
    free_receive_queue(s.number(), large);
    CHECK(s.told(so_buf_lock) == 0);
    CHECK(s.told(SO_RCVBUF) >= large / 4 * 3);
    CHECK(s.told(SO_RCVBUF) <= most);
    CHECK(s.told(SO_RCVLOWAT) == 1);
    CHECK(s.told(SO_SNDBUF) == tcp_socket().told(SO_SNDBUF));
}

TEST_CASE("a receive buffer that is small is left alone") {
    const tcp_socket s;
    const int fresh = s.told(SO_RCVBUF);
    CHECK(bound_receive_queue(s.number()) == 0);
    CHECK(s.told(SO_RCVBUF) == fresh);
    CHECK(s.told(so_buf_lock) == 0);
}

TEST_CASE("a receive buffer that was forced is not bound") {
    if (!may_force()) return;
    const tcp_socket s;
    REQUIRE(force_buffers(s.number(), 16 * mib));
    CHECK(bound_receive_queue(s.number()) == 0);
    CHECK(s.told(SO_RCVBUF) == 32 * mib);
    CHECK(bound_receive_queue(-1) == 0);
}

TEST_CASE("a socket that was not forced is left alone") {
    const tcp_socket s;
    const int sent = s.told(SO_SNDBUF), received = s.told(SO_RCVBUF);
    fit_receive_buffer(s.number());
    fit_buffers(s.number(), 0);
    fit_buffers(s.number(), 2 * long_round_trip);
    CHECK(s.told(SO_SNDBUF) == sent);
    CHECK(s.told(SO_RCVBUF) == received);
    CHECK(s.told(so_buf_lock) == 0);
    CHECK(s.told(TCP_NOTSENT_LOWAT, IPPROTO_TCP) <= 0);
    CHECK(least_round_trip(s.number()) == 0);  // it has no path
    CHECK(least_round_trip(-1) == 0);
}
