// One worker of a client: keeps a session to the server up (connect, retry with back-off), and
// starts the flows that are dealt to it. The first one owns the local listeners and deals: a
// connection goes to the workers with a live session in turn; while there is none it waits, as long
// as CHISEL_SSH_WAIT allows, and is then closed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/backoff.hh"
#include "core/engine/client_session.hh"
#include "core/engine/listener.hh"
#include "core/engine/remote.hh"
#include "core/engine/tun_intake.hh"
#include "core/http/upgrade.hh"
#include "core/relay/datagram_entry.hh"

namespace burin::engine {

class client_worker;

// A forward remote with its listening socket, or its bound one when it is for datagrams.
struct entry {
    remote what;
    int descriptor = -1;
};
// Binds the local port; an error text for a person, or empty.
std::string open_entry(entry&);

// Which way each worker's session took, where there is a TUN: told by the workers at a connect,
// asked by the main thread after a change of routes. Asking the kernel may take long, so no worker
// does it.
class session_ways {
  public:
    explicit session_ways(std::size_t workers) : _ways(workers) {}
    // Of this worker's session with this number; any thread.
    void set(std::size_t worker, std::uint64_t session, const tun::way&);
    // By worker, the number of a session whose way is lost, or 0.
    std::vector<std::uint64_t> lost(tun_device&);

  private:
    struct entry {
        std::uint64_t session = 0;
        tun::way way;
    };
    std::mutex _lock;
    std::vector<entry> _ways;
};

// What all workers of a client share; read-only after prepare() but for the atomics and the ways.
struct client_shared {
    const client_settings* settings = nullptr;
    logger* log = nullptr;
    http::server_url url;
    http::header_list headers;
    ssh::settings transport;
    std::vector<std::unique_ptr<client_worker>>* clients = nullptr;
    std::function<void(int)> finish;
    relay::socket_hook prepare_socket;  // keeps the session's socket out of the tunnel
    tun_device* tunnel = nullptr;
    std::unique_ptr<session_ways> ways;                  // with `tunnel`
    bool udp_superframes = false;                        // of the TUN device
    std::atomic<std::uint32_t> flow_numbers{0};          // of flows of the TUN
    std::deque<std::atomic<std::uint32_t>> proxy_flows;  // the same for each remote
    std::atomic<bool> server_sends_eof{false};           // seen of it once

    // Reads the URL and the credentials; an error text for a person, or empty.
    std::string prepare();
};

class client_worker final : public resident, public client_session_owner {
  public:
    client_worker(worker&, client_shared&);
    ~client_worker() override;

    // ---- on the worker's thread ----
    void connect() noexcept;
    // SIGHUP: does not wait for the rest of the back-off.
    void retry_now() noexcept;
    // Links, addresses or routes changed; `lost`: the number of the session whose way is lost, or
    // 0. That one ends and is made anew; one that is waited for is tried at once.
    void way_changed(std::uint64_t lost) noexcept;
    // The first worker: takes the listening sockets.
    void listen(const std::vector<entry>&);
    // Starts a flow for an accepted connection (dealt to this worker), or gives it back when the
    // session is gone.
    void take(int descriptor, std::size_t entry_index) noexcept;
    // The first worker: a session came up somewhere.
    void serve_waiting() noexcept;
    // A frame of the TUN that another worker is to take: a copy goes to worker `to`, or, for
    // tun_strays::anybody, to one with a live session. Whom it went to, or tun_strays::nobody.
    unsigned hand_over(bytes_view frame, unsigned to) noexcept;
    // This worker carries a flow whose home is worker `home`; it is over.
    void tell_flow_carried(const tun::flow_key&, unsigned home) noexcept;
    void tell_flow_closed(const tun::flow_key&, unsigned home) noexcept;
    // Takes this worker's queue of the TUN device.
    void take_tun(tun::descriptor) noexcept;
    // The live session, or nullptr.
    client_session* session() noexcept {
        return _session != nullptr && _session->ready() ? _session : nullptr;
    }
    // ---- client_session_owner ----
    void log(bool debug, std::string_view text) noexcept override;

    // Any thread: this worker's queue of the TUN device may have the flow that the report is about.
    void pass_on(const tun::icmp_report& report) noexcept;
    bool live() const noexcept { return _live.load(std::memory_order_relaxed); }

    // ---- resident ----
    void leave() noexcept override;
    void report(std::string& into) const override;
    void count(tally& t) const override;

  private:
    struct gate;           // a listener and its remote
    struct datagram_gate;  // a bound UDP socket and its remote
    struct waiting {
        int descriptor;
        std::size_t entry_index;
        ring::microseconds_t deadline;
    };

    // ---- client_session_owner ----
    void on_session_ready(ring::microseconds_t latency) noexcept override;
    void on_session_ended(std::string_view error) noexcept override;
    bool server_sends_eof() const noexcept override {
        return _shared.server_sends_eof.load(std::memory_order_relaxed);
    }
    void note_server_sends_eof() noexcept override { _shared.server_sends_eof = true; }

    void on_dialled(relay::dial&) noexcept;
    // `session`: how long it was up, 0 when it never was.
    void failed(std::string_view error, ring::microseconds_t session = 0) noexcept;
    void on_retry(ring::microseconds_t) noexcept;
    void on_waiting_expired(ring::microseconds_t) noexcept;
    void on_accepted(int descriptor, std::size_t entry_index) noexcept;
    client_worker* next_live() noexcept;
    bool first() const noexcept { return _worker.index() == 0; }

    worker& _worker;
    client_shared& _shared;
    std::unique_ptr<relay::dialer> _dialer;
    std::unique_ptr<tun_intake> _tun;
    relay::member_dial<&client_worker::on_dialled> _dial{this};
    ring::member_timer<&client_worker::on_retry> _retry{this};
    ring::member_timer<&client_worker::on_waiting_expired> _waiting_timer{this};
    backoff _backoff;
    client_session* _session = nullptr;
    ring::microseconds_t _connect_deadline = 0, _ready_since = 0, _dialled_since = 0;
    std::uint64_t _session_number = 0;
    std::uint64_t _attempts = 0, _times_ready = 0, _times_lost = 0;
    std::optional<relay::endpoint> _reached;  // where the last session was
    bool _by_memory = false;                  // this dial is to _reached
    std::deque<waiting> _waiting;
    std::vector<std::unique_ptr<gate>> _gates;
    std::vector<std::unique_ptr<datagram_gate>> _datagram_gates;
    std::vector<std::string> _targets;  // by entry: what a channel names
    std::atomic<bool> _live{false};
    std::atomic<std::uint32_t> _handed_over{0};  // frames on their way to this worker
    std::uint64_t _not_handed_over = 0;          // by this one: too many were
    std::size_t _turn = 0;
    bool _leaving = false;
};

}  // namespace burin::engine
