// The bytes of one flow towards its host, from the tunnel's hand-over until the host's ACK: a list
// of slices with a cursor between what is sent and what is not. What has to be sent again is shown
// from where it lies; nothing is copied or moved for that.
//
// Slices pin the block they came in. compact() replaces those older than a given age by copies of
// exact size, so that a stalled reader pins its own bytes only.
#pragma once

#include <cstdint>
#include <span>

#include "tun/payload_pool.hh"

namespace burin::tun {

class tcp_send_queue {
  public:
    // Pieces of one frame at most: bounds the iovec of a write, and a frame of 64 KiB reaches it
    // only with slices below 1 KiB.
    static constexpr std::size_t max_pieces = 64;

    std::uint32_t bytes() const noexcept { return _bytes; }  // unacknowledged and unsent
    std::uint32_t unsent() const noexcept { return _unsent; }
    bool empty() const noexcept { return _bytes == 0; }

    // Takes over the slice; `now_ms` is its age's zero. False when memory is refused.
    bool push(payload_slice&& slice, std::uint32_t now_ms, payload_pool& pool) noexcept;
    // The host has the first `count` bytes, all of them sent.
    void acknowledge(std::uint32_t count, payload_pool& pool) noexcept;

    struct gathered {
        std::uint32_t pieces = 0;
        std::uint32_t bytes = 0;
    };
    // Shows up to `count` unsent bytes, respectively those `offset` bytes behind the first one of
    // the queue; moves nothing. Fewer when the pieces run out.
    gathered gather_unsent(std::uint32_t count, std::span<payload_piece> out) const noexcept;
    gathered gather_from(std::uint32_t offset, std::uint32_t count,
                         std::span<payload_piece> out) const noexcept;
    // The cursor passes `count` bytes, which are sent.
    void advance(std::uint32_t count) noexcept;

    // Copies slices queued `age_ms` or longer ago out of their holders, neighbours into one. Bytes
    // and cursor stay. Stops early when memory is refused.
    void compact(std::uint32_t now_ms, std::uint32_t age_ms, payload_pool& pool) noexcept;
    // Slices that still pin somebody else's holder, and when the oldest of them was queued.
    std::uint32_t loose() const noexcept { return _loose; }
    std::uint32_t loose_bytes() const noexcept { return _loose_bytes; }
    std::uint32_t oldest_loose_ms() const noexcept;

    void clear(payload_pool& pool) noexcept;

  private:
    static gathered gather(const payload_node* node, std::uint32_t offset, std::uint32_t count,
                           std::span<payload_piece> out) noexcept;
    // Replaces the run [first, last] by one copy of its `total` live bytes.
    bool merge(payload_node* first, payload_node* last, std::uint32_t total,
               payload_pool& pool) noexcept;

    payload_node* _head = nullptr;
    payload_node* _tail = nullptr;
    payload_node* _cursor = nullptr;  // the first unsent byte's node; null: all is sent
    std::uint32_t _head_offset = 0;   // bytes of the head already acknowledged
    std::uint32_t _cursor_offset = 0;
    std::uint32_t _bytes = 0;
    std::uint32_t _unsent = 0;
    std::uint32_t _loose = 0;
    std::uint32_t _loose_bytes = 0;
};

}  // namespace burin::tun
