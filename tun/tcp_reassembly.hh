// What a host sent ahead of a gap, in copies of exact size, until the gap is filled. Bounded twice:
// by the window shown (whose bytes the worker's budget has granted) and by what a piece must be
// worth, so that a host sending every other byte costs no more than a screenful of list nodes.
#pragma once

#include <cstdint>

#include "tun/payload_pool.hh"
#include "tun/sequence.hh"

namespace burin::tun {

class tcp_reassembly {
  public:
    // Any piece is kept up to the first number of them, past it only while they average the second.
    static constexpr std::uint32_t free_pieces = 64;
    static constexpr std::uint32_t least_piece_bytes = 512;

    bool empty() const noexcept { return _head == nullptr; }
    std::uint32_t bytes() const noexcept { return _bytes; }
    std::uint32_t pieces() const noexcept { return _pieces; }

    // Keeps those of `bytes`, which start at `seq`, that it does not have yet. What it refuses the
    // host will have to send again; what it kept it never forgets before take() (so that it may be
    // told to the host).
    enum class insertion : std::uint8_t {
        kept,    // something new, all of it
        known,   // it had all of that
        refused  // not everything fit
    };
    insertion insert(sequence seq, bytes_view bytes, payload_pool& pool) noexcept;
    // The bytes at `next`, at most `limit` of them, if they are here; else an empty slice. Pieces
    // wholly before `next` are dropped on the way.
    payload_slice take(sequence next, std::uint32_t limit, payload_pool& pool) noexcept;
    void clear(payload_pool& pool) noexcept;

  private:
    // Puts one piece behind `previous` (null: in front).
    bool link_after(payload_node* previous, sequence seq, bytes_view bytes,
                    payload_pool& pool) noexcept;
    static sequence start_of(const payload_node& node) noexcept { return sequence(node.mark); }
    static sequence end_of(const payload_node& node) noexcept {
        return sequence(node.mark) + node.slice.size();
    }

    payload_node* _head = nullptr;  // in order, without overlaps
    payload_node* _tail = nullptr;
    std::uint32_t _bytes = 0;
    std::uint32_t _pieces = 0;
};

}  // namespace burin::tun
