#include "core/ssh/channel.hh"

#include <cstdlib>
#include <cstring>
#include <new>

namespace burin::ssh {

piece_pool::~piece_pool() {
    while (_free != nullptr) {
        piece* p = _free;
        _free = p->next;
        delete p;
    }
}

piece* piece_pool::make(ring::buffer holder, bytes_view bytes) noexcept {
    piece* p = _free;
    if (p != nullptr)
        _free = p->next;
    else
        p = new piece;
    ++_in_use;
    p->next = nullptr;
    p->holder = std::move(holder);
    p->data = bytes.data();
    p->size = static_cast<std::uint32_t>(bytes.size());
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

void piece_pool::own(piece& p) noexcept {
    if (p.owned != nullptr) return;
    auto* copy = static_cast<std::byte*>(std::malloc(p.size));
    if (copy == nullptr) std::abort();  // out of memory is fatal everywhere
    std::memcpy(copy, p.data, p.size);
    p.owned = copy;
    p.data = copy;
    p.holder.reset();
    _owned_bytes += p.size;
    _copied_out += p.size;
}

void piece_list::take(std::uint32_t bytes, piece_pool& pool) noexcept {
    piece* p = _first;
    _bytes -= bytes;
    if (bytes == p->size) {
        _first = p->next;
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
    _bytes = 0;
}

void piece_list::own(piece_pool& pool) noexcept {
    for (piece* p = _first; p != nullptr; p = p->next) pool.own(*p);
}

}  // namespace burin::ssh
