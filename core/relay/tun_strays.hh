// Flows that came in on one worker's queue of the TUN while that worker had no session and are
// carried by another's. The kernel chooses the queue by the flow's hash until it has seen frames of
// the flow written to another one, and again after a pause of seconds, so both workers remember:
// the first that frames of the flow go on, the other whom to tell when the flow is over.
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
    // Worker numbers are below; for hand_over() of the uplink: whoever has a session.
    static constexpr unsigned nobody = ~0u, anybody = ~0u - 1;

    // At most `limit` flows each way.
    explicit tun_strays(std::uint32_t limit) noexcept : _limit(limit) {}

    // ---- the worker whose queue it is ----
    // Who carries the flow; nobody: it was not passed on.
    unsigned carrier(const tun::flow_key&) const noexcept;
    void pass_on(const tun::flow_key&, unsigned to) noexcept;
    // The flow is over there, or begins anew here.
    void forget(const tun::flow_key&) noexcept;

    // ---- the worker that carries it ----
    void adopt(const tun::flow_key&, unsigned from) noexcept;
    // The flow is over: whom to tell, or nobody.
    unsigned release(const tun::flow_key&) noexcept;

    std::uint32_t passed() const noexcept { return _passed == nullptr ? 0 : _passed->size(); }
    std::uint32_t adopted() const noexcept { return _adopted == nullptr ? 0 : _adopted->size(); }

  private:
    static unsigned find(const std::unique_ptr<tun::flow_table>&, const tun::flow_key&) noexcept;
    void put(std::unique_ptr<tun::flow_table>&, const tun::flow_key&, unsigned) noexcept;

    std::uint32_t _limit;
    std::unique_ptr<tun::flow_table> _passed, _adopted;
};

}  // namespace burin::relay
