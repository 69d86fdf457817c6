// Names to addresses on a worker's ring, without ever blocking it: c-ares asks, the ring polls its
// sockets, the timer wheel keeps its timeouts. /etc/hosts comes first, then the servers and search
// list of /etc/resolv.conf; a changed resolv.conf is noticed at the next look-up, at most every
// five seconds. Addresses of both families come in RFC 6724 order.
//
// One thread, the ring's. The resolver owns its queries and polls; a `lookup` is embedded in its
// owner and may die, or be cancelled, at any time. Destroy the resolver when the ring will not be
// entered any more: polls may be in flight until the ring goes.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay/endpoint.hh"
#include "ring/ring.hh"
#include "ring/timer_wheel.hh"

struct ares_addrinfo;

namespace burin::relay {

class resolver;

enum class lookup_error : std::uint8_t {
    none,
    no_such_host,  // the name does not exist, has no address, or is no name at all
    timeout,       // no server answered in time
    misbehaving,   // no server gave a usable answer: each failed, refused, or cannot be reached
    out_of_memory,
    no_descriptors,  // for a socket to a server
};

// One question and its answer.
class lookup {
  public:
    using function = void (*)(void* owner, lookup&) noexcept;
    lookup(void* owner, function done) noexcept : _owner(owner), _done(done) {}
    ~lookup() { cancel(); }
    lookup(const lookup&) = delete;
    lookup& operator=(const lookup&) = delete;

    bool pending() const noexcept { return _query != nullptr; }
    // `done` will not be called for this question. What the network sends is still awaited, and
    // dropped.
    void cancel() noexcept;

    // ---- after `done` ----
    lookup_error error() const noexcept { return _error; }
    // As Go says it: "lookup example.invalid: no such host"; empty when there are addresses.
    const std::string& text() const noexcept { return _text; }
    // Never empty without an error; each with the port that was asked for.
    std::span<const endpoint> addresses() const noexcept { return _addresses; }

  private:
    friend class resolver;
    struct query;
    void answer(lookup_error, std::string_view host) noexcept;

    void* _owner;
    function _done;
    query* _query = nullptr;
    lookup_error _error = lookup_error::none;
    std::string _text;
    std::vector<endpoint> _addresses;
};

// `on_lookup<&dial::on_resolved>(this)`: a lookup that calls a member function.
template <auto Member>
struct member_lookup;
template <class T, void (T::*Member)(lookup&) noexcept>
struct member_lookup<Member> : lookup {
    explicit member_lookup(T* self)
        : lookup(self, [](void* o, lookup& l) noexcept { (static_cast<T*>(o)->*Member)(l); }) {}
};

struct resolver_settings {
    // "host[:port],..." instead of resolv.conf's; a resolver of the far network, or a test's.
    std::string servers = {};
    // For one try; each further round over the servers doubles it. Three rounds of one server end
    // after 14 s, which leaves a dial of 30 s time to connect.
    ring::microseconds_t try_timeout = 2 * ring::second;
    unsigned tries = 3;
    // Servers, unless given above, search list and options.
    std::string configuration = "/etc/resolv.conf";
    // How often a change of it is looked for, at most; Go's resolver does it every five seconds
    // too.
    ring::microseconds_t check_interval = 5 * ring::second;
    // For the sockets to the name servers.
    socket_hook prepare = {};
};

class resolver {
  public:
    // Throws std::runtime_error with a sentence when c-ares cannot start (no memory, bad servers).
    resolver(ring::ring&, ring::timer_wheel&, resolver_settings = {});
    ~resolver();
    resolver(const resolver&) = delete;
    resolver& operator=(const resolver&) = delete;

    // Asks for `host` (no brackets; a final dot means: no search list). `done` may be called before
    // this returns: for literals and localhost always (they meet no c-ares), for names of
    // /etc/hosts, for what is no name. A pending lookup is cancelled first.
    void resolve(lookup&, std::string_view host, std::uint16_t port) noexcept;

    // Questions on their way, cancelled ones included.
    std::uint32_t pending() const noexcept { return _pending; }

  private:
    friend class lookup;
    struct watch;
    struct generation;

    static void on_answer(void* query, int status, int timeouts, ares_addrinfo*) noexcept;
    void follow_configuration();
    // Ends generations that nothing asks any more; never from inside c-ares.
    void sweep() noexcept;

    ring::ring& _ring;
    ring::timer_wheel& _timers;
    resolver_settings _settings;
    // The last one answers; those before it belong to an older resolv.conf and run out.
    std::vector<std::unique_ptr<generation>> _generations;
    // One a socket of c-ares; some wait only for their cancelled poll to come back.
    std::vector<std::unique_ptr<watch>> _watches;
    std::uint32_t _pending = 0;
    unsigned _depth = 0;  // of calls into c-ares
    bool _closing = false;
    ring::microseconds_t _checked = 0;
    std::uint64_t _stamp = 0;  // of resolv.conf when it was last read
};

}  // namespace burin::relay
