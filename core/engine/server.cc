#include "core/engine/server.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "core/engine/listener.hh"
#include "core/engine/server_session.hh"
#include "core/engine/supervisor.hh"
#include "core/ssh/authentication_policy.hh"
#include "core/ssh/authorized_keys.hh"
#include "crypto/host_key.hh"
#include "crypto/public_key.hh"

namespace burin::engine {

namespace {

// The one listener: on worker 0, deals to the worker with the fewest sessions.
class front final : public resident {
  public:
    front(worker& home, int descriptor, server_shared& shared,
          std::vector<std::unique_ptr<worker>>& workers)
        : _home(home),
          _shared(shared),
          _workers(workers),
          _listener(home, descriptor, this,
                    [](void* self, int fd) noexcept { static_cast<front*>(self)->deal(fd); }) {
        home.add(*this);
    }
    ~front() override { _home.remove(*this); }

    void leave() noexcept override {
        _listener.stop();
        _home.remove(*this);
    }
    void report(std::string& into) const override {
        into += fmt::format("listener: evicted-before-login={} pauses={}\n", _shared.evicted.load(),
                            _listener.pauses());
    }

  private:
    void deal(int fd) noexcept {
        relay::endpoint peer = peer_of(fd);
        auto best = std::min_element(_workers.begin(), _workers.end(), [](auto& a, auto& b) {
            return a->load.load(std::memory_order_relaxed) <
                   b->load.load(std::memory_order_relaxed);
        });
        worker& w = **best;
        if (&w == &_home) return server_session::start(w, _shared, fd, peer);
        w.post([this, fd, peer](worker& self) { server_session::start(self, _shared, fd, peer); });
    }

    worker& _home;
    server_shared& _shared;
    std::vector<std::unique_ptr<worker>>& _workers;
    listener _listener;
};

bool add_logins(const server_settings& s, ssh::login_policy& policy, logger& log,
                std::string& error) {
    if (!s.auth.empty()) {
        std::size_t colon = s.auth.find(':');
        if (colon == std::string::npos) {
            error = "invalid auth string, expected <user>:<pass>";
            return false;
        }
        policy.add_user(s.auth.substr(0, colon), crypto::secret_string(s.auth.substr(colon + 1)));
    }
    if (s.authorized_keys.empty()) return true;
    policy.close();
    std::ifstream file(s.authorized_keys);
    if (!file) {
        error = fmt::format("cannot read --authorized-keys {}: {}", s.authorized_keys,
                            relay::errno_words(errno));
        return false;
    }
    std::stringstream text;
    text << file.rdbuf();
    ssh::authorized_keys_reading reading = ssh::parse_authorized_keys(text.str());
    for (const std::string& note : reading.notes)
        log.line(fmt::format("server: {}: {}", s.authorized_keys, escape(note)));
    policy.add_keys(std::move(reading.keys));
    return true;
}

}  // namespace

int run_server(const server_settings& s) {
    block_signals();
    logger log;
    auto fail = [&log](const std::string& why) {
        log.line(why);
        return 1;
    };
    crypto::host_key_reading key;
    if (!s.keyfile.empty())
        key = crypto::load_host_key(s.keyfile);
    else if (!s.key.empty())
        key.key = crypto::host_key::from_seed(s.key);
    else
        key.key = crypto::host_key::generate();
    if (!key.key) return fail(key.error);

    ssh::login_policy policy;
    std::string error;
    if (!add_logins(s, policy, log, error)) return fail(error);

    server_shared shared;
    shared.early.resize(s.workers);
    shared.settings = &s;
    shared.log = &log;
    std::optional<logger> requests;
    if (s.verbose) shared.requests = &requests.emplace(STDOUT_FILENO);
    shared.transport.host_key = &*key.key;
    shared.transport.logins = &policy;
    shared.transport.rekey_bytes = s.rekey_bytes;

    std::string no_echo;
    shared.echoes = open_echo_services(s.workers, no_echo);

    supervisor boss(log);
    int descriptor = listen_on(s.host, s.port, error);
    if (descriptor < 0) return fail(error);
    try {
        if (error = boss.confine({}); !error.empty()) throw std::runtime_error(error);
        boss.start_workers(s.workers, s.worker());
    } catch (const std::exception& e) {
        ::close(descriptor);
        return fail(e.what());
    }
    log.line(fmt::format("server: Fingerprint {}", crypto::fingerprint(key.key->blob())));
    if (policy.open())
        log.line(
            "server: Warning: no --auth and no --authorized-keys: everyone who reaches this port "
            "may use it");
    else
        log.line("server: User authentication enabled");
    if (!no_echo.empty()) log.line(fmt::format("server: {}", no_echo));
    std::unique_ptr<front> entrance;
    worker& first = *boss.workers().front();
    first.post([&](worker& w) {
        entrance = std::make_unique<front>(w, descriptor, shared, boss.workers());
        log.line(fmt::format("server: Listening on http://{}:{}", s.host, s.port));
    });
    int status = boss.run();
    entrance.reset();
    return status;
}

}  // namespace burin::engine
