// Results as Markdown, for a terminal and for a document.
#pragma once

#include <string>
#include <string_view>

#include "tools/bench/results.hh"

namespace burin::tools::bench {

std::string table(const results&);

// The groups of rows in their order, and what they are called.
struct group_title {
    std::string_view group, title, note;
};
inline constexpr group_title group_titles[] = {
    {"throughput", "Throughput", "payload that the far end has confirmed"},
    {"cpu", "CPU of the tunnel", "user and system time of its processes for a gigabyte of payload"},
    {"idle", "Round trip, idle", "one byte there and back over an open connection"},
    {"loaded", "Round trip beside four streams", "the same while the tunnel carries all it can"},
    {"connections", "Connections", "connect, a byte there, a byte back, close"},
};

// "2 s each, medians of 7 pairs".
std::string samples_text(const results&);

}  // namespace burin::tools::bench
