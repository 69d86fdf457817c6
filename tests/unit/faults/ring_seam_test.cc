// The ring with faults behind it: each of its operations can be made to fail, to move less and to
// be late, and whatever io_uring_enter says, nothing that was asked for is lost.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "ring/buffer_group.hh"
#include "ring/memory_pool.hh"
#include "ring/ring.hh"
#include "tests/catch.hh"
#include "tests/faults/control.hh"

using namespace burin::ring;
namespace faults = burin::faults;

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

struct in_force {
    explicit in_force(std::string_view plan) { faults::set_plan(plan); }
    ~in_force() { faults::set_plan(""); }
};

void until(ring& r, const recorder& o, std::size_t count = 1) {
    microseconds_t limit = monotonic_now() + 30 * second;
    while (o.seen.size() < count && monotonic_now() < limit) r.enter(limit);
    REQUIRE(o.seen.size() >= count);
}

bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

}  // namespace

TEST_CASE("a plan is read, and what is none is not", "[faults]") {
    auto p =
        faults::parse_plan("seed=7 receive=ENOMEM:1/100,cut:1/3  enter=EBUSY:1/4 completions=64");
    REQUIRE(p);
    REQUIRE(p->seed == 7);
    REQUIRE(p->completions == 64);
    const auto& receive = p->of(faults::operation::receive);
    REQUIRE(receive.size() == 2);
    REQUIRE(receive[0].error == ENOMEM);
    REQUIRE(receive[0].of == 100);
    REQUIRE(receive[1].what == faults::rule::kind::cut);
    REQUIRE(p->of(faults::operation::enter)[0].error == EBUSY);
    for (const char* bad : {"receive", "receive=", "receive=ENOMEM", "receive=ENOMEM:1",
                            "receive=ENOMEM:1/0", "receive=EWHAT:1/1", "seed=x", "what=ENOMEM:1/1"})
        REQUIRE_FALSE(faults::parse_plan(bad));
}

TEST_CASE("each operation of the ring fails with what the plan says", "[faults]") {
    ring r;
    pair_of_sockets s;
    buffer_group group(r, {.id = 1, .bytes = 4096, .headroom = 0, .count = 4, .offered = 2});
    char bytes[8] = {};
    iovec part{bytes, sizeof bytes};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    sockaddr address{};
    const auto space = std::as_writable_bytes(std::span(bytes));
    recorder other;
    r.poll(other, s.b, 0);
    const int doomed = dup(s.a);
    const std::pair<const char*, std::function<void(op&)>> all[] = {
        {"receive", [&](op& o) { r.receive(o, s.b, space); }},
        {"receive", [&](op& o) { r.receive_select(o, s.b, 1, 8); }},
        {"receive_message", [&](op& o) { r.receive_message(o, s.b, &message, 0); }},
        {"receive_messages", [&](op& o) { r.receive_messages(o, s.b, 1, &message); }},
        {"send", [&](op& o) { r.send(o, s.a, space); }},
        {"send_zero_copy", [&](op& o) { r.send_zero_copy(o, s.a, space); }},
        {"send_message", [&](op& o) { r.send_message(o, s.a, &message, 0); }},
        {"accept", [&](op& o) { r.accept(o, s.a); }},
        {"connect", [&](op& o) { r.connect(o, s.a, &address, sizeof address); }},
        {"cancel", [&](op& o) { r.cancel(o, other); }},
        {"cancel", [&](op& o) { r.cancel(o, s.b); }},
        {"close", [&](op& o) { r.close(o, doomed); }},
        {"poll", [&](op& o) { r.poll(o, s.b, 1); }},
        {"read_frames", [&](op& o) { r.read_frames(o, s.b, 1); }},
        {"write_vector", [&](op& o) { r.write_vector(o, s.a, std::span(&part, 1)); }},
        {"read", [&](op& o) { r.read(o, s.b, space); }},
    };
    for (const auto& [name, ask] : all) {
        for (const auto& [word, error] :
             {std::pair("ENOBUFS", ENOBUFS), {"ENOMEM", ENOMEM}, {"EMFILE", EMFILE}}) {
            INFO(name << " " << word);
            in_force plan(std::string(name) + "=" + word + ":1/1");
            recorder done;
            ask(done);
            until(r, done);
            REQUIRE(done.seen[0].result == -error);
            REQUIRE_FALSE(done.seen[0].more());
            REQUIRE_FALSE(done.seen[0].has_buffer());
            REQUIRE_FALSE(done.in_flight);
        }
    }
    // Nothing of it happened: both sockets are as they were.
    REQUIRE(is_open(doomed));
    recorder sent, received;
    r.send(sent, s.a, space);
    until(r, sent);
    REQUIRE(sent.seen[0].result == 8);
    r.receive(received, s.b, space);
    until(r, received);
    REQUIRE(received.seen[0].result == 8);
    REQUIRE(r.in_flight() == 1);  // the poll
    recorder gone;
    r.cancel(gone, other);
    until(r, gone);
    until(r, other);
    ::close(doomed);
}

TEST_CASE("what is cut moves fewer bytes, and the rest comes after it", "[faults]") {
    ring r;
    pair_of_sockets s;
    in_force plan("seed=3 send=cut:1/1 send_message=cut:1/1 receive=cut:1/1");
    std::string text;
    for (int i = 0; i < 1000; ++i) text += static_cast<char>('a' + i % 26);
    std::string got;
    std::size_t out = 0;
    unsigned sends = 0;
    while (got.size() < text.size()) {
        if (out < text.size()) {
            recorder sent;
            // In two parts, every second time.
            iovec parts[2] = {{text.data() + out, (text.size() - out) / 2}, {}};
            parts[1] = {text.data() + out + parts[0].iov_len, text.size() - out - parts[0].iov_len};
            msghdr message{};
            message.msg_iov = parts;
            message.msg_iovlen = 2;
            if (++sends % 2 == 0)
                r.send_message(sent, s.a, &message, 0);
            else
                r.send(sent, s.a, std::as_bytes(std::span(text).subspan(out)));
            until(r, sent);
            REQUIRE(sent.seen[0].result > 0);
            out += static_cast<std::size_t>(sent.seen[0].result);
        }
        char into[700];
        recorder received;
        r.receive(received, s.b, std::as_writable_bytes(std::span(into)));
        until(r, received);
        REQUIRE(received.seen[0].result > 0);
        got.append(into, static_cast<std::size_t>(received.seen[0].result));
    }
    REQUIRE(got == text);
    REQUIRE(sends > 2);
}

TEST_CASE("what is late comes whole, and a cancel brings it at once", "[faults]") {
    ring r;
    pair_of_sockets s;
    buffer_group group(r, {.id = 1, .bytes = 4096, .headroom = 0, .count = 4, .offered = 2});
    in_force plan("receive=late:1/1");
    for (bool cancelled : {false, true}) {
        recorder sent, received, cancel;
        r.receive_select(received, s.b, 1, 4096);
        std::string text = "late";
        r.send(sent, s.a, std::as_bytes(std::span(text)));
        until(r, sent);

        if (cancelled) r.cancel(cancel, received);
        until(r, received);
        REQUIRE(received.seen[0].result == 4);
        REQUIRE(received.seen[0].has_buffer());
        buffer b = group.take(received.seen[0]);
        REQUIRE(std::string(reinterpret_cast<char*>(b.data()), 4) == text);
        if (cancelled) until(r, cancel);
        b.reset();
        group.offer();
    }
    REQUIRE(r.in_flight() == 0);
}

TEST_CASE("whatever enter says, and however small the queues are, all of it is done", "[faults]") {
    // Sometimes no; and hardly ever yes, so that hundreds of tries must follow each other.
    const auto [plan, count, rounds] = GENERATE(table<const char*, std::size_t, int>(
        {{"seed=5 submissions=4 completions=8 "
          "enter=EBUSY:1/3,EAGAIN:1/3,EINTR:1/4",
          300, 3},
         {"seed=6 submissions=64 enter=EAGAIN:399/400", 20, 2}}));
    in_force faulty(plan);
    ring r;
    std::deque<pair_of_sockets> pairs;
    std::deque<recorder> sent, received;
    std::vector<std::array<char, 4>> into(count);
    for (int round = 0; round < rounds; ++round) {
        pairs.clear();
        sent.clear();
        received.clear();
        std::vector<msghdr> messages(count);
        std::vector<iovec> parts(count);
        std::vector<std::uint32_t> numbers(count);
        for (std::size_t i = 0; i < count; ++i) {
            pairs.emplace_back();
            r.receive(received.emplace_back(), pairs[i].b,
                      std::as_writable_bytes(std::span(into[i])));
            numbers[i] = static_cast<std::uint32_t>(i * 7919) + static_cast<std::uint32_t>(round);
            parts[i] = {&numbers[i], 4};
            messages[i].msg_iov = &parts[i];
            messages[i].msg_iovlen = 1;
            r.send_message(sent.emplace_back(), pairs[i].a, &messages[i], 0);
        }
        r.wait(0);
        // The kernel has taken all of it, so that messages may be another turn's.
        REQUIRE(io_uring_sq_ready(&r.raw()) == 0);
        messages.assign(count, msghdr{});
        for (std::size_t i = 0; i < count; ++i) {
            until(r, sent[i]);
            until(r, received[i]);
            REQUIRE(received[i].seen[0].result == 4);
            std::uint32_t number;
            std::memcpy(&number, into[i].data(), 4);
            REQUIRE(number ==
                    static_cast<std::uint32_t>(i * 7919) + static_cast<std::uint32_t>(round));
        }
    }
    REQUIRE(r.in_flight() == 0);
}

TEST_CASE("a descriptor whose closing failed for want of memory is closed all the same",
          "[faults]") {
    ring r;
    pair_of_sockets s;
    const int fd = dup(s.a);
    in_force plan("close=ENOMEM:1/1");
    const auto closes = static_cast<std::size_t>(faults::operation::close);
    const auto before = faults::shared_page().failed[closes].load();
    r.close_quietly(fd);
    microseconds_t limit = monotonic_now() + 30 * second;
    while (is_open(fd) && monotonic_now() < limit) r.enter(monotonic_now() + millisecond);
    REQUIRE_FALSE(is_open(fd));
    REQUIRE(faults::shared_page().failed[closes] == before + 1);
}

TEST_CASE("system calls that give descriptors and memory fail as well", "[faults]") {
    {
        in_force plan("socket=EMFILE:1/1 mmap=ENOMEM:1/1");
        REQUIRE(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) == -1);
        REQUIRE(errno == EMFILE);
        memory_pool pool(4096, 4, 16);
        REQUIRE(pool.take() == nullptr);
    }
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    ::close(fd);
    memory_pool pool(4096, 4, 16);
    std::byte* piece = pool.take();
    REQUIRE(piece != nullptr);
    pool.give_back(piece);
}
