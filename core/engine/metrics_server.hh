// The HTTP server of `--metrics`: a thread of its own with poll(2), outside of every worker and its
// ring. For each scrape the workers are asked through their mailboxes, as for SIGUSR2; each fills a
// tally in one turn and goes on, and this thread makes the text of them. Who may ask, how many and
// for how long is scrape_desk.hh's.
//
// The port is bound before privileges are given up; the thread has none at all.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/engine/log.hh"
#include "core/engine/metrics.hh"
#include "core/engine/scrape_desk.hh"
#include "core/engine/worker.hh"
#include "tun/descriptor.hh"

namespace burin::engine {

// Where to listen; no port: nowhere.
struct metrics_address {
    std::string host;  // without brackets
    std::uint16_t port = 0;
};

class metrics_server {
  public:
    explicit metrics_server(const metrics_address& at) : _at(at) {}
    ~metrics_server() { stop(); }
    metrics_server(const metrics_server&) = delete;
    metrics_server& operator=(const metrics_server&) = delete;

    // Binds; an error text for a person, or empty.
    std::string open();
    // Begins to answer, when there is an address. `role`: "client" or "server". `shared` adds what
    // belongs to no worker, on this server's thread.
    void start(std::string role, std::vector<std::unique_ptr<worker>>& workers, logger& log,
               std::function<void(tally&)> shared = {});
    // When the workers' threads have ended, so that none of them answers any more, and before the
    // workers go.
    void stop();

  private:
    void run();
    void accept_all(ring::microseconds_t now);
    void read(int id, ring::microseconds_t now);
    void write(int id);
    void ask_workers(ring::microseconds_t now);
    void tell(ring::microseconds_t now);

    metrics_address _at;
    tun::descriptor _listener, _wake;  // _wake: numbers are there, or stop() was called
    std::thread _thread;
    std::atomic<bool> _stopping{false};

    // ---- the thread's ----
    std::string _role;
    std::vector<std::unique_ptr<worker>>* _workers = nullptr;
    logger* _log = nullptr;
    std::function<void(tally&)> _shared;
    scrape_desk _desk;
    std::vector<int> _open;  // connections
    // The workers were asked and have not all answered; a late one does so before they are asked
    // again.
    bool _asked = false;
    std::vector<tally> _by_worker;           // each its worker's own, until it has answered
    std::atomic<std::size_t> _left{0};       // workers that have not
    ring::microseconds_t _accept_again = 0;  // no descriptor was left: nobody is accepted before
};

}  // namespace burin::engine
