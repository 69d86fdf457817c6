#include "core/relay/dialer.hh"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace burin::relay {
namespace {

constexpr int keepalive_s = 15;  // Go's default, idle time and interval alike

// Loss of any of these harms nothing that can be said better than by going on.
void set_usual_options(int socket) noexcept {
    int on = 1, seconds = keepalive_s;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(socket, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
}

// TCP's simultaneous open lets a socket connect to itself when the port that nobody listens on is
// the one that the kernel drew for the source.
bool connected_to_itself(int socket, const endpoint& to) noexcept {
    if (!to.loopback()) return false;
    sockaddr_storage own{};
    socklen_t bytes = sizeof own;
    if (getsockname(socket, reinterpret_cast<sockaddr*>(&own), &bytes) != 0) return false;
    auto mine = endpoint::from(reinterpret_cast<const sockaddr*>(&own), bytes);
    return mine && *mine == to;
}

}  // namespace

std::string errno_words(int error) {
    std::string words = std::strerror(error);
    // glibc's and Go's tables differ in the first letter only ("I/O" aside), for what connect says.
    if (words.size() > 1 && words[1] >= 'a' && words[0] >= 'A' && words[0] <= 'Z')
        words[0] = static_cast<char>(words[0] - 'A' + 'a');
    return words;
}

std::vector<endpoint> interleave(std::span<const endpoint> addresses) {
    std::vector<endpoint> first, second, mixed;
    for (const endpoint& one : addresses)
        (one.family() == addresses.front().family() ? first : second).push_back(one);
    for (std::size_t i = 0; i < std::max(first.size(), second.size()); ++i) {
        if (i < first.size()) mixed.push_back(first[i]);
        if (i < second.size()) mixed.push_back(second[i]);
    }
    return mixed;
}

// A socket on its way. It outlives its dial when that does not want it any longer: cancelled by
// descriptor, both completions reaped, then closed.
struct dial_attempt {
    dial_attempt(dialer& d, dial& w, const endpoint& address, int descriptor)
        : dialer_(d), who(&w), to(address), socket(descriptor) {}
    ~dial_attempt() {
        if (socket >= 0) ::close(socket);
    }

    void start() noexcept { dialer_._ring.connect(connect, socket, to.address(), to.bytes()); }
    void abandon() noexcept {
        who = nullptr;
        if (!cancel.in_flight) dialer_._ring.cancel(cancel, socket);
    }
    void on_connected(ring::completion c) noexcept {
        if (who != nullptr) {
            who->on_attempt(*this, c.result);
            return;
        }
        free_if_reaped();
    }
    void on_cancelled(ring::completion) noexcept { free_if_reaped(); }
    // Takes this object away when the ring is done with it.
    void free_if_reaped() noexcept {
        if (connect.in_flight || cancel.in_flight) return;
        if (socket >= 0) dialer_._ring.close_quietly(std::exchange(socket, -1));
        auto& all = dialer_._attempts;
        auto at =
            std::find_if(all.begin(), all.end(), [&](const auto& a) { return a.get() == this; });
        std::swap(*at, all.back());
        all.pop_back();
    }

    dialer& dialer_;
    dial* who;
    endpoint to;  // read by the kernel while connect is in flight
    int socket;
    ring::member_op<&dial_attempt::on_connected> connect{this};
    ring::member_op<&dial_attempt::on_cancelled> cancel{this};
};

dial::~dial() {
    cancel();
    if (_descriptor >= 0) ::close(_descriptor);
}

void dial::cancel() noexcept {
    if (_dialer == nullptr) return;
    // Nothing is freed here: an attempt's ops come back later.
    for (auto& attempt : _dialer->_attempts)
        if (attempt->who == this) attempt->abandon();
    std::erase(_dialer->_dials, this);
    forget();
}

void dial::forget() noexcept {
    _lookup.cancel();
    _stagger.disarm();
    _deadline.disarm();
    _under_way = 0;
    _dialer = nullptr;
}

// The first failure is the one that is told: it is that of the address most preferred (Go does so).
void dial::note(int error, std::string text) noexcept {
    if (_error != 0) return;
    _error = error;
    _text = std::move(text);
}

void dial::finish() noexcept {
    if (_starting) {
        // Never from inside start(): at the next look at the clock.
        _dialer->_timers.arm(_deadline, 0);
        return;
    }
    cancel();
    _done(_owner, *this);
}

void dial::on_resolved(relay::lookup& found) noexcept {
    if (found.error() != lookup_error::none) {
        bool late = found.error() == lookup_error::timeout;
        note(late ? ETIMEDOUT : ENOENT, "dial tcp: " + found.text());
        finish();
        return;
    }
    _addresses = interleave(found.addresses());
    next_attempt();
}

void dial::next_attempt() noexcept {
    while (_next < _addresses.size()) {
        const endpoint& to = _addresses[_next++];
        int socket = ::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
        if (socket < 0) {
            note(errno, "dial tcp " + to.text() + ": socket: " + errno_words(errno));
            continue;
        }
        auto& hook = _dialer->_settings.prepare;
        if (int error = hook ? hook(socket, to) : 0; error != 0) {
            ::close(socket);
            note(error, "dial tcp " + to.text() + ": bind: " + errno_words(error));
            continue;
        }
        set_usual_options(socket);
        _dialer->_attempts.push_back(std::make_unique<dial_attempt>(*_dialer, *this, to, socket));
        _dialer->_attempts.back()->start();
        ++_under_way;
        if (_next < _addresses.size())
            _dialer->_timers.arm(_stagger, ring::monotonic_now() + _dialer->_settings.stagger);
        return;
    }
    if (_under_way == 0) finish();
}

void dial::on_stagger(ring::microseconds_t) noexcept {
    next_attempt();
}

void dial::on_attempt(dial_attempt& attempt, int result) noexcept {
    --_under_way;
    int error = -result;
    if (result >= 0 && connected_to_itself(attempt.socket, attempt.to)) error = ECONNREFUSED;
    attempt.who = nullptr;
    if (error <= 0) {
        _peer = attempt.to;
        _descriptor = std::exchange(attempt.socket, -1);
        _error = 0;
        _text.clear();
        attempt.free_if_reaped();
        finish();
        return;
    }
    note(error, "dial tcp " + attempt.to.text() + ": connect: " + errno_words(error));
    attempt.free_if_reaped();
    // The next one need not wait for its turn.
    _stagger.disarm();
    next_attempt();
}

void dial::on_deadline(ring::microseconds_t) noexcept {
    // What was refused before is less true of the whole than that time ran out. With nothing under
    // way this is finish() put off, and what it noted stands.
    if (_lookup.pending()) {
        _error = ETIMEDOUT;
        _text = "dial tcp: lookup " + _host + ": i/o timeout";
    }
    for (const auto& attempt : _dialer->_attempts) {
        if (attempt->who != this) continue;
        _error = ETIMEDOUT;
        _text = "dial tcp " + attempt->to.text() + ": i/o timeout";
        break;
    }
    finish();
}

dialer::dialer(ring::ring& r, ring::timer_wheel& timers, resolver& names, dial_settings settings)
    : _ring(r), _timers(timers), _resolver(names), _settings(std::move(settings)) {}

dialer::~dialer() {
    for (dial* pending : _dials) pending->forget();
}

void dialer::start(dial& who, std::string_view host, std::uint16_t port) noexcept {
    who.cancel();
    if (int old = who.take_descriptor(); old >= 0) ::close(old);
    who._dialer = this;
    _dials.push_back(&who);
    who._host = host.empty() ? "127.0.0.1" : host;
    who._addresses.clear();
    who._next = 0;
    who._error = 0;
    who._text.clear();
    who._starting = true;
    _timers.arm(who._deadline, ring::monotonic_now() + _settings.timeout);
    _resolver.resolve(who._lookup, who._host, port);
    who._starting = false;
}

}  // namespace burin::relay
