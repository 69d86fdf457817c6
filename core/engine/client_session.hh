// The client's side of one connection: the upgrade, the login, the config request, then channels
// for local flows (docs/wire.md sections 1 and 7). One attempt, one object; the client_worker above
// makes the next one.
#pragma once

#include <string>

#include "core/engine/link.hh"
#include "core/engine/log.hh"
#include "core/engine/settings.hh"
#include "core/http/upgrade.hh"

namespace burin::engine {

// Who starts sessions and wants to know how they end; outlives them.
class client_session_owner {
  public:
    virtual ~client_session_owner() = default;
    virtual void on_session_ready(ring::microseconds_t latency) noexcept = 0;
    // The session takes no more flows. `error` is empty for a clean disconnect of a session that
    // was ready.
    virtual void on_session_ended(std::string_view error) noexcept = 0;
    virtual void log(bool debug, std::string_view text) noexcept = 0;
    // Whether this server was seen to end streams by EOF, by any session so far: it does not tell
    // its version, and its first CLOSE without EOF must already be known for what it is.
    virtual bool server_sends_eof() const noexcept = 0;
    virtual void note_server_sends_eof() noexcept = 0;
};

class client_session final : public link {
  public:
    // Takes a connected descriptor. `request` is the GET, `key` its Sec-WebSocket-Key; `config` the
    // JSON of the config request. The session frees itself; the owner forgets it at
    // on_session_ended().
    client_session(worker&, client_session_owner&, const client_settings&, const ssh::settings&,
                   int descriptor, std::string request, std::string key, std::string config,
                   ring::microseconds_t connect_deadline);

    // The server pings destinations for us.
    bool carries_echo() const noexcept { return _carries_echo; }

    void on_flow_open(const relay::socket_relay&) noexcept override;
    void on_flow_closed(const relay::socket_relay&) noexcept override;
    void on_flow_refused(const relay::socket_relay&, std::string_view why) noexcept override;

  private:
    std::size_t on_head(bytes_view) noexcept override;
    void on_ended(std::string_view why) noexcept override;
    void log(bool debug, std::string_view text) noexcept override;
    std::string describe() const override { return "session"; }
    std::string flow_prefix(const relay::socket_relay&) const;
    void on_secured() override;
    void on_authenticated(std::string_view user) override;
    void on_open(ssh::channel&, const ssh::channel_open&) noexcept override;
    void on_global_request(const ssh::global_request&) noexcept override;
    void on_other_reply(bool success, bytes_view payload) noexcept override;

    client_session_owner& _owner;
    const client_settings& _settings;
    const ssh::settings& _transport_settings;
    std::string _key;
    std::string _config;
    ring::microseconds_t _config_sent = 0;
    bool _was_ready = false;
    bool _carries_echo = false;
};

}  // namespace burin::engine
