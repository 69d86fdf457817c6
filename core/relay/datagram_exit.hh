// The exit side of a UDP channel: one connected socket for each source that the peer names, answers
// under the same name (docs/wire.md section 9.1).
//
// The channel is accepted at once and never closed from here while its stream is a gob: Go's client
// exits when a UDP channel is refused, and spins when it is closed. A name that does not resolve
// costs the datagrams that come meanwhile, nothing else; it is asked for again.
//
// What a destination, or the way to it, refuses is told to a peer that knows of it (13.3), so many
// a second.
//
// A source's socket is closed when nothing went either way for the deadline, or when it was silent
// longest and room is needed. (Go counts answers alone; a program that only sends would get a new
// port every 15 s.) It frees itself when the channel is gone and its sockets are closed.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay/datagram_channel.hh"
#include "core/relay/datagram_socket.hh"
#include "core/relay/resolver.hh"
#include "core/relay/target.hh"
#include "tun/icmp.hh"

namespace burin::relay {

class datagram_exit;

class datagram_observer {
  public:
    virtual ~datagram_observer() = default;
    // The channel is gone; `why` is a text for a person, empty when the peer just closed it.
    virtual void on_datagrams_over(const datagram_exit&, std::string_view why) noexcept = 0;
    // The name of the target does not resolve; told once until it does.
    virtual void on_datagrams_unresolved(const datagram_exit&, std::string_view why) noexcept = 0;
};

class datagram_exit final : private datagram_owner, private datagram_context::mortal {
  public:
    // Accepts the channel. `number` is what logs call it.
    static void start(datagram_context&, resolver&, ssh::connection&, datagram_observer&,
                      ssh::channel&, target, std::uint32_t number);

    std::uint32_t number() const noexcept { return _number; }
    const relay::target& target() const noexcept { return _target; }
    // To the target, and from it; payload alone.
    std::uint64_t bytes_sent() const noexcept { return _bytes_sent; }
    std::uint64_t bytes_received() const noexcept { return _bytes_received; }

  private:
    class flow;
    struct held {
        std::string source;
        byte_vector payload;
    };
    datagram_exit(datagram_context&, resolver&, datagram_observer&, relay::target,
                  std::uint32_t number);
    ~datagram_exit() override;

    // ---- datagram_owner ----
    void on_channel_open() noexcept override {}
    void on_datagram(const datagram&, const ring::buffer& holder) noexcept override;
    void on_channel_gone(ending, std::string_view why) noexcept override;

    void resolve() noexcept;
    void on_resolved(lookup&) noexcept;
    void on_sweep(ring::microseconds_t now) noexcept;
    flow* find(std::string_view source) noexcept;
    // nullptr: `error` says why.
    flow* make(std::string_view source, int& error) noexcept;
    void tell_unreachable(int error, std::string_view source) noexcept;
    // Keeps a datagram until the name has resolved; false: there is no room.
    bool hold(const datagram&);
    std::deque<held> take_held() noexcept;
    void forget(std::size_t index) noexcept;
    void rearm() noexcept;
    void retire() noexcept;

    datagram_context& _context;
    resolver& _resolver;
    datagram_observer& _observer;
    relay::target _target;
    std::uint32_t _number;
    datagram_channel _channel{_context, *this};
    member_lookup<&datagram_exit::on_resolved> _lookup{this};
    ring::member_timer<&datagram_exit::on_sweep> _sweep{this};
    std::vector<endpoint> _addresses;
    ring::microseconds_t _asked = 0;  // when the name was asked for
    std::deque<held> _held;           // until the name has resolved for the first time
    std::size_t _held_bytes = 0;
    std::vector<flow*> _flows;
    flow* _recent = nullptr;
    // A destination that is asked 50 000 times a second is not told of as often.
    tun::token_bucket _notices{100, 50};
    std::uint32_t _closing = 0;  // sockets that the ring has not given back
    std::uint64_t _bytes_sent = 0, _bytes_received = 0;
    bool _over = false, _buried = false, _told_unresolved = false;
};

}  // namespace burin::relay
