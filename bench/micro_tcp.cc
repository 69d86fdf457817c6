// What stands around the terminator for every frame: reading it, finding its flow, writing a
// header. The terminator itself is measured in micro_terminator.cc.
#include <benchmark/benchmark.h>

#include <algorithm>

#include <vector>

#include "tun/checksum.hh"
#include "tun/flow_table.hh"
#include "tun/frame.hh"

namespace {

using namespace burin;

tun::flow_key flow_number(std::uint32_t number) {
    tun::flow_key flow;
    flow.source = tun::flow_address::v4(0x0a000000 + number / 50000);
    flow.destination = tun::flow_address::v4(0xc0000201);
    flow.source_port = static_cast<std::uint16_t>(1024 + number % 50000);
    flow.destination_port = 443;
    return flow;
}

byte_vector data_frame(std::size_t payload) {
    tun::tcp_fields fields;
    fields.flags = tun::tcp_ack;
    tun::header_buffer header;
    tun::write_tcp_header(header, flow_number(7), fields, static_cast<std::uint32_t>(payload),
                          1460);
    byte_vector frame(header.bytes().size() + payload);
    std::copy(header.bytes().begin(), header.bytes().end(), frame.begin());
    return frame;
}

void checksum(benchmark::State& state) {
    const byte_vector bytes(static_cast<std::size_t>(state.range(0)), std::byte{0x5a});
    for (auto _ : state) benchmark::DoNotOptimize(tun::checksum_add(bytes));
    state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->Name("frame/checksum")->Arg(64)->Arg(1460)->Arg(16384)->Arg(65495);

// The frame of this machine's own kernel: its checksum is vouched for.
void parse(benchmark::State& state) {
    const byte_vector frame = data_frame(static_cast<std::size_t>(state.range(0)));
    tun::parsed_frame parsed;
    for (auto _ : state) {
        benchmark::DoNotOptimize(tun::parse_frame(frame, parsed));
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(parse)->Name("frame/parse")->Arg(64)->Arg(65000);

void write_header(benchmark::State& state) {
    const tun::flow_key flow = flow_number(7);
    tun::tcp_fields fields;
    fields.flags = tun::tcp_ack;
    tun::header_buffer header;
    for (auto _ : state) {
        fields.seq += 1460;
        tun::write_tcp_header(header, flow, fields, 64240, 1460);
        benchmark::ClobberMemory();
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(write_header)->Name("frame/write_header");

void find_flow(benchmark::State& state) {
    const auto flows = static_cast<std::uint32_t>(state.range(0));
    tun::flow_table table({1, 2}, flows);
    for (std::uint32_t i = 0; i < flows; ++i) table.insert(flow_number(i), i);
    std::uint32_t next = 0;
    for (auto _ : state) {
        benchmark::DoNotOptimize(table.find(flow_number(next)));
        next = (next + 7919) % flows;
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(find_flow)->Name("flow_table/find")->Arg(1)->Arg(1000)->Arg(100000);

void open_and_close_flow(benchmark::State& state) {
    tun::flow_table table({1, 2}, 20000);
    for (std::uint32_t i = 0; i < 10000; ++i) table.insert(flow_number(i), i);
    std::uint32_t next = 10000;
    for (auto _ : state) {
        table.insert(flow_number(next), next);
        table.erase(flow_number(next - 10000));
        ++next;
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(open_and_close_flow)->Name("flow_table/insert_erase");

}  // namespace
