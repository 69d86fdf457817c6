#include "tun/tcp_reassembly.hh"

#include <algorithm>

namespace burin::tun {

bool tcp_reassembly::link_after(payload_node* previous, sequence seq, bytes_view bytes,
                                payload_pool& pool) noexcept {
    const std::uint64_t worth = std::uint64_t{_pieces} * least_piece_bytes;
    if (_pieces >= free_pieces && _bytes < worth) return false;
    payload_node* node = pool.take();
    if (node == nullptr) return false;
    node->slice = copy_payload(bytes);
    if (node->slice.empty()) {
        pool.give(node);
        return false;
    }
    node->mark = seq.value();
    payload_node*& link = previous != nullptr ? previous->next : _head;
    node->next = link;
    link = node;
    if (node->next == nullptr) _tail = node;
    ++_pieces;
    _bytes += node->slice.size();
    return true;
}

tcp_reassembly::insertion tcp_reassembly::insert(sequence seq, bytes_view bytes,
                                                 payload_pool& pool) noexcept {
    const std::uint32_t before = _bytes;
    // Behind all others is where nearly every piece goes.
    payload_node* previous = _tail != nullptr && end_of(*_tail) <= seq ? _tail : nullptr;
    payload_node* next = previous != nullptr ? nullptr : _head;
    while (!bytes.empty()) {
        const sequence end = seq + static_cast<std::uint32_t>(bytes.size());
        while (next != nullptr && end_of(*next) <= seq) {
            previous = next;
            next = next->next;
        }
        // What lies before the next piece is new; what the piece covers is skipped.
        std::size_t fresh = bytes.size();
        if (next != nullptr && start_of(*next) < end) {
            fresh = static_cast<std::size_t>(std::max(0, start_of(*next) - seq));
        }
        if (fresh > 0) {
            if (!link_after(previous, seq, bytes.first(fresh), pool)) return insertion::refused;
            previous = previous != nullptr ? previous->next : _head;
        }
        if (fresh == bytes.size() || end <= end_of(*next)) break;
        bytes = bytes.subspan(static_cast<std::size_t>(end_of(*next) - seq));
        seq = end_of(*next);
    }
    return _bytes != before ? insertion::kept : insertion::known;
}

payload_slice tcp_reassembly::take(sequence next, std::uint32_t limit,
                                   payload_pool& pool) noexcept {
    while (_head != nullptr) {
        payload_node* node = _head;
        if (start_of(*node) > next) return {};
        if (end_of(*node) > next) {
            if (limit == 0) return {};
            const auto skip = static_cast<std::uint32_t>(next - start_of(*node));
            const std::uint32_t length = std::min(node->slice.size() - skip, limit);
            payload_slice part(node->slice.bytes().subspan(skip, length), node->slice.holder());
            if (skip + length < node->slice.size()) return part;
            _head = node->next;
            if (_head == nullptr) _tail = nullptr;
            --_pieces;
            _bytes -= node->slice.size();
            pool.give(node);
            return part;
        }
        _head = node->next;
        if (_head == nullptr) _tail = nullptr;
        --_pieces;
        _bytes -= node->slice.size();
        pool.give(node);
    }
    return {};
}

void tcp_reassembly::clear(payload_pool& pool) noexcept {
    while (_head != nullptr) {
        payload_node* gone = _head;
        _head = gone->next;
        pool.give(gone);
    }
    *this = {};
}

}  // namespace burin::tun
