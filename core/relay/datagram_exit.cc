#include "core/relay/datagram_exit.hh"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace burin::relay {

namespace {
// An answer is trusted for so long; later sockets ask anew, and take what is known meanwhile.
constexpr ring::microseconds_t fresh_time = 30 * ring::second;
// A name that does not resolve is asked for again with the next datagram, at most so often.
constexpr ring::microseconds_t retry_time = ring::second;
// What waits for the first answer: the burst with which a program begins.
constexpr std::size_t most_held = 16, most_held_payload = 16 * 1024;
}  // namespace

// One source's socket.
class datagram_exit::flow final : private datagram_receiver, private datagram_context::mortal {
  public:
    flow(datagram_exit& e, std::string_view name, int descriptor, ring::microseconds_t now)
        : source(name),
          last(now),
          socket(e._context, *this, descriptor, datagram_socket::kind::connected),
          _exit(e) {
        ++e._context.sockets;
        ++e._context.counters.sockets_opened;
        ++e._closing;
    }

    const std::string source;
    ring::microseconds_t last;
    datagram_socket socket;

  private:
    void on_received(const datagram_run& run, const endpoint*) noexcept override {
        last = _exit._context.now;
        _exit._bytes_received += run.bytes.size();
        if (_exit._channel.exists()) _exit._channel.send_received(run, source);
    }
    void on_unreachable(int error) noexcept override { _exit.tell_unreachable(error, source); }
    void on_socket_gone() noexcept override {
        --_exit._context.sockets;
        --_exit._closing;
        _exit._context.bury(this);
        // A worker that stops closes sockets by itself.
        if (std::erase(_exit._flows, this) > 0 && _exit._recent == this) _exit._recent = nullptr;
        _exit.retire();
    }

    datagram_exit& _exit;
};

void datagram_exit::start(datagram_context& c, resolver& names, ssh::connection& connection,
                          datagram_observer& observer, ssh::channel& channel, relay::target target,
                          std::uint32_t number) {
    auto* made = new datagram_exit(c, names, observer, std::move(target), number);
    made->_channel.accept(connection, channel);
    if (!made->_over) made->resolve();
}

datagram_exit::datagram_exit(datagram_context& c, resolver& names, datagram_observer& observer,
                             relay::target target, std::uint32_t number)
    : _context(c),
      _resolver(names),
      _observer(observer),
      _target(std::move(target)),
      _number(number) {}

datagram_exit::~datagram_exit() = default;

// ---- the name ----

void datagram_exit::resolve() noexcept {
    _asked = _context.now;
    _resolver.resolve(_lookup, _target.host, _target.port);
}

void datagram_exit::on_resolved(lookup& found) noexcept {
    if (found.error() != lookup_error::none) {
        // What was known before is better than nothing.
        if (!_addresses.empty()) return;
        _context.counters.no_address += take_held().size();
        if (!std::exchange(_told_unresolved, true))
            _observer.on_datagrams_unresolved(*this, found.text());
        return;
    }
    _told_unresolved = false;
    _addresses.assign(found.addresses().begin(), found.addresses().end());
    for (held& h : take_held()) on_datagram({h.source, h.payload}, {});
}

bool datagram_exit::hold(const datagram& d) {
    const std::size_t bytes = d.payload.size() + d.source.size();
    if (_held.size() >= most_held || _held_bytes + bytes > most_held_payload ||
        !_context.may_wait(bytes))
        return false;
    _held.push_back({std::string(d.source), byte_vector(d.payload.begin(), d.payload.end())});
    _held_bytes += bytes;
    _context.held_bytes += bytes;
    return true;
}

std::deque<datagram_exit::held> datagram_exit::take_held() noexcept {
    _context.held_bytes -= std::exchange(_held_bytes, 0);
    return std::exchange(_held, {});
}

// ---- from the channel ----

datagram_exit::flow* datagram_exit::find(std::string_view source) noexcept {
    if (_recent != nullptr && _recent->source == source) return _recent;
    for (flow* f : _flows)
        if (f->source == source) return f;
    return nullptr;
}

void datagram_exit::on_datagram(const datagram& d, const ring::buffer& holder) noexcept {
    flow* f = find(d.source);
    if (f == nullptr) {
        const ring::microseconds_t age = _context.now - _asked;
        if (!_lookup.pending() && age > (_addresses.empty() ? retry_time : fresh_time)) resolve();
        if (_addresses.empty()) {
            if (!_lookup.pending() || !hold(d)) ++_context.counters.no_address;
            return;
        }
        int error = 0;
        f = make(d.source, error);
        if (f == nullptr) {
            ++_context.counters.no_socket;
            return tell_unreachable(error, d.source);
        }
    }
    _recent = f;
    f->last = _context.now;
    _bytes_sent += d.payload.size();
    f->socket.send(nullptr, d.payload, holder);
}

void datagram_exit::tell_unreachable(int error, std::string_view source) noexcept {
    const refusal why = refusal_of(error);
    if (why != refusal::silent && _channel.exists() && _notices.take(_context.now))
        _channel.tell_unreachable(why, source);
}

datagram_exit::flow* datagram_exit::make(std::string_view source, int& error) noexcept {
    if (_flows.size() >= _context.settings.most_sources) {
        const auto oldest =
            std::min_element(_flows.begin(), _flows.end(),
                             [](const flow* a, const flow* b) { return a->last < b->last; });
        ++_context.counters.sockets_evicted;
        forget(static_cast<std::size_t>(oldest - _flows.begin()));
    }
    if (_context.sockets >= _context.settings.most_sockets) return nullptr;
    // Connecting a UDP socket only looks up a route: the first address that has one.
    for (const endpoint& to : _addresses) {
        const int fd = ::socket(to.family(), SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
        if (fd < 0) {
            error = errno;
            if (no_descriptor(error) && _context.settings.ran_out) _context.settings.ran_out();
            continue;
        }
        if (::connect(fd, to.address(), to.bytes()) != 0) {
            error = errno;
            ::close(fd);
            continue;
        }
        auto* f = new flow(*this, source, fd, _context.now);
        _flows.push_back(f);
        rearm();
        return f;
    }
    return nullptr;
}

// ---- ends ----

void datagram_exit::forget(std::size_t index) noexcept {
    flow* f = _flows[index];
    _flows[index] = _flows.back();
    _flows.pop_back();
    if (_recent == f) _recent = nullptr;
    f->socket.close();
}

void datagram_exit::rearm() noexcept {
    if (_flows.empty()) return _sweep.disarm();
    const flow* oldest =
        *std::min_element(_flows.begin(), _flows.end(),
                          [](const flow* a, const flow* b) { return a->last < b->last; });
    _context.timers.arm(_sweep, oldest->last + _context.settings.deadline);
}

void datagram_exit::on_sweep(ring::microseconds_t now) noexcept {
    for (std::size_t i = _flows.size(); i-- > 0;) {
        if (now - _flows[i]->last < _context.settings.deadline) continue;
        ++_context.counters.sockets_expired;
        forget(i);
    }
    rearm();
}

void datagram_exit::on_channel_gone(ending how, std::string_view why) noexcept {
    _over = true;
    _lookup.cancel();
    _sweep.disarm();
    take_held();
    _observer.on_datagrams_over(*this, how == ending::broken ? why : std::string_view());
    while (!_flows.empty()) forget(_flows.size() - 1);
    retire();
}

void datagram_exit::retire() noexcept {
    if (!_over || _closing > 0 || _buried) return;
    _buried = true;
    _context.bury(this);
}

}  // namespace burin::relay
