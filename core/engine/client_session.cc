#include "core/engine/client_session.hh"

#include <fmt/format.h>

#include "core/engine/byte_count.hh"

namespace burin::engine {

namespace {
link_options session_options(const client_settings& s) {
    link_options o = s.session();
    o.random_mask = s.random_mask;
    return o;
}
}  // namespace

client_session::client_session(worker& w, client_session_owner& owner,
                               const client_settings& settings,
                               const ssh::settings& transport_settings, int descriptor,
                               std::string request, std::string key, std::string config,
                               ring::microseconds_t connect_deadline)
    : link(w, descriptor, ssh::role::client, session_options(settings)),
      _owner(owner),
      _settings(settings),
      _transport_settings(transport_settings),
      _key(std::move(key)),
      _config(std::move(config)) {
    send_raw(request);
    deadline(connect_deadline, "i/o timeout");
}

std::size_t client_session::on_head(bytes_view bytes) noexcept {
    http::client_answer answer = http::parse_answer(bytes, _key);
    if (answer.what == http::client_answer::kind::need_more) return 0;
    if (answer.what == http::client_answer::kind::refused) {
        end(answer.error);
        return 0;
    }
    log(true, "Handshaking...");
    deadline(_worker.now() + _settings.handshake_timeout, "ssh: handshake failed: i/o timeout");
    _peer_is_go = !answer.peer_is_burin;
    _carries_echo = answer.peer_features.has(http::feature::echo);
    become(framing::websocket, _transport_settings, ssh::dialect::chisel,
           answer.peer_features.has(http::feature::batch));
    if (_owner.server_sends_eof()) _connection->set_peer_sends_eof();
    if (answer.peer_features.has(http::feature::cancel)) _connection->set_takes_opens_back();
    if (answer.peer_features.has(http::feature::unreachable)) _connection->set_tells_unreachable();
    if (answer.peer_features.has(http::feature::early_data)) _connection->set_takes_early_data();
    return answer.consumed;
}

// The server takes packets strictly in order: the config request need not wait for the login's
// answer (docs/wire.md section 1.2).
void client_session::on_secured() {
    if (!_settings.fingerprint.empty())
        log(false, fmt::format("Fingerprint {}", _transport->peer_fingerprint()));
    log(true, "Sending config");
    _config_sent = _worker.now();
    ++_other_requests;
    _connection->request("config", as_bytes(_config));
}

void client_session::on_authenticated(std::string_view) {}

void client_session::on_other_reply(bool, bytes_view payload) noexcept {
    // Go looks at the payload alone, and so must its peers: not empty means refused.
    if (!payload.empty()) return end(escape(as_text(payload)));
    _was_ready = true;
    set_ready();
    _owner.on_session_ready(_worker.now() - _config_sent);
}

void client_session::on_global_request(const ssh::global_request& request) noexcept {
    if (answer(request)) return;
    log(true, fmt::format("Unknown request \"{}\"", escape(request.name)));
}

void client_session::on_open(ssh::channel& c, const ssh::channel_open&) noexcept {
    _connection->refuse(c, ssh::open_failure_reason::prohibited, "Denied outbound connection");
}

std::string client_session::flow_prefix(const relay::socket_relay& r) const {
    return fmt::format("tun: proxy#{}: conn#{}: ", _settings.remotes[r.origin()].text(),
                       r.number());
}

void client_session::on_flow_open(const relay::socket_relay& r) noexcept {
    if (_settings.verbose) log(true, flow_prefix(r) + "Open");
}

void client_session::on_flow_closed(const relay::socket_relay& r) noexcept {
    if (_settings.verbose)
        log(true, fmt::format("{}Close (sent {} received {})", flow_prefix(r),
                              byte_count(r.bytes_sent()), byte_count(r.bytes_received())));
    release();
}

void client_session::on_flow_refused(const relay::socket_relay& r, std::string_view why) noexcept {
    log(false, fmt::format("{}Stream error: {}", flow_prefix(r), escape(why)));
}

void client_session::log(bool debug, std::string_view text) noexcept {
    _owner.log(debug, text);
}

void client_session::on_ended(std::string_view why) noexcept {
    if (why.find("unable to authenticate") != why.npos) log(false, "Authentication failed");
    if (_connection != nullptr && _connection->peer_sends_eof()) _owner.note_server_sends_eof();
    bool clean = _was_ready && (why.empty() || why == "EOF");
    _owner.on_session_ended(clean ? "" : why.empty() ? "EOF" : why);
}

}  // namespace burin::engine
