// The command line of `burin bench`. Pure: arguments in, settings or a text for a person out.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace burin::tools::bench {

// Where the load enters a tunnel, or reaches its far end without one.
struct target {
    std::string name, host, port;
    std::vector<pid_t> processes;  // whose CPU is the tunnel's
};

struct settings {
    enum class mode { alone, through, serve, render };
    mode what = mode::alone;

    std::vector<target> targets;  // through
    std::vector<target> direct;   // through: one or none
    double seconds = 2;           // of each sample
    double timeout = 10;          // seconds without an answer
    unsigned pairs = 7;
    std::vector<unsigned> streams = {1, 16};
    std::vector<std::string> only;  // groups; of group_names
    std::string out = "burin-bench";
    // alone: more flags of the two ends.
    std::vector<std::string> server_flags, client_flags;

    // serve
    std::string host = "127.0.0.1", port = "7000";
    unsigned connections = 256;
    double idle_seconds = 30, life_seconds = 600;

    std::string input;  // render: a file of results

    bool wants(std::string_view group) const noexcept;
};

// What --only names. CPU comes with throughput.
inline constexpr std::string_view group_names[] = {"throughput", "idle", "loaded", "connections"};

struct command {
    settings chosen;
    std::string help;   // not empty: print it, exit 0
    std::string error;  // not empty: what is wrong, exit 2
};

// `arguments` are those behind `bench`.
command parse(const std::vector<std::string>& arguments);

}  // namespace burin::tools::bench
