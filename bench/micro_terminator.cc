// The TCP terminator without a device: frames of a host in, payload out (up), and payload in,
// superframes out (down), acknowledgements included. Payload itself is not copied here, as it is
// not on the hot path; what stands around it is in micro_tcp.cc. Names read terminator/WAY/PIECE;
// rates count payload.
#include <benchmark/benchmark.h>

#include <algorithm>

#include "bench/open_flow.hh"

namespace {

using namespace burin;
using namespace bench;

constexpr unsigned frames_per_turn = 8;

void up(benchmark::State& state) {
    const auto size = static_cast<std::uint32_t>(state.range(0));
    open_flow one;
    if (!one.open()) return state.SkipWithError("the flow did not open");
    tun::tcp_fields fields = one.ack_fields;
    byte_vector frame = host_frame(fields, size);
    // The window of a SYN-ACK is confined to 16 bits (RFC 7323 section 2.2); the first ACK shows
    // all of it.
    one.take(host_frame(fields, mss));
    one.context.flush(one.now += 100);
    std::uint32_t next = host_sequence + 1 + mss;
    unsigned in_turn = 0;
    for (auto _ : state) {
        store_u32(frame.data() + sequence_at, next);
        next += size;
        one.take(frame);
        if (++in_turn == frames_per_turn) {
            in_turn = 0;
            one.context.flush(one.now += 100);
        }
    }
    if (one.events.delivered != static_cast<std::uint64_t>(state.iterations()) * size + mss)
        state.SkipWithError("bytes were not delivered");
    state.SetBytesProcessed(static_cast<std::int64_t>(one.events.delivered));
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(up)->Name("terminator/up")->Arg(64)->Arg(1460)->Arg(16384)->Arg(64000);

void down(benchmark::State& state) {
    const auto size = static_cast<std::uint32_t>(state.range(0));
    const std::uint32_t pieces = std::max(1u, 256u * 1024 / std::max(size, 4096u));
    const byte_vector payload(size);
    open_flow one;
    if (!one.open()) return state.SkipWithError("the flow did not open");
    tun::tcp_flow& flow = *one.flow[0];
    for (auto _ : state) {
        for (std::uint32_t piece = 0; piece < pieces; ++piece)
            flow.send(tun::payload_slice(payload, nullptr), one.now);
        // The host acknowledges what each turn brought, until all is there.
        for (int turn = 0; flow.unacknowledged() > 0 && turn < 1000; ++turn) {
            one.context.flush(one.now += 100);
            one.acknowledge(one.events.said);
        }
    }
    if (one.events.over || flow.unacknowledged() > 0)
        state.SkipWithError("the host did not get everything");
    state.SetBytesProcessed(static_cast<std::int64_t>(one.events.acknowledged));
    state.counters["bytes_per_frame"] =
        static_cast<double>(one.events.acknowledged) /
        static_cast<double>(std::max<std::uint64_t>(1, one.events.frames));
}
BENCHMARK(down)->Name("terminator/down")->Arg(64)->Arg(1400)->Arg(16384)->Arg(32768)->Arg(65536);

}  // namespace
