#include "core/engine/metrics_server.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "core/engine/listener.hh"
#include "core/engine/metrics_sources.hh"
#include "core/engine/privileges.hh"
#include "crypto/packet_cipher.hh"

namespace burin::engine {

namespace {
constexpr int scrape_backlog = 16;
// Without a descriptor nobody can be accepted, and the listener stays readable.
constexpr ring::microseconds_t accept_pause = 100 * ring::millisecond;
// Of one connection at a time, and so many times in a row.
constexpr std::size_t read_bytes = 4096;
constexpr int reads_in_a_row = 8;
constexpr int accepts_in_a_row = 16;
}  // namespace

std::string metrics_server::open() {
    if (_at.port == 0) return {};
    std::string error;
    _listener = tun::descriptor(listen_on(_at.host, _at.port, error));
    if (!_listener) return fmt::format("--metrics: {}", error);
    _wake = tun::descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    const int flags = fcntl(_listener.number(), F_GETFL);
    if (!_wake || fcntl(_listener.number(), F_SETFL, flags | O_NONBLOCK) != 0 ||
        ::listen(_listener.number(), scrape_backlog) != 0)
        return fmt::format("--metrics: {}", relay::errno_words(errno));
    return {};
}

void metrics_server::start(std::string role, std::vector<std::unique_ptr<worker>>& workers,
                           logger& log, std::function<void(tally&)> shared) {
    if (!_listener) return;
    _role = std::move(role);
    _workers = &workers;
    _log = &log;
    _shared = std::move(shared);
    const bool v6 = _at.host.find(':') != _at.host.npos;
    log.line(fmt::format("{}: Metrics on http://{}{}{}:{}/metrics", _role, v6 ? "[" : "", _at.host,
                         v6 ? "]" : "", _at.port));
    _thread = std::thread([this] {
        pthread_setname_np(pthread_self(), "metrics");
        (void)drop_privileges({}, privilege_stage::final);  // those that cannot be dropped stay
        run();
    });
}

void metrics_server::stop() {
    if (!_thread.joinable()) return;
    _stopping = true;
    const std::uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(_wake.number(), &one, sizeof one);
    _thread.join();
}

void metrics_server::run() {
    std::vector<pollfd> waits;
    while (!_stopping) {
        ring::microseconds_t now = ring::monotonic_now();
        const bool accepts = now >= _accept_again;
        waits.assign({{_wake.number(), POLLIN, 0}, {accepts ? _listener.number() : -1, POLLIN, 0}});
        for (int id : _open) {
            const bool reads = _desk.to_read(id), writes = !_desk.to_send(id).empty();
            waits.push_back(
                {id, static_cast<short>((reads ? POLLIN : 0) | (writes ? POLLOUT : 0)), 0});
        }
        int timeout_ms = -1;
        auto until = _desk.next();
        if (!accepts) until = until ? std::min(*until, _accept_again) : _accept_again;
        if (until)
            timeout_ms =
                *until <= now ? 0 : static_cast<int>((*until - now) / ring::millisecond) + 1;
        if (poll(waits.data(), waits.size(), timeout_ms) < 0 && errno != EINTR) {
            _log->line(
                fmt::format("{}: Metrics have ended: poll: {}", _role, relay::errno_words(errno)));
            break;
        }
        now = ring::monotonic_now();
        for (std::size_t i = 2; i < waits.size(); ++i) {
            const int id = waits[i].fd;
            const bool hurt = (waits[i].revents & (POLLERR | POLLHUP)) != 0;
            if ((waits[i].revents & POLLIN) != 0 || (hurt && _desk.to_read(id)))
                read(id, now);
            else if (hurt)
                _desk.broken(id);
            if ((waits[i].revents & POLLOUT) != 0) write(id);
        }
        tell(now);
        if ((waits[1].revents & POLLIN) != 0) accept_all(now);
        _desk.advance(now);
        ask_workers(now);
        for (int id : _desk.take_gone()) {
            std::erase(_open, id);
            ::close(id);
        }
    }
    for (int id : std::exchange(_open, {})) ::close(id);
}

void metrics_server::accept_all(ring::microseconds_t now) {
    for (int i = 0; i < accepts_in_a_row; ++i) {
        const int id = accept4(_listener.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (id < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)) return;
        if (id < 0) {
            _accept_again = now + accept_pause;
            return;
        }
        _open.push_back(id);
        _desk.arrived(id, now);
    }
}

void metrics_server::read(int id, ring::microseconds_t now) {
    std::array<std::byte, read_bytes> block;
    for (int i = 0; i < reads_in_a_row && _desk.to_read(id); ++i) {
        const ssize_t n = recv(id, block.data(), block.size(), 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) return _desk.broken(id);
        _desk.received(id, {block.data(), static_cast<std::size_t>(n)}, now);
    }
}

void metrics_server::write(int id) {
    for (std::string_view text; !(text = _desk.to_send(id)).empty();) {
        const ssize_t n = send(id, text.data(), text.size(), MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
        if (n < 0) return _desk.broken(id);
        _desk.sent(id, static_cast<std::size_t>(n));
    }
    if (_desk.to_shut(id)) ::shutdown(id, SHUT_WR);
}

void metrics_server::ask_workers(ring::microseconds_t now) {
    if (!_desk.wants_numbers(now)) return;
    _desk.begin(now);
    // One that did not come to the last question is not asked more of them.
    if (_asked) return _desk.no_numbers("a worker does not answer");
    _asked = true;
    _by_worker.resize(_workers->size());
    for (tally& t : _by_worker) t.clear();
    _left = _workers->size();
    for (auto& w : *_workers)
        w->post([this](worker& self) {
            self.count(_by_worker[self.index()]);
            if (_left.fetch_sub(1) != 1) return;
            const std::uint64_t one = 1;
            [[maybe_unused]] ssize_t written = ::write(_wake.number(), &one, sizeof one);
        });
}

void metrics_server::tell(ring::microseconds_t now) {
    std::uint64_t times = 0;
    [[maybe_unused]] ssize_t n = ::read(_wake.number(), &times, sizeof times);
    if (!_asked || _left.load() != 0) {
        if (_desk.overdue(now)) _desk.no_numbers("a worker does not answer");
        return;
    }
    tally process;
    count_process(process);
    process.add(metric::log_lines_dropped, _log->dropped());
    const scrape_counters& c = _desk.counters();
    process.add(metric::scrapes, c.answered, "outcome=\"answered\"");
    process.add(metric::scrapes, c.refused, "outcome=\"refused\"");
    process.add(metric::scrapes, c.cut_off, "outcome=\"cut_off\"");
    process.add(metric::scrapes, c.without_numbers, "outcome=\"without_numbers\"");
    if (_shared) _shared(process);
    const build_label build[] = {
        {"version", BURIN_VERSION},
        {"role", _role},
        {"crypto", std::string(crypto::name_of(crypto::chosen_provider()))}};
    _desk.numbers(exposition(build, process, _by_worker));
    _asked = false;
}

}  // namespace burin::engine
