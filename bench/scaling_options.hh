// What the command line of bench_scaling says, and how it complains.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>

#include "bench/scaling_tunnel.hh"

namespace scaling {

inline constexpr const char* help =
    R"(scaling: what more workers gain, each on a processor of its own

  bench/scaling [options]        in the source tree, after the release build
  ./scaling [options]            in a folder that --pack made, on any machine of the kind

Two namespaces of this run's own, joined by a veth pair, hold `burin client` and `burin server` with
1, 2, 4 ... workers an end, up to a third of the processors. The client's workers are pinned to
processors, the server's to others, and the load generator to what is left. Flows go through a
forwarded port and through a TUN device, up (towards the server) and down, and every byte is
compared at both ends. Printed in the end, and written to the folder of --out as scaling.md and
scaling.json: Gbit/s, Gbit per CPU-second of both ends, the share of what so many single workers would
carry ("of linear"), how busy the processors of client, server and load were, and how many messages
workers had from other threads while gigabytes moved.

It needs root, or a kernel that grants user namespaces to others, io_uring, and /dev/net/tun for the
TUN. It leaves nothing behind, however it ends.

  --quick               one round, a second each, 64 flows
  --seconds S           of each transfer (4)
  --rounds N            of everything; figures are medians (3)
  --workers LIST        workers an end, as 1,2,4
  --flows LIST          at once (64,1)
  --only LIST           direct, port, tun: direct is the load generator without a tunnel
  --cpus LIST           processors to use, as 0-15 (all that this process may use)
  --overlap             where there are too few processors: pins all the same, so that ends and load
                        share them (to try things out: the figures mean nothing)
  --congestion NAME     congestion control in the namespaces (cubic)
  --server-options TEXT, --client-options TEXT
                        more flags of the two ends, as '--memory 1G'
  --out DIR             for results and logs (scaling-report)
  --plan                says who would run where, and whether the programs start; measures nothing
  --pack DIR            makes the folder to copy to another machine
)";

struct options {
    double seconds = 4;
    unsigned rounds = 3;
    std::vector<unsigned> workers, flows{64, 1};
    processors cpus;
    bool direct = true, port = true, tun = true, plan_alone = false, overlap = false;
    std::string congestion = "cubic", out = "scaling-report", pack_to, packed;
    words server, client;
};

[[noreturn]] inline void refuse(const std::string& why) {
    std::fprintf(stderr, "scaling: %s (see --help)\n", why.c_str());
    std::exit(2);
}

inline std::vector<unsigned> numbers_in(const std::string& text, const std::string& option) {
    std::vector<unsigned> list;
    std::istringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        char* end = nullptr;
        const unsigned long value = std::strtoul(part.c_str(), &end, 10);
        if (part.empty() || *end != '\0' || value == 0 || value > 4096)
            refuse(option + " wants numbers from 1 to 4096, as 1,2,4");
        list.push_back(static_cast<unsigned>(value));
    }
    if (list.empty()) refuse(option + " wants numbers, as 1,2,4");
    return list;
}

inline words words_in(const std::string& text) {
    std::istringstream parts(text);
    words list;
    for (std::string part; parts >> part;) list.push_back(part);
    return list;
}

inline options parse(int argc, char** argv) {
    options set;
    for (int at = 1; at < argc; ++at) {
        const std::string word = argv[at];
        if (word == "--help" || word == "-h") {
            std::fputs(help, stdout);
            std::exit(0);
        }
        if (word == "--quick") {
            set.seconds = 1, set.rounds = 1, set.flows = {64};
            continue;
        }
        if (word == "--overlap") {
            set.overlap = true;
            continue;
        }
        if (word == "--plan") {
            set.plan_alone = true;
            continue;
        }
        if (at + 1 == argc) refuse(word + " is unknown, or wants a value");
        const std::string value = argv[++at];
        if (word == "--seconds") {
            set.seconds = std::strtod(value.c_str(), nullptr);
            if (!(set.seconds >= 0.2 && set.seconds <= 3600)) refuse("--seconds: 0.2 to 3600");
        } else if (word == "--rounds") {
            set.rounds = numbers_in(value, word).front();
        } else if (word == "--workers") {
            set.workers = numbers_in(value, word);
        } else if (word == "--flows") {
            set.flows = numbers_in(value, word);
        } else if (word == "--cpus") {
            auto list = burin::engine::parse_processors(value);
            if (!list) refuse("--cpus wants a list of different processors, as 0-15");
            set.cpus = *list;
        } else if (word == "--only") {
            set.direct = set.port = set.tun = false;
            std::istringstream parts(value);
            for (std::string part; std::getline(parts, part, ',');) {
                if (part != "direct" && part != "port" && part != "tun")
                    refuse("--only: there are direct, port, tun");
                (part == "direct" ? set.direct : part == "port" ? set.port : set.tun) = true;
            }
        } else if (word == "--congestion") {
            set.congestion = value;
        } else if (word == "--server-options") {
            set.server = words_in(value);
        } else if (word == "--client-options") {
            set.client = words_in(value);
        } else if (word == "--out") {
            set.out = value;
        } else if (word == "--pack") {
            set.pack_to = value;
        } else if (word == "--packed") {
            set.packed = value;
        } else {
            refuse("unknown option " + word);
        }
    }
    return set;
}

}  // namespace scaling
