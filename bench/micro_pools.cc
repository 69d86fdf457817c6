// Pools and timers that the data path asks for every packet: what one take and give back, one
// timer or one window costs, with few and with many in use.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "core/ssh/channel.hh"
#include "ring/budget.hh"
#include "ring/memory_pool.hh"
#include "ring/timer_wheel.hh"
#include "tun/payload_pool.hh"

namespace {

using namespace burin;

// `range` pieces are taken and given back, as a turn does with its blocks.
void memory_pool(benchmark::State& state) {
    const auto count = static_cast<std::uint32_t>(state.range(0));
    ring::memory_pool pool(64 * 1024, 4, count);
    std::vector<std::byte*> taken(count);
    for (auto _ : state) {
        for (auto& piece : taken) piece = pool.take();
        benchmark::DoNotOptimize(taken.data());
        for (std::byte* piece : taken) pool.give_back(piece);
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(memory_pool)->Name("pool/memory")->Arg(1)->Arg(32);

void pieces(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    ssh::piece_pool pool;
    ssh::piece_list list;
    const byte_vector bytes(1400);
    for (auto _ : state) {
        for (std::size_t at = 0; at < count; ++at) list.push(pool.make({}, bytes));
        list.take_all_of(count * bytes.size(), pool);
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(pieces)->Name("pool/pieces")->Arg(1)->Arg(64);

// Out of the receive buffer into memory of exact size, as for a flow that stalls.
void own_piece(benchmark::State& state) {
    ssh::piece_pool pool;
    const byte_vector bytes(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) {
        ssh::piece* piece = pool.make({}, bytes);
        pool.own(*piece);
        benchmark::DoNotOptimize(piece->data);
        pool.drop(piece);
    }
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(own_piece)->Name("pool/own")->Arg(64)->Arg(1400)->Arg(32768)->Arg(65536);

void payload_nodes(benchmark::State& state) {
    tun::payload_pool pool;
    std::vector<tun::payload_node*> taken(static_cast<std::size_t>(state.range(0)));
    for (auto _ : state) {
        for (auto& node : taken) node = pool.take();
        benchmark::DoNotOptimize(taken.data());
        for (tun::payload_node* node : taken) pool.give(node);
    }
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(payload_nodes)->Name("pool/payload_nodes")->Arg(1)->Arg(64);

// A retransmission timer is moved with every acknowledgement, while `range` others are armed.
void timer_moves(benchmark::State& state) {
    ring::timer_wheel wheel(0);
    std::vector<std::unique_ptr<ring::timer>> others;
    std::mt19937_64 random(1);
    for (std::int64_t at = 0; at < state.range(0); ++at) {
        others.push_back(
            std::make_unique<ring::timer>(nullptr, [](void*, ring::microseconds_t) noexcept {}));
        wheel.arm(*others.back(), 10'000'000 + random() % 50'000'000);
    }
    ring::timer moved(nullptr, [](void*, ring::microseconds_t) noexcept {});
    ring::microseconds_t now = 0;
    for (auto _ : state) {
        wheel.arm(moved, now + 200'000);
        now = (now + 1) % 1'000'000;
    }
    moved.disarm();
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(timer_moves)->Name("timer/move")->Arg(0)->Arg(10000);

// A whole turn's question: does anything fire now?
void timer_turn(benchmark::State& state) {
    ring::timer_wheel wheel(0);
    ring::timer far(nullptr, [](void*, ring::microseconds_t) noexcept {});
    wheel.arm(far, std::uint64_t{1} << 40);
    ring::microseconds_t now = 0;
    for (auto _ : state) {
        wheel.advance(now += 50);
        benchmark::DoNotOptimize(wheel.next());
    }
}
BENCHMARK(timer_turn)->Name("timer/turn");

void window_budget(benchmark::State& state) {
    ring::budget budget(std::uint64_t{256} << 20, 10'000);
    for (auto _ : state) {
        std::uint32_t window = budget.open(2u << 20);
        window += budget.grow(1u << 20);
        benchmark::DoNotOptimize(window);
        benchmark::ClobberMemory();
        budget.close(window);
    }
}
BENCHMARK(window_budget)->Name("budget/open_grow_close");

}  // namespace
