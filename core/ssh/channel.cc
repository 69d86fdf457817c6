#include "core/ssh/channel.hh"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace burin::ssh {

namespace {
// Memory for small pieces that share it, in bytes.
inline constexpr std::uint64_t least_block = 64, most_shared = 32 * 1024;
}  // namespace

void piece_pool::grow() noexcept {
    auto& chunk = _chunks.emplace_back(std::make_unique<piece[]>(chunk_pieces));
    for (std::size_t i = chunk_pieces; i-- > 0;) {
        chunk[i].next = _free;
        _free = &chunk[i];
    }
}

piece* piece_pool::make(ring::buffer holder, bytes_view bytes) noexcept {
    if (_free == nullptr) grow();
    piece* p = _free;
    _free = p->next;
    ++_in_use;
    p->next = nullptr;
    p->holder = std::move(holder);
    p->data = bytes.data();
    p->size = static_cast<std::uint32_t>(bytes.size());
    p->room = 0;
    return p;
}

piece* piece_pool::make_owned(std::uint32_t size) noexcept {
    auto* memory = static_cast<std::byte*>(std::malloc(size));
    if (memory == nullptr) std::abort();  // out of memory is fatal everywhere
    piece* p = make({}, {memory, size});
    p->owned = memory;
    _owned_bytes += size;
    return p;
}

void piece_pool::drop(piece* p) noexcept {
    p->holder.reset();
    if (p->owned != nullptr) {
        std::free(p->owned);
        p->owned = nullptr;
        _owned_bytes -= p->size;
    }
    --_in_use;
    p->next = _free;
    _free = p;
}

void piece_pool::own(piece& p, std::uint32_t capacity) noexcept {
    if (p.owned != nullptr) return;
    if (capacity < p.size) capacity = p.size;
    auto* copy = static_cast<std::byte*>(std::malloc(capacity));
    if (copy == nullptr) std::abort();  // out of memory is fatal everywhere
    std::memcpy(copy, p.data, p.size);
    p.owned = copy;
    p.data = copy;
    p.room = capacity - p.size;
    p.holder.reset();
    _owned_bytes += p.size;
    _copied_out += p.size;
}

void piece_pool::append(piece& to, piece* from) noexcept {
    std::size_t end = static_cast<std::size_t>(to.data - to.owned) + to.size;
    std::memcpy(to.owned + end, from->data, from->size);
    to.size += from->size;
    to.room -= from->size;
    _owned_bytes += from->size;
    _copied_out += from->size;
    drop(from);
}

void piece_list::take(std::uint32_t bytes, piece_pool& pool) noexcept {
    piece* p = _first;
    _bytes -= bytes;
    if (bytes == p->size) {
        _first = p->next;
        if (_last_owned == p) _last_owned = nullptr;
        pool.drop(p);
        return;
    }
    p->data += bytes;
    p->size -= bytes;
    pool.forget(*p, bytes);
}

void piece_list::take_all_of(std::uint64_t bytes, piece_pool& pool) noexcept {
    while (bytes > 0 && _first != nullptr) {
        std::uint32_t part =
            bytes < _first->size ? static_cast<std::uint32_t>(bytes) : _first->size;
        take(part, pool);
        bytes -= part;
    }
}

void piece_list::clear(piece_pool& pool) noexcept {
    while (_first != nullptr) {
        piece* p = _first;
        _first = p->next;
        pool.drop(p);
    }
    _last_owned = nullptr;
    _bytes = 0;
}

void piece_list::own(piece_pool& pool) noexcept {
    // A peer may send byte by byte: without sharing, each byte would cost a piece and a block of
    // memory. Blocks grow with what waits, so that there are few of them and little is unused.
    piece* before = _last_owned;
    piece* p = before == nullptr ? _first : before->next;
    while (p != nullptr) {
        piece* after = p->next;
        if (before != nullptr && p->owned == nullptr && p->size <= before->room) {
            pool.append(*before, p);
            before->next = after;
        } else {
            pool.own(*p, static_cast<std::uint32_t>(
                             std::clamp<std::uint64_t>(_bytes / 4, least_block, most_shared)));
            before = p;
        }
        p = after;
    }
    _last = _last_owned = before;
}

}  // namespace burin::ssh
