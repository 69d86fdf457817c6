// Receive buffers that the kernel picks by itself when bytes arrive (a provided-buffer ring), so
// that an idle socket holds none. A received buffer is a `buffer`: a move-only handle with a plain
// reference count behind it (one thread); share() makes another holder, and the last one gives the
// memory back to its group.
//
// Only a few buffers are offered to the kernel at a time: its ring is first in first out and would
// otherwise walk through all of them and out of the cache. The number offered doubles when the
// kernel ran out (-ENOBUFS) and creeps back down. offer() is called once a turn, after everything
// else gave its buffers back.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "ring/memory_pool.hh"
#include "ring/ring.hh"

namespace burin::ring {

class buffer_group;

class buffer {
  public:
    buffer() = default;
    buffer(buffer_group* group, std::uint16_t id) noexcept : _group(group), _id(id) {}
    buffer(buffer&& other) noexcept
        : _group(std::exchange(other._group, nullptr)), _id(other._id) {}
    buffer& operator=(buffer&& other) noexcept {
        if (this != &other) {
            reset();
            _group = std::exchange(other._group, nullptr);
            _id = other._id;
        }
        return *this;
    }
    ~buffer() { reset(); }

    explicit operator bool() const noexcept { return _group != nullptr; }
    // One more holder of the same bytes.
    buffer share() const noexcept;
    void reset() noexcept;
    // The bytes that the kernel may fill; before them lie headroom() bytes that belong to the
    // holder.
    std::byte* data() const noexcept;
    std::uint32_t references() const noexcept;
    std::uint16_t id() const noexcept { return _id; }
    buffer_group* group() const noexcept { return _group; }

  private:
    buffer_group* _group = nullptr;
    std::uint16_t _id = 0;
};

class buffer_group {
  public:
    struct shape {
        std::uint16_t id;         // the kernel's name of the group, unique in the ring
        std::uint32_t bytes;      // what one receive can fill
        std::uint32_t headroom;   // bytes kept free in front of it
        std::uint32_t count;      // all there can ever be; a power of two
        std::uint32_t offered;    // offered at first; at least this many
        std::uint32_t chunk = 4;  // buffers mapped at a time
        std::uint32_t kept = 0;   // never offered, whatever happens: for borrow()
        page_size pages = page_size::huge;
    };
    buffer_group(ring&, const shape&);
    ~buffer_group();
    buffer_group(const buffer_group&) = delete;
    buffer_group& operator=(const buffer_group&) = delete;

    std::uint16_t id() const noexcept { return _shape.id; }
    std::uint32_t bytes() const noexcept { return _shape.bytes; }
    std::uint32_t headroom() const noexcept { return _shape.headroom; }

    // The buffer that a completion names; call once a completion that has_buffer().
    buffer take(completion c) noexcept;
    // A buffer that the kernel has no part in, to be filled by the caller; empty: none is left.
    buffer borrow() noexcept;
    // A receive found none: twice as many are offered from now on. Not more, however many find none
    // before the next offer(): the kernel picks one after the other, so what need not be offered
    // has left the cache when it is picked again.
    void ran_out() noexcept;
    // Tops up what the kernel may pick from.
    void offer() noexcept;
    // Memory that is not held goes back to the kernel (ring/memory_pool.hh), but for that of the
    // few buffers that are picked next: what was offered for a burst keeps its place, and gets
    // memory again when something comes.
    void trim() noexcept;

    std::uint32_t offered() const noexcept { return _offered; }
    std::uint32_t held() const noexcept { return _held; }  // by handles
    std::uint32_t count() const noexcept { return _shape.count; }
    std::uint64_t times_out() const noexcept { return _times_out; }
    const memory_pool& memory() const noexcept { return _memory; }

  private:
    friend class buffer;
    static constexpr unsigned word_bits = 64;
    static constexpr std::uint32_t none = ~0u;
    void release(std::uint16_t id) noexcept;
    // The lowest free id, mapped, which is free no longer; none: there is none, or no memory.
    std::uint32_t take_free() noexcept;
    bool map(std::uint16_t id) noexcept;
    // What the kernel picks after i others.
    io_uring_buf& offer_at(std::uint32_t i) noexcept;
    void gather_offered() noexcept;

    ring& _ring;
    shape _shape;
    memory_pool _memory;
    io_uring_buf_ring* _offers = nullptr;
    std::size_t _offers_bytes = 0;
    std::uint32_t _offered = 0;
    std::uint32_t _target;
    std::uint32_t _held = 0;
    std::uint32_t _quiet_turns = 0;
    bool _dry = false;  // since the last offer
    std::uint64_t _times_out = 0;
    std::vector<std::byte*> _data;           // by id; nullptr: not mapped
    std::vector<std::uint32_t> _references;  // by id
    std::vector<std::byte*> _empty;          // for trim()
    std::vector<std::uint16_t> _order;       // for trim()
    // Ids neither offered nor held, a bit each. The lowest is used first: few are in use at a time,
    // and they stay the same few, in cache and on the same pages.
    std::vector<std::uint64_t> _free;
};

inline std::byte* buffer::data() const noexcept {
    return _group->_data[_id];
}
inline std::uint32_t buffer::references() const noexcept {
    return _group->_references[_id];
}
inline buffer buffer::share() const noexcept {
    if (_group != nullptr) ++_group->_references[_id];
    return {_group, _id};
}
inline void buffer::reset() noexcept {
    if (_group == nullptr) return;
    if (--_group->_references[_id] == 0) _group->release(_id);
    _group = nullptr;
}

}  // namespace burin::ring
