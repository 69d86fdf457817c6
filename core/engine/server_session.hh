// The server's side of one connection: finds out what the peer speaks (docs/wire.md section 4.1),
// answers plain HTTP, lets a chisel session or a native SSH client in, and dials what their
// channels ask for.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "core/engine/echo_service.hh"
#include "core/engine/link.hh"
#include "core/engine/log.hh"
#include "core/engine/login_delays.hh"
#include "core/engine/seldom.hh"
#include "core/engine/settings.hh"
#include "core/engine/strangers.hh"
#include "core/http/upgrade.hh"
#include "core/relay/datagram_exit.hh"
#include "core/relay/dialer.hh"
#include "core/relay/echo_exit.hh"
#include "core/relay/target.hh"

namespace burin::engine {

// What all sessions of a server share, read-only but for the counters.
struct server_shared {
    explicit server_shared(const server_settings& s)
        : settings(&s), delays({.first = s.login_delay}) {}

    const server_settings* settings;
    ssh::settings transport;
    logger* log = nullptr;
    logger* requests = nullptr;              // -v: a line for every HTTP request answered
    std::atomic<std::uint32_t> sessions{0};  // numbers given
    // Connections before login, by worker; each list belongs to its worker's thread.
    std::vector<std::unique_ptr<strangers>> early;
    std::atomic<std::uint64_t> late{0};  // of them, ended because no login came in time
    seldom crowd_lines{60 * ring::second};
    login_delays delays;
    std::atomic<std::uint32_t> waiting{0};  // logins whose answer waits
    // By worker; empty: this server does not ping for its clients.
    std::vector<std::unique_ptr<echo_service>> echoes;

    http::feature_set features() const noexcept {
        const http::feature_set all = http::feature_set::all();
        return echoes.empty() ? all.without(http::feature::echo) : all;
    }
};

class server_session final : public link, private stranger, private relay::datagram_observer {
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
    void on_held(std::size_t bytes) noexcept override;
    // ---- stranger ----
    void make_room(std::string_view why) noexcept override;
    // ---- transport ----
    void on_authenticated(std::string_view user) override;
    ssh::login_answer on_login_failure(std::string_view user, std::string_view method,
                                       unsigned attempt) override;
    ssh::login_answer on_login_right() override;
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
    void tell_crowd() noexcept;
    ssh::login_answer answer_after(ring::microseconds_t delay) noexcept;
    void stop_waiting() noexcept;
    void on_login_due(ring::microseconds_t) noexcept;

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
    std::uint32_t _dials = 0;    // pending
    bool _configured = false;    // chisel: the config request was answered
    bool _refused = false;       // the same, with a failure, which is logged
    bool _opened = false;        // logged as open
    bool _carries_echo = false;  // both ends name the feature
    bool _made_room = false;     // ended for another connection's sake
    ring::microseconds_t _started;
    ring::member_timer<&server_session::on_login_due> _login_due{this};
};

}  // namespace burin::engine
