// What the gateway itself says through the TUN: errors about a host's packets, and echo replies in
// the name of a destination, or as the destination gave them (tun_echo.hh). tun/icmp.hh decides and
// limits, this writes; a message longer than the device's MTU goes out in fragments.
//
// One of a queue; owns nothing but its counters. One thread.
#pragma once

#include <cstdint>

#include "core/relay/tun_blocks.hh"
#include "core/relay/tun_writer.hh"
#include "tun/icmp.hh"

namespace burin::relay {

class tun_icmp {
  public:
    // All are the queue's. `first_id`: identifications of fragments count from here; random.
    tun_icmp(tun_writer& writer, tun_blocks& blocks, std::uint16_t mtu_bytes,
             std::uint32_t first_id) noexcept
        : _writer(writer), _blocks(blocks), _mtu(mtu_bytes), _next_id(first_id) {}

    // An error about `cause`, if one is due and there is room. What it quotes lies in `holder`, or,
    // without one, is copied. `mtu` in bytes, for too_big.
    void tell(const tun::parsed_frame& cause, tun::icmp_error what, std::uint32_t mtu,
              const ring::buffer& holder, tun::time_us now) noexcept;
    // Does nothing for what is no echo request.
    void answer_echo(const tun::parsed_frame& request, const ring::buffer& holder,
                     tun::time_us now) noexcept;

    // What the destination answered; the data lies in `holder`, or, without one, is copied.
    void pass_echo(const tun::echo_stub& request, bytes_view data,
                   const ring::buffer& holder) noexcept;

    const tun::icmp_counters& counters() const noexcept { return _responder.counters(); }

  private:
    void send(const tun::icmp_message&, const ring::buffer& holder) noexcept;

    tun_writer& _writer;
    tun_blocks& _blocks;
    tun::icmp_responder _responder;
    std::uint16_t _mtu;
    std::uint32_t _next_id;
};

}  // namespace burin::relay
