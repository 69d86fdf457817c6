// Where a flow belongs, when several workers read one TUN device: what a worker does with a frame
// of a flow that it does not have.
//
// A flow lives and dies on one worker: that whose queue its first frame came in on, if it has a
// session, or else one that has. Later frames may come in elsewhere, because buckets of flows move
// with the sessions (tun/steering.hh), because fragments and IPv6 extension headers hide the ports,
// or, without steering, because the kernel forgets within seconds who wrote to a flow. So each flow
// has a home, which knows who carries it when that is another worker, and such a frame makes at
// most two steps, each a copy:
//
//   any queue -> the flow's home -> who carries it
//
// The home is the hash's choice (tun_uplink::home), or, without steering, whose queue the frame
// came in on. A frame that is passed on to a worker which does not carry the flow goes no further.
// What nobody has is answered by the home alone: with a reset, or, when it begins a flow and no
// worker has a session, by waiting for one.
//
// Plain tables of one worker (tun_strays.hh); one thread.
#pragma once

#include <cstdint>

#include "core/relay/context.hh"
#include "core/relay/tun_strays.hh"
#include "tun/frame.hh"

namespace burin::relay {

class tun_datagrams;
class tun_uplink;

class tun_homes {
  public:
    // At most `limit` flows of this home are remembered as carried elsewhere, and as many of others
    // as carried here.
    tun_homes(tun_uplink& uplink, std::uint32_t limit) noexcept : _uplink(uplink), _strays(limit) {}

    // ---- the frame that is taken in ----
    // `from`: the worker that passed it on, or tun_strays::nobody. Valid until the next call.
    void begin(bytes_view frame, unsigned from) noexcept {
        _frame = frame;
        _from = from;
    }
    // What was put together of it and others takes its place.
    void replace(bytes_view frame) noexcept { _frame = frame; }
    // Without steering, nobody can say who has the flow of what hides its ports.
    bool steered(const tun::flow_key&) const noexcept;

    enum class verdict {
        ours,   // this worker takes it
        moved,  // a copy is on its way to another one
        lost,   // nobody can take it now; the host will say it again
    };
    // Of a segment of a flow that is not here.
    verdict judge_segment(const tun::parsed_frame&) noexcept;
    // Of a datagram, whose flow may be one of these.
    verdict judge_datagram(const tun::flow_key&, const tun_datagrams& here) noexcept;
    // A question that every worker with a session answers alike, when this one has none.
    verdict judge_echo() noexcept;

    // ---- flows that this worker carries ----
    // By the frame that is taken in.
    void opened(const tun::flow_key&) noexcept;
    void over(const tun::flow_key&) noexcept;

    // ---- what other workers said of flows whose home this is ----
    void carried(const tun::flow_key& key, unsigned by) noexcept { _strays.pass_on(key, by); }
    void forget(const tun::flow_key& key, unsigned by) noexcept {
        if (_strays.carrier(key) == by) _strays.forget(key);
    }

    const tun_strays& strays() const noexcept { return _strays; }
    std::uint64_t handed_over() const noexcept { return _handed_over; }
    std::uint64_t undeliverable() const noexcept { return _undeliverable; }

  private:
    // nobody: this worker.
    unsigned home_of(const tun::flow_key&) const noexcept;
    bool adopted() const noexcept { return _from != tun_strays::nobody; }
    verdict pass(unsigned to) noexcept;
    verdict lose() noexcept;

    tun_uplink& _uplink;
    tun_strays _strays;
    bytes_view _frame;
    unsigned _from = tun_strays::nobody;
    std::uint64_t _handed_over = 0, _undeliverable = 0;
};

}  // namespace burin::relay
