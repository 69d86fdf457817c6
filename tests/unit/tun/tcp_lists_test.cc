// The two lists of a flow: bytes on their way to the host, and bytes of the host behind a gap.
#include <string>
#include <vector>

#include "tests/catch.hh"
#include "tun/tcp_reassembly.hh"
#include "tun/tcp_send_queue.hh"

using namespace burin;
using namespace burin::tun;

namespace {

constexpr auto kept = tcp_reassembly::insertion::kept;
constexpr auto known = tcp_reassembly::insertion::known;
constexpr auto refused = tcp_reassembly::insertion::refused;

struct counted_holder : payload_holder {
    counted_holder() {
        release = [](payload_holder* self) noexcept {
            ++static_cast<counted_holder*>(self)->released;
        };
    }
    int released = 0;
};

std::string text_of(const std::vector<payload_piece>& pieces, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) {
        text += as_text({pieces[i].data, pieces[i].length});
    }
    return text;
}

std::string unsent(const tcp_send_queue& queue, std::uint32_t count = 1000) {
    std::vector<payload_piece> pieces(64);
    const auto part = queue.gather_unsent(count, pieces);
    return text_of(pieces, part.pieces);
}

std::string front(const tcp_send_queue& queue, std::uint32_t count = 1000,
                  std::uint32_t offset = 0) {
    std::vector<payload_piece> pieces(64);
    const auto part = queue.gather_from(offset, count, pieces);
    return text_of(pieces, part.pieces);
}

std::string taken(tcp_reassembly& list, std::uint32_t next, payload_pool& pool,
                  std::uint32_t limit = 1000) {
    const payload_slice slice = list.take(sequence(next), limit, pool);
    return std::string(as_text(slice.bytes()));
}

}  // namespace

TEST_CASE("a slice is one reference, and the last releases once") {
    counted_holder holder;
    {
        payload_slice a(as_bytes("hello"), &holder);
        payload_slice b = a.share();
        payload_slice c = std::move(a);
        REQUIRE(holder.references == 2);
        b = std::move(c);
        REQUIRE(holder.references == 1);
        REQUIRE(as_text(b.bytes()) == "hello");
    }
    REQUIRE(holder.released == 1);
    REQUIRE(holder.references == 0);
}

TEST_CASE("the send queue: cursor, acknowledgement, any part again") {
    counted_holder holder;
    payload_pool pool;
    tcp_send_queue queue;
    for (const char* text : {"abc", "defg", "hi"}) {
        REQUIRE(queue.push({as_bytes(text), &holder}, 0, pool));
    }
    REQUIRE(queue.bytes() == 9);
    REQUIRE(unsent(queue) == "abcdefghi");
    queue.advance(5);
    REQUIRE(unsent(queue) == "fghi");
    REQUIRE(unsent(queue, 3) == "fgh");
    REQUIRE(queue.unsent() == 4);
    queue.acknowledge(4, pool);
    REQUIRE(holder.references == 2);
    for (std::uint32_t offset = 0; offset < 5; ++offset) {
        for (std::uint32_t count = 0; offset + count <= 5; ++count) {
            REQUIRE(front(queue, count, offset) == std::string("efghi").substr(offset, count));
        }
    }
    REQUIRE(front(queue, 10, 5).empty());
    queue.advance(4);
    REQUIRE(queue.unsent() == 0);
    REQUIRE(queue.push({as_bytes("jk"), &holder}, 0, pool));
    REQUIRE(unsent(queue) == "jk");
    queue.acknowledge(5, pool);
    REQUIRE(unsent(queue) == "jk");
    queue.advance(2);
    queue.acknowledge(2, pool);
    REQUIRE(queue.empty());
    REQUIRE(pool.taken() == 0);
    REQUIRE(holder.released >= 1);
    REQUIRE(holder.references == 0);
}

TEST_CASE("pieces run out before bytes do") {
    counted_holder holder;
    payload_pool pool;
    tcp_send_queue queue;
    for (int i = 0; i < 5; ++i) queue.push({as_bytes("xy"), &holder}, 0, pool);
    std::vector<payload_piece> pieces(3);
    const auto part = queue.gather_unsent(100, pieces);
    REQUIRE(part.pieces == 3);
    REQUIRE(part.bytes == 6);
    queue.clear(pool);
    REQUIRE(holder.released == 1);
}

TEST_CASE("compacting frees the holder and keeps bytes and cursor") {
    for (std::uint32_t acked = 0; acked <= 6; ++acked) {
        for (std::uint32_t sent = acked; sent <= 12; ++sent) {
            counted_holder holder;
            payload_pool pool;
            tcp_send_queue queue;
            for (const char* text : {"abc", "def", "ghi", "jkl"}) {
                queue.push({as_bytes(text), &holder}, 100, pool);
            }
            queue.advance(sent);
            queue.acknowledge(acked, pool);
            queue.compact(140, 50, pool);
            REQUIRE(holder.references > 0);  // too young
            REQUIRE(queue.oldest_loose_ms() == 100);
            queue.compact(150, 50, pool);
            REQUIRE(holder.references == 0);
            REQUIRE(queue.loose() == 0);
            REQUIRE(queue.loose_bytes() == 0);
            REQUIRE(copied_payload_bytes() == 12 - acked);
            REQUIRE(front(queue) == std::string("abcdefghijkl").substr(acked));
            REQUIRE(unsent(queue) == std::string("abcdefghijkl").substr(sent));
            queue.push({as_bytes("mn"), &holder}, 160, pool);
            REQUIRE(unsent(queue) == std::string("abcdefghijklmn").substr(sent));
            queue.advance(14 - sent);
            queue.acknowledge(14 - acked, pool);
            REQUIRE(queue.empty());
            REQUIRE(pool.taken() == 0);
        }
    }
    REQUIRE(copied_payload_bytes() == 0);
}

TEST_CASE("reassembly keeps what is new and gives it in order") {
    payload_pool pool;
    tcp_reassembly list;
    REQUIRE(list.insert(sequence(110), as_bytes("klm"), pool) == kept);
    REQUIRE(list.insert(sequence(104), as_bytes("efg"), pool) == kept);
    REQUIRE(taken(list, 100, pool).empty());
    REQUIRE(list.insert(sequence(105), as_bytes("fghijkl"), pool) == kept);  // overlaps both
    REQUIRE(list.insert(sequence(106), as_bytes("ghijk"), pool) == known);
    REQUIRE(list.bytes() == 9);
    REQUIRE(list.pieces() == 3);
    std::string all;
    while (!list.empty()) all += taken(list, static_cast<std::uint32_t>(104 + all.size()), pool);
    REQUIRE(all == "efghijklm");
    REQUIRE(pool.taken() == 0);
    REQUIRE(copied_payload_bytes() == 0);
}

TEST_CASE("reassembly agrees with a map of bytes") {
    std::uint32_t state = 7;
    auto next = [&](std::uint32_t bound) {
        state = state * 1664525 + 1013904223;
        return (state >> 10) % bound;
    };
    for (int round = 0; round < 300; ++round) {
        payload_pool pool;
        tcp_reassembly list;
        const std::uint32_t zero = 0xffffffc0;  // wraps in the middle
        std::vector<bool> have(128);
        auto byte_at = [](std::uint32_t at) { return static_cast<char>('A' + at % 57); };
        for (int i = 0; i < 12; ++i) {
            const std::uint32_t at = 1 + next(100);
            std::string text;
            for (std::uint32_t k = 0; k < 1 + next(25); ++k) text += byte_at(at + k);
            REQUIRE(list.insert(sequence(zero + at), as_bytes(text), pool) != refused);
            for (std::size_t k = 0; k < text.size(); ++k) have[at + k] = true;
        }
        std::uint32_t at = 0;
        while (at < 128) {
            const std::string got = taken(list, zero + at, pool, 1 + next(9));
            if (got.empty()) {
                REQUIRE_FALSE(have[at]);
                ++at;
                continue;
            }
            for (char byte : got) {
                REQUIRE(have[at]);
                REQUIRE(byte == byte_at(at));
                ++at;
            }
        }
        REQUIRE(list.empty());
        REQUIRE(list.bytes() == 0);
        REQUIRE(pool.taken() == 0);
    }
}

TEST_CASE("every other byte costs a bounded number of pieces") {
    payload_pool pool;
    tcp_reassembly list;
    std::uint32_t refusals = 0;
    for (std::uint32_t i = 0; i < 1000; ++i) {
        if (list.insert(sequence(100 + 2 * i), as_bytes("x"), pool) == refused) ++refusals;
    }
    REQUIRE(list.pieces() == tcp_reassembly::free_pieces);
    REQUIRE(refusals == 1000 - tcp_reassembly::free_pieces);
    list.clear(pool);
    REQUIRE(pool.taken() == 0);
    // Segments of a usual size are kept as far as the window goes.
    const std::string segment(1460, 's');
    for (std::uint32_t i = 0; i < 700; ++i) {
        REQUIRE(list.insert(sequence(5000 + 1460 * i), as_bytes(segment), pool) == kept);
    }
    list.clear(pool);
}
