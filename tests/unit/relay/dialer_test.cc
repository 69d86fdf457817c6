// Connections over a real ring on loopback. A listener whose queue is full stands for a host that
// does not answer: the kernel drops further SYNs.
#include "core/relay/dialer.hh"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.hh"
#include "tests/unit/relay/loop.hh"
#include "tests/unit/relay/name_server.hh"

using namespace burin::relay;
namespace ring = burin::ring;

namespace {

struct listener {
    explicit listener(const char* address = "127.0.0.1", std::uint16_t port = 0, int queue = 64) {
        endpoint at = *endpoint::literal(address, port);
        descriptor = socket(at.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
        int on = 1;
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        REQUIRE(bind(descriptor, at.address(), at.bytes()) == 0);
        REQUIRE(listen(descriptor, queue) == 0);
        sockaddr_storage own{};
        socklen_t size = sizeof own;
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &size);
        to = *endpoint::from(reinterpret_cast<sockaddr*>(&own), size);
    }
    ~listener() {
        for (int fd : fillers) close(fd);
        close(descriptor);
    }
    // Connections until one is not completed any more.
    void fill() {
        for (int i = 0; i < 8; ++i) {
            int fd = socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
            (void)!connect(fd, to.address(), to.bytes());
            fillers.push_back(fd);
        }
    }
    int descriptor = -1;
    endpoint to;
    std::vector<int> fillers;
};

// A port on which nobody listens: bound here, so that nobody else gets it meanwhile.
struct closed_port {
    closed_port() {
        descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        endpoint at = *endpoint::literal("127.0.0.1", 0);
        REQUIRE(bind(descriptor, at.address(), at.bytes()) == 0);
        sockaddr_storage own{};
        socklen_t size = sizeof own;
        getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &size);
        port = endpoint::from(reinterpret_cast<sockaddr*>(&own), size)->port();
    }
    ~closed_port() { close(descriptor); }
    int descriptor = -1;
    std::uint16_t port = 0;
};

struct caller {
    void on_dialled(dial&) noexcept { ++answers; }
    int answers = 0;
    member_dial<&caller::on_dialled> call{this};
};

struct world : loop {
    explicit world(dial_settings settings = {}, resolver_settings asking = {})
        : names(ring, timers, std::move(asking)), calls(ring, timers, names, std::move(settings)) {}
    // Both on their way out leave nothing in the ring.
    bool quiet() {
        return until([&] { return calls.under_way() == 0 && names.pending() == 0; }) && drain();
    }
    resolver names;
    dialer calls;
};

// While this lives, the process gets no new descriptor but those that give_one() leaves to it.
struct crowd {
    crowd() {
        getrlimit(RLIMIT_NOFILE, &before);
        rlimit few = before;
        few.rlim_cur = std::min<rlim_t>(before.rlim_cur, open_descriptors() + 64);
        setrlimit(RLIMIT_NOFILE, &few);
        for (int fd; (fd = dup(0)) >= 0;) held.push_back(fd);
        REQUIRE(errno == EMFILE);
        REQUIRE(held.size() > 8);
    }
    ~crowd() {
        while (!held.empty()) give_one();
        setrlimit(RLIMIT_NOFILE, &before);
    }
    void give_one() {
        close(held.back());
        held.pop_back();
    }
    rlimit before{};
    std::vector<int> held;
};

int option(int descriptor, int level, int name) {
    int value = -1;
    socklen_t size = sizeof value;
    getsockopt(descriptor, level, name, &value, &size);
    return value;
}

}  // namespace

TEST_CASE("families take turns, the first address's first", "[dialer]") {
    auto all = [](std::vector<const char*> texts) {
        std::vector<endpoint> made;
        for (const char* text : texts) made.push_back(*endpoint::literal(text, 1));
        return made;
    };
    CHECK(interleave({}).empty());
    CHECK(interleave(all({"::1", "::2", "::3", "1.0.0.1", "1.0.0.2"})) ==
          all({"::1", "1.0.0.1", "::2", "1.0.0.2", "::3"}));
    CHECK(interleave(all({"1.0.0.1", "::1", "::2", "::3"})) ==
          all({"1.0.0.1", "::1", "::2", "::3"}));
    CHECK(interleave(all({"1.0.0.1", "1.0.0.2"})) == all({"1.0.0.1", "1.0.0.2"}));
}

TEST_CASE("a connection is made and set up as Go's are", "[dialer]") {
    listener there;
    std::size_t before = open_descriptors();
    {
        world here;
        caller one;
        here.calls.start(one.call, "127.0.0.1", there.to.port());
        CHECK(one.answers == 0);
        CHECK(one.call.pending());
        REQUIRE(here.until([&] { return one.answers == 1; }));
        CHECK(one.call.error() == 0);
        CHECK(one.call.text().empty());
        CHECK(one.call.peer() == there.to);
        CHECK_FALSE(one.call.pending());
        int got = one.call.take_descriptor();
        REQUIRE(got >= 0);
        CHECK(one.call.take_descriptor() == -1);
        CHECK(option(got, IPPROTO_TCP, TCP_NODELAY) == 1);
        CHECK(option(got, SOL_SOCKET, SO_KEEPALIVE) == 1);
        CHECK(option(got, IPPROTO_TCP, TCP_KEEPIDLE) == 15);
        CHECK(option(got, IPPROTO_TCP, TCP_KEEPINTVL) == 15);
        CHECK((fcntl(got, F_GETFL) & O_NONBLOCK) == 0);
        CHECK((fcntl(got, F_GETFD) & FD_CLOEXEC) != 0);
        sockaddr_storage peer{};
        socklen_t size = sizeof peer;
        CHECK(getpeername(got, reinterpret_cast<sockaddr*>(&peer), &size) == 0);
        close(got);

        // An empty host is this machine, and what is not taken is closed.
        here.calls.start(one.call, "", there.to.port());
        REQUIRE(here.until([&] { return one.answers == 2; }));
        CHECK(one.call.error() == 0);
        here.calls.start(one.call, "", there.to.port());
        REQUIRE(here.until([&] { return one.answers == 3; }));
        CHECK(here.quiet());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a refused connection says so in Go's words", "[dialer]") {
    closed_port dead;
    world here;
    caller one;
    here.calls.start(one.call, "127.0.0.1", dead.port);
    REQUIRE(here.until([&] { return one.answers == 1; }));
    CHECK(one.call.error() == ECONNREFUSED);
    CHECK(one.call.text() ==
          "dial tcp 127.0.0.1:" + std::to_string(dead.port) + ": connect: connection refused");
    CHECK(one.call.take_descriptor() == -1);
    CHECK(here.quiet());
}

TEST_CASE("an address that cannot be reached says so", "[dialer]") {
    world here;
    caller one;
    here.calls.start(one.call, "255.255.255.255", 1);
    REQUIRE(here.until([&] { return one.answers == 1; }));
    CHECK(one.call.error() != 0);
    CHECK(one.call.text().find("dial tcp 255.255.255.255:1: connect: ") == 0);
    CHECK(here.quiet());
}

TEST_CASE("a name that is none fails after start, not inside", "[dialer]") {
    name_server server({});
    world here({}, {.servers = server.servers(), .try_timeout = ring::second, .tries = 2});
    caller one, two;
    here.calls.start(one.call, "no name", 1);
    here.calls.start(two.call, "missing.test", 1);
    CHECK(one.answers == 0);
    REQUIRE(here.until([&] { return one.answers + two.answers == 2; }));
    CHECK(one.call.error() == ENOENT);
    CHECK(one.call.text() == "dial tcp: lookup no name: no such host");
    CHECK(two.call.text() == "dial tcp: lookup missing.test: no such host");
    CHECK(two.call.lookup().error() == lookup_error::no_such_host);
    CHECK(here.quiet());
}

TEST_CASE("the next address is tried at once when one is refused", "[dialer]") {
    listener there("127.0.0.3");
    name_server server({{"far.test", {.v4 = {"127.0.0.1", "127.0.0.2", "127.0.0.3"}}}});
    // Longer than the test waits: only a refusal can bring the next one on.
    world here({.timeout = 100 * ring::second, .stagger = 90 * ring::second},
               {.servers = server.servers(), .try_timeout = ring::second, .tries = 2});
    caller one;
    here.calls.start(one.call, "far.test", there.to.port());
    REQUIRE(here.until([&] { return one.answers == 1; }));
    CHECK(one.call.error() == 0);
    CHECK(one.call.peer() == there.to);
    CHECK(here.quiet());
}

TEST_CASE("all refused: the first address's failure is told", "[dialer]") {
    closed_port dead;
    name_server server({{"far.test", {.v4 = {"127.0.0.1"}, .v6 = {"::1"}}}});
    world here({}, {.servers = server.servers(), .try_timeout = ring::second, .tries = 2});
    caller one;
    here.calls.start(one.call, "far.test", dead.port);
    REQUIRE(here.until([&] { return one.answers == 1; }));
    CHECK(one.call.error() != 0);
    std::string first = one.call.lookup().addresses().front().text();
    CHECK(one.call.text().find("dial tcp " + first + ": ") == 0);
    CHECK(here.quiet());
}

TEST_CASE("a silent address does not hold up the others", "[dialer]") {
    listener silent("127.0.0.1", 0, 0);
    silent.fill();
    listener there("127.0.0.2", silent.to.port());
    name_server server({{"far.test", {.v4 = {"127.0.0.1", "127.0.0.2"}}}});
    std::size_t before = open_descriptors();
    {
        world here({.stagger = 20 * ring::millisecond},
                   {.servers = server.servers(), .try_timeout = ring::second, .tries = 2});
        caller one;
        here.calls.start(one.call, "far.test", silent.to.port());
        REQUIRE(here.until([&] { return one.answers == 1; }));
        CHECK(one.call.error() == 0);
        CHECK(one.call.peer() == there.to);
        // The loser is cancelled, reaped and closed.
        CHECK(here.quiet());
        CHECK(here.calls.under_way() == 0);
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a dial ends when its time is up", "[dialer]") {
    listener silent("127.0.0.1", 0, 0);
    silent.fill();
    name_server server({{"slow.test", {.silent = true}}});
    std::size_t before = open_descriptors();
    {
        world here({.timeout = 100 * ring::millisecond},
                   {.servers = server.servers(), .try_timeout = ring::second, .tries = 1});
        caller one, two;
        here.calls.start(one.call, "127.0.0.1", silent.to.port());
        here.calls.start(two.call, "slow.test", 1);
        REQUIRE(here.until([&] { return one.answers + two.answers == 2; }));
        CHECK(one.call.error() == ETIMEDOUT);
        CHECK(one.call.text() == "dial tcp " + silent.to.text() + ": i/o timeout");
        CHECK(two.call.error() == ETIMEDOUT);
        CHECK(two.call.text() == "dial tcp: lookup slow.test: i/o timeout");
        CHECK(here.quiet());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a dial without a descriptor waits where others make room", "[dialer]") {
    listener there;
    name_server server({{"far.test", {.v4 = {"127.0.0.1"}}}});
    int asked = 0;
    std::function<bool()> make_room = [&] {
        ++asked;
        errno = EAGAIN;  // as whoever is asked may leave it
        return false;
    };
    world here({.ran_out = [&] { return make_room(); }},
               {.servers = server.servers(), .try_timeout = ring::second, .tries = 2});
    caller one, two;
    SECTION("an address") {
        crowd others;
        make_room = [&] {
            if (++asked == 3) others.give_one();
            return true;
        };
        here.calls.start(one.call, "127.0.0.1", there.to.port());
        REQUIRE(here.until([&] { return one.answers == 1; }));
        CHECK(one.call.error() == 0);
        CHECK(asked == 3);
    }
    SECTION("a name, whose server needs one first") {
        crowd others;
        make_room = [&] {
            if (++asked % 2 == 0) others.give_one();
            return true;
        };
        here.calls.start(one.call, "far.test", there.to.port());
        REQUIRE(here.until([&] { return one.answers == 1; }));
        CHECK(one.call.error() == 0);
        CHECK(asked >= 2);
    }
    SECTION("nobody does: it says why, at once") {
        crowd others;
        here.calls.start(one.call, "127.0.0.1", there.to.port());
        here.calls.start(two.call, "far.test", there.to.port());
        REQUIRE(here.until([&] { return one.answers + two.answers == 2; }));
        CHECK(one.call.error() == EMFILE);
        CHECK(one.call.text() == "dial tcp " + there.to.text() + ": socket: too many open files");
        CHECK(two.call.text() == "dial tcp: lookup far.test: too many open files");
        CHECK(two.call.lookup().error() == lookup_error::no_descriptors);
        CHECK(asked == 2);
    }
    SECTION("none comes back in time") {
        crowd others;
        here.freeze();
        make_room = [&] {
            ++asked;
            return true;
        };
        here.calls.start(one.call, "127.0.0.1", there.to.port());
        here.calls.start(two.call, "127.0.0.1", there.to.port());
        two.call.cancel();
        here.skipped = 31 * ring::second;
        REQUIRE(here.until([&] { return one.answers == 1; }));
        CHECK(one.call.error() == EMFILE);
        CHECK(one.call.text() == "dial tcp: 127.0.0.1: socket: too many open files");
        CHECK(two.answers == 0);
    }
    CHECK(here.quiet());
}

TEST_CASE("dials die and are cancelled at any time", "[dialer]") {
    listener silent("127.0.0.1", 0, 0);
    silent.fill();
    listener there;
    name_server server({{"slow.test", {.silent = true}}});
    std::size_t before = open_descriptors();
    {
        world here({}, {.servers = server.servers(), .try_timeout = ring::second, .tries = 1});
        int answers = 0;
        for (int turns = 0; turns < 4; ++turns) {
            caller dying, cancelled, resolving, winning;
            here.calls.start(dying.call, "127.0.0.1", silent.to.port());
            here.calls.start(cancelled.call, "127.0.0.1", silent.to.port());
            here.calls.start(resolving.call, "slow.test", 1);
            here.calls.start(winning.call, "127.0.0.1", there.to.port());
            for (int i = 0; i < turns; ++i) here.turn(0);
            cancelled.call.cancel();
            CHECK_FALSE(cancelled.call.pending());
            // Starting again takes the first connection back.
            here.calls.start(cancelled.call, "127.0.0.1", silent.to.port());
            for (int i = 0; i < turns; ++i) here.turn(0);
            answers += dying.answers + cancelled.answers + resolving.answers;
        }
        CHECK(answers == 0);
        CHECK(here.quiet());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a dialer ends with connections on their way", "[dialer]") {
    listener silent("127.0.0.1", 0, 0);
    silent.fill();
    name_server server({{"slow.test", {.silent = true}}});
    std::size_t before = open_descriptors();
    caller one, two;
    {
        world here({}, {.servers = server.servers(), .try_timeout = ring::second, .tries = 1});
        here.calls.start(one.call, "127.0.0.1", silent.to.port());
        here.calls.start(two.call, "slow.test", 1);
        here.turn(0);
    }
    CHECK(one.answers + two.answers == 0);
    CHECK_FALSE(one.call.pending());
    CHECK_FALSE(two.call.pending());
    CHECK(open_descriptors() == before);
}

TEST_CASE("there is room for so many dials, and what ends makes room", "[dialer]") {
    listener silent("127.0.0.1", 0, 0);
    silent.fill();
    listener there;
    name_server server({{"slow.test", {.silent = true}}});
    world here({.timeout = 100 * ring::second, .most = 3},
               {.servers = server.servers(), .try_timeout = 50 * ring::millisecond, .tries = 1});
    std::vector<std::unique_ptr<caller>> all;
    for (int i = 0; i < 3; ++i) {
        CHECK(here.calls.has_room());
        all.push_back(std::make_unique<caller>());
        here.calls.start(all.back()->call, "127.0.0.1", silent.to.port());
    }
    CHECK_FALSE(here.calls.has_room());
    here.turn(0);
    // In any order: the numbers of the others stay right.
    all[0]->call.cancel();
    CHECK(here.calls.pending() == 2);
    CHECK(here.calls.has_room());
    all[2].reset();
    CHECK(here.calls.pending() == 1);
    caller winning;
    here.calls.start(winning.call, "127.0.0.1", there.to.port());
    REQUIRE(here.until([&] { return winning.answers == 1; }));
    CHECK(winning.call.error() == 0);
    all.clear();
    CHECK(here.quiet());
    // Questions that nobody waits for any more count until they are over.
    for (int i = 0; i < 3; ++i) {
        CHECK(here.calls.has_room());
        caller asking;
        here.calls.start(asking.call, "slow.test", 1);
    }
    CHECK(here.calls.pending() == 0);
    CHECK_FALSE(here.calls.has_room());
    CHECK(here.quiet());
    CHECK(here.calls.has_room());
    CHECK(here.calls.counters.started == 7);
    CHECK(here.calls.counters.connected == 1);
    CHECK(here.calls.counters.taken_back == 6);
}

TEST_CASE("a name of many silent addresses has one attempt while there are many", "[dialer]") {
    listener silent("127.0.0.1", 0, 0);
    silent.fill();
    listener there("127.0.0.2", silent.to.port());
    name_server server({{"far.test", {.v4 = {"127.0.0.1", "127.0.0.2"}}}});
    constexpr ring::microseconds_t stagger = 5 * ring::millisecond;
    world here({.timeout = 100 * ring::second, .stagger = stagger, .most = 2},
               {.servers = server.servers(), .try_timeout = ring::second, .tries = 2});
    caller other, one;
    here.calls.start(other.call, "127.0.0.1", silent.to.port());
    here.calls.start(one.call, "far.test", silent.to.port());
    REQUIRE(here.until([&] { return here.calls.under_way() == 2; }));
    const ring::microseconds_t long_enough = ring::monotonic_now() + 10 * stagger;
    while (ring::monotonic_now() < long_enough) here.turn(stagger);
    CHECK(here.calls.under_way() == 2);
    CHECK(one.answers == 0);
    other.call.cancel();
    REQUIRE(here.until([&] { return one.answers == 1; }));
    CHECK(one.call.error() == 0);
    CHECK(one.call.peer() == there.to);
    CHECK(here.quiet());
}

TEST_CASE("sockets are prepared before they connect", "[dialer]") {
    listener there;
    std::vector<std::string> seen;
    int answer = 0;
    world here({.prepare = [&](int descriptor, const endpoint& to) {
        CHECK(descriptor >= 0);
        seen.push_back(to.text());
        return answer;
    }});
    caller one;
    here.calls.start(one.call, "127.0.0.1", there.to.port());
    REQUIRE(here.until([&] { return one.answers == 1; }));
    CHECK(one.call.error() == 0);
    CHECK(seen == std::vector<std::string>{there.to.text()});
    answer = ENETUNREACH;
    here.calls.start(one.call, "127.0.0.1", there.to.port());
    REQUIRE(here.until([&] { return one.answers == 2; }));
    CHECK(one.call.error() == ENETUNREACH);
    CHECK(one.call.text() == "dial tcp " + there.to.text() + ": bind: network is unreachable");
    CHECK(here.quiet());
}
