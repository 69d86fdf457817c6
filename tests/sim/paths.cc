#include "tests/sim/paths.hh"

#include <algorithm>
#include <cmath>

#include "tests/sim/narrow_link.hh"

namespace sim {
namespace {

using burin::tun::congestion_control;

// Virtual microseconds of one run: ten seconds, and a hundred round trips.
constexpr std::uint64_t least_measured = 10'000'000;
constexpr std::uint64_t round_trips = 100;
constexpr std::uint64_t shared = 30'000'000;
constexpr double segment = 1460;
constexpr std::uint64_t runs = 2;

constexpr path paths[] = {
    {"1 ms, no loss, 200 Mbit/s", 1000, 0, 0, 200},
    {"20 ms, 0.1 % loss, 200 Mbit/s", 20'000, 1000, 0, 200},
    {"10 ms, 0.5 % loss, 0.5 % reordered, 200 Mbit/s", 10'000, 5000, 5000, 200},
    {"10 ms, no loss, 2 % reordered, 200 Mbit/s", 10'000, 0, 20'000, 200},
    {"20 ms, 1 % loss, 200 Mbit/s", 20'000, 10'000, 0, 200},
    {"200 ms, 1 % loss, 200 Mbit/s", 200'000, 10'000, 0, 200},
    {"5 ms, 5 % loss, 100 Mbit/s", 5000, 50'000, 0, 100},
};
// Queues of half a round trip, one, and four.
constexpr path shared_paths[] = {
    {"20 ms, 50 Mbit/s, shallow queue", 20'000, 0, 0, 50, 0.5},
    {"20 ms, 50 Mbit/s", 20'000, 0, 0, 50, 1},
    {"20 ms, 50 Mbit/s, deep queue", 20'000, 0, 0, 50, 4},
};

double bound_mbit(const path& p) {
    if (p.loss == 0) return p.mbit;
    const double rtt_s = static_cast<double>(p.rtt_us) / 1e6;
    const double loss = static_cast<double>(p.loss) / 1e6;
    const double reno = std::sqrt(1.5 / loss);
    const double cubic = std::pow(0.4 * 3.7 / 1.2, 0.25) * std::pow(rtt_s / loss, 0.75);
    return std::min(p.mbit, std::max(reno, cubic) * segment * 8 / rtt_s / 1e6);
}

measurement measure(const path& p, const sender& how) {
    measurement sum;
    const std::uint64_t measured = std::max(least_measured, round_trips * p.rtt_us);
    for (std::uint64_t seed = 1; seed <= runs; ++seed) {
        const measurement one = run_narrow_link(p, {&how, 1}, seed, measured).front();
        sum.mbit += one.mbit / static_cast<double>(runs);
        sum.needless += one.needless / static_cast<double>(runs);
    }
    return sum;
}

}  // namespace

std::vector<path_result> run_paths(std::string_view part) {
    std::vector<path_result> all;
    for (const path& p : paths) {
        if (std::string_view(p.name).find(part) == std::string_view::npos) continue;
        path_result result;
        result.name = p.name;
        result.bound_mbit = bound_mbit(p);
        const measurement sack = measure(p, {congestion_control::cubic, true});
        result.sack_mbit = sack.mbit;
        result.needless = sack.needless;
        result.no_sack_mbit = measure(p, {congestion_control::cubic, false}).mbit;
        const measurement bbr = measure(p, {congestion_control::bbr, true});
        result.bbr_mbit = bbr.mbit;
        result.bbr_needless = bbr.needless;
        result.bbr_no_sack_mbit = measure(p, {congestion_control::bbr, false}).mbit;
        result.passed = result.sack_mbit > result.bound_mbit / 4 &&
                        result.sack_mbit > result.no_sack_mbit * 0.7 &&
                        result.bbr_mbit > p.mbit * 0.6;
        all.push_back(result);
    }
    return all;
}

std::vector<share_result> run_shares(std::string_view part) {
    constexpr sender both[] = {{congestion_control::cubic}, {congestion_control::bbr}};
    std::vector<share_result> all;
    for (const path& p : shared_paths) {
        if (std::string_view(p.name).find(part) == std::string_view::npos) continue;
        const std::vector<measurement> got = run_narrow_link(p, both, 1, shared);
        share_result result;
        result.name = p.name;
        result.cubic_mbit = got[0].mbit;
        result.bbr_mbit = got[1].mbit;
        result.passed = std::min(got[0].mbit, got[1].mbit) > p.mbit * 0.05 &&
                        got[0].mbit + got[1].mbit > p.mbit * 0.7;
        all.push_back(result);
    }
    return all;
}

}  // namespace sim
