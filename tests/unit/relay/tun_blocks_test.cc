// Receive blocks held by slices on their way to a host.
#include "core/relay/tun_blocks.hh"

#include <sys/socket.h>
#include <unistd.h>

#include "tests/catch.hh"
#include "tests/unit/relay/loop.hh"

using namespace burin;
using namespace burin::relay;

namespace {

// A block that really came from the ring.
struct receiver {
    receiver() { REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0); }
    ~receiver() {
        for (int fd : pair) close(fd);
    }
    ring::buffer receive(std::string_view text) {
        REQUIRE(write(pair[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()));
        main.ring.receive_select(op, pair[0], group.id(), group.bytes());
        REQUIRE(main.until([&] { return !op.in_flight; }));
        group.offer();
        return std::move(got);
    }
    void on_received(ring::completion c) noexcept { got = group.take(c); }

    loop main;
    ring::buffer_group group{main.ring,
                             {.id = 1, .bytes = 4096, .headroom = 0, .count = 8, .offered = 2}};
    ring::member_op<&receiver::on_received> op{this};
    ring::buffer got;
    int pair[2];
};

}  // namespace

TEST_CASE("slices of a block share one holder and keep it until the last is gone") {
    receiver r;
    tun_blocks blocks;
    ring::buffer block = r.receive("hello world");
    {
        tun::payload_slice first = blocks.slice({block.data(), 5}, block);
        tun::payload_slice second = blocks.slice({block.data() + 6, 5}, block);
        CHECK(first.holder() == second.holder());
        CHECK(blocks.held() == 1);
        block.reset();
        CHECK(r.group.held() == 1);
        first = {};
        CHECK(as_text(second.bytes()) == "world");
        blocks.end_turn();
        CHECK(r.group.held() == 1);
    }
    CHECK(blocks.held() == 0);
    CHECK(r.group.held() == 0);
}

TEST_CASE("another block, or the same one a turn later, gets a holder of its own") {
    receiver r;
    tun_blocks blocks;
    ring::buffer one = r.receive("one"), two = r.receive("two");
    tun::payload_slice a = blocks.slice({one.data(), 3}, one);
    tun::payload_slice b = blocks.slice({two.data(), 3}, two);
    CHECK(a.holder() != b.holder());
    blocks.end_turn();
    tun::payload_slice c = blocks.slice({two.data(), 3}, two);
    CHECK(c.holder() != b.holder());
    blocks.end_turn();
    CHECK(blocks.held() == 3);
    for (auto* s : {&a, &b, &c}) *s = {};
    CHECK(blocks.held() == 0);
    one.reset();
    two.reset();
    CHECK(r.group.held() == 0);
}

TEST_CASE("bytes without a block are copied") {
    tun_blocks blocks;
    const std::string text = "not in a block";
    tun::payload_slice slice = blocks.slice(as_bytes(text), {});
    CHECK(slice.data() != as_bytes(text).data());
    CHECK(as_text(slice.bytes()) == text);
    CHECK(tun::is_copied_payload(slice.holder()));
}

TEST_CASE("when blocks run short none waits for a host") {
    receiver r;
    tun_blocks blocks;
    std::vector<tun::payload_slice> slices;
    for (std::uint32_t i = 0; i < 3 * r.group.count(); ++i) {
        ring::buffer block = r.receive("bytes");
        slices.push_back(blocks.slice({block.data(), 5}, block));
        CHECK(as_text(slices.back().bytes()) == "bytes");
        blocks.end_turn();
    }
    CHECK(r.group.held() <= r.group.count() / 2);
}
