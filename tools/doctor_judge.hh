// What the facts of a machine mean for a tunnel: a pure function, so that machines of a test's
// making can be judged. A figure stands in a gain only where docs/performance.md has measured it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/doctor_facts.hh"

namespace burin::tools {

enum class verdict : std::uint8_t {
    ok,       // nothing to do
    note,     // something to know, or to change for a gain that some want
    warning,  // to be changed: something is slow, short or missing
};

struct finding {
    std::string subject;
    verdict value = verdict::ok;
    std::string seen;         // what was looked at, with its value
    std::string change = {};  // the command; empty: nothing to change
    std::string gain = {};    // what it gains
    bool prevents = false;    // with this no end of a tunnel runs here
};

// The path that buffers are held against: what the windows of one flow must fill.
inline constexpr std::uint64_t path_bits_per_second = 1'000'000'000, path_milliseconds = 200;
inline constexpr std::uint64_t path_bytes = path_bits_per_second / 8 * path_milliseconds / 1000;

std::vector<finding> judge(const machine&);
// Whether an end of a tunnel runs here.
bool can_run(const std::vector<finding>&);

// For a person, some lines each; and the same for a program (docs/observability.md).
std::string as_text(const std::vector<finding>&);
std::string as_json(const std::vector<finding>&);

}  // namespace burin::tools
