// Receive blocks of the session as holders of TUN payload: a slice of a block on its way to a host
// keeps the block until the host's ACK, or until the flow copies it out (tun/tcp_send_queue.hh).
//
// Owns the holders, and through each one reference to its block; reuses them, so that a worker that
// has warmed up allocates none. Slices of one block made in one turn share a holder. Outlives all
// slices that it made. One thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ring/buffer_group.hh"
#include "tun/payload.hh"

namespace burin::relay {

class tun_blocks {
  public:
    tun_blocks() = default;
    ~tun_blocks() { end_turn(); }
    tun_blocks(const tun_blocks&) = delete;
    tun_blocks& operator=(const tun_blocks&) = delete;

    // Bytes that lie in `block`; a copy of them when `block` is none. An empty slice when memory is
    // refused.
    tun::payload_slice slice(bytes_view bytes, const ring::buffer& block) noexcept;
    // The blocks of the next turn are others, even when they have the same numbers.
    void end_turn() noexcept;

    // Blocks that hosts have not acknowledged yet, or that writes in flight still read.
    std::uint32_t held() const noexcept { return _held; }

  private:
    struct holder : tun::payload_holder {
        ring::buffer block;
        holder* next = nullptr;
        tun_blocks* owner = nullptr;
    };
    static constexpr std::size_t chunk_holders = 32;

    holder* take() noexcept;
    static void give_back(tun::payload_holder*) noexcept;

    holder* _free = nullptr;
    holder* _current = nullptr;  // one reference is ours until the end of the turn
    std::uint32_t _held = 0;
    std::vector<std::unique_ptr<holder[]>> _chunks;
};

}  // namespace burin::relay
