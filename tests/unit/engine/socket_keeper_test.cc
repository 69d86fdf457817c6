#include "core/engine/socket_keeper.hh"

#include <netinet/tcp.h>

#include <cerrno>
#include <thread>

#include "core/engine/session_buffers.hh"
#include "tests/catch.hh"
#include "tests/unit/engine/tcp_socket.hh"

using namespace burin;
using namespace burin::engine;

TEST_CASE("a keeper does for others what they may not", "[tsan]") {
    constexpr int bytes = 16 << 20;
    const auto force = [](int descriptor) { return force_buffers(descriptor, bytes); };
    const tcp_socket probe;
    const bool allowed = force(probe.number());  // not without CAP_NET_ADMIN
    socket_keeper keeper("buffers", force);
    CHECK(keeper.works() == allowed);
    const tcp_socket one, two;
    int answer[2] = {-1, -1};
    std::thread other([&] { answer[1] = keeper.prepare(two.number()); });
    answer[0] = keeper.prepare(one.number());
    other.join();
    CHECK(answer[0] == (allowed ? 0 : EPERM));
    CHECK(answer[1] == (allowed ? 0 : EPERM));
    CHECK(keeper.prepare(1'000'000) == (allowed ? EBADF : EPERM));
    if (!allowed) return;
    CHECK(one.told(SO_SNDBUF) == 2 * bytes);
    CHECK(two.told(SO_RCVBUF) == 2 * bytes);
}

TEST_CASE("a keeper that may not do its task says so at once and each time") {
    socket_keeper keeper("nothing", [](int) {
        errno = ENOENT;
        return false;
    });
    CHECK_FALSE(keeper.works());
    const tcp_socket one;
    CHECK(keeper.prepare(one.number()) == EPERM);
}
