#include "core/relay/dialer.hh"

#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "ring/shortage.hh"

namespace burin::relay {
namespace {

constexpr int keepalive_s = 15;  // Go's default, idle time and interval alike
// Until those who make room have given their descriptors back: a few turns of their worker's.
constexpr ring::microseconds_t relief_pause = 20 * ring::millisecond;

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

// A socket on its way. It outlives its dial when that does not want it any longer: cancelled, both
// completions reaped, then closed.
struct dial_attempt {
    dial_attempt(dialer& d, dial& w, const endpoint& address, int descriptor)
        : dialer_(d), who(&w), to(address), socket(descriptor), index(d._attempts.size()) {
        back = w._last;
        *back = this;
        w._last = &next;
    }
    ~dial_attempt() {
        if (socket >= 0) ::close(socket);
    }

    void start() noexcept { dialer_._ring.connect(connect, socket, to.address(), to.bytes()); }
    // The dial has nothing to do with it any more.
    void leave() noexcept {
        *back = next;
        (next == nullptr ? who->_last : next->back) = back;
        who = nullptr;
    }
    void abandon() noexcept {
        leave();
        if (!cancel.in_flight) dialer_._ring.cancel(cancel, connect);
    }
    void on_connected(ring::completion c) noexcept {
        if (who != nullptr) {
            who->on_attempt(*this, c.result);
            return;
        }
        free_if_reaped();
    }
    void on_cancelled(ring::completion c) noexcept {
        if (ring::cancel_failed(c) && connect.in_flight)
            return dialer_._ring.cancel(cancel, connect);
        free_if_reaped();
    }
    // Takes this object away when the ring is done with it.
    void free_if_reaped() noexcept {
        if (connect.in_flight || cancel.in_flight) return;
        if (socket >= 0) dialer_._ring.close_quietly(std::exchange(socket, -1));
        auto& all = dialer_._attempts;
        std::swap(all[index], all.back());
        all[index]->index = index;
        all.pop_back();
    }

    dialer& dialer_;
    dial* who;
    endpoint to;  // read by the kernel while connect is in flight
    int socket;
    std::size_t index;  // among the dialer's
    dial_attempt* next = nullptr;
    dial_attempt** back;
    ring::member_op<&dial_attempt::on_connected> connect{this};
    ring::member_op<&dial_attempt::on_cancelled> cancel{this};
};

dial::~dial() {
    cancel();
    if (_descriptor >= 0) ::close(_descriptor);
}

void dial::cancel() noexcept {
    if (_dialer == nullptr) return;
    ++_dialer->counters.taken_back;
    end();
}

// Nothing is freed here: an attempt's ops come back later.
void dial::end() noexcept {
    while (_first != nullptr) _first->abandon();
    auto& all = _dialer->_dials;
    all[_index] = all.back();
    all[_index]->_index = _index;
    all.pop_back();
    forget();
}

void dial::forget() noexcept {
    _lookup.cancel();
    _stagger.disarm();
    _deadline.disarm();
    _first = nullptr;
    _last = &_first;
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
    dialer_counters& c = _dialer->counters;
    ++(_error == 0 ? c.connected : _error == ETIMEDOUT ? c.timed_out : c.failed);
    end();
    _done(_owner, *this);
}

void dial::on_resolved(relay::lookup& found) noexcept {
    if (found.error() == lookup_error::no_descriptors && wait_for_descriptor()) {
        _lookup_again = true;
        return;
    }
    if (found.error() != lookup_error::none) {
        bool late = found.error() == lookup_error::timeout;
        note(late ? ETIMEDOUT : ENOENT, "dial tcp: " + found.text());
        finish();
        return;
    }
    _addresses = interleave(found.addresses());
    next_attempt();
}

void dial::wait_for_turn() noexcept {
    _dialer->_timers.arm(_stagger, ring::monotonic_now() + _dialer->_settings.stagger);
}

// False: nobody gives one back.
bool dial::wait_for_descriptor() noexcept {
    auto& hook = _dialer->_settings.ran_out;
    if (!hook || !hook()) return false;
    _dialer->_timers.arm(_stagger, ring::monotonic_now() + relief_pause);
    return true;
}

void dial::next_attempt() noexcept {
    // Each has one attempt; a second one at once is for times in which there are few.
    if (_first != nullptr && _next < _addresses.size() &&
        _dialer->_attempts.size() >= _dialer->_settings.most)
        return wait_for_turn();
    while (_next < _addresses.size()) {
        const endpoint& to = _addresses[_next];
        int socket = ::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
        const int shortage = socket < 0 ? errno : 0;  // others' work below may set errno anew
        if (no_descriptor(shortage) && wait_for_descriptor()) return;
        ++_next;
        if (socket < 0) {
            note(shortage, "dial tcp " + to.text() + ": socket: " + errno_words(shortage));
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
        if (_next < _addresses.size()) wait_for_turn();
        return;
    }
    if (_first == nullptr) finish();
}

void dial::on_stagger(ring::microseconds_t) noexcept {
    if (std::exchange(_lookup_again, false))
        return _dialer->_resolver.resolve(_lookup, _host, _port);
    next_attempt();
}

void dial::on_attempt(dial_attempt& attempt, int result) noexcept {
    int error = -result;
    if (result >= 0 && connected_to_itself(attempt.socket, attempt.to)) error = ECONNREFUSED;
    attempt.leave();
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
    if (_first != nullptr) {
        _error = ETIMEDOUT;
        _text = "dial tcp " + _first->to.text() + ": i/o timeout";
    }
    // Nothing under way and nothing noted: it waited for a descriptor to the end.
    if (_error == 0) note(EMFILE, "dial tcp: " + _host + ": socket: " + errno_words(EMFILE));
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
    ++counters.started;
    who._dialer = this;
    who._index = _dials.size();
    _dials.push_back(&who);
    who._host = host.empty() ? "127.0.0.1" : host;
    who._addresses.clear();
    who._next = 0;
    who._port = port;
    who._lookup_again = false;
    who._error = 0;
    who._text.clear();
    who._starting = true;
    _timers.arm(who._deadline, ring::monotonic_now() + _settings.timeout);
    _resolver.resolve(who._lookup, who._host, port);
    who._starting = false;
}

}  // namespace burin::relay
