// Flows that are carried by another worker than the one whose they are by rights (tun_homes.hh).
// Their frames may come in at either, so both remember: the home where frames of the flow go on to,
// the other whom to tell when the flow is over.
//
// Plain tables of one worker; they take memory with the first flow. One thread.
#pragma once

#include <cstdint>
#include <memory>

#include "tun/flow_key.hh"
#include "tun/flow_table.hh"

namespace burin::relay {

class tun_strays {
  public:
    // Worker numbers are below; `anybody`, for hand_over() of the uplink: whoever has a session.
    static constexpr unsigned nobody = ~0u, anybody = ~0u - 1;

    // At most `limit` flows each way.
    explicit tun_strays(std::uint32_t limit) noexcept : _limit(limit) {}

    // ---- the flow's home ----
    // Who carries the flow; nobody: no other worker does.
    unsigned carrier(const tun::flow_key&) const noexcept;
    void pass_on(const tun::flow_key&, unsigned to) noexcept;
    // The flow is over there, or begins anew here.
    void forget(const tun::flow_key&) noexcept;

    // ---- the worker that carries it ----
    // False: there is no memory, and release() will not know it.
    bool adopt(const tun::flow_key&, unsigned from) noexcept;
    // The flow is over: whom to tell, or nobody.
    unsigned release(const tun::flow_key&) noexcept;

    std::uint32_t passed() const noexcept { return _passed == nullptr ? 0 : _passed->size(); }
    std::uint32_t adopted() const noexcept { return _adopted == nullptr ? 0 : _adopted->size(); }

  private:
    static unsigned find(const std::unique_ptr<tun::flow_table>&, const tun::flow_key&) noexcept;
    bool put(std::unique_ptr<tun::flow_table>&, const tun::flow_key&, unsigned) noexcept;

    std::uint32_t _limit;
    std::unique_ptr<tun::flow_table> _passed, _adopted;
};

}  // namespace burin::relay
