#include "core/relay/tun_homes.hh"

#include "core/relay/tun_queue.hh"

namespace burin::relay {

bool tun_homes::steered(const tun::flow_key& key) const noexcept {
    return _uplink.home(key) != tun_strays::nobody;
}

unsigned tun_homes::home_of(const tun::flow_key& key) const noexcept {
    unsigned home = _uplink.home(key);
    if (home == tun_strays::nobody) home = _from;
    return home == _uplink.number() ? tun_strays::nobody : home;
}

tun_homes::verdict tun_homes::pass(unsigned to) noexcept {
    if (_uplink.hand_over(_frame, to) == tun_strays::nobody) return verdict::ours;
    ++_handed_over;
    return verdict::moved;
}

tun_homes::verdict tun_homes::lose() noexcept {
    ++_undeliverable;
    return verdict::lost;
}

tun_homes::verdict tun_homes::judge_segment(const tun::parsed_frame& frame) noexcept {
    const bool begins = (frame.flags & (tun::tcp_syn | tun::tcp_ack)) == tun::tcp_syn;
    const bool session = _uplink.session() != nullptr;
    if (const unsigned home = home_of(frame.key); home != tun_strays::nobody) {
        // From its home, for a session that is gone since: a flow waits at home, or nowhere.
        if (adopted()) return begins && !session ? lose() : verdict::ours;
        if (begins && session && _uplink.comes_in_here(frame.key)) return verdict::ours;
        return pass(home);
    }
    if (const unsigned to = _strays.carrier(frame.key); to != tun_strays::nobody) {
        // A SYN that comes again belongs to the flow that the first one began.
        if (to != _from && (!begins || _uplink.has_session(to))) return pass(to);
        _strays.forget(frame.key);
    }
    return begins && !session ? pass(tun_strays::anybody) : verdict::ours;
}

tun_homes::verdict tun_homes::judge_datagram(const tun::flow_key& key,
                                             const tun_datagrams& here) noexcept {
    const bool session = _uplink.session() != nullptr;
    if (const unsigned home = home_of(key); home != tun_strays::nobody) {
        if (adopted()) return session ? verdict::ours : lose();
        if (session && (_uplink.comes_in_here(key) || here.knows(key))) return verdict::ours;
        return pass(home);
    }
    if (const unsigned to = _strays.carrier(key); to != tun_strays::nobody) {
        if (to != _from && _uplink.has_session(to)) return pass(to);
        _strays.forget(key);
    }
    return session ? verdict::ours : pass(tun_strays::anybody);
}

tun_homes::verdict tun_homes::judge_echo() noexcept {
    return adopted() ? verdict::ours : pass(tun_strays::anybody);
}

void tun_homes::opened(const tun::flow_key& key) noexcept {
    const unsigned home = home_of(key);
    // What finds no memory is not told either: its home would never hear of its end.
    if (home != tun_strays::nobody && _strays.adopt(key, home)) _uplink.on_adopted(key, home);
}

void tun_homes::over(const tun::flow_key& key) noexcept {
    const unsigned home = _strays.release(key);
    if (home != tun_strays::nobody) _uplink.on_adopted_closed(key, home);
}

}  // namespace burin::relay
