#include "core/engine/server_session.hh"

#include <fmt/format.h>

#include <algorithm>

#include "core/engine/byte_count.hh"
#include "core/engine/config_request.hh"
#include "core/engine/request_log.hh"
#include "core/ssh/authentication_policy.hh"

namespace burin::engine {

namespace {
constexpr std::string_view no_login = "no login in time";
// What a connection before login holds besides what on_held() is told: the objects themselves, and
// those of SSH once it speaks. Measured, rounded up.
constexpr std::size_t session_bytes = 2048, ssh_bytes = 6144;
}  // namespace

// ---- a dial for a channel ----

class server_session::dialling final : public ssh::channel_end {
  public:
    dialling(server_session& s, ssh::channel& c, relay::target t)
        : _session(s), _channel(c), _target(std::move(t)), _early(s._worker.pieces()) {
        c.end = this;
        _session.hold();
        ++_session._dials;
        _session._worker.dialer().start(_dial, _target.host, _target.port);
    }

    // What reaches a channel that was not accepted yet is early data, and its end: the session is
    // over, or the peer has taken its open back.
    void on_confirmed() noexcept override {}
    void on_refused(ssh::open_failure_reason, std::string_view) noexcept override {}
    void on_data(bytes_span payload, const ring::buffer& holder) noexcept override {
        _early.add(payload, holder);
    }
    void on_eof() noexcept override { _early.ended = true; }
    void on_sendable() noexcept override {}
    void on_closed(ssh::close_cause) noexcept override {
        _dial.cancel();
        --_session._dials;
        _session.release();
        retire();
    }

  private:
    struct grave final : disposable {
        explicit grave(dialling* d) : body(d) {}
        std::unique_ptr<dialling> body;
    };

    void on_dialled(relay::dial&) noexcept {
        server_session& s = _session;
        _channel.end = nullptr;
        --s._dials;
        if (int descriptor = _dial.take_descriptor(); descriptor >= 0) {
            relay::socket_relay::dialled(s._worker.relays(), *s._connection, s, descriptor,
                                         _channel, ++s._flow_number, &_early);
        } else {
            s.log(true, fmt::format("tun: conn#{}: {}", ++s._flow_number, escape(_dial.text())));
            s._connection->refuse(_channel, ssh::open_failure_reason::connect_failed, _dial.text());
            s.release();
        }
        retire();
    }

    // Called from inside our own dial: freed at the end of the turn.
    void retire() noexcept { _session._worker.dispose(std::make_unique<grave>(this)); }

    server_session& _session;
    ssh::channel& _channel;
    relay::target _target;
    relay::early_payload _early;
    relay::member_dial<&dialling::on_dialled> _dial{this};
};

// ---- life ----

void server_session::start(worker& w, server_shared& shared, int descriptor,
                           const relay::endpoint& peer) {
    new server_session(w, shared, descriptor, peer);  // frees itself: see link
}

server_session::server_session(worker& w, server_shared& shared, int descriptor,
                               const relay::endpoint& peer)
    : link(w, descriptor, ssh::role::server, shared.settings->session()),
      _shared(shared),
      _peer(peer),
      _upgrade(BURIN_VERSION, shared.features()),
      _started(w.now()) {
    _early = true;
    if (!_shared.early[w.index()]->add(*this)) tell_crowd();
    on_held(0);
    deadline(w.now() + shared.settings->login_timeout, no_login);
}

server_session::~server_session() {
    leave_early();
}

// ---- before login ----

void server_session::leave_early() noexcept {
    if (!_early) return;
    _early = false;
    _shared.early[_worker.index()]->remove(*this);
}

void server_session::on_held(std::size_t bytes) noexcept {
    bytes += session_bytes + (_transport == nullptr ? 0 : ssh_bytes);
    if (!_shared.early[_worker.index()]->hold(*this, bytes)) tell_crowd();
}

void server_session::make_room(std::string_view why) noexcept {
    _made_room = true;
    end(why);
}

void server_session::tell_crowd() noexcept {
    if (!_shared.crowd_lines.now_and_then(_worker.now())) return;
    std::uint64_t ended = 0;
    for (const auto& each : _shared.early)
        ended += each->counters().for_number + each->counters().for_memory;
    const stranger_limits& limits = _shared.early[_worker.index()]->limits();
    _shared.log->line(fmt::format(
        "server: Too many connections before login: {} made room for others so far (limits of "
        "each worker: {} connections, {} MiB)",
        ended, limits.connections, limits.bytes >> 20));
}

void server_session::log(bool debug, std::string_view text) noexcept {
    if (debug && !_shared.settings->verbose) return;
    if (_number == 0)
        _shared.log->line(fmt::format("server: {}: {}", _peer.text(), text));
    else
        _shared.log->line(fmt::format("server: session#{}: {}", _number, text));
}

std::string server_session::describe() const {
    return fmt::format("session#{} {} user={} remotes={}", _number, _peer.text(), _user,
                       escape(_remotes));
}

// ---- the head ----

std::size_t server_session::on_head(bytes_view bytes) noexcept {
    switch (http::detect(bytes)) {
        case http::protocol::need_more: return 0;
        case http::protocol::ssh:
            if (_shared.transport.logins->open()) {
                log(false,
                    "refused a native SSH client: the server has no credentials "
                    "(give it --auth or --authorized-keys)");
                end("");
                return 0;
            }
            _number = ++_shared.sessions;
            become(framing::native, _shared.transport, ssh::dialect::native, false);
            return 0;
        case http::protocol::tls:
            log(false, "refused a TLS client: this server speaks plain HTTP and SSH");
            end("");
            return 0;
        default: return on_http(bytes);
    }
}

std::size_t server_session::on_http(bytes_view bytes) noexcept {
    const ring::microseconds_t arrived = ring::monotonic_now();
    http::server_decision d = _upgrade.feed(bytes);
    if (d.what == http::server_decision::kind::need_more) return 0;
    if (!d.log.empty()) log(false, d.log);
    send_raw(d.response);
    if (_shared.requests != nullptr && !d.request.empty())
        _shared.requests->raw(
            request_line(d, _peer, std::chrono::system_clock::now(),
                         std::chrono::microseconds(ring::monotonic_now() - arrived)));
    if (d.what == http::server_decision::kind::tunnel) {
        _number = ++_shared.sessions;
        log(true, fmt::format("Handshaking with {}...", _peer.text()));
        become(framing::websocket, _shared.transport, ssh::dialect::chisel,
               d.peer_features.has(http::feature::batch));
        _peer_is_go = !d.peer_is_burin;
        if (d.peer_features.has(http::feature::cancel)) _connection->set_takes_opens_back();
        if (d.peer_features.has(http::feature::unreachable)) _connection->set_tells_unreachable();
        if (d.peer_features.has(http::feature::early_data)) _connection->set_takes_early_data();
        _carries_echo = (d.peer_features & _shared.features()).has(http::feature::echo);
    } else if (d.close) {
        finish_raw();
    }
    return d.consumed;
}

// ---- login ----

void server_session::on_authenticated(std::string_view user) {
    _user = escape(user);  // as it is logged
    leave_early();
    if (_transport->is_native()) {
        _configured = true;
        set_ready();
        _opened = true;
        log(false, fmt::format("Open (user={} addr={} ssh)", _user, _peer.text()));
        return;
    }
    deadline(_worker.now() + _shared.settings->config_timeout, "timeout waiting for configuration");
}

ssh::login_answer server_session::on_login_failure(std::string_view user, std::string_view method,
                                                   unsigned attempt) {
    log(false, fmt::format("Login failed for user \"{}\" ({})", escape(user), _peer.text()));
    log(true, fmt::format("attempt {} was by {}", attempt, escape(method)));
    return answer_after(_shared.delays.failed(_peer, _worker.now()));
}

ssh::login_answer server_session::on_login_right() {
    return answer_after(_shared.delays.right(_peer, _worker.now()));
}

ssh::login_answer server_session::answer_after(ring::microseconds_t delay) noexcept {
    if (delay == 0) return ssh::login_answer::now;
    ++_shared.waiting;
    hold_login();
    _worker.timers().arm(_login_due, _worker.now() + delay);
    return ssh::login_answer::later;
}

void server_session::stop_waiting() noexcept {
    if (!_login_due.armed()) return;
    _login_due.disarm();
    --_shared.waiting;
}

void server_session::on_login_due(ring::microseconds_t) noexcept {
    --_shared.waiting;
    resume_login();
}

void server_session::on_config(const ssh::global_request& request) noexcept {
    log(true, "Verifying configuration");
    auto config = parse_config(as_text(request.rest));
    if (!config) return refuse_config("server: invalid config");
    if (auto difference = version_difference(config->version, BURIN_VERSION); !difference.empty())
        log(false, difference);
    if (ends_streams_by_eof(config->version)) _connection->set_peer_sends_eof();
    for (const remote& r : config->remotes)
        if (r.reverse)
            return refuse_config("server: Reverse port forwarding not enabled on server");
    for (const remote& r : config->remotes) _remotes += (_remotes.empty() ? "" : ",") + r.text();
    _connection->reply(true, {});
    _configured = true;
    _opened = true;
    set_ready();
    log(false,
        fmt::format("Open (user={} addr={} remotes={})", _user, _peer.text(), escape(_remotes)));
}

void server_session::on_global_request(const ssh::global_request& request) noexcept {
    if (!_configured) {
        // As from Go's server: nothing is answered any more.
        if (_refused) return;
        if (request.name != "config") {
            _connection->reply(false, as_bytes("server: expecting config request"));
            return end("expected a config request");
        }
        return on_config(request);
    }
    if (answer(request)) return;
    log(true, fmt::format("Unknown request \"{}\"", escape(request.name)));
    // Replies are matched by order: a native client waits for one, Go's ignores what it did not
    // expect.
    if (request.want_reply) _connection->reply(false, {});
}

// The connection stays until the client has read why, and ends it (docs/wire.md section 7); it may
// not ask again.
void server_session::refuse_config(std::string_view why) noexcept {
    _connection->reply(false, as_bytes(why));
    _refused = true;
    log(false, fmt::format("Failed to handshake ({}): {}", _peer.text(), why));
}

// ---- channels ----

void server_session::on_open(ssh::channel& c, const ssh::channel_open& open) noexcept {
    std::optional<relay::target> target;
    if (_transport->is_native()) {
        if (open.type != "direct-tcpip")
            return _connection->refuse(c, ssh::open_failure_reason::unknown_type,
                                       "unknown channel type");
        wire::reader r(open.rest);
        std::string_view host = r.text();
        std::uint32_t port = r.u32();
        r.string();
        r.u32();
        if (r.done() && port > 0 && port < 65536) {
            target.emplace();
            target->host = host;
            target->port = static_cast<std::uint16_t>(port);
        }
    } else {
        if (!_configured)
            return _connection->refuse(c, ssh::open_failure_reason::prohibited,
                                       "not configured yet");
        if (open.type == relay::echo_channel_type) return open_echo(c);
        target = relay::parse_target(as_text(open.rest));
    }
    if (!target)
        return _connection->refuse(c, ssh::open_failure_reason::connect_failed, "invalid target");
    if (target->what == relay::target::kind::socks)
        return _connection->refuse(c, ssh::open_failure_reason::prohibited,
                                   "SOCKS5 is not enabled");
    if (target->what == relay::target::kind::udp) return open_datagrams(c, std::move(*target));
    // Silent addresses hold a dial, and a descriptor, for its whole time.
    relay::dialer& dialer = _worker.dialer();
    if (_dials >= most_session_dials(_worker.budget().channel_limit()) || !dialer.has_room()) {
        ++dialer.counters.refused;
        return _connection->refuse(c, ssh::open_failure_reason::shortage,
                                   "too many destinations that have not answered yet");
    }
    new dialling(*this, c, std::move(*target));  // frees itself
}

void server_session::on_flow_open(const relay::socket_relay& r) noexcept {
    ++_open_flows;
    log(true, fmt::format("tun: conn#{}: Open [{}/{}]", r.number(), _open_flows, _flow_number));
}

void server_session::on_flow_closed(const relay::socket_relay& r) noexcept {
    --_open_flows;
    if (_shared.settings->verbose) {
        log(true, fmt::format("tun: conn#{}: sent {} received {}", r.number(),
                              byte_count(r.bytes_received()), byte_count(r.bytes_sent())));
        log(true,
            fmt::format("tun: conn#{}: Close [{}/{}]", r.number(), _open_flows, _flow_number));
    }
    release();
}

void server_session::open_datagrams(ssh::channel& c, relay::target target) noexcept {
    ++_open_flows;
    ++_flow_number;
    log(true, fmt::format("conn#{}: Open [{}/{}]", _flow_number, _open_flows, _flow_number));
    relay::datagram_exit::start(_worker.datagrams(), _worker.resolver(), *_connection, *this, c,
                                std::move(target), _flow_number);
}

// Whoever is let in may reach every address, and so ping it.
void server_session::open_echo(ssh::channel& c) noexcept {
    if (!_carries_echo)
        return _connection->refuse(c, ssh::open_failure_reason::unknown_type,
                                   "unknown channel type");
    if (_echo != nullptr && !_echo->over())
        return _connection->refuse(c, ssh::open_failure_reason::shortage,
                                   "this session has its echo channel");
    log(true, "echo: Open");
    _echo = std::make_unique<relay::echo_exit>(
        _worker.relays(), _shared.echoes[_worker.index()]->pinger(_worker), *_connection, c);
}

void server_session::on_datagrams_over(const relay::datagram_exit& e,
                                       std::string_view why) noexcept {
    --_open_flows;
    if (!why.empty())
        log(false, fmt::format("conn#{}: {}/udp: {}: channel closed", e.number(),
                               escape(e.target().text()), why));
    log(true, fmt::format("conn#{}: sent {} received {}", e.number(), byte_count(e.bytes_sent()),
                          byte_count(e.bytes_received())));
    log(true, fmt::format("conn#{}: Close [{}/{}]", e.number(), _open_flows, _flow_number));
}

void server_session::on_datagrams_unresolved(const relay::datagram_exit& e,
                                             std::string_view why) noexcept {
    log(false,
        fmt::format("conn#{}: {}/udp: {}", e.number(), escape(e.target().text()), escape(why)));
}

void server_session::on_ended(std::string_view why) noexcept {
    if (_early && why == no_login) ++_shared.late;
    leave_early();
    stop_waiting();
    // One line tells of all of these.
    if (_made_room) return log(true, why);
    if (_number == 0) {
        if (!why.empty() && why != "EOF") log(true, why);
        return;
    }
    auto seconds = static_cast<double>(_worker.now() - _started) / 1e6;
    bool clean = why.empty() || why == "EOF";
    std::string error = clean ? "" : fmt::format(" (error {})", why);
    if (_opened)
        log(false, fmt::format("Close (user={} addr={} duration={:.3f}s){}", _user, _peer.text(),
                               seconds, error));
    else if (clean)
        log(true, "Closed connection");
    else if (_refused)
        log(true, fmt::format("Closed connection: {}", why));
    else
        log(false, fmt::format("Failed to handshake ({}): {}", _peer.text(), why));
}

}  // namespace burin::engine
