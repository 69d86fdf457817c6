#include "tests/sim/scenario.hh"

#include <algorithm>

namespace sim {
namespace {

template <class T, std::size_t N>
T pick(random& r, const T (&choices)[N]) {
    return choices[r.between(0, N - 1)];
}

}  // namespace

scenario draw_scenario(random& r, std::uint64_t seed) {
    scenario s;
    s.end = static_cast<ending>(r.between(0, 6));
    if (r.chance(150'000)) s.host_is = conduct::mischievous;
    if (r.chance(50'000)) s.host_is = conduct::optimist;
    link_settings& link = s.link;
    link.loss = pick(r, {0u, 0u, 1000u, 5000u, 20'000u, 50'000u, 100'000u, 200'000u});
    if (r.chance(200'000)) {
        link.bursts = static_cast<std::uint32_t>(r.between(500, 10'000));
        link.burst_ends = static_cast<std::uint32_t>(r.between(50'000, 400'000));
        link.burst_loss = static_cast<std::uint32_t>(r.between(300'000, 900'000));
    }
    link.duplicates = pick(r, {0u, 0u, 2000u, 30'000u});
    link.corruption = pick(r, {0u, 0u, 0u, 5000u});
    link.marks = pick(r, {0u, 1000u, 50'000u});
    link.delay = pick(r, {20ull, 500ull, 5000ull, 50'000ull});
    link.jitter = r.coin() ? 0 : link.delay * r.between(1, 30) / 10;
    link.late = pick(r, {5000u, 200'000u, 200'000u, 1'000'000u});
    link.cuts = pick(r, {0u, 500'000u, 1'000'000u});
    s.turn = r.between(0, 300);
    s.dial = r.between(0, 500'000);

    host_settings& host = s.host;
    host.here = {0x0a090002, static_cast<std::uint16_t>(r.between(1024, 65535))};
    host.there = {0xc0000207, static_cast<std::uint16_t>(r.between(1, 65535))};
    // Half of the seeds wrap within the transfer, on either side.
    host.isn = static_cast<std::uint32_t>(r.next());
    if (r.coin()) host.isn = 0xffffffff - static_cast<std::uint32_t>(r.between(0, 250'000));
    host.mss = pick(r, {std::uint16_t{1460}, std::uint16_t{1460}, std::uint16_t{1360},
                        std::uint16_t{536}, std::uint16_t{8960}});
    host.shift = pick(r, {-1, 0, 2, 7, 9});
    host.receive_buffer =
        static_cast<std::uint32_t>(pick(r, {4096u, 20'000u, 65'535u, 200'000u, 1'000'000u}));
    host.superframe_segments = std::max<std::uint32_t>(
        1, std::min<std::uint32_t>(pick(r, {1u, 1u, 4u, 44u}), 65'000u / host.mss));
    host.delays_acks = r.coin();
    host.sacks = !r.chance(250'000);
    host.tells_doubles = r.coin();
    host.ecn = r.coin();
    host.checksums = r.coin() ? checksum::complete : checksum::offloaded;
    host.probes = r.coin() ? probe_style::one_byte : probe_style::below_window;
    host.send_total = r.between(256 * 1024, 400 * 1024);
    host.stream = seed * 2;
    host.receive_total = r.between(256 * 1024, 400 * 1024);
    host.receive_stream = seed * 2 + 1;
    host.closes_when_sent = s.end == ending::host_first || s.end == ending::together;

    gateway_settings& gate = s.gate;
    gate.receive_total = host.send_total;
    gate.receive_stream = host.stream;
    gate.send_total = host.receive_total;
    gate.send_stream = host.receive_stream;
    gate.closes_when_sent = s.end == ending::tunnel_first || s.end == ending::together;
    gate.far_window = pick(r, {1000ull, 16'384ull, 100'000ull, 2'097'152ull});
    gate.near_window = pick(r, {5000ull, 65'536ull, 2'097'152ull});
    gate.largest_slice = static_cast<std::uint32_t>(pick(r, {100u, 5000u, 32'768u, 65'536u}));
    gate.refuse_per_million = pick(r, {0u, 0u, 20'000u});
    gate.tcp.mtu = pick(r, {std::uint16_t{1500}, std::uint16_t{9000}});
    gate.tcp.isn_key = {r.next(), r.next()};
    if (seed % 3 == 0) gate.tcp.congestion = burin::tun::congestion_control::bbr;
    host.ecn_answered = host.ecn && gate.tcp.congestion == burin::tun::congestion_control::cubic;
    // At a fifth of all frames lost a living host may miss ten repairs in a row.
    if (s.end != ending::host_vanishes) {
        gate.tcp.max_retries = 40;
        gate.tcp.max_handshake_retries = 40;
    }
    s.vanishes_after = r.between(0, gate.receive_total + gate.send_total - 1);

    s.read_size = r.between(100, 200'000);
    s.read_pause = r.between(50, 3000);
    s.sink_size = r.between(500, 200'000);
    s.sink_pause = r.between(50, 3000);
    s.source_size = r.between(500, 130'000);
    s.source_pause = r.between(20, 2000);
    s.stalls = pick(r, {0u, 1000u, 20'000u});
    s.longest_stall = pick(r, {20'000ull, 500'000ull, 3'000'000ull});
    return s;
}

std::string to_text(const scenario& what) {
    constexpr const char* ends[] = {"host first",  "tunnel first",  "together",     "at once",
                                    "host resets", "tunnel aborts", "host vanishes"};
    constexpr const char* conducts[] = {"honest", "mischievous", "optimist"};
    return std::string(conducts[static_cast<std::size_t>(what.host_is)]) + ", " +
           ends[static_cast<std::size_t>(what.end)] + ", " +
           std::string(burin::tun::to_text(what.gate.tcp.congestion));
}

}  // namespace sim
