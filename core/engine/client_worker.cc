#include "core/engine/client_worker.hh"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>

#include "core/engine/byte_count.hh"
#include "core/engine/config_request.hh"
#include "core/engine/duration.hh"
#include "crypto/random.hh"

namespace burin::engine {

namespace {
// Frames of the TUN on their way to one worker: each may be a superframe of 64 KiB. What is more is
// dropped, and the host sends it again.
constexpr std::uint32_t most_handed_over = 64;
// An attempt older than this when routes have changed is made anew.
inline constexpr ring::microseconds_t dial_patience = ring::second;
}  // namespace

// ---- shared ----

std::string client_shared::prepare() {
    proxy_flows.resize(settings->remotes.size());
    url = http::parse_url(settings->server);
    if (!url.error.empty()) return url.error;
    if (url.tls) return "https:// and wss:// are not supported yet: use http://";
    headers = settings->headers;
    if (!settings->hostname.empty()) headers.set("Host", settings->hostname);
    std::array<std::byte, 16> nonce{};
    if (auto request = http::build_request(url, headers, nonce); !request.error.empty())
        return request.error;
    if (!settings->auth.empty()) {
        const std::string_view auth = settings->auth.view();
        const std::size_t colon = auth.find(':');
        if (colon == auth.npos) return "invalid auth string, expected <user>:<pass>";
        transport.user = auth.substr(0, colon);
        transport.password = crypto::secret_string(auth.substr(colon + 1));
    }
    transport.fingerprint = settings->fingerprint;
    transport.guess_key_exchange = true;
    transport.rekey_bytes = settings->rekey_bytes;
    transport.ciphers = settings->ciphers;
    return {};
}

void session_ways::set(std::size_t worker, std::uint64_t session, const tun::way& way) {
    std::lock_guard held(_lock);
    _ways[worker] = {session, way};
}

std::vector<std::uint64_t> session_ways::lost(tun_device& tunnel) {
    std::vector<entry> taken;
    {
        std::lock_guard held(_lock);
        taken = _ways;
    }
    std::vector<std::uint64_t> numbers;
    for (const entry& one : taken)
        numbers.push_back(one.session != 0 && tunnel.lost(one.way) ? one.session : 0);
    return numbers;
}

std::string open_entry(entry& e) {
    std::string error;
    std::string host = e.what.local_host;
    if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
    auto port = static_cast<std::uint16_t>(port_number(e.what.local_port));
    e.descriptor =
        e.what.datagrams() ? bind_datagrams(host, port, error) : listen_on(host, port, error);
    if (e.descriptor < 0)
        return fmt::format("Client cannot listen on {}: {}", e.what.text(), error);
    // Inherited by every connection: one that never gets a session ends with a reset, whatever ends
    // it, and not as an answer that is empty and complete.
    linger hard{1, 0};
    setsockopt(e.descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    return {};
}

struct client_worker::gate {
    gate(client_worker& c, std::size_t i, const entry& e)
        : owner(c),
          index(i),
          what(e.what),
          door(c._worker, e.descriptor, this, [](void* self, int fd) noexcept {
              auto& g = *static_cast<gate*>(self);
              g.owner.on_accepted(fd, g.index);
          }) {}
    client_worker& owner;
    std::size_t index;
    remote what;
    listener door;
};

// All who send to one local UDP port share a channel of this worker's session.
struct client_worker::datagram_gate final : relay::datagram_uplink {
    datagram_gate(client_worker& c, const entry& e)
        : owner(c),
          name(fmt::format("tun: proxy#{}", e.what.text())),
          door(c._worker.datagrams(), *this, e.descriptor, e.what.target()) {}

    ssh::connection* session() noexcept override {
        client_session* s = owner.session();
        return s == nullptr ? nullptr : &s->channels();
    }
    void on_entry_open(const relay::datagram_entry&) noexcept override {
        owner.log(true, name + ": Open");
    }
    void on_entry_failed(const relay::datagram_entry&, std::string_view why) noexcept override {
        owner.log(false, fmt::format("{}: Stream error: {}", name, escape(why)));
    }
    void on_entry_closed(const relay::datagram_entry& e) noexcept override {
        owner.log(true, fmt::format("{}: Close (sent {} received {})", name,
                                    byte_count(e.bytes_sent()), byte_count(e.bytes_received())));
    }
    void on_entry_stopped(const relay::datagram_entry&) noexcept override {}

    client_worker& owner;
    std::string name;
    relay::datagram_entry door;
};

// ---- life ----

client_worker::client_worker(worker& w, client_shared& shared)
    : _worker(w),
      _shared(shared),
      _backoff(shared.settings->min_retry_interval, shared.settings->max_retry_interval,
               shared.settings->max_retry_count) {
    for (const remote& r : shared.settings->remotes) _targets.push_back(r.target());
}

client_worker::~client_worker() = default;

void client_worker::log(bool debug, std::string_view text) noexcept {
    if (debug && !_shared.settings->verbose) return;
    if (first())
        _shared.log->line(fmt::format("client: {}", text));
    else
        _shared.log->line(fmt::format("client: session#{}: {}", _worker.index() + 1, text));
}

void client_worker::leave() noexcept {
    _leaving = true;
    _retry.disarm();
    _waiting_timer.disarm();
    _dial.cancel();
    for (auto& g : _gates) g->door.stop();
    for (auto& g : _datagram_gates) g->door.stop();
    for (const waiting& w : _waiting) ::close(w.descriptor);
    _waiting.clear();
    _worker.remove(*this);
}

void client_worker::report(std::string& into) const {
    into +=
        fmt::format("client worker {}: {} waiting={} frames-not-handed-over={}\n", _worker.index(),
                    live() ? "connected" : "not connected", _waiting.size(), _not_handed_over);
}

void client_worker::count(tally& t) const {
    t.add(metric::connected, live() ? 1 : 0);
    t.add(metric::connect_attempts, _attempts);
    t.add(metric::reconnections, _times_ready > 0 ? _times_ready - 1 : 0);
    t.add(metric::sessions_lost, _times_lost);
    t.add(metric::connections_waiting, _waiting.size());
    t.add(metric::drops, _not_handed_over, "kind=\"tun\",reason=\"not_handed_over\"");
}

// ---- the session ----

void client_worker::connect() noexcept {
    if (_leaving) return;
    if (_dialer == nullptr) {
        _worker.add(*this);
        _worker.at_end([this] {
            _dialer.reset();
            _gates.clear();
            _datagram_gates.clear();
        });
        _dialer = std::make_unique<relay::dialer>(
            _worker.ring(), _worker.timers(), _worker.resolver(),
            relay::dial_settings{.timeout = _shared.settings->connect_timeout,
                                 .prepare = _shared.prepare_socket});
    }
    if (first()) log(false, fmt::format("Connecting to {}", _shared.url.text));
    ++_attempts;
    _dialled_since = _worker.now();
    _connect_deadline = _dialled_since + _shared.settings->connect_timeout;
    _by_memory = false;
    _dialer->start(_dial, _shared.url.host, _shared.url.port);
}

void client_worker::on_dialled(relay::dial&) noexcept {
    int descriptor = _dial.take_descriptor();
    // A resolver of this machine may ask through the tunnel, which waits for this very answer.
    if (descriptor < 0 && _dial.lookup().error() != relay::lookup_error::none && _reached &&
        !_by_memory) {
        const std::string host = tun::ip_address::from(*_reached->address())->text();
        log(false, fmt::format("{}: trying {}, where it was", _dial.text(), host));
        _by_memory = true;
        return _dialer->start(_dial, host, _shared.url.port);
    }
    if (descriptor < 0) return failed(_dial.text());
    _reached = _dial.peer();
    ++_session_number;
    if (_shared.tunnel != nullptr)
        if (auto way = _shared.tunnel->way_of(descriptor))
            _shared.ways->set(_worker.index(), _session_number, *way);
    std::array<std::byte, 16> nonce;
    crypto::fill_random(nonce);
    http::upgrade_request request = http::build_request(_shared.url, _shared.headers, nonce);
    // The first session declares the remotes; all of them carry flows.
    std::string config =
        write_config({BURIN_VERSION, first() ? _shared.settings->remotes : std::vector<remote>{}});
    _session = new client_session(_worker, *this, *_shared.settings, _shared.transport, descriptor,
                                  std::move(request.bytes), std::move(request.key),
                                  std::move(config), _connect_deadline);
}

void client_worker::on_session_ready(ring::microseconds_t latency) noexcept {
    _ready_since = _worker.now();
    _live = true;
    ++_times_ready;
    if (_shared.tunnel != nullptr && _shared.tunnel->steering() != nullptr)
        _shared.tunnel->steering()->gained(_worker.index());
    log(false,
        fmt::format("Connected (Latency {})", duration_text(std::chrono::microseconds(latency))));
    if (_tun != nullptr) _tun->session_ready();
    for (auto& g : _datagram_gates) g->door.session_ready();
    if (first())
        serve_waiting();
    else
        _shared.clients->front()->_worker.post(
            [this](worker&) { _shared.clients->front()->serve_waiting(); });
}

void client_worker::on_session_ended(std::string_view error) noexcept {
    bool was_live = _live;
    _live = false;
    _session = nullptr;
    if (was_live && _shared.tunnel != nullptr && _shared.tunnel->steering() != nullptr)
        _shared.tunnel->steering()->lost(_worker.index());
    if (_leaving) return;
    if (was_live) log(false, "Disconnected");
    if (was_live) ++_times_lost;
    failed(error, was_live ? _worker.now() - _ready_since : 0);
}

void client_worker::failed(std::string_view error, ring::microseconds_t session) noexcept {
    if (_leaving) return;
    backoff::step step = _backoff.failed(error, session);
    if (!step.error_line.empty()) log(false, step.error_line);
    if (!step.next_line.empty()) log(false, step.next_line);
    if (step.delay)
        _worker.timers().arm(_retry, _worker.now() + *step.delay);
    else if (first())
        _shared.finish(1);
}

void client_worker::on_retry(ring::microseconds_t) noexcept {
    connect();
}

void client_worker::retry_now() noexcept {
    if (!_retry.armed()) return;
    _retry.disarm();
    connect();
}

void client_worker::way_changed(std::uint64_t lost) noexcept {
    if (_leaving) return;
    if (_session != nullptr) {
        if (lost == _session_number)
            _session->end("the way to the server is gone from this machine");
    } else if (_dial.pending() && _worker.now() - _dialled_since > dial_patience) {
        _dial.cancel();
        connect();
    } else {
        retry_now();
    }
}

// ---- local connections ----

void client_worker::take_tun(tun::descriptor queue) noexcept {
    try {
        _tun = std::make_unique<tun_intake>(_worker, *this, _shared, std::move(queue));
        _worker.at_end([this] { _tun.reset(); });
    } catch (const std::exception& e) {
        log(false, fmt::format("tun: {}", e.what()));
        _shared.finish(1);
    }
}

unsigned client_worker::hand_over(bytes_view frame, unsigned to) noexcept {
    client_worker* c = nullptr;
    if (to == relay::tun_strays::anybody)
        c = next_live();
    else if (to < _shared.clients->size())
        c = (*_shared.clients)[to].get();
    if (c == nullptr || c == this) return relay::tun_strays::nobody;
    const unsigned number = c->_worker.index();
    if (c->_handed_over.load(std::memory_order_relaxed) >= most_handed_over) {
        ++_not_handed_over;
        return number;
    }
    ++c->_handed_over;
    c->_worker.post(
        [c, copy = byte_vector(frame.begin(), frame.end()), from = _worker.index()](worker&) {
            --c->_handed_over;
            if (c->_tun != nullptr && !c->_leaving) c->_tun->adopt(copy, from);
        });
    return number;
}

void client_worker::tell_flow_carried(const tun::flow_key& key, unsigned home) noexcept {
    client_worker* c = (*_shared.clients)[home].get();
    c->_worker.post([c, key, by = _worker.index()](worker&) {
        if (c->_tun != nullptr) c->_tun->carried(key, by);
    });
}

void client_worker::tell_flow_closed(const tun::flow_key& key, unsigned home) noexcept {
    client_worker* c = (*_shared.clients)[home].get();
    c->_worker.post([c, key, by = _worker.index()](worker&) {
        if (c->_tun != nullptr) c->_tun->forget_carried(key, by);
    });
}

void client_worker::pass_on(const tun::icmp_report& report) noexcept {
    _worker.post([this, report](worker&) {
        if (_tun != nullptr) _tun->hear(report);
    });
}

void client_worker::listen(const std::vector<entry>& entries) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
        if (entries[i].what.datagrams()) {
            _datagram_gates.push_back(std::make_unique<datagram_gate>(*this, entries[i]));
            if (live()) _datagram_gates.back()->door.session_ready();
        } else {
            _gates.push_back(std::make_unique<gate>(*this, i, entries[i]));
        }
        log(false, fmt::format("tun: proxy#{}: Listening", entries[i].what.text()));
    }
    log(true, "tun: Bound proxies");
}

client_worker* client_worker::next_live() noexcept {
    auto& all = *_shared.clients;
    for (std::size_t i = 0; i < all.size(); ++i) {
        client_worker* c = all[_turn++ % all.size()].get();
        if (c->live()) return c;
    }
    return nullptr;
}

void client_worker::on_accepted(int descriptor, std::size_t entry_index) noexcept {
    if (_leaving) {
        ::close(descriptor);
        return;
    }
    client_worker* c = next_live();
    if (c == this) return take(descriptor, entry_index);
    if (c != nullptr) {
        c->_worker.post(
            [c, descriptor, entry_index](worker&) { c->take(descriptor, entry_index); });
        return;
    }
    ring::microseconds_t limit = _worker.now() + _shared.settings->session_wait;
    _waiting.push_back({descriptor, entry_index, limit});
    if (!_waiting_timer.armed()) _worker.timers().arm(_waiting_timer, limit);
}

void client_worker::take(int descriptor, std::size_t entry_index) noexcept {
    if (_session == nullptr || !_session->ready()) {
        client_worker* dealer = _shared.clients->front().get();
        if (dealer == this) return on_accepted(descriptor, entry_index);
        dealer->_worker.post([dealer, descriptor, entry_index](worker&) {
            dealer->on_accepted(descriptor, entry_index);
        });
        return;
    }
    _session->hold();
    relay::socket_relay::start(_worker.relays(), _session->channels(), *_session, descriptor,
                               "chisel", as_bytes(_targets[entry_index]),
                               ++_shared.proxy_flows[entry_index],
                               static_cast<std::uint32_t>(entry_index));
}

void client_worker::serve_waiting() noexcept {
    std::deque<waiting> all;
    all.swap(_waiting);
    _waiting_timer.disarm();
    for (const waiting& w : all) on_accepted(w.descriptor, w.entry_index);
}

void client_worker::on_waiting_expired(ring::microseconds_t now) noexcept {
    while (!_waiting.empty() && _waiting.front().deadline <= now) {
        log(true, "tun: no session in time: connection closed");
        ::close(_waiting.front().descriptor);
        _waiting.pop_front();
    }
    if (!_waiting.empty()) _worker.timers().arm(_waiting_timer, _waiting.front().deadline);
}

}  // namespace burin::engine
