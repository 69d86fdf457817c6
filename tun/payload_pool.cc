#include "tun/payload_pool.hh"

#include <new>

namespace burin::tun {

bool payload_pool::grow() noexcept {
    try {
        auto chunk = std::make_unique<payload_node[]>(chunk_nodes);
        payload_node* nodes = chunk.get();
        _chunks.push_back(std::move(chunk));
        for (std::size_t i = 0; i < chunk_nodes; ++i) {
            nodes[i].next = _free;
            _free = &nodes[i];
        }
    } catch (const std::bad_alloc&) {
        return false;
    }
    return true;
}

}  // namespace burin::tun
