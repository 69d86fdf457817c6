// Payload in pieces: what is taken, copied out, shared and given back.
#include "core/ssh/channel.hh"

#include <random>
#include <vector>

#include "tests/catch.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::ssh {
namespace {

byte_vector all_of(const piece_list& list) {
    byte_vector out;
    for (const piece* p = list.first(); p != nullptr; p = p->next)
        out.insert(out.end(), p->data, p->data + p->size);
    return out;
}

TEST_CASE("pieces are taken from the front, in parts and across pieces", "[channel]") {
    piece_pool pool;
    piece_list list;
    const bytes_view bytes = pattern_bytes().at(1, 0, 1000);
    for (std::size_t at = 0; at < 1000; at += 100) list.push(pool.make({}, bytes.subspan(at, 100)));
    CHECK(list.bytes() == 1000);
    CHECK(pool.in_use() == 10);
    list.take(40, pool);
    CHECK(list.first()->size == 60);
    list.take_all_of(260, pool);
    CHECK(list.bytes() == 700);
    CHECK(pool.in_use() == 7);
    CHECK(all_of(list) == byte_vector(bytes.begin() + 300, bytes.end()));
    list.clear(pool);
    CHECK(pool.in_use() == 0);
    CHECK(list.empty());
    list.push(pool.make({}, bytes));
    CHECK(list.bytes() == 1000);
    list.take_all_of(5000, pool);  // more than there is: all
    CHECK(list.empty());
    CHECK(list.bytes() == 0);
}

TEST_CASE("owned pieces hold the bytes themselves and are counted exactly", "[channel]") {
    piece_pool pool;
    byte_vector there(5000, std::byte{7});
    piece* p = pool.make({}, there);
    pool.own(*p);
    pool.own(*p);  // once is enough
    there.assign(5000, std::byte{9});
    CHECK(p->data[4999] == std::byte{7});
    CHECK(pool.owned_bytes() == 5000);
    CHECK(pool.copied_out() == 5000);
    piece_list list;
    list.push(p);
    list.take(1234, pool);
    CHECK(pool.owned_bytes() == 5000 - 1234);
    list.clear(pool);
    CHECK(pool.owned_bytes() == 0);
}

// A peer that sends single bytes to a flow that stalls must not cost a piece and a block a byte.
TEST_CASE("small pieces share memory when they are copied out", "[channel]") {
    piece_pool pool;
    piece_list list;
    constexpr std::size_t total = 300'000;
    std::uint32_t most = 0;
    byte_vector one(1);
    for (std::size_t at = 0; at < total; ++at) {
        one[0] = pattern_bytes().at(3, at, 1)[0];
        list.push(pool.make({}, one));
        list.own(pool);
        most = std::max(most, pool.in_use());
    }
    CHECK(pool.owned_bytes() == total);
    CHECK(most < 80);
    CHECK(is_prefix(all_of(list), 3));
    list.clear(pool);
    CHECK(pool.owned_bytes() == 0);
    CHECK(pool.in_use() == 0);
}

TEST_CASE("bytes with memory of their own stay where they are", "[channel]") {
    piece_pool pool;
    piece_list list;
    // The kernel may be reading them.
    std::vector<std::pair<const std::byte*, std::byte>> places;
    byte_vector one(1);
    for (int round = 0; round < 2000; ++round) {
        one[0] = static_cast<std::byte>(round);
        list.push(pool.make({}, one));
        list.own(pool);
        const piece* last = list.first();
        while (last->next != nullptr) last = last->next;
        places.emplace_back(last->data + last->size - 1, one[0]);
    }
    for (auto [at, value] : places) REQUIRE(*at == value);
    list.clear(pool);
}

TEST_CASE("pieces in any order of pushing, copying and taking give the same bytes", "[channel]") {
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    piece_pool pool;
    piece_list list;
    std::size_t produced = 0, taken = 0;
    std::vector<byte_vector> memory;  // of pieces not copied out yet
    for (int step = 0; step < 20'000; ++step) {
        switch (random() % 4) {
            case 0:
            case 1: {
                const std::size_t size = 1 + random() % (random() % 3 == 0 ? 5000 : 8);
                const bytes_view bytes = pattern_bytes().at(5, produced, size);
                memory.emplace_back(bytes.begin(), bytes.end());
                list.push(pool.make({}, memory.back()));
                produced += size;
                break;
            }
            case 2:
                list.own(pool);
                memory.clear();  // whatever still pointed there would be found out
                break;
            default: {
                const std::size_t size = random() % (produced - taken + 1);
                list.take_all_of(size, pool);
                taken += size;
            }
        }
        REQUIRE(list.bytes() == produced - taken);
    }
    byte_vector left = all_of(list);
    REQUIRE(left.size() == produced - taken);
    for (std::size_t at = 0; at < left.size(); ++at)
        REQUIRE(left[at] == pattern_bytes().at(5, taken + at, 1)[0]);
    list.clear(pool);
    CHECK(pool.in_use() == 0);
    CHECK(pool.owned_bytes() == 0);
}

TEST_CASE("a channel leaves its lists from anywhere", "[channel]") {
    std::vector<channel> channels(5);
    channel_list<&channel::ready> ready;
    channel_list<&channel::waiting> waiting;
    for (channel& c : channels) {
        ready.push(c);
        waiting.push(c);
    }
    auto order = [&] {
        std::vector<std::ptrdiff_t> out;
        for (channel* c = ready.first(); c != nullptr; c = ready.after(*c))
            out.push_back(c - channels.data());
        return out;
    };
    ready.remove(channels[2]);
    CHECK(order() == std::vector<std::ptrdiff_t>{0, 1, 3, 4});
    CHECK_FALSE(ready.holds(channels[2]));
    CHECK(waiting.holds(channels[2]));
    ready.remove(channels[4]);
    ready.push(channels[2]);
    ready.remove(channels[0]);
    ready.remove(channels[0]);  // not in it: nothing
    CHECK(order() == std::vector<std::ptrdiff_t>{1, 3, 2});
    for (int at : {1, 2, 3}) ready.remove(channels[static_cast<std::size_t>(at)]);
    CHECK(ready.empty());
    ready.push(channels[0]);
    CHECK(order() == std::vector<std::ptrdiff_t>{0});
    ready.remove(channels[0]);
    while (!waiting.empty()) waiting.remove(*waiting.first());
}

static_assert(sizeof(channel) <= 160);
static_assert(sizeof(piece) <= 64);

}  // namespace
}  // namespace burin::ssh
