#include "core/engine/log.hh"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <climits>
#include <condition_variable>
#include <csignal>
#include <ctime>
#include <mutex>

#include "core/ssh/names.hh"

namespace burin::engine {

namespace {

// Some 10 000 lines: more than a burst of connections says while a terminal is slow.
constexpr std::size_t queue_bytes = 1 << 20;
constexpr auto last_words = std::chrono::milliseconds(200);
// A pipe that poll() calls writable takes this much at once without blocking.
constexpr std::size_t write_bytes = PIPE_BUF;
// How often a thread whose reader sleeps looks whether the program ends.
constexpr int look_ms = 50;

}  // namespace

// The lock is held for copying only, never across a system call that can wait.
struct logger::state {
    explicit state(int d) : descriptor(d) {}

    void run() noexcept;
    bool write(std::string_view text) noexcept;

    const int descriptor;
    mutable std::mutex mutex;
    std::condition_variable more, finished;
    std::string queue;
    std::uint64_t dropped = 0, untold = 0;
    bool stopping = false, hurry = false, done = false;
};

// False when the program ends and the reader still sleeps.
bool logger::state::write(std::string_view text) noexcept {
    while (!text.empty()) {
        pollfd wait{descriptor, POLLOUT, 0};
        int ready = poll(&wait, 1, look_ms);
        if (ready == 0 || (ready < 0 && errno == EINTR)) {
            std::lock_guard lock(mutex);
            if (hurry) return false;
            continue;
        }
        ssize_t n = ::write(descriptor, text.data(), std::min(text.size(), write_bytes));
        if (n > 0)
            text.remove_prefix(static_cast<std::size_t>(n));
        else if (n < 0 && errno != EINTR && errno != EAGAIN)
            return true;  // closed: nobody will ever read this
        else if (errno == EAGAIN)
            poll(nullptr, 0, 1);  // room for less than a line
    }
    return true;
}

void logger::state::run() noexcept {
    std::string batch;
    std::unique_lock lock(mutex);
    for (;;) {
        more.wait(lock, [this] { return stopping || !queue.empty() || untold > 0; });
        if (queue.empty() && untold == 0) break;
        batch.clear();
        batch.swap(queue);
        if (untold > 0) {
            batch += log_line(fmt::format("{} log lines were dropped: nobody read them", untold));
            untold = 0;
        }
        lock.unlock();
        bool written = write(batch);
        lock.lock();
        if (!written) break;
    }
    done = true;
    finished.notify_all();
}

logger::logger(int descriptor) : _state(std::make_shared<state>(descriptor)) {
    // The thread takes no signal: they belong to whoever waits for them, and a closed pipe shows as
    // EPIPE.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    _thread = std::thread([s = _state] { s->run(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

logger::~logger() {
    std::unique_lock lock(_state->mutex);
    _state->stopping = true;
    _state->more.notify_one();
    auto done = [this] { return _state->done; };
    if (!_state->finished.wait_for(lock, last_words, done)) {
        _state->hurry = true;
        _state->finished.wait_for(lock, std::chrono::milliseconds(2 * look_ms), done);
    }
    bool ended = _state->done;
    lock.unlock();
    if (ended)
        _thread.join();
    else
        _thread.detach();  // stands in write(2); what it uses is its own
}

void logger::line(std::string_view text) noexcept {
    try {
        raw(log_line(text));
    } catch (const std::bad_alloc&) {
        raw("\n");
    }
}

void logger::raw(std::string_view full) noexcept {
    try {
        std::lock_guard lock(_state->mutex);
        if (_state->queue.size() + full.size() > queue_bytes) {
            ++_state->dropped;
            ++_state->untold;
            return;
        }
        _state->queue += full;
        _state->more.notify_one();
    } catch (const std::bad_alloc&) {
        std::lock_guard lock(_state->mutex);
        ++_state->dropped;
        ++_state->untold;
    }
}

void logger::block(std::string_view text) noexcept {
    while (!text.empty()) {
        std::size_t end = text.find('\n');
        line(text.substr(0, end));
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + 1);
    }
}

std::uint64_t logger::dropped() const noexcept {
    std::lock_guard lock(_state->mutex);
    return _state->dropped;
}

std::string log_line(std::string_view text) {
    std::time_t now = std::time(nullptr);
    std::tm t{};
    localtime_r(&now, &t);
    return fmt::format("{:04}/{:02}/{:02} {:02}:{:02}:{:02} {}\n", t.tm_year + 1900, t.tm_mon + 1,
                       t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, text);
}

std::string escape(std::string_view text) {
    return ssh::printable(text, 256);
}

// ---- prefixes ----

log_prefix::log_prefix(std::string_view name)
    : _text(std::make_shared<const std::string>(fmt::format("{}: ", name))) {}

log_prefix log_prefix::with(std::string_view name) const {
    log_prefix longer = *this;
    longer._text = std::make_shared<const std::string>(text(fmt::format("{}: ", name)));
    longer._kind = nullptr;
    return longer;
}

log_prefix log_prefix::numbered(const char* kind, std::uint32_t number) const {
    log_prefix longer = *this;
    longer._kind = kind;
    longer._number = number;
    return longer;
}

std::string log_prefix::text(std::string_view line) const {
    if (_kind == nullptr) return *_text + std::string(line);
    return fmt::format("{}{}#{}: {}", *_text, _kind, _number, line);
}

}  // namespace burin::engine
