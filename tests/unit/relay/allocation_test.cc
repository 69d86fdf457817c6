// In bulk the data path asks for no memory: what it needs it has after a while. Every operator new
// of this program is counted during the turns of a loop; what a slow socket makes a relay copy out,
// the one exception, is counted by the pool of pieces itself.
#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/catch.hh"
#include "tests/unit/relay/datagram_bench.hh"
#include "tests/unit/relay/tun_bench.hh"

#ifndef BURIN_SANITIZED

namespace {
std::atomic<bool> counting{false};
std::atomic<std::uint64_t> allocations{0};
// A pool may once more need more than it ever did: of thousands of buffers and packets.
constexpr std::uint64_t few = 8;

void* counted(std::size_t bytes) {
    if (counting) ++allocations;
    void* at = std::malloc(bytes == 0 ? 1 : bytes);
    if (at == nullptr) throw std::bad_alloc();
    return at;
}
}  // namespace

void* operator new(std::size_t bytes) {
    return counted(bytes);
}
void* operator new[](std::size_t bytes) {
    return counted(bytes);
}
void operator delete(void* at) noexcept {
    std::free(at);
}
void operator delete[](void* at) noexcept {
    std::free(at);
}
void operator delete(void* at, std::size_t) noexcept {
    std::free(at);
}
void operator delete[](void* at, std::size_t) noexcept {
    std::free(at);
}

namespace burin::relay {
namespace {

TEST_CASE("a bulk flow through a port allocates nothing", "[allocation]") {
    tunnel t;
    auto [near, far] = t.flow();
    const bool up = GENERATE(true, false);
    program& from = up ? *near : *far;
    program& to = up ? *far : *near;
    const std::uint32_t stream = up ? 0 : 1;
    auto carry = [&](std::uint64_t total) {
        while (to.received() < total) {
            from.write_to(total);
            counting = true;
            t.turn();
            counting = false;
            to.read_from(stream);
            REQUIRE(to.error() == 0);
        }
    };
    carry(32u << 20);
    allocations = 0;
    carry(96u << 20);
    CHECK(allocations < few);
    from.leave();
    to.leave();
    t.check_empty();
}

TEST_CASE("a bulk flow of a TUN host allocates nothing", "[allocation]") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    byte_vector part(44 * std::size_t{tun_host::mss});
    std::uint64_t sent = 0;
    const std::uint32_t first = h->seq;
    auto carry = [&](std::uint64_t total) {
        while (destination->received() < total) {
            const std::uint32_t under_way = h->seq - std::max(h->acked, first);
            const std::size_t room = h->shown > under_way ? h->shown - under_way : 0;
            const std::size_t size = std::min<std::uint64_t>({room, part.size(), total - sent});
            const bytes_view next = ssh::pattern_bytes().at(0, sent, size);
            if (size > 0) h->data(next);
            sent += size;
            b.relays.now = ring::monotonic_now();
            counting = true;
            b.turn(ring::millisecond);
            b.queue->flush();
            b.main.turn(0);
            counting = false;
            b.go();  // and what the host hears of it
            destination->read_from(0);
        }
    };
    carry(8u << 20);
    allocations = 0;
    carry(24u << 20);
    CHECK(allocations < few);
    h->rst();
    b.go_until([&] { return b.queue->flows() == 0; });
}

TEST_CASE("datagrams through a port allocate nothing", "[allocation]") {
    udp_program target, near;
    datagram_bench b;
    std::uint16_t port = 0;
    datagram_entry door(b.datagrams, b, bound_socket(port),
                        "127.0.0.1:" + std::to_string(target.port));
    b.entries.push_back(&door);
    door.session_ready();
    b.until([&] { return b.entries_open == 1; });
    const std::string text(1200, 'x');
    std::size_t there = 0, back = 0;
    auto carry = [&](std::size_t turns) {
        for (std::size_t i = 0; i < turns; ++i) {
            for (int n = 0; n < 10; ++n) near.send(port, text);
            counting = true;
            b.turn(ring::millisecond);
            b.turn(ring::millisecond);
            counting = false;
            for (; target.receive(); ++there) target.send(target.last_from, text);
            while (near.receive()) ++back;
        }
    };
    carry(300);
    allocations = 0;
    carry(600);
    CHECK(allocations < few);
    CHECK(there > 8000);
    CHECK(back > 8000);
    door.stop();
    b.until([&] { return b.datagrams.alive() == b.datagrams.sockets; });
    b.entries.clear();
}

TEST_CASE("allocations are counted", "[allocation]") {
    allocations = 0;
    counting = true;
    auto* one = new std::uint64_t(7);
    counting = false;
    CHECK(*one == 7);
    delete one;
    CHECK(allocations == 1);
}

}  // namespace
}  // namespace burin::relay

#endif
