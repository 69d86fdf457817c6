#include "core/engine/client.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <linux/capability.h>

#include <cerrno>
#include <stdexcept>

#include "core/engine/client_worker.hh"
#include "core/engine/path_congestion.hh"
#include "core/engine/session_buffers.hh"
#include "core/engine/socket_keeper.hh"
#include "core/engine/supervisor.hh"

namespace burin::engine {

namespace {

// `more` runs before what is there already.
template <class Function>
void add_hook(relay::socket_hook& hook, Function more) {
    hook = [first = std::move(more), then = std::move(hook)](int descriptor,
                                                             const relay::endpoint& to) {
        const int e = first(descriptor);
        return e == 0 && then ? then(descriptor, to) : e;
    };
}

}  // namespace

int run_client(const client_settings& s) {
    block_signals();
    open_descriptor_table();
    logger log;
    auto fail = [&log](const std::string& why) {
        log.line(why);
        return 1;
    };
    std::unique_ptr<socket_keeper> buffers, congestion;
    supervisor boss(log);
    client_shared shared;
    shared.settings = &s;
    shared.log = &log;
    if (std::string error = shared.prepare(); !error.empty()) return fail(error);
    tun_device tunnel;
    worker_options options = s.worker();
    if (!s.tun.empty()) {
        if (std::string error = tunnel.open(s); !error.empty()) return fail(error);
        options.prepare_socket = shared.prepare_socket = tunnel.keep_outside();
        shared.udp_superframes = tunnel.udp_superframes();
        shared.tunnel = &tunnel;
        shared.ways = std::make_unique<session_ways>(s.workers);
        log.line(fmt::format("client: {}", tunnel.describe()));
        if (s.verbose && !tunnel.unsteered().empty())
            log.line(fmt::format("client: tun: Flows come in where the kernel puts them: {}",
                                 tunnel.unsteered()));
    }
    if (!buffer_limits::read().hold(s.window_max)) {
        buffers = std::make_unique<socket_keeper>(
            "buffers", [bytes = s.window_max](int fd) { return force_buffers(fd, bytes); });
        if (!buffers->works()) buffers.reset();
    }
    if (buffers)
        add_hook(shared.prepare_socket, [keeper = buffers.get()](int descriptor) {
            (void)keeper->prepare(descriptor);  // smaller buffers are no reason to have no session
            return 0;
        });
    if (!s.congestion.empty()) {
        if (std::string error = why_no_congestion_control(s.congestion); !error.empty())
            return fail(error);
        const auto set = [&s](int fd) { return set_congestion_control(fd, s.congestion); };
        if (!allowed_to_all(s.congestion)) {
            congestion = std::make_unique<socket_keeper>("congestion", set);
            if (!congestion->works())
                return fail(fmt::format("--congestion {}: no thread may keep CAP_NET_ADMIN for it",
                                        s.congestion));
        }
        add_hook(shared.prepare_socket, [set, keeper = congestion.get()](int descriptor) {
            if (keeper != nullptr) return keeper->prepare(descriptor);
            return set(descriptor) ? 0 : errno;
        });
    }
    // Every port is taken before anything starts: a busy one ends the program, as Go's does.
    std::vector<entry> entries;
    for (const remote& r : s.remotes) {
        entry e{.what = r, .descriptor = -1};
        if (std::string error = open_entry(e); !error.empty()) {
            for (entry& opened : entries) ::close(opened.descriptor);
            return fail(error);
        }
        entries.push_back(e);
    }
    metrics_server metrics(s.metrics);
    if (std::string error = metrics.open(); !error.empty()) {
        for (entry& opened : entries) ::close(opened.descriptor);
        return fail(error);
    }
    // keep_outside() changes routes at a reconnect where reverse paths are checked strictly.
    std::vector<unsigned> kept;
    if (!s.tun.empty() && tunnel.needs_privilege()) kept.push_back(CAP_NET_ADMIN);
    try {
        if (std::string error = boss.confine(kept); !error.empty()) throw std::runtime_error(error);
        boss.start_workers(s.workers, options);
    } catch (const std::exception& e) {
        for (entry& opened : entries) ::close(opened.descriptor);
        return fail(e.what());
    }
    shared.finish = [&boss](int status) { boss.finish(status); };
    std::vector<std::unique_ptr<client_worker>> clients(boss.workers().size());
    shared.clients = &clients;
    for (auto& w : boss.workers())
        clients[w->index()] = std::make_unique<client_worker>(*w, shared);
    boss.workers().front()->post([&](worker&) { clients.front()->listen(entries); });
    if (!s.tun.empty())
        for (auto& w : boss.workers())
            w->post([&](worker& self) {
                clients[self.index()]->take_tun(tunnel.take_queue(self.index()));
            });
    for (auto& w : boss.workers()) w->post([&](worker& self) { clients[self.index()]->connect(); });
    boss.hang_up = [&] {
        for (auto& w : boss.workers())
            w->post([&](worker& self) { clients[self.index()]->retry_now(); });
    };
    if (!s.tun.empty()) {
        boss.watched = tunnel.monitor().number();
        boss.on_watched = [&] {
            if (!tunnel.monitor().drain()) return;
            const std::vector<std::uint64_t> lost = shared.ways->lost(tunnel);
            for (auto& w : boss.workers())
                w->post([&clients, number = lost[w->index()]](worker& self) {
                    clients[self.index()]->way_changed(number);
                });
        };
    }
    metrics.start("client", boss.workers(), log);
    int status = boss.run();
    metrics.stop();
    clients.clear();
    return status;
}

}  // namespace burin::engine
