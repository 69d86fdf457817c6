// simulate --seed N [--trace]      one life of a flow, with its trace hash
// simulate --seeds A..B            many, each a different mix of faults; every 16th is run twice
// and
//                                  must leave the same trace
// simulate --paths [PART]        goodput over fixed paths (those with PART in their names), as
//                                tables
// Exit status 0 when all passed. The last line is "simulate: N passed, N failed".
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <string_view>
#include <vector>

#include "tests/sim/paths.hh"
#include "tests/sim/world.hh"

namespace {

bool read_number(std::string_view text, std::uint64_t& out) {
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, out);
    return result.ec == std::errc{} && result.ptr == end;
}

int usage() {
    std::fputs("usage: simulate --seed N [--trace] | --seeds A..B | --paths [PART]\n", stderr);
    return 2;
}

void print(std::uint64_t seed, const sim::run_result& result) {
    std::printf("seed %" PRIu64 " (%s): %s, trace %016" PRIx64 ", %" PRIu64
                " events, %.3f s, %" PRIu64 " timeouts, %" PRIu64 " fast retransmits, %" PRIu64
                " out of order, %" PRIu64 " probes%s%s\n",
                seed, result.kind.c_str(), result.passed ? "passed" : "FAILED", result.trace,
                result.events, static_cast<double>(result.virtual_us) / 1e6, result.timeouts,
                result.fast_retransmits, result.out_of_order, result.window_probes,
                result.passed ? "" : ": ", result.failure.c_str());
}

int paths(std::string_view part) {
    std::uint64_t failed = 0;
    const std::vector<sim::path_result> results = sim::run_paths(part);
    std::printf("%-48s %9s %9s %9s %9s %9s %9s %9s\n", "goodput towards the host, Mbit/s", "bound",
                "SACK", "no SACK", "needless", "BBR", "no SACK", "needless");
    for (const sim::path_result& one : results) {
        std::printf("%-48s %9.1f %9.1f %9.1f %8.2f%% %9.1f %9.1f %8.2f%%%s\n", one.name.c_str(),
                    one.bound_mbit, one.sack_mbit, one.no_sack_mbit, one.needless * 100,
                    one.bbr_mbit, one.bbr_no_sack_mbit, one.bbr_needless * 100,
                    one.passed ? "" : "  FAILED: far too slow");
        if (!one.passed) ++failed;
    }
    const std::vector<sim::share_result> shares = sim::run_shares(part);
    std::printf("%-48s %9s %9s\n", "two that share a link, Mbit/s", "CUBIC", "BBR");
    for (const sim::share_result& one : shares) {
        std::printf("%-48s %9.1f %9.1f%s\n", one.name.c_str(), one.cubic_mbit, one.bbr_mbit,
                    one.passed ? "" : "  FAILED: one starves, or the link is idle");
        if (!one.passed) ++failed;
    }
    std::printf("simulate: %zu passed, %" PRIu64 " failed\n",
                results.size() + shares.size() - failed, failed);
    return failed == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t first = 1;
    std::uint64_t last = 300;
    bool one = false;
    sim::tracing trace = sim::tracing::off;
    for (int i = 1; i < argc; ++i) {
        const std::string_view flag = argv[i];
        const std::string_view value = i + 1 < argc ? argv[i + 1] : "";
        if (flag == "--paths") {
            return paths(value);
        } else if (flag == "--trace") {
            trace = sim::tracing::on;
        } else if (flag == "--seed" && read_number(value, first)) {
            last = first;
            one = true;
            ++i;
        } else if (flag == "--seeds") {
            const std::size_t dots = value.find("..");
            if (dots == std::string_view::npos || !read_number(value.substr(0, dots), first) ||
                !read_number(value.substr(dots + 2), last) || last < first) {
                return usage();
            }
            ++i;
        } else {
            return usage();
        }
    }
    std::uint64_t passed = 0;
    std::uint64_t failed = 0;
    for (std::uint64_t seed = first; seed <= last; ++seed) {
        sim::run_result result = sim::run(seed, trace);
        if (!one && result.passed && seed % 16 == 0 &&
            sim::run(seed, sim::tracing::off).trace != result.trace) {
            result.passed = false;
            result.failure = "a second run left another trace";
        }
        ++(result.passed ? passed : failed);
        if (one || !result.passed) print(seed, result);
    }
    std::printf("simulate: %" PRIu64 " passed, %" PRIu64 " failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
