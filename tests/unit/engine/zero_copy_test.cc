#include "core/engine/zero_copy.hh"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "ring/uring_abi.hh"
#include "tests/catch.hh"

using namespace burin;
using burin::engine::zero_copy_borrower;
using burin::engine::zero_copy_loans;

namespace {

// SEND_ZC wants a socket of the Internet's.
struct tcp_pair {
    int a = -1, b = -1;
    tcp_pair() {
        const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in where{};
        where.sin_family = AF_INET;
        where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof where;
        auto* address = reinterpret_cast<sockaddr*>(&where);
        REQUIRE(::bind(listener, address, size) == 0);
        REQUIRE(::listen(listener, 1) == 0);
        REQUIRE(::getsockname(listener, address, &size) == 0);
        a = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(::connect(a, address, size) == 0);
        b = ::accept(listener, nullptr, nullptr);
        REQUIRE(b >= 0);
        ::close(listener);
    }
    ~tcp_pair() {
        ::close(a);
        ::close(b);
    }
};

struct session final : zero_copy_borrower {
    std::vector<ring::completion> sent;
    std::vector<bool> back;
    std::function<void()> when_sent;
    void on_lent_sent(ring::completion c) noexcept override {
        sent.push_back(c);
        if (when_sent) when_sent();
    }
    void on_lent_back(bool copied) noexcept override { back.push_back(copied); }
};

struct ground {
    ring::ring ring;
    tcp_pair sockets;
    std::vector<std::byte*> returned;
    zero_copy_loans loans{ring, [this](std::byte* arena) { returned.push_back(arena); }};
    std::array<std::byte, 4096> arena{};

    template <class Done>
    void until(Done done) {
        const ring::microseconds_t limit = ring::monotonic_now() + 30 * ring::second;
        while (!done() && ring::monotonic_now() < limit) ring.enter(limit);
        REQUIRE(done());
    }
};

}  // namespace

TEST_CASE("an arena goes back when neither the session nor the kernel needs it", "[zero-copy]") {
    for (const bool session_first : {true, false}) {
        CAPTURE(session_first);
        ground g;
        session s;
        auto* loan = g.loans.send(s, g.sockets.a, g.arena.data(), g.arena);
        REQUIRE(loan != nullptr);
        CHECK(g.loans.lent() == 1);
        // The notification may come right behind the send, in the same turn.
        if (session_first)
            s.when_sent = [&] {
                g.loans.give_back(*loan);
                CHECK(g.returned.empty());
            };
        g.until([&] { return !s.back.empty(); });
        CHECK(s.sent[0].result == 4096);
        CHECK(s.sent[0].more());
        CHECK(s.back[0]);  // loopback copies
        if (!session_first) {
            CHECK(g.returned.empty());
            g.loans.give_back(*loan);
        }
        CHECK(g.returned == std::vector{g.arena.data()});
        CHECK(g.loans.lent() == 0);
        CHECK(s.sent.size() == 1);
    }
}

TEST_CASE("a send that fails keeps nothing", "[zero-copy]") {
    ground g;
    session s;
    const int unconnected = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    auto* loan = g.loans.send(s, unconnected, g.arena.data(), g.arena);
    REQUIRE(loan != nullptr);
    g.until([&] { return !s.sent.empty(); });
    CHECK(s.sent[0].result == -EPIPE);
    g.loans.give_back(*loan);
    g.until([&] { return g.loans.lent() == 0; });
    CHECK(g.returned == std::vector{g.arena.data()});
    ::close(unconnected);
}

TEST_CASE("whoever goes is told nothing any more, and what it lent comes back", "[zero-copy]") {
    ground g;
    {
        session s;
        REQUIRE(g.loans.send(s, g.sockets.a, g.arena.data(), g.arena) != nullptr);
        g.until([&] { return !s.sent.empty(); });
        g.loans.forget(s);
    }
    g.until([&] { return g.loans.lent() == 0; });
    CHECK(g.returned == std::vector{g.arena.data()});
}

TEST_CASE("one session lends a quarter, and all of them so many", "[zero-copy]") {
    ground g;
    std::array<session, 5> all;
    std::vector<zero_copy_loans::loan*> loans;
    for (session& s : all)
        for (std::size_t count = 0; count <= zero_copy_loans::most_of_one; ++count)
            if (auto* loan = g.loans.send(s, g.sockets.a, g.arena.data(), {g.arena.data(), 1}))
                loans.push_back(loan);
    CHECK(loans.size() == zero_copy_loans::most);
    g.until([&] {
        return std::all_of(all.begin(), all.begin() + 4, [](const session& s) {
            return s.sent.size() == zero_copy_loans::most_of_one;
        });
    });
    CHECK(all[4].sent.empty());
    for (auto* loan : loans) g.loans.give_back(*loan);
    g.until([&] { return g.loans.lent() == 0; });
    CHECK(g.returned.size() == zero_copy_loans::most);
    CHECK(g.loans.send(all[4], g.sockets.a, g.arena.data(), {g.arena.data(), 1}) != nullptr);
    g.until([&] { return !all[4].sent.empty(); });
}
