// List nodes for slices, shared by all flows of a worker: an idle flow owns none, a busy one takes
// and returns them without touching the allocator.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tun/payload.hh"

namespace burin::tun {

struct payload_node {
    payload_slice slice;
    payload_node* next = nullptr;
    // The send queue: milliseconds when it was queued. Reassembly: its sequence number.
    std::uint32_t mark = 0;
};

class payload_pool {
  public:
    payload_pool() = default;
    payload_pool(const payload_pool&) = delete;
    payload_pool& operator=(const payload_pool&) = delete;

    // Null when memory is refused. The node is empty.
    payload_node* take() noexcept {
        if (_free == nullptr && !grow()) return nullptr;
        payload_node* node = _free;
        _free = node->next;
        node->next = nullptr;
        ++_taken;
        return node;
    }
    // Drops the node's slice.
    void give(payload_node* node) noexcept {
        node->slice = {};
        node->next = _free;
        _free = node;
        --_taken;
    }
    std::size_t taken() const noexcept { return _taken; }

  private:
    static constexpr std::size_t chunk_nodes = 128;  // 5 KiB a growth
    bool grow() noexcept;

    payload_node* _free = nullptr;
    std::size_t _taken = 0;
    std::vector<std::unique_ptr<payload_node[]>> _chunks;
};

}  // namespace burin::tun
