#include "bench/lan_link_path.hh"

#include <cmath>
#include <cstdlib>
#include <random>
#include <set>
#include <string>

#include "tests/catch.hh"

using namespace lan;

namespace {

using bytes = std::vector<std::uint8_t>;

// An IPv4 UDP frame that carries its number.
bytes frame(std::uint32_t number, std::size_t size = 1000) {
    bytes made(size);
    made[12] = 0x08;
    made[23] = 17;
    std::memcpy(made.data() + 30, &number, sizeof number);
    return made;
}

std::uint32_t number_of(std::span<const std::uint8_t> made) {
    std::uint32_t number = 0;
    std::memcpy(&number, made.data() + 30, sizeof number);
    return number;
}

struct arrival {
    nanoseconds at;
    std::uint32_t number;
    friend bool operator==(const arrival&, const arrival&) = default;
};

// Lets everything out, each at its time.
std::vector<arrival> drain(path& way) {
    std::vector<arrival> out;
    while (way.next() != never) {
        const nanoseconds at = way.next();
        const auto made = way.leave(at);
        if (!made) FAIL("a frame that was due did not leave");
        out.push_back({at, number_of(*made)});
    }
    return out;
}

std::vector<arrival> send(path& way, std::uint32_t count, nanoseconds spacing) {
    for (std::uint32_t i = 0; i < count; ++i) way.enter(i * spacing, frame(i));
    return drain(way);
}

std::vector<std::uint32_t> numbers(const std::vector<arrival>& all) {
    std::vector<std::uint32_t> out;
    for (const arrival& one : all) out.push_back(one.number);
    return out;
}

std::uint64_t any_seed() {
    const std::uint64_t seed = std::random_device{}();
    WARN("seed " << seed);
    return seed;
}

}  // namespace

TEST_CASE("a link without faults delays, and nothing else", "[lan]") {
    path way({.delay = 10 * millisecond}, 1, 0);
    way.enter(5, frame(7, 60));
    CHECK(way.next() == 10 * millisecond + 5);
    CHECK_FALSE(way.leave(10 * millisecond + 4));
    const auto out = way.leave(10 * millisecond + 105);
    REQUIRE(out);
    CHECK(bytes(out->begin(), out->end()) == frame(7, 60));
    CHECK(way.next() == never);
    CHECK(std::abs(way.late.most_us() - 0.1) < 1e-9);

    const auto all = send(way, 1000, 100);
    REQUIRE(all.size() == 1000);
    for (std::uint32_t i = 0; i < 1000; ++i) {
        CHECK(all[i].number == i);
        CHECK(all[i].at == i * 100 + 10 * millisecond);
    }
    CHECK(way.counters.frames == 1001);
    CHECK(way.counters.passed == 1001);
}

TEST_CASE("a seed decides the fate of each frame, its timing does not", "[lan]") {
    const path_settings harsh{.delay = millisecond,
                              .loss = 0.05,
                              .burst = 3,
                              .reorder = 0.05,
                              .reorder_delay = 300,
                              .duplicate = 0.02};
    const std::uint64_t seed = any_seed();
    path one(harsh, seed, 0), again(harsh, seed, 0), slower(harsh, seed, 0);
    path other(harsh, seed + 1, 0), back(harsh, seed, 1);
    const auto first = send(one, 5000, 100);
    CHECK(send(again, 5000, 100) == first);
    auto sorted = [](std::vector<arrival> all) {
        auto out = numbers(all);
        std::sort(out.begin(), out.end());
        return out;
    };
    CHECK(sorted(send(slower, 5000, 77'000)) == sorted(first));
    CHECK(sorted(send(other, 5000, 100)) != sorted(first));
    CHECK(sorted(send(back, 5000, 100)) != sorted(first));
    // Again from the start, and with another seed as that seed's own.
    one.restart(seed);
    CHECK(send(one, 5000, 100) == first);
    CHECK(one.counters.frames == 5000);
    one.restart(seed + 1);
    other.restart(seed + 1);
    CHECK(send(one, 5000, 100) == send(other, 5000, 100));
}

TEST_CASE("what finds neighbours is spared and shifts no fate", "[lan]") {
    const path_settings lossy{.loss = 0.3};
    path plain(lossy, 5, 0), noisy(lossy, 5, 0);
    bytes arp(42), advertisement(86), listener(90), echo(98);
    arp[12] = 0x08, arp[13] = 0x06;
    advertisement[12] = 0x86, advertisement[13] = 0xdd, advertisement[20] = 58;
    advertisement[54] = 136;
    listener[12] = 0x86, listener[13] = 0xdd;
    echo[12] = 0x86, echo[13] = 0xdd, echo[20] = 58, echo[54] = 128;
    CHECK(finds_neighbours(arp));
    CHECK(finds_neighbours(advertisement));
    CHECK(finds_neighbours(listener));
    CHECK_FALSE(finds_neighbours(echo));
    CHECK_FALSE(finds_neighbours(frame(1)));
    std::vector<std::uint32_t> passed;
    for (std::uint32_t i = 0; i < 500; ++i) {
        if (i % 3 == 0) {
            noisy.enter(i, arp);
            REQUIRE(noisy.leave(i));
        }
        noisy.enter(i, frame(i));
        if (auto out = noisy.leave(i)) passed.push_back(number_of(*out));
    }
    CHECK(passed == numbers(send(plain, 500, 1)));
    CHECK(noisy.counters.exempt == 167);
    CHECK(noisy.counters.frames == 500);
}

TEST_CASE("shares are what was asked for, and losses come in runs", "[lan]") {
    const std::uint64_t seed = any_seed();
    constexpr std::uint32_t count = 200'000;
    const double burst = GENERATE(1.0, 4.0);
    path way({.loss = 0.02, .burst = burst, .duplicate = 0.01, .most_frames = 2 * count}, seed, 0);
    const auto all = send(way, count, 1);
    // Standard deviations: of the loss 63 frames (about 160 in runs of four), of the doubles 44.
    CHECK(std::abs(static_cast<double>(way.counters.lost) - 4000) < 1000);
    CHECK(std::abs(static_cast<double>(way.counters.doubled) - 1960) < 300);
    CHECK(all.size() == count - way.counters.lost + way.counters.doubled);
    std::vector<bool> arrived(count);
    for (const arrival& one : all) arrived[one.number] = true;
    std::uint32_t runs = 0;
    for (std::uint32_t i = 0; i < count; ++i)
        if (!arrived[i] && (i == 0 || arrived[i - 1])) ++runs;
    CHECK(std::abs(static_cast<double>(way.counters.lost) / runs / burst - 1) < 0.15);
}

TEST_CASE("reordered frames are late, and others pass them", "[lan]") {
    path way({.delay = millisecond, .reorder = 0.1, .reorder_delay = 100 * microsecond}, 9, 0);
    const auto all = send(way, 10'000, 10 * microsecond);
    REQUIRE(all.size() == 10'000);
    std::uint32_t late = 0, passed_by = 0, highest = 0;
    for (const arrival& one : all) {
        const nanoseconds usual = one.number * 10 * microsecond + millisecond;
        CHECK(one.at >= usual);
        CHECK(one.at <= usual + 100 * microsecond);
        if (one.at > usual) ++late;
        if (one.number < highest) ++passed_by;
        highest = std::max(highest, one.number);
    }
    CHECK(late == way.counters.reordered);
    CHECK(late > 800);
    CHECK(late < 1200);
    CHECK(passed_by > late / 2);
}

TEST_CASE("a rate spaces frames, and a full queue drops them", "[lan]") {
    // 1000 bytes take a millisecond; four wait beside the one that is being sent.
    path way({.delay = 5 * millisecond, .bits_per_second = 8'000'000, .queue_bytes = 5000}, 1, 0);
    const auto all = send(way, 10, 0);
    REQUIRE(all.size() == 5);
    for (std::uint32_t i = 0; i < 5; ++i) {
        CHECK(all[i].number == i);
        CHECK(all[i].at == (i + 1) * millisecond + 5 * millisecond);
    }
    CHECK(way.counters.queue_drops == 5);
    // What has been sent makes room.
    way.enter(3 * millisecond, frame(10));
    CHECK(way.next() == 6 * millisecond + 5 * millisecond);
    // At the rate itself nothing waits and nothing is dropped.
    path even({.bits_per_second = 8'000'000, .queue_bytes = 1000}, 1, 0);
    CHECK(send(even, 1000, millisecond).size() == 1000);
    CHECK(even.counters.queue_drops == 0);
}

TEST_CASE("a lost frame has used the rate, and memory is bounded", "[lan]") {
    path way({.loss = 0.5, .bits_per_second = 8'000'000, .queue_bytes = 1 << 20}, 3, 0);
    const auto all = send(way, 100, 0);
    REQUIRE(all.size() == 100 - way.counters.lost);
    CHECK(way.counters.lost > 20);
    for (const arrival& one : all) CHECK(one.at == (one.number + 1) * millisecond);
    path small({.delay = millisecond, .most_frames = 8}, 1, 0);
    CHECK(send(small, 20, 1).size() == 8);
    CHECK(small.counters.overruns == 12);
    CHECK(small.counters.held_most == 8);
}
