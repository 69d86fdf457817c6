// The program's main thread: starts the workers, waits for signals, prints statistics, stops
// everything. It never touches what lives on a worker; it sends messages.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/log.hh"
#include "core/engine/worker.hh"

namespace burin::engine {

// Blocks the signals that a supervisor waits for, in this thread and all that it starts: call it
// before any of them.
void block_signals() noexcept;

// Raises the limit of open descriptors as far as it goes (RLIMIT_NOFILE) and has the kernel take
// its table of them at once, for up to 65536: call it while there is one thread. The table of a
// process with threads grows (64, 128, 256, ...) in whichever accept or socket needs the next
// place, and that call waits until every processor has passed through the scheduler
// (synchronize_rcu): a worker would stand still for milliseconds, for seconds where kernel threads
// get no time.
void open_descriptor_table() noexcept;

class supervisor {
  public:
    // Raises the descriptor limit.
    explicit supervisor(logger&);
    ~supervisor();

    // Before start_workers(): this thread, and the workers', give up all capabilities but `kept`,
    // and the process's memory is closed (privileges.hh). An error text for a person, or empty.
    std::string confine(std::vector<unsigned> kept);
    // Throws ring::unavailable when the kernel does not grant what a worker needs.
    void start_workers(unsigned count, worker_options);
    std::vector<std::unique_ptr<worker>>& workers() noexcept { return _workers; }

    // Any thread: run() returns `status`.
    void finish(int status) noexcept;

    // Called on each worker for SIGUSR2; appends lines to the report.
    std::function<void(worker&, std::string& report)> describe;
    // SIGHUP.
    std::function<void()> hang_up;
    // Called some time after the descriptor became readable; -1: none. What one event changes comes
    // in a burst, so the call waits for `watch_pause`, and ten times as long as the last call took.
    int watched = -1;
    std::function<void()> on_watched;
    ring::microseconds_t watch_pause = 500 * ring::millisecond;

    // Waits for SIGINT, SIGTERM (stop, 0), SIGHUP, SIGUSR2, or finish(). Then stops and joins the
    // workers.
    int run();

  private:
    void report();
    // Waits for a signal, finish(), or the time to look at what is watched.
    bool wait_for_signal();

    logger& _log;
    std::vector<std::unique_ptr<worker>> _workers;
    std::optional<std::vector<unsigned>> _kept;
    int _signals = -1;
    int _wake = -1;
    ring::microseconds_t _watch_due = 0;   // 0: nothing has come
    ring::microseconds_t _watch_took = 0;  // of the last call
    std::atomic<int> _status{-1};
};

}  // namespace burin::engine
