#include "core/engine/server.hh"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "core/engine/listener.hh"
#include "core/engine/path_congestion.hh"
#include "core/engine/server_session.hh"
#include "core/engine/supervisor.hh"
#include "core/ssh/authentication_policy.hh"
#include "core/ssh/authorized_keys.hh"
#include "crypto/host_key.hh"
#include "crypto/public_key.hh"

namespace burin::engine {

namespace {

// Descriptors have run out: those who are not in give way to those who are, and to whoever comes
// next. Asked by any worker; its object lives as long as the workers.
class descriptor_relief {
  public:
    descriptor_relief(server_shared& shared, std::vector<std::unique_ptr<worker>>& workers)
        : _shared(shared), _workers(workers) {}

    // Whether there is anybody who can.
    bool make_room(worker& asking) noexcept {
        if (_descriptor_lines.now_and_then(asking.now()))
            _shared.log->line(
                "server: No descriptors are left: new connections wait, and some before login make "
                "room (raise the limit, ulimit -n)");
        std::size_t there = 0;
        for (const auto& each : _shared.early) there += each->counters().connections;
        // A thousand that find none at once are helped by the same few.
        if (there == 0 || !_rounds.now_and_then(asking.now())) return there != 0;
        for (auto& each : _workers) {
            auto shed = [this](worker& self) { _shared.early[self.index()]->shed(); };
            if (each.get() == &asking)
                shed(asking);
            else
                each->post(shed);
        }
        return true;
    }

  private:
    server_shared& _shared;
    std::vector<std::unique_ptr<worker>>& _workers;
    seldom _descriptor_lines{60 * ring::second};
    seldom _rounds{10 * ring::millisecond};
};

// The one listener: on worker 0, deals to the worker with the fewest sessions.
class front final : public resident {
  public:
    front(worker& home, int descriptor, server_shared& shared,
          std::vector<std::unique_ptr<worker>>& workers, descriptor_relief& relief)
        : _home(home),
          _shared(shared),
          _workers(workers),
          _relief(relief),
          _listener(
              home, descriptor, this,
              [](void* self, int fd) noexcept { static_cast<front*>(self)->deal(fd); },
              [](void* self) noexcept { static_cast<front*>(self)->make_room(); }) {
        home.add(*this);
    }
    ~front() override { _home.remove(*this); }

    void leave() noexcept override {
        _listener.stop();
        _home.remove(*this);
    }
    void report(std::string& into) const override {
        std::uint64_t now = 0, bytes = 0, evicted = 0, memory = 0, descriptors = 0;
        stranger_limits limits;
        for (const auto& each : _shared.early) {
            const stranger_counters& c = each->counters();
            now += c.connections;
            bytes += c.bytes;
            evicted += c.for_number;
            memory += c.for_memory;
            descriptors += c.for_descriptors;
            limits.connections += each->limits().connections;
            limits.bytes += each->limits().bytes;
        }
        const login_delays::numbers logins = _shared.delays.report();
        into += fmt::format(
            "listener: before-login={}/{} bytes={}/{} evicted-before-login={} for-memory={} "
            "for-descriptors={} too-late={} pauses={}\n",
            now, limits.connections, bytes, limits.bytes, evicted, memory, descriptors,
            _shared.late.load(), _listener.pauses());
        into += fmt::format("listener: failed-logins={} addresses={} waiting={}\n", logins.failures,
                            logins.addresses, _shared.waiting.load());
    }
    void count(tally& t) const override { t.add(metric::accept_pauses, _listener.pauses()); }

  private:
    void make_room() noexcept { _relief.make_room(_home); }

    void deal(int fd) noexcept {
        relay::endpoint peer = peer_of(fd);
        auto best = std::min_element(_workers.begin(), _workers.end(), [](auto& a, auto& b) {
            return a->load.load(std::memory_order_relaxed) <
                   b->load.load(std::memory_order_relaxed);
        });
        worker& w = **best;
        if (&w == &_home) return server_session::start(w, _shared, fd, peer);
        // Counted from here on: several may be dealt before the first is there.
        ++w.load;
        w.post([this, fd, peer](worker& self) {
            server_session::start(self, _shared, fd, peer);
            --self.load;
        });
    }

    worker& _home;
    server_shared& _shared;
    std::vector<std::unique_ptr<worker>>& _workers;
    descriptor_relief& _relief;
    listener _listener;
};

// What belongs to no worker; any thread.
void count_shared(tally& t, const server_shared& shared) {
    for (const auto& each : shared.early) {
        const stranger_counters& c = each->counters();
        t.add(metric::strangers, c.connections);
        t.add(metric::strangers_limit, each->limits().connections);
        t.add(metric::strangers_bytes, c.bytes);
        t.add(metric::strangers_bytes_limit, each->limits().bytes);
        t.add(metric::strangers_ended, c.for_number, "reason=\"number\"");
        t.add(metric::strangers_ended, c.for_memory, "reason=\"memory\"");
        t.add(metric::strangers_ended, c.for_descriptors, "reason=\"descriptors\"");
    }
    t.add(metric::strangers_ended, shared.late, "reason=\"too_late\"");
    t.add(metric::login_failures, shared.delays.report().failures);
    t.add(metric::logins_waiting, shared.waiting);
}

// What the strangers of a server may take, dealt to its workers.
std::vector<std::unique_ptr<strangers>> make_room_for_strangers(const server_settings& s) {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    const auto limits = stranger_limits::of_server(files.rlim_cur, s.memory_bytes * s.workers);
    std::vector<std::unique_ptr<strangers>> out;
    for (unsigned i = 0; i < s.workers; ++i)
        out.push_back(std::make_unique<strangers>(limits.share(s.workers)));
    return out;
}

bool add_logins(const server_settings& s, ssh::login_policy& policy, logger& log,
                std::string& error) {
    if (!s.auth.empty()) {
        const std::string_view auth = s.auth.view();
        const std::size_t colon = auth.find(':');
        if (colon == auth.npos) {
            error = "invalid auth string, expected <user>:<pass>";
            return false;
        }
        policy.add_user(std::string(auth.substr(0, colon)),
                        crypto::secret_string(auth.substr(colon + 1)));
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
    open_descriptor_table();
    logger log;
    auto fail = [&log](const std::string& why) {
        log.line(why);
        return 1;
    };
    crypto::host_key_reading key;
    if (!s.keyfile.empty()) {
        std::string name_or_key(s.keyfile.view());
        key = crypto::load_host_key(name_or_key);
        crypto::wipe(name_or_key.data(), name_or_key.size());
    } else if (!s.key.empty()) {
        key.key = crypto::host_key::from_seed(s.key.view());
    } else {
        key.key = crypto::host_key::generate();
    }
    crypto::wipe_stack();
    if (!key.key) return fail(key.error);

    ssh::login_policy policy;
    std::string error;
    if (!add_logins(s, policy, log, error)) return fail(error);

    server_shared shared(s);
    shared.log = &log;
    std::optional<logger> requests;
    if (s.verbose) shared.requests = &requests.emplace(STDOUT_FILENO);
    shared.transport.host_key = &*key.key;
    shared.transport.logins = &policy;
    shared.transport.rekey_bytes = s.rekey_bytes;
    shared.transport.ciphers = s.ciphers;

    std::string no_echo;
    shared.echoes = open_echo_services(s.workers, no_echo);

    supervisor boss(log);
    descriptor_relief relief(shared, boss.workers());
    metrics_server metrics(s.metrics);
    if (error = metrics.open(); !error.empty()) return fail(error);
    shared.early = make_room_for_strangers(s);
    if (!s.congestion.empty())
        if (error = why_no_congestion_control(s.congestion); !error.empty()) return fail(error);
    int descriptor = listen_on(s.host, s.port, error, s.congestion);
    if (descriptor < 0) return fail(error);
    try {
        if (error = boss.confine({}); !error.empty()) throw std::runtime_error(error);
        worker_options options = s.worker();
        options.ran_out = [&relief](worker& asking) { return relief.make_room(asking); };
        boss.start_workers(s.workers, options);
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
        entrance = std::make_unique<front>(w, descriptor, shared, boss.workers(), relief);
        log.line(fmt::format("server: Listening on http://{}:{}", s.host, s.port));
    });
    metrics.start("server", boss.workers(), log, [&shared](tally& t) { count_shared(t, shared); });
    int status = boss.run();
    metrics.stop();
    entrance.reset();
    return status;
}

}  // namespace burin::engine
