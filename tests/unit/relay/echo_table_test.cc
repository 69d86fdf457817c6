#include "core/relay/echo_table.hh"

#include <map>
#include <random>
#include <set>
#include <vector>

#include "tests/catch.hh"

using namespace burin::relay;
using table = echo_table<int>;

TEST_CASE("echo table: an entry is found by its number until it is removed") {
    table t(16);
    table::line a, b;
    const auto first = t.add(a, 10, 1), second = t.add(b, 20, 2);
    REQUIRE(first);
    REQUIRE(second);
    CHECK(*t.find(*first) == 1);
    CHECK(*t.find(*second) == 2);
    CHECK(t.size() == 2);
    CHECK(t.oldest(a) == *first);
    CHECK(t.oldest_since(b) == 20);
    t.remove(a, *first);
    CHECK(t.find(*first) == nullptr);
    CHECK(a.empty());
    CHECK(*t.find(*second) == 2);
    for (const std::uint32_t nobody : {*second + (1u << table::place_bits), 15u, ~0u})
        CHECK(t.find(nobody) == nullptr);
}

TEST_CASE("echo table: so many, and no more") {
    for (const std::uint32_t most : {1u, 5u, 300u, 1000u, 100'000u}) {
        const std::uint32_t all = std::min(most, table::most_places);
        table t(most);
        table::line l;
        std::set<std::uint32_t> numbers;
        for (std::uint32_t i = 0; i < all; ++i) {
            const auto number = t.add(l, i, 0);
            REQUIRE(number);
            numbers.insert(*number);
        }
        CHECK(numbers.size() == all);
        CHECK_FALSE(t.add(l, all, 0));
        t.remove(l, t.oldest(l));
        CHECK(t.add(l, all, 0));
        CHECK_FALSE(t.add(l, all, 0));
        CHECK(l.size() == all);
    }
}

TEST_CASE("echo table: places rest, and their numbers come back late") {
    table t(table::most_places);
    table::line l;
    // One at a time, as one patient ping does it: of 16 bits, as they are on the wire, none comes
    // again within 4096.
    std::map<std::uint32_t, int> seen;
    for (int i = 0; i < 20'000; ++i) {
        const auto number = t.add(l, 0, i);
        REQUIRE(number);
        const std::uint32_t wire = *number & 0xffff;
        REQUIRE(t.find(wire, 0xffff) != nullptr);
        if (seen.count(wire) > 0) REQUIRE(i - seen[wire] >= 4096);
        seen[wire] = i;
        t.remove(l, *number);
        REQUIRE(t.find(*number) == nullptr);
        REQUIRE(t.find(wire, 0xffff) == nullptr);
    }
}

TEST_CASE("echo table: lines keep their order whatever leaves from where") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    table t(700);
    table::line lines[3];
    std::vector<std::pair<std::uint32_t, int>> model[3];
    int next = 0;
    for (int round = 0; round < 50'000; ++round) {
        const unsigned who = random() % 3;
        auto& mine = model[who];
        if (random() % 100 < (round / 5000 % 2 == 0 ? 60u : 40u)) {
            const auto number = t.add(lines[who], static_cast<unsigned>(round), next);
            REQUIRE(number.has_value() ==
                    (model[0].size() + model[1].size() + model[2].size() < 700));
            if (number) mine.emplace_back(*number, next++);
        } else if (!mine.empty()) {
            const std::size_t at = random() % 3 == 0 ? 0 : random() % mine.size();
            REQUIRE(*t.find(mine[at].first) == mine[at].second);
            t.remove(lines[who], mine[at].first);
            REQUIRE(t.find(mine[at].first) == nullptr);
            mine.erase(mine.begin() + static_cast<std::ptrdiff_t>(at));
        }
        REQUIRE(lines[who].size() == mine.size());
        if (!mine.empty()) REQUIRE(t.oldest(lines[who]) == mine.front().first);
    }
    for (unsigned who = 0; who < 3; ++who)
        for (const auto& [number, value] : model[who]) {
            REQUIRE(t.oldest(lines[who]) == number);
            REQUIRE(*t.find(number) == value);
            t.remove(lines[who], number);
        }
    CHECK(t.size() == 0);
}
