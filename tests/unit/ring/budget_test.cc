#include "ring/budget.hh"

#include <random>
#include <vector>

#include "ring/memory_pool.hh"
#include "tests/catch.hh"

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
