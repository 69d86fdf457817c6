// A listening TCP socket on one worker: accepts, and hands every connection to its owner. When
// descriptors run out it pauses (no spinning) and goes on a moment later; what arrives meanwhile
// waits in the kernel's backlog.
#pragma once

#include <cstdint>
#include <string>

#include "core/engine/worker.hh"
#include "core/relay/endpoint.hh"

namespace burin::engine {

// Binds and listens on the calling thread, at start-up: `host` is an address or a name of this
// machine, without brackets. `congestion`: the congestion control that each accepted connection has
// (path_congestion.hh); empty: the system's. The descriptor, or -1 and one sentence in `error`.
int listen_on(const std::string& host, std::uint16_t port, std::string& error,
              const std::string& congestion = {});
// The same for datagrams: a bound UDP socket.
int bind_datagrams(const std::string& host, std::uint16_t port, std::string& error);

class listener {
  public:
    using function = void (*)(void* owner, int descriptor) noexcept;
    using short_function = void (*)(void* owner) noexcept;
    // Takes the descriptor. `accepted` owns each connection it is given. `ran_out` is called at
    // each pause, to give descriptors back.
    listener(worker&, int descriptor, void* owner, function accepted,
             short_function ran_out = nullptr);
    ~listener();
    listener(const listener&) = delete;
    listener& operator=(const listener&) = delete;

    // No more connections are accepted; the destructor may run once this said true (on a later
    // turn).
    bool stop() noexcept;
    std::uint64_t pauses() const noexcept { return _pauses; }

  private:
    void on_accepted(ring::completion) noexcept;
    void on_resume(ring::microseconds_t) noexcept;
    void on_cancelled(ring::completion) noexcept {}

    worker& _worker;
    int _descriptor;
    void* _owner;
    function _accepted;
    short_function _ran_out;
    bool _stopping = false;
    std::uint64_t _pauses = 0;
    ring::member_op<&listener::on_accepted> _accept{this};
    ring::member_op<&listener::on_cancelled> _cancel{this};
    ring::member_timer<&listener::on_resume> _resume{this};
};

// Address of the other end of an accepted socket; 0.0.0.0:0 when it is gone already.
relay::endpoint peer_of(int descriptor);

}  // namespace burin::engine
