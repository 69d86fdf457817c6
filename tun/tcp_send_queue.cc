#include "tun/tcp_send_queue.hh"

#include <algorithm>
#include <cstring>

namespace burin::tun {
namespace {

// One copy takes in neighbours up to this size: large enough that its own overhead vanishes, small
// enough that ACKs give the memory back piece by piece.
constexpr std::uint32_t merged_bytes = 64 * 1024;

bool is_loose(const payload_node& node) noexcept {
    return !is_copied_payload(node.slice.holder());
}

}  // namespace

bool tcp_send_queue::push(payload_slice&& slice, std::uint32_t now_ms,
                          payload_pool& pool) noexcept {
    if (slice.empty()) return true;
    payload_node* node = pool.take();
    if (node == nullptr) return false;
    node->slice = std::move(slice);
    node->mark = now_ms;
    if (_tail != nullptr) {
        _tail->next = node;
    } else {
        _head = node;
        _head_offset = 0;
    }
    _tail = node;
    if (_cursor == nullptr) {
        _cursor = node;
        _cursor_offset = 0;
    }
    _bytes += node->slice.size();
    _unsent += node->slice.size();
    if (is_loose(*node)) {
        ++_loose;
        _loose_bytes += node->slice.size();
    }
    return true;
}

void tcp_send_queue::acknowledge(std::uint32_t count, payload_pool& pool) noexcept {
    _bytes -= count;
    while (count > 0) {
        const std::uint32_t left = _head->slice.size() - _head_offset;
        if (count < left) {
            _head_offset += count;
            return;
        }
        count -= left;
        payload_node* gone = _head;
        if (is_loose(*gone)) {
            --_loose;
            _loose_bytes -= gone->slice.size();
        }
        _head = gone->next;
        _head_offset = 0;
        if (_head == nullptr) _tail = nullptr;
        pool.give(gone);
    }
}

tcp_send_queue::gathered tcp_send_queue::gather(const payload_node* node, std::uint32_t offset,
                                                std::uint32_t count,
                                                std::span<payload_piece> out) noexcept {
    gathered result;
    while (node != nullptr && count > 0 && result.pieces < out.size()) {
        const std::uint32_t length = std::min(node->slice.size() - offset, count);
        out[result.pieces++] = {node->slice.data() + offset, length, node->slice.holder()};
        result.bytes += length;
        count -= length;
        node = node->next;
        offset = 0;
    }
    return result;
}

tcp_send_queue::gathered tcp_send_queue::gather_unsent(
    std::uint32_t count, std::span<payload_piece> out) const noexcept {
    return gather(_cursor, _cursor_offset, count, out);
}

tcp_send_queue::gathered tcp_send_queue::gather_from(std::uint32_t offset, std::uint32_t count,
                                                     std::span<payload_piece> out) const noexcept {
    const payload_node* node = _head;
    offset += _head_offset;
    while (node != nullptr && offset >= node->slice.size()) {
        offset -= node->slice.size();
        node = node->next;
    }
    return gather(node, offset, count, out);
}

void tcp_send_queue::advance(std::uint32_t count) noexcept {
    _unsent -= count;
    while (count > 0) {
        const std::uint32_t left = _cursor->slice.size() - _cursor_offset;
        if (count < left) {
            _cursor_offset += count;
            return;
        }
        count -= left;
        _cursor = _cursor->next;
        _cursor_offset = 0;
    }
}

void tcp_send_queue::compact(std::uint32_t now_ms, std::uint32_t age_ms,
                             payload_pool& pool) noexcept {
    if (_loose == 0) return;
    payload_node* node = _head;
    while (node != nullptr) {
        auto old = [&](const payload_node* n) {
            return n != nullptr && is_loose(*n) && now_ms - n->mark >= age_ms;
        };
        if (!old(node)) {
            node = node->next;
            continue;
        }
        payload_node* first = node;
        payload_node* last = node;
        std::uint32_t total = first->slice.size() - (first == _head ? _head_offset : 0);
        while (old(last->next) && total + last->next->slice.size() <= merged_bytes) {
            last = last->next;
            total += last->slice.size();
        }
        if (!merge(first, last, total, pool)) return;
        node = first->next;
    }
}

bool tcp_send_queue::merge(payload_node* first, payload_node* last, std::uint32_t total,
                           payload_pool& pool) noexcept {
    std::byte* writable = nullptr;
    payload_slice copy = allocate_payload(total, writable);
    if (writable == nullptr) return false;
    std::uint32_t done = 0;
    std::uint32_t skip = first == _head ? _head_offset : 0;
    bool moved_cursor = false;
    std::uint32_t cursor_at = 0;
    payload_node* node = first;
    for (;;) {
        const std::uint32_t length = node->slice.size() - skip;
        std::memcpy(writable + done, node->slice.data() + skip, length);
        if (node == _cursor) {
            moved_cursor = true;
            cursor_at = done + _cursor_offset - skip;
        }
        done += length;
        skip = 0;
        --_loose;
        _loose_bytes -= node->slice.size();
        if (node == last) break;
        node = node->next;
    }
    payload_node* rest = last->next;
    for (node = first->next; first != last && node != rest;) {
        payload_node* gone = node;
        node = node->next;
        pool.give(gone);
    }
    first->slice = std::move(copy);
    first->next = rest;
    if (_tail == last) _tail = first;
    if (first == _head) _head_offset = 0;
    if (moved_cursor) {
        _cursor = first;
        _cursor_offset = cursor_at;
    }
    return true;
}

std::uint32_t tcp_send_queue::oldest_loose_ms() const noexcept {
    for (const payload_node* node = _head; node != nullptr; node = node->next) {
        if (is_loose(*node)) return node->mark;
    }
    return 0;
}

void tcp_send_queue::clear(payload_pool& pool) noexcept {
    while (_head != nullptr) {
        payload_node* gone = _head;
        _head = gone->next;
        pool.give(gone);
    }
    *this = {};
}

}  // namespace burin::tun
