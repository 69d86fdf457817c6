// The measurements of `burin bench`. All columns are up at once and take turns (A B, B A, ...), so
// that whatever the machine does besides falls on each of them alike; a pair is one turn of all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tools/bench/progress.hh"
#include "tools/bench/results.hh"
#include "tools/bench/settings.hh"

namespace burin::tools::bench {

// How the load gets to its far end in one column, and whose CPU that costs.
struct entry {
    std::string name, host, port;
    bool reference = false;
    struct end {
        std::string name;
        std::vector<pid_t> processes;
    };
    std::vector<end> ends;
};

class measuring {
  public:
    // `gone` says what else ended the run when a measurement fails: a process of ours that is no
    // more; empty when it knows of nothing. All stay the caller's.
    measuring(const settings&, const std::vector<entry>&, std::function<std::string()> gone);

    // Takes all samples. A measurement that fails ends it: `cut_short` says why, and the pairs that
    // were complete are kept. Throws std::runtime_error when there is not one.
    results run(progress::kind);

    // Seconds that run() should take, and samples.
    double expected_seconds() const noexcept;
    std::size_t samples() const noexcept;

  private:
    struct step {
        std::string title;
        double seconds;
        // Of this column, in this pair; returns what a person reads.
        std::function<std::string(std::size_t, unsigned)> take;
    };

    void plan();
    void check_all();
    std::string throughput(std::size_t column, unsigned pair, bool up, unsigned streams);
    std::string idle(std::size_t column, unsigned pair);
    std::string loaded(std::size_t column, unsigned pair);
    std::string connections(std::size_t column, unsigned pair, unsigned parallel);
    // Rows of p50, p99 and p99.9, and the values for the curve.
    std::string round_trips(const std::string& group, std::size_t column, unsigned pair,
                            std::vector<double> microseconds);
    void draw_curves();
    void keep_pairs(unsigned complete);

    const settings& _settings;
    const std::vector<entry>& _entries;
    std::function<std::string()> _gone;
    std::vector<step> _steps;
    results _results;
    // Of idle and loaded: [column][pair].
    std::vector<std::vector<std::vector<double>>> _idle, _loaded;
};

}  // namespace burin::tools::bench
