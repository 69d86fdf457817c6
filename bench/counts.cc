// bench_counts: the hot loops with a fixed amount of work each, for bench/counts to count their
// instructions under callgrind. Alone it only runs them, and fails when a loop did not do its work.
//
//   bench_counts          runs all of them; prints "NAME WORK UNIT" of each, in order
//   bench_counts --key    prints what a baseline depends on: compiler, C library, processor family
//
// callgrind counts inside measured(), and writes what it has counted when loop_ends() is left:
// whatever a loop needs before and between stays out. Names and amounts of work are the baseline's
// (bench/counts.json): whoever changes a loop accepts a new one. Every input is fixed: no clock, no
// random numbers in what is counted (the handshake of the channels' loops has some, before).
#include <gnu/libc-version.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string_view>
#include <vector>

#include "bench/channel_pair.hh"
#include "bench/open_flow.hh"
#include "core/http/websocket.hh"
#include "core/ssh/transport_packets.hh"
#include "ring/memory_pool.hh"
#include "ring/timer_wheel.hh"
#include "tun/checksum.hh"
#include "tun/flow_table.hh"
#include "tun/payload_pool.hh"

// What callgrind is told by name.
namespace counts {

template <class F>
[[gnu::noinline]] void measured(F&& work) {
    work();
    asm volatile("" ::: "memory");  // a real call, and a real return
}
[[gnu::noinline]] void loop_ends() {
    asm volatile("" ::: "memory");
}

}  // namespace counts

namespace {

using namespace burin;
using counts::measured;

constexpr std::size_t batch_bytes = 256 * 1024;

void require(bool right, const char* what) {
    if (right) return;
    std::fprintf(stderr, "bench_counts: %s\n", what);
    std::exit(1);
}

void ends(const char* name, std::uint64_t work, const char* unit) {
    counts::loop_ends();
    std::printf("%s %llu %s\n", name, static_cast<unsigned long long>(work), unit);
}

// ---- tun/ ----

void terminator_up(const char* name, std::uint32_t size, unsigned frames) {
    bench::open_flow one;
    require(one.open(), "the flow did not open");
    byte_vector frame = bench::host_frame(one.ack_fields, size);
    one.take(bench::host_frame(one.ack_fields, bench::mss));  // shows all of the window
    one.context.flush(one.now += 100);
    std::uint32_t next = bench::host_sequence + 1 + bench::mss;
    measured([&] {
        for (unsigned at = 0; at < frames; ++at) {
            store_u32(frame.data() + bench::sequence_at, next);
            next += size;
            one.take(frame);
            if (at % 8 == 7) one.context.flush(one.now += 100);
        }
    });
    require(one.events.delivered == std::uint64_t{size} * frames + bench::mss,
            "the terminator did not deliver everything");
    ends(name, frames, "frame");
}

void terminator_down(const char* name, std::uint32_t size, unsigned rounds) {
    const std::uint32_t pieces = std::max(1u, 256u * 1024 / std::max(size, 4096u));
    const byte_vector payload(size);
    bench::open_flow one;
    require(one.open(), "the flow did not open");
    tun::tcp_flow& flow = *one.flow[0];
    const auto round = [&] {
        for (std::uint32_t piece = 0; piece < pieces; ++piece)
            flow.send(tun::payload_slice(payload, nullptr), one.now);
        for (int turn = 0; flow.unacknowledged() > 0 && turn < 1000; ++turn) {
            one.context.flush(one.now += 100);
            one.acknowledge(one.events.said);
        }
    };
    for (int warm = 0; warm < 50; ++warm) round();  // out of slow start
    measured([&] {
        for (unsigned at = 0; at < rounds; ++at) round();
    });
    require(flow.unacknowledged() == 0 && !one.events.over, "the host did not get everything");
    ends(name, std::uint64_t{rounds} * pieces, "piece");
}

tun::flow_key flow_number(std::uint32_t number) {
    tun::flow_key flow = bench::host_to_server();
    flow.source = tun::flow_address::v4(0x0a000000 + number / 50000);
    flow.source_port = static_cast<std::uint16_t>(1024 + number % 50000);
    return flow;
}

void flow_table() {
    constexpr std::uint32_t flows = 1000, turns = 10'000;
    tun::flow_table table({1, 2}, 2 * flows);
    for (std::uint32_t at = 0; at < flows; ++at) table.insert(flow_number(at), at);
    std::uint64_t found = 0;
    measured([&] {
        for (std::uint32_t at = 0; at < turns; ++at)
            found += table.find(flow_number(at * 7 % flows)) == at * 7 % flows;
    });
    require(found == turns, "a flow was not found");
    ends("flow_table/find", turns, "look-up");
    measured([&] {
        for (std::uint32_t at = flows; at < flows + turns; ++at) {
            table.insert(flow_number(at), at);
            table.erase(flow_number(at - flows));
        }
    });
    require(table.size() == flows, "the flow table lost count");
    ends("flow_table/insert_erase", turns, "flow");
}

void frames() {
    constexpr unsigned turns = 5000;
    tun::tcp_fields fields;
    fields.flags = tun::tcp_ack;
    const byte_vector large = bench::host_frame(fields, 65'000);
    tun::parsed_frame parsed;
    unsigned read = 0;
    measured([&] {
        for (unsigned at = 0; at < turns; ++at)
            read += tun::parse_frame(large, parsed) == tun::frame_kind::tcp;
    });
    require(read == turns, "a frame was not read");
    ends("frame/parse", turns, "frame");
    const tun::flow_key flow = flow_number(7);
    tun::header_buffer header;
    measured([&] {
        for (unsigned at = 0; at < turns; ++at) {
            fields.seq += 1460;
            tun::write_tcp_header(header, flow, fields, 64'240, 1460);
        }
    });
    ends("frame/write_header", turns, "frame");
    const byte_vector segment(1460, std::byte{0x5a});
    std::uint64_t sum = 0;
    measured([&] {
        for (unsigned at = 0; at < turns; ++at)
            sum += tun::checksum_fold(tun::checksum_add(segment));
    });
    require(sum != 0, "no checksum");
    ends("frame/checksum", turns, "segment");
}

// ---- core/ssh ----

// `count` channels queue pieces of `size` for each flush: out is what the sender's connection and
// packets do (the scheduler with it), in what the receiver's do.
void channels(std::string_view what, std::uint32_t size, std::uint32_t count, unsigned flushes) {
    // Windows grow by the clock: these have all that they may have.
    ssh::connection_limits limits;
    limits.window_max = 1 << 20;
    bench::session both(limits);
    require(both.ready(), "the two ends did not agree");
    bench::end &client = *both.client, &server = *both.server;
    std::vector<ssh::channel*> open;
    for (std::uint32_t at = 0; at < count; ++at) {
        open.push_back(client.connection.open(client, "chisel", {}));
        require(open.back() != nullptr, "no channel could be opened");
        both.exchange();
    }
    require(client.confirmed == count, "a channel was not confirmed");
    const byte_vector payload(size);
    std::size_t next = 0;
    std::uint64_t carried = 0, before = server.transport.counters().bytes_received;
    const std::uint64_t pieces = batch_bytes / size;
    const auto queue = [&] {
        for (std::uint64_t at = 0; at < pieces; ++at) {
            ssh::channel& c = *open[next];
            next = next + 1 == count ? 0 : next + 1;
            if (client.connection.sendable(c) < size) continue;
            client.connection.send(c, {}, payload);
            carried += size;
        }
    };
    const auto carry = [&](auto&& out, auto&& in) {
        for (unsigned at = 0; at < flushes; ++at) {
            out([&] {
                queue();
                client.flush();
            });
            in([&] {
                server.take(client);
                server.flush();
                client.take(server);
            });
        }
    };
    const auto alone = [](auto&& work) { work(); };
    const auto counted = [](auto&& work) { measured(work); };
    carry(alone, alone);  // pools have grown
    for (const bool out : {true, false}) {
        out ? carry(counted, alone) : carry(alone, counted);
        require(!client.failed && !server.failed, "the connection failed");
        ends((std::string("channel/") + (out ? "out/" : "in/") + std::string(what)).c_str(),
             pieces * flushes, "piece");
    }
    require(server.transport.counters().bytes_received - before >= carried, "payload was lost");
}

void channel_life() {
    constexpr unsigned turns = 300;
    bench::session both;
    require(both.ready(), "the two ends did not agree");
    measured([&] {
        for (unsigned at = 0; at < turns; ++at) {
            ssh::channel* opened = both.client->connection.open(*both.client, "chisel", {});
            both.exchange();
            both.client->connection.send_eof(*opened);
            both.client->connection.close(*opened);
            both.exchange();
            both.exchange();
            both.server->receivers.pop_back();
        }
    });
    require(both.client->connection.open_channels() == 0 && !both.client->failed,
            "channels did not close");
    ends("channel/open_close", turns, "channel");
}

// Without a cipher: what stands around each.
void packets(const char* out_name, const char* in_name, std::size_t size, unsigned count) {
    const ssh::settings plain;
    ssh::packet_layer sender(plain, "SSH-2.0-x"), receiver(plain, "SSH-2.0-x");
    receiver.limit_packets(1 << 18);
    const byte_vector body(size);
    const std::array<std::byte, 9> head{};
    const std::size_t stride = sender.sealed_size(head.size() + size);
    byte_vector wire(stride * count);
    measured([&] {
        for (unsigned at = 0; at < count; ++at) sender.seal(head, body, wire.data() + at * stride);
    });
    ends(out_name, count, "packet");
    std::uint64_t opened = 0;
    measured([&] {
        for (unsigned at = 0; at < count; ++at)
            opened += receiver.open(bytes_span(wire).subspan(at * stride)).payload.size();
    });
    require(opened == (head.size() + size) * count, "a packet did not open");
    ends(in_name, count, "packet");
}

// ---- core/http ----

// Frames of `size` one behind another, as a client masks them and a server reads them.
void websocket(const char* write_name, const char* read_name, std::size_t size, unsigned count) {
    byte_vector wire(count * (size + http::max_frame_header));
    std::size_t used = 0;
    measured([&] {
        for (unsigned at = 0; at < count; ++at) {
            used += http::write_frame_header(wire.data() + used, http::opcode::binary, size, true,
                                             0x12345678 + at);
            http::apply_mask({wire.data() + used, size}, 0x12345678 + at);
            used += size;
        }
    });
    ends(write_name, count, "frame");
    http::websocket_reader reader(http::websocket_role::server);
    std::uint64_t read = 0;
    bool failed = false;
    measured([&] {
        std::byte* raw = wire.data();
        http::websocket_reader::run run{raw, raw};
        for (;;) {
            const http::websocket_status status = reader.advance(run, raw, wire.data() + used);
            read += static_cast<std::uint64_t>(run.end - run.begin);
            run.begin = run.end;
            failed = failed || status == http::websocket_status::failed;
            if (status != http::websocket_status::ready) break;
        }
    });
    require(!failed && read == size * count, "frames were not read");
    ends(read_name, count, "frame");
}

// ---- ring/, and pools ----

void timers() {
    constexpr unsigned others = 1000, moves = 10'000;
    ring::timer_wheel wheel(0);
    unsigned fired = 0;
    const auto fire = [](void* count, ring::microseconds_t) noexcept {
        ++*static_cast<unsigned*>(count);
    };
    std::vector<std::unique_ptr<ring::timer>> all;
    for (unsigned at = 0; at < others; ++at) {
        all.push_back(std::make_unique<ring::timer>(&fired, fire));
        wheel.arm(*all.back(), 1'000'000 + at * 7919 % 5'000'000);
    }
    ring::timer moved(&fired, fire);
    measured([&] {
        for (unsigned at = 0; at < moves; ++at) wheel.arm(moved, 200'000 + at * 37);
    });
    moved.disarm();
    ends("timer/move", moves, "arm");
    ring::microseconds_t now = 0;
    std::uint64_t sum = 0;
    measured([&] {
        for (; now < 7'000'000; now += 500) {
            wheel.advance(now);
            sum += wheel.next();
        }
    });
    require(fired == others && sum != 0, "timers did not fire");
    ends("timer/turn", 14'000, "turn");
}

void pools() {
    constexpr unsigned count = 32, turns = 500;
    ring::memory_pool memory(64 * 1024, 4, count);
    std::vector<std::byte*> taken(count);
    const auto round = [&] {
        for (std::byte*& piece : taken) piece = memory.take();
        for (std::byte* piece : taken) memory.give_back(piece);
    };
    round();
    measured([&] {
        for (unsigned at = 0; at < turns; ++at) round();
    });
    require(memory.in_use() == 0, "the pool lost count");
    ends("pool/memory", count * turns, "piece");

    ssh::piece_pool pieces;
    ssh::piece_list list;
    const byte_vector bytes(1400);
    const auto queue = [&] {
        for (unsigned at = 0; at < count; ++at) list.push(pieces.make({}, bytes));
        list.take_all_of(count * bytes.size(), pieces);
    };
    queue();
    measured([&] {
        for (unsigned at = 0; at < turns; ++at) queue();
    });
    require(pieces.in_use() == 0, "pieces were lost");
    ends("pool/pieces", count * turns, "piece");

    tun::payload_pool nodes;
    std::vector<tun::payload_node*> held(count);
    const auto hold = [&] {
        for (tun::payload_node*& node : held) node = nodes.take();
        for (tun::payload_node* node : held) nodes.give(node);
    };
    hold();
    measured([&] {
        for (unsigned at = 0; at < turns; ++at) hold();
    });
    require(nodes.taken() == 0, "nodes were lost");
    ends("pool/payload_nodes", count * turns, "node");

    ring::budget budget(std::uint64_t{256} << 20, 10'000);
    measured([&] {
        for (unsigned at = 0; at < count * turns; ++at) {
            std::uint32_t window = budget.open(2u << 20);
            window += budget.grow(1u << 20);
            budget.close(window);
        }
    });
    require(budget.open_channels() == 0, "the budget lost count");
    ends("budget/open_grow_close", count * turns, "channel");
}

void run_all() {
    terminator_up("terminator/up/64000", 64'000, 2000);
    terminator_up("terminator/up/1460", 1460, 2000);
    terminator_down("terminator/down/65536", 65'536, 500);
    terminator_down("terminator/down/1400", 1400, 20);
    flow_table();
    frames();
    channels("32768", 32'768, 1, 20);
    channels("1400", 1400, 1, 8);
    channels("1400/200_channels", 1400, 200, 8);
    channel_life();
    packets("packet/out/100", "packet/in/100", 100, 2000);
    packets("packet/out/32768", "packet/in/32768", 32'768, 100);
    websocket("websocket/write/262144", "websocket/read/262144", 262'144, 10);
    websocket("websocket/write/100", "websocket/read/100", 100, 2000);
    timers();
    pools();
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && std::string_view(argv[1]) == "--key") {
#if defined(__clang__)
        constexpr const char* compiler = "clang";
#else
        constexpr const char* compiler = "GCC";
#endif
#if !defined(__OPTIMIZE__) || !defined(NDEBUG)
        std::fprintf(stderr, "bench_counts: not a release build\n");
        return 2;
#endif
#if defined(__x86_64__)
        constexpr const char* processor = "x86-64";
#elif defined(__aarch64__)
        constexpr const char* processor = "arm64";
#else
        constexpr const char* processor = "other";
#endif
        std::printf("%s %d.%d, glibc %s, %s\n", compiler, __GNUC__, __GNUC_MINOR__,
                    gnu_get_libc_version(), processor);
        return 0;
    }
    if (argc != 1) {
        std::fprintf(stderr, "usage: bench_counts [--key]\n");
        return 2;
    }
    run_all();
    return 0;
}
