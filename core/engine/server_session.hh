// The server's side of one connection: finds out what the peer speaks (docs/wire.md section 4.1),
// answers plain HTTP, lets a chisel session or a native SSH client in, and dials what their
// channels ask for.
#pragma once

#include <list>
#include <memory>
#include <string>

#include "core/engine/echo_service.hh"
#include "core/engine/link.hh"
#include "core/engine/log.hh"
#include "core/engine/settings.hh"
#include "core/http/upgrade.hh"
#include "core/relay/datagram_exit.hh"
#include "core/relay/dialer.hh"
#include "core/relay/echo_exit.hh"
#include "core/relay/target.hh"

namespace burin::engine {

class server_session;

// What all sessions of a server share, read-only but for the counters.
struct server_shared {
    const server_settings* settings = nullptr;
    ssh::settings transport;
    logger* log = nullptr;
    logger* requests = nullptr;              // -v: a line for every HTTP request answered
    std::atomic<std::uint32_t> sessions{0};  // numbers given
    std::atomic<std::uint64_t> evicted{0};   // connections before login that made room
    // Connections before login, by worker; each list belongs to its worker's thread.
    std::vector<std::vector<server_session*>> early;
    // By worker; empty: this server does not ping for its clients.
    std::vector<std::unique_ptr<echo_service>> echoes;

    http::feature_set features() const noexcept {
        const http::feature_set all = http::feature_set::all();
        return echoes.empty() ? all.without(http::feature::echo) : all;
    }
};

// Connections before login that all workers hold together. When there are more, one of them, taken
// at random, makes room for the newest: a flood of silent ones ends among itself, while a client
// that logs in within milliseconds is hardly met.
inline constexpr std::uint32_t early_limit = 1024;

class server_session final : public link, private relay::datagram_observer {
  public:
    // Takes an accepted descriptor; lives on the worker from then on.
    static void start(worker&, server_shared&, int descriptor, const relay::endpoint& peer);
    ~server_session() override;

  private:
    server_session(worker&, server_shared&, int descriptor, const relay::endpoint& peer);

    // ---- link ----
    std::size_t on_head(bytes_view) noexcept override;
    void on_ended(std::string_view why) noexcept override;
    void log(bool debug, std::string_view text) noexcept override;
    std::string describe() const override;
    // ---- transport ----
    void on_authenticated(std::string_view user) override;
    ssh::login_answer on_login_failure(std::string_view user, std::string_view method,
                                       unsigned attempt) override;
    // ---- connection ----
    void on_open(ssh::channel&, const ssh::channel_open&) noexcept override;
    void on_global_request(const ssh::global_request&) noexcept override;
    void on_flow_open(const relay::socket_relay&) noexcept override;
    void on_flow_closed(const relay::socket_relay&) noexcept override;
    // ---- datagrams ----
    void on_datagrams_over(const relay::datagram_exit&, std::string_view why) noexcept override;
    void on_datagrams_unresolved(const relay::datagram_exit&,
                                 std::string_view why) noexcept override;

    void open_datagrams(ssh::channel&, relay::target) noexcept;
    void open_echo(ssh::channel&) noexcept;
    std::size_t on_http(bytes_view) noexcept;
    void on_config(const ssh::global_request&) noexcept;
    void refuse_config(std::string_view why) noexcept;
    void leave_early() noexcept;

    // A channel of the peer whose destination is being dialled.
    class dialling;
    friend class dialling;

    server_shared& _shared;
    relay::endpoint _peer;
    http::upgrade_server _upgrade;
    std::unique_ptr<relay::echo_exit> _echo;  // the last there was
    std::string _user;
    std::string _remotes;
    std::uint32_t _number = 0;
    std::uint32_t _flow_number = 0, _open_flows = 0;
    std::uint32_t _dials = 0;      // pending
    std::size_t _early_index = 0;  // in the worker's list
    bool _early = true;            // before login
    bool _configured = false;      // chisel: the config request was answered
    bool _refused = false;         // the same, with a failure, which is logged
    bool _opened = false;          // logged as open
    bool _carries_echo = false;    // both ends name the feature
    ring::microseconds_t _started;
};

}  // namespace burin::engine
