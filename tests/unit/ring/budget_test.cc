#include "ring/budget.hh"

#include <cstring>
#include <random>
#include <vector>

#include "ring/memory_pool.hh"
#include "tests/catch.hh"
#include "tests/unit/ring/resident.hh"

using namespace burin::ring;

TEST_CASE("every channel up to the limit gets a window, and the sum stays within the budget",
          "[budget]") {
    budget b(256u << 20, 10'000);
    std::uint64_t sum = 0;
    std::vector<std::uint32_t> windows;
    for (int i = 0; i < 10'000; ++i) {
        std::uint32_t w = b.open(4u << 20);
        REQUIRE(w >= budget::base_bytes);
        windows.push_back(w);
        sum += w;
    }
    REQUIRE(b.open(4u << 20) == 0);
    REQUIRE(sum <= b.total());
    for (auto w : windows) b.close(w);
    REQUIRE(b.open_channels() == 0);
}

TEST_CASE("growth and closing keep the account", "[budget]") {
    unsigned seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937 random(seed);
    budget b(64u << 20, 1000);
    std::uint64_t at_start = b.growth_left();
    std::vector<std::uint32_t> windows;
    for (int i = 0; i < 20000; ++i) {
        switch (random() % 3) {
            case 0:
                if (auto w = b.open(1u << 20)) windows.push_back(w);
                break;
            case 1:
                if (!windows.empty()) windows[random() % windows.size()] += b.grow(1u << 20);
                break;
            default:
                if (!windows.empty()) {
                    std::size_t at = random() % windows.size();
                    b.close(windows[at]);
                    windows.erase(windows.begin() + static_cast<std::ptrdiff_t>(at));
                }
        }
        std::uint64_t sum = 0;
        for (auto w : windows) sum += w;
        REQUIRE(sum + (b.channel_limit() - windows.size()) * budget::base_bytes + b.growth_left() ==
                b.total());
    }
    for (auto w : windows) b.close(w);
    REQUIRE(b.growth_left() == at_start);
}

TEST_CASE("a small budget holds fewer channels, not smaller windows", "[budget]") {
    budget b(1u << 20, 10'000);
    REQUIRE(b.channel_limit() == 48);
    REQUIRE(b.open(4u << 20) >= budget::base_bytes);
}

TEST_CASE("what is held already is charged as far as there is anything", "[budget]") {
    budget b(1u << 20, 10'000);
    const std::uint64_t all = b.growth_left();
    REQUIRE(b.hold(1000) == 1000);
    REQUIRE(b.growth_left() == all - 1000);
    const std::uint32_t rest = b.hold(4u << 20);
    REQUIRE(rest == all - 1000);
    REQUIRE(b.hold(1) == 0);
    b.shrink(rest);
    b.shrink(1000);
    REQUIRE(b.growth_left() == all);
}

TEST_CASE("a pool gives what it was given last, up to its limit", "[pool]") {
    const page_size pages = GENERATE(page_size::huge, page_size::small);
    memory_pool pool(1000, 4, 10, pages);
    std::vector<std::byte*> taken;
    while (std::byte* piece = pool.take()) taken.push_back(piece);
    REQUIRE(taken.size() == 10);
    REQUIRE(pool.in_use() == 10);
    for (auto* p : taken) p[999] = std::byte{1};
    pool.give_back(taken[3]);
    pool.give_back(taken[7]);
    REQUIRE(pool.take() == taken[7]);
    REQUIRE(pool.take() == taken[3]);
    REQUIRE(pool.take() == nullptr);
}

TEST_CASE("a pool's chunk has as many pieces as its huge pages hold", "[pool]") {
    memory_pool pool(528 * 1024, 4, 100);  // 2112 KiB: two huge pages, which hold seven
    REQUIRE(pool.take() != nullptr);
    REQUIRE(pool.made() == 7);
}

TEST_CASE("unused chunks of a pool give their memory back, used ones keep every byte", "[pool]") {
    constexpr std::size_t bytes = 1u << 20;
    memory_pool pool(bytes, 2, 8);
    std::vector<std::byte*> taken;
    while (std::byte* piece = pool.take()) taken.push_back(piece);
    REQUIRE(taken.size() == 8);
    for (std::size_t i = 0; i < taken.size(); ++i)
        std::memset(taken[i], static_cast<int>(i + 1), bytes);
    std::byte* kept = taken[3];
    for (std::byte* piece : taken)
        if (piece != kept) pool.give_back(piece);
    pool.trim();
    // The kept piece's chunk has two: its neighbour's memory stays as well.
    std::size_t resident = 0;
    for (std::byte* piece : taken) resident += resident_pages(piece, bytes);
    REQUIRE(resident == 2 * bytes / 4096);
    for (std::size_t i = 0; i < bytes; ++i) REQUIRE_FALSE(kept[i] != std::byte{4});
    // What has memory is used first, the rest comes back empty.
    REQUIRE(resident_pages(taken[2], bytes) + resident_pages(taken[3], bytes) == resident);
    REQUIRE(pool.take() == taken[2]);
    pool.trim();
    std::size_t again = 0;
    while (std::byte* piece = pool.take()) {
        REQUIRE(*piece == std::byte{0});
        std::memset(piece, 9, bytes);
        ++again;
    }
    REQUIRE(again == 6);
    pool.give_back(kept);
    REQUIRE(pool.in_use() == 7);
    // Used again since it was trimmed, and trimmed again.
    for (std::byte* piece : taken)
        if (piece != kept) pool.give_back(piece);
    pool.trim();
    REQUIRE(pool.resident_bytes() == 0);
    for (std::byte* piece : taken) REQUIRE(resident_pages(piece, bytes) == 0);
}
