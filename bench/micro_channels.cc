// Two ends of an SSH connection in one thread, without sockets: what the channel table, the windows
// and the scheduler cost on top of the cipher, by piece size and number of channels, and what an
// open channel costs in time. Names read channel/carry/PIECE/CHANNELS; rates count payload once,
// sealed and opened.
#include <benchmark/benchmark.h>

#include <vector>

#include "bench/channel_pair.hh"

namespace {

using namespace burin;
using bench::session;

constexpr std::size_t batch_bytes = 256 * 1024;  // queued for one flush

void carry(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto count = static_cast<std::size_t>(state.range(1));
    session both;
    if (!both.ready()) return state.SkipWithError("the two ends did not agree");
    std::vector<ssh::channel*> channels;
    for (std::size_t at = 0; at < count; ++at) {
        ssh::channel* opened = both.client->connection.open(*both.client, "chisel", {});
        if (opened == nullptr) return state.SkipWithError("no channel could be opened");
        channels.push_back(opened);
        both.exchange();
    }
    if (both.client->confirmed != count) return state.SkipWithError("a channel was not confirmed");
    const byte_vector payload(batch_bytes);
    std::size_t next = 0;
    std::uint64_t carried = 0;
    for (auto _ : state) {
        std::size_t queued = 0;
        // A batch for one flush, from one channel after the other.
        for (std::size_t looked_at = 0; queued + size <= batch_bytes && looked_at < 4096;
             ++looked_at) {
            ssh::channel& channel = *channels[next];
            next = next + 1 == count ? 0 : next + 1;
            if (both.client->connection.sendable(channel) < size) continue;
            both.client->connection.send(channel, {}, bytes_view(payload).subspan(queued, size));
            queued += size;
        }
        both.exchange();
        carried += queued;
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(carried));
    if (both.client->failed || both.server->failed) state.SkipWithError("the connection failed");
}
BENCHMARK(carry)
    ->Name("channel/carry")
    ->ArgsProduct({{64, 1400, 16384, 32768, 65536}, {1}})
    ->Args({1400, 100})
    ->Args({32768, 16})
    ->Args({1400, 10000});

// Open, confirm, EOF both ways, close both ways; `range` other channels stay open.
void open_and_close(benchmark::State& state) {
    session both;
    if (!both.ready()) return state.SkipWithError("the two ends did not agree");
    for (std::int64_t at = 0; at < state.range(0); ++at) {
        if (both.client->connection.open(*both.client, "chisel", {}) == nullptr)
            return state.SkipWithError("no channel could be opened");
        both.exchange();
    }
    for (auto _ : state) {
        ssh::channel* opened = both.client->connection.open(*both.client, "chisel", {});
        both.exchange();
        both.client->connection.send_eof(*opened);
        both.client->connection.close(*opened);
        both.exchange();
        both.exchange();
        both.server->receivers.pop_back();
    }
    state.SetItemsProcessed(state.iterations());
    if (both.client->failed || both.server->failed) state.SkipWithError("the connection failed");
}
BENCHMARK(open_and_close)->Name("channel/open_close")->Arg(0)->Arg(1000);

}  // namespace
