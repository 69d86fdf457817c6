#include "core/engine/supervisor.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <future>
#include <stdexcept>

#include "core/engine/privileges.hh"
#include "core/engine/processors.hh"

namespace burin::engine {

namespace {
sigset_t waited_signals() noexcept {
    sigset_t set;
    sigemptyset(&set);
    for (int s : {SIGINT, SIGTERM, SIGHUP, SIGUSR2}) sigaddset(&set, s);
    return set;
}

// 8 bytes a place: half a MiB of the kernel's memory where the limit lets it have that many.
constexpr rlim_t places_at_start = 65536;
}  // namespace

void block_signals() noexcept {
    sigset_t set = waited_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
}

void open_descriptor_table() noexcept {
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
    if (files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_NOFILE, &files);
    }
    // A descriptor at the end of the places makes the kernel take a table that holds it, and the
    // table stays when the descriptor goes. Without memory for it things are as they were.
    const rlim_t places = std::min(files.rlim_cur, places_at_start);
    if (places == 0) return;
    const int last = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, static_cast<int>(places - 1));
    if (last >= 0) ::close(last);
}

supervisor::supervisor(logger& log) : _log(log) {
    sigset_t set = waited_signals();
    _signals = signalfd(-1, &set, SFD_CLOEXEC);
    _wake = eventfd(0, EFD_CLOEXEC);
}

supervisor::~supervisor() {
    _workers.clear();
    ::close(_signals);
    ::close(_wake);
}

std::string supervisor::confine(std::vector<unsigned> kept) {
    close_memory();
    _kept = std::move(kept);
    return drop_privileges(*_kept, privilege_stage::before_rings);
}

void supervisor::start_workers(unsigned count, worker_options options) {
    // Signals are blocked: without these nothing could end the program but SIGKILL.
    if (_signals < 0 || _wake < 0)
        throw std::runtime_error("there is no descriptor for signals (see ulimit -n)");
    if (std::string error = why_not_allowed(options.processors, allowed_processors());
        !error.empty())
        throw std::runtime_error(error);
    // Where something was left for the rings it goes now; elsewhere this changes nothing.
    const auto settle = [kept = _kept] {
        if (kept) (void)drop_privileges(*kept, privilege_stage::final);
    };
    options.settled = settle;
    for (unsigned i = 0; i < count; ++i) {
        _workers.push_back(std::make_unique<worker>(i, options));
        _workers.back()->start();
    }
    settle();
}

void supervisor::finish(int status) noexcept {
    int none = -1;
    _status.compare_exchange_strong(none, status);
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t written = ::write(_wake, &one, sizeof one);
}

void supervisor::report() {
    for (auto& w : _workers) {
        auto text = std::make_shared<std::promise<std::string>>();
        auto ready = text->get_future();
        w->post([this, text](worker& self) {
            std::string into;
            self.report(into);
            if (describe) describe(self, into);
            text->set_value(std::move(into));
        });
        if (ready.wait_for(std::chrono::seconds(2)) == std::future_status::ready)
            _log.block(ready.get());
        else
            _log.line(fmt::format("worker {}: does not answer", w->index()));
    }
}

bool supervisor::wait_for_signal() {
    ring::microseconds_t now = ring::monotonic_now();
    if (_watch_due != 0 && now >= _watch_due) {
        _watch_due = 0;
        on_watched();
        _watch_took = ring::monotonic_now() - now;
    }
    // While its time has not come, what is watched keeps its events to itself.
    pollfd waits[3] = {{_signals, POLLIN, 0}, {_wake, POLLIN, 0}, {watched, POLLIN, 0}};
    int timeout_ms = -1;
    if (_watch_due != 0) {
        waits[2].fd = -1;
        timeout_ms = static_cast<int>((_watch_due - now) / ring::millisecond) + 1;
    }
    if (poll(waits, 3, timeout_ms) < 0) return false;
    if (waits[2].revents != 0)
        _watch_due = ring::monotonic_now() + std::max(watch_pause, 10 * _watch_took);
    return waits[0].revents != 0;
}

int supervisor::run() {
    while (_status.load() < 0) {
        if (!wait_for_signal()) continue;
        signalfd_siginfo info;
        if (::read(_signals, &info, sizeof info) != sizeof info) continue;
        switch (info.ssi_signo) {
            case SIGHUP:
                if (hang_up) hang_up();
                break;
            case SIGUSR2: report(); break;
            default: finish(0); break;
        }
    }
    for (auto& w : _workers) w->stop();
    for (auto& w : _workers) w->join();
    return _status.load() < 0 ? 1 : _status.load();
}

}  // namespace burin::engine
