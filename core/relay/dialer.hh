// TCP connections out of this machine, by name or address: every address of a name is tried
// (RFC 8305), the first that connects wins, the others are taken back. All on the worker's ring.
//
// One thread, the ring's. The dialer owns sockets under way; a `dial` is embedded in its owner and
// may die, or be cancelled, at any time: what is under way is then cancelled, reaped and closed
// behind its back. A winner's descriptor belongs to the dial until taken. Destroy the dialer when
// the ring will not be entered any more, and before its resolver.
//
// Sockets are blocking (the ring waits, not the thread), close-on-exec, TCP_NODELAY, and probe an
// idle peer every 15 s, as Go's are (docs/wire.md section 1.3).
//
// Silent addresses hold a dial for its whole time, so dials are bounded: whoever starts one for a
// stranger asks has_room() first. Its own sockets are bounded with them: a name of many silent
// addresses has several attempts at once only while there are few sockets in all.
//
// Where descriptors have run out and others are about to give some back (relief_hook), a dial asks
// again every 20 ms, within its time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/relay/endpoint.hh"
#include "core/relay/resolver.hh"
#include "ring/ring.hh"
#include "ring/timer_wheel.hh"

namespace burin::relay {

class dialer;
struct dial_attempt;

class dial {
  public:
    using function = void (*)(void* owner, dial&) noexcept;
    dial(void* owner, function done) noexcept : _owner(owner), _done(done) {}
    // Cancels, and closes a descriptor that nobody took.
    ~dial();
    dial(const dial&) = delete;
    dial& operator=(const dial&) = delete;

    bool pending() const noexcept { return _dialer != nullptr; }
    // `done` will not be called.
    void cancel() noexcept;

    // ---- after `done` ----
    // 0, or why there is no connection: the errno of the first address that failed; ETIMEDOUT when
    // time ran out; ENOENT when the name has no address (lookup().error() says more).
    int error() const noexcept { return _error; }
    // As Go says it: "dial tcp 127.0.0.1:1: connect: connection refused", "dial tcp: lookup
    // example.invalid: no such host", "dial tcp 192.0.2.1:80: i/o timeout".
    const std::string& text() const noexcept { return _text; }
    const endpoint& peer() const noexcept { return _peer; }
    const relay::lookup& lookup() const noexcept { return _lookup; }
    // The connection, once; -1 afterwards and when there is none.
    int take_descriptor() noexcept { return std::exchange(_descriptor, -1); }

  private:
    friend class dialer;
    friend struct dial_attempt;

    void on_resolved(relay::lookup&) noexcept;
    void on_stagger(ring::microseconds_t) noexcept;
    void on_deadline(ring::microseconds_t) noexcept;
    void on_attempt(dial_attempt&, int result) noexcept;
    void next_attempt() noexcept;
    void wait_for_turn() noexcept;
    bool wait_for_descriptor() noexcept;
    void note(int error, std::string text) noexcept;
    void finish() noexcept;
    void end() noexcept;
    void forget() noexcept;

    void* _owner;
    function _done;
    dialer* _dialer = nullptr;
    member_lookup<&dial::on_resolved> _lookup{this};
    ring::member_timer<&dial::on_stagger> _stagger{this};
    ring::member_timer<&dial::on_deadline> _deadline{this};
    std::vector<endpoint> _addresses;  // in the order of the attempts
    std::size_t _next = 0;
    dial_attempt* _first = nullptr;  // attempts under way, the oldest first
    dial_attempt** _last = &_first;
    std::size_t _index = 0;  // among the dialer's
    int _error = 0;
    int _descriptor = -1;
    bool _starting = false;
    bool _lookup_again = false;  // when its turn comes: there was no descriptor for it
    std::uint16_t _port = 0;
    std::string _host;
    std::string _text;
    endpoint _peer;
};

// `on_dial<...>(this)`: a dial that calls a member function.
template <auto Member>
struct member_dial;
template <class T, void (T::*Member)(dial&) noexcept>
struct member_dial<Member> : dial {
    explicit member_dial(T* self)
        : dial(self, [](void* o, dial& d) noexcept { (static_cast<T*>(o)->*Member)(d); }) {}
};

struct dial_settings {
    // All of it: resolution and every attempt (CHISEL_DIAL_TIMEOUT).
    ring::microseconds_t timeout = 30 * ring::second;
    // Before the next address is tried beside the one that has not answered (RFC 8305 section 5).
    ring::microseconds_t stagger = 250 * ring::millisecond;
    // Dials at once, as has_room() tells; at most twice as many sockets.
    std::uint32_t most = 10'000;
    socket_hook prepare = {};
    relief_hook ran_out = {};
};

struct dialer_counters {
    std::uint64_t started = 0, connected = 0, failed = 0, timed_out = 0;
    std::uint64_t taken_back = 0;  // by their owners
    std::uint64_t refused = 0;     // counted by whoever found no room
};

class dialer {
  public:
    dialer(ring::ring&, ring::timer_wheel&, resolver&, dial_settings = {});
    ~dialer();
    dialer(const dialer&) = delete;
    dialer& operator=(const dialer&) = delete;

    // Connects to `host`, a name or an address without brackets; an empty one means 127.0.0.1, as
    // Go has it. `done` is called once, never before this returns. A pending dial is cancelled
    // first; an untaken descriptor of it is closed.
    void start(dial&, std::string_view host, std::uint16_t port) noexcept;

    // Sockets that are not yet connected or not yet taken back.
    std::size_t under_way() const noexcept { return _attempts.size(); }
    // Dials that have not ended.
    std::size_t pending() const noexcept { return _dials.size(); }
    // One more may be started. What was taken back counts until the network has let go of it.
    bool has_room() const noexcept {
        return pending() < _settings.most && under_way() < std::size_t{2} * _settings.most &&
               _resolver.pending() < _settings.most;
    }

    dialer_counters counters;

  private:
    friend class dial;
    friend struct dial_attempt;

    ring::ring& _ring;
    ring::timer_wheel& _timers;
    resolver& _resolver;
    dial_settings _settings;
    std::vector<std::unique_ptr<dial_attempt>> _attempts;
    std::vector<dial*> _dials;  // pending ones
};

// The addresses in the order of RFC 8305 section 4: families take turns, the first address's
// family begins, each keeps its own order.
std::vector<endpoint> interleave(std::span<const endpoint>);

// Go's words for an errno: "connection refused".
std::string errno_words(int error);

}  // namespace burin::relay
