// The ring against real sockets: completion, buffer selection, running dry, cancel before close.
#include "ring/ring.hh"

#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <deque>
#include <set>
#include <string>
#include <vector>

#include "ring/buffer_group.hh"
#include "tests/catch.hh"
#include "tests/unit/ring/resident.hh"

using namespace burin::ring;

namespace {

struct recorder : op {
    std::deque<completion> seen;
    recorder()
        : op(this, [](op& o, completion c) noexcept { o.of<recorder>().seen.push_back(c); }) {}
};

struct pair_of_sockets {
    int a = -1, b = -1;
    pair_of_sockets() {
        int fds[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        a = fds[0];
        b = fds[1];
    }
    ~pair_of_sockets() {
        ::close(a);
        ::close(b);
    }
};

void until(ring& r, const recorder& o, std::size_t count = 1) {
    microseconds_t limit = monotonic_now() + 30 * second;
    while (o.seen.size() < count && monotonic_now() < limit) r.enter(limit);
    REQUIRE(o.seen.size() >= count);
}

// A group that has two buffers to offer and offers eight, all there are, as a burst makes it.
struct burst {
    static constexpr std::uint32_t bytes = 64 * 1024, count = 8;
    static constexpr std::size_t each = bytes / 4096;

    explicit burst(std::uint32_t chunk)
        : group(r, {.id = 5,
                    .bytes = bytes,
                    .headroom = 0,
                    .count = count,
                    .offered = 2,
                    .chunk = chunk,
                    .pages = page_size::small}) {
        for (int i = 0; i < 2; ++i) {
            group.ran_out();
            group.offer();
        }
        REQUIRE(group.offered() == count);
        const int room = 4 << 20;
        REQUIRE(setsockopt(s.a, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room) == 0);
    }
    // The next one, filled.
    buffer receive(char with) {
        const std::vector<char> full(bytes, with);
        recorder received;
        REQUIRE(::write(s.a, full.data(), bytes) == bytes);
        r.receive_select(received, s.b, group.id(), bytes);
        until(r, received);
        REQUIRE(received.seen[0].result == bytes);
        buffer one = group.take(received.seen[0]);
        REQUIRE(std::memcmp(one.data(), full.data(), bytes) == 0);
        return one;
    }
    // Fills each of them once and holds them: all have memory then.
    void fill() {
        for (std::uint32_t i = 0; i < count; ++i) {
            held.push_back(receive(static_cast<char>('a' + i)));
            all.push_back(held.back().data());
        }
    }
    std::size_t resident() const {
        std::size_t pages = 0;
        for (const std::byte* one : all) pages += resident_pages(one, bytes);
        return pages;
    }

    ring r;
    buffer_group group;
    pair_of_sockets s;
    std::vector<buffer> held;
    std::vector<const std::byte*> all;
};

}  // namespace

TEST_CASE("send and receive complete with their sizes", "[ring]") {
    ring r;
    pair_of_sockets s;
    recorder sent, received;
    std::string text = "superframe";
    char into[64];
    r.receive(received, s.b, std::as_writable_bytes(std::span(into)));
    r.send(sent, s.a, std::as_bytes(std::span(text)));
    REQUIRE(r.in_flight() == 2);
    until(r, sent);
    until(r, received);
    REQUIRE(sent.seen[0].result == 10);
    REQUIRE(received.seen[0].result == 10);
    REQUIRE(std::memcmp(into, text.data(), 10) == 0);
    REQUIRE(r.in_flight() == 0);
}

TEST_CASE("selected buffers come out filled and go back when the last holder ends", "[ring]") {
    ring r;
    buffer_group group(r, {.id = 7, .bytes = 4096, .headroom = 128, .count = 4, .offered = 1});
    pair_of_sockets s;
    for (int round = 0; round < 50; ++round) {
        recorder received;
        std::string text = "round " + std::to_string(round);
        r.receive_select(received, s.b, group.id(), 4096);
        REQUIRE(::write(s.a, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        until(r, received);
        REQUIRE(received.seen[0].has_buffer());
        buffer first = group.take(received.seen[0]);
        REQUIRE(std::memcmp(first.data(), text.data(), text.size()) == 0);
        buffer second = first.share();
        REQUIRE(first.references() == 2);
        first.reset();
        REQUIRE(group.held() == 1);
        second.reset();
        REQUIRE(group.held() == 0);
        group.offer();
        REQUIRE(group.offered() == 1);
    }
}

TEST_CASE("a group that runs dry offers more and loses nothing", "[ring]") {
    ring r;
    buffer_group group(r, {.id = 3, .bytes = 4096, .headroom = 0, .count = 8, .offered = 1});
    pair_of_sockets s, t;
    recorder one, two;
    r.receive_select(one, s.b, group.id(), 4096);
    r.receive_select(two, t.b, group.id(), 4096);
    REQUIRE(::write(s.a, "x", 1) == 1);
    REQUIRE(::write(t.a, "y", 1) == 1);
    until(r, one);
    until(r, two);
    REQUIRE(one.seen[0].result == 1);
    REQUIRE(two.seen[0].result == -ENOBUFS);
    buffer held = group.take(one.seen[0]);
    group.ran_out();
    group.offer();
    r.receive_select(two, t.b, group.id(), 4096);
    until(r, two, 2);
    REQUIRE(two.seen[1].result == 1);
    buffer other = group.take(two.seen[1]);
    REQUIRE(static_cast<char>(*other.data()) == 'y');
    REQUIRE(group.times_out() == 1);
}

TEST_CASE("a trimmed group serves on, and what is held or offered keeps its memory", "[ring]") {
    ring r;
    buffer_group group(r, {.id = 4, .bytes = 4096, .headroom = 64, .count = 8, .offered = 2});
    pair_of_sockets s;
    std::vector<buffer> held;
    for (char c = 'a'; c < 'g'; ++c) {
        recorder received;
        r.receive_select(received, s.b, group.id(), 4096);
        REQUIRE(::write(s.a, &c, 1) == 1);
        until(r, received);
        held.push_back(group.take(received.seen[0]));
        if (c == 'c') held.erase(held.begin());  // one is free, one held, two offered
        group.trim();
        group.offer();
    }
    REQUIRE(group.held() == 5);
    for (char c = 'b'; c < 'g'; ++c)
        REQUIRE(static_cast<char>(*held[static_cast<std::size_t>(c - 'b')].data()) == c);
    held.clear();
    group.trim();
    REQUIRE(group.held() == 0);
    REQUIRE(group.offered() == 2);
}

TEST_CASE("what a burst made a group offer keeps its place, but no memory", "[ring]") {
    burst b(1);
    b.fill();
    b.held.clear();
    b.group.offer();
    REQUIRE(b.group.offered() == burst::count);
    REQUIRE(b.resident() == burst::count * burst::each);
    SECTION("the next two keep it; all serve on") {
        b.group.trim();
        REQUIRE(b.resident() == 2 * burst::each);
        for (std::uint32_t i = 0; i < burst::count; ++i) {
            b.held.push_back(b.receive('x'));
            if (i < 2) REQUIRE(b.resident() == 2 * burst::each);
        }
        // Held ones keep theirs; then only as many are offered as at first.
        b.group.trim();
        REQUIRE(b.resident() == burst::count * burst::each);
        b.held.clear();
        b.group.offer();
        REQUIRE(b.group.offered() == 2);
        b.group.trim();
        REQUIRE(b.resident() == 2 * burst::each);
    }
    SECTION("what has come but was not told yet is no less there") {
        const std::vector<char> full(burst::bytes, 'x');
        std::vector<recorder> waiting(5);
        for (recorder& one : waiting) {
            REQUIRE(::write(b.s.a, full.data(), burst::bytes) == burst::bytes);
            b.r.receive_select(one, b.s.b, b.group.id(), burst::bytes);
        }
        b.r.wait(monotonic_now() + second);
        REQUIRE_FALSE(b.r.told_all());
        b.group.trim();
        REQUIRE(b.resident() == burst::count * burst::each);
        for (recorder& one : waiting) {
            until(b.r, one);
            buffer filled = b.group.take(one.seen[0]);
            REQUIRE(std::memcmp(filled.data(), full.data(), burst::bytes) == 0);
        }
        REQUIRE(b.r.told_all());
    }
}

TEST_CASE("what is offered at rest lies side by side, whatever was offered when", "[ring]") {
    burst b(2);
    b.fill();
    // Of four pairs the last one's and the first one's are offered first.
    b.held[6].reset();
    b.group.offer();
    b.held[1].reset();
    b.group.offer();
    b.held.clear();
    b.group.offer();
    REQUIRE(b.group.offered() == burst::count);
    b.group.trim();
    CHECK(b.resident() == 2 * burst::each);
    // All of them serve on, and none twice.
    std::set<const std::byte*> places;
    for (std::uint32_t i = 0; i < burst::count; ++i) {
        b.held.push_back(b.receive(static_cast<char>('A' + i)));
        places.insert(b.held.back().data());
    }
    CHECK(places.size() == burst::count);
}

TEST_CASE("many that find no buffer at once are one reason to offer more", "[ring]") {
    ring r;
    buffer_group group(r, {.id = 3, .bytes = 4096, .headroom = 0, .count = 64, .offered = 2});
    for (int i = 0; i < 14; ++i) group.ran_out();
    group.offer();
    CHECK(group.offered() == 4);
    group.ran_out();
    group.offer();
    CHECK(group.offered() == 8);
    CHECK(group.times_out() == 15);
}

TEST_CASE("however often a group runs dry, some are left to be borrowed", "[ring]") {
    ring r;
    buffer_group group(
        r, {.id = 3, .bytes = 4096, .headroom = 0, .count = 8, .offered = 1, .kept = 3});
    for (int i = 0; i < 10; ++i) {
        group.ran_out();
        group.offer();
    }
    CHECK(group.offered() == 5);
    std::deque<buffer> borrowed;
    for (int i = 0; i < 3; ++i) {
        borrowed.push_back(group.borrow());
        CHECK(borrowed.back());
    }
    CHECK_FALSE(group.borrow());
    borrowed.clear();
    group.offer();
    CHECK(group.offered() == 5);
    CHECK(group.borrow());
}

TEST_CASE("datagrams come one by one behind what is told of them, until buffers run out",
          "[ring]") {
    ring r;
    buffer_group group(r, {.id = 4, .bytes = 512, .headroom = 0, .count = 4, .offered = 2});
    int fds[2];
    REQUIRE(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) == 0);
    for (const char* text : {"one", "two", "three"})
        REQUIRE(::write(fds[0], text, std::strlen(text)) >= 0);
    recorder received;
    msghdr shape{};
    shape.msg_namelen = 24;
    shape.msg_controllen = 40;
    r.receive_messages(received, fds[1], group.id(), &shape);
    until(r, received, 3);
    REQUIRE(received.seen.size() == 3);
    constexpr int front = sizeof(io_uring_recvmsg_out) + 24 + 40;
    for (std::size_t i : {0u, 1u}) {
        REQUIRE(received.seen[i].has_buffer());
        buffer b = group.take(received.seen[i]);
        const std::string text(reinterpret_cast<const char*>(b.data()) + front,
                               static_cast<std::size_t>(received.seen[i].result - front));
        CHECK(text == (i == 0 ? "one" : "two"));
    }
    // Nothing is lost of what finds no buffer.
    CHECK(received.seen[2].result == -ENOBUFS);
    CHECK_FALSE(received.seen[2].more());
    CHECK_FALSE(received.in_flight);
    group.ran_out();
    group.offer();
    r.receive_messages(received, fds[1], group.id(), &shape);
    until(r, received, 4);
    CHECK(received.seen[3].result == front + 5);
    CHECK(received.seen[3].more());
    CHECK(received.in_flight);
    group.take(received.seen[3]);
    // An empty one is one, and the kernel ends the receive with it.
    REQUIRE(::write(fds[0], "", 0) == 0);
    until(r, received, 5);
    CHECK(received.seen[4].result == front);
    CHECK_FALSE(received.seen[4].more());
    group.take(received.seen[4]);
    r.receive_messages(received, fds[1], group.id(), &shape);
    recorder cancelled;
    r.cancel(cancelled, received);
    until(r, received, 6);
    CHECK(received.seen[5].result == -ECANCELED);
    until(r, cancelled);
    ::close(fds[0]);
    ::close(fds[1]);
}

TEST_CASE("cancelling a descriptor ends what is pending on it", "[ring]") {
    ring r;
    pair_of_sockets s;
    recorder first, second, cancelled;
    char into[2][8];
    r.receive(first, s.b, std::as_writable_bytes(std::span(into[0])));
    r.receive(second, s.b, std::as_writable_bytes(std::span(into[1])));
    r.enter(0);
    REQUIRE(first.in_flight);
    REQUIRE(second.in_flight);
    r.cancel(cancelled, s.b);
    for (recorder* received : {&first, &second}) {
        until(r, *received);
        REQUIRE(received->seen[0].result == -ECANCELED);
        REQUIRE_FALSE(received->in_flight);
    }
}

TEST_CASE("more operations than the queue holds are all done", "[ring]") {
    ring r({.submissions = 8, .completions = 64});
    pair_of_sockets s;
    std::deque<recorder> sends(100);
    std::string text = "z";
    for (auto& o : sends) r.send(o, s.a, std::as_bytes(std::span(text)));
    for (auto& o : sends) until(r, o);
    std::string got(200, '\0');
    REQUIRE(::recv(s.b, got.data(), got.size(), 0) == 100);
}

TEST_CASE("enter ends at its deadline", "[ring]") {
    ring r;
    microseconds_t before = monotonic_now();
    REQUIRE(r.enter(before + 20 * millisecond) == 0);
    REQUIRE(monotonic_now() >= before + 20 * millisecond);
}

TEST_CASE("why io_uring is missing is one sentence that says what to change", "[ring]") {
    REQUIRE(why_unavailable(ENOSYS).find("6.1") != std::string::npos);
    REQUIRE(why_unavailable(ENOMEM).find("ulimit -l") != std::string::npos);
    REQUIRE(why_unavailable(EPERM, 0).find("seccomp") != std::string::npos);
    for (int value : {1, 2}) {
        const std::string why = why_unavailable(EPERM, value);
        REQUIRE(why.find("io_uring_disabled is " + std::to_string(value)) != std::string::npos);
        REQUIRE(why.find("set it to 0") != std::string::npos);
        REQUIRE(why.find("seccomp") == std::string::npos);
    }
}
