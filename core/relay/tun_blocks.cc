#include "core/relay/tun_blocks.hh"

#include <new>

namespace burin::relay {

tun_blocks::holder* tun_blocks::take() noexcept {
    if (_free == nullptr) {
        try {
            auto chunk = std::make_unique<holder[]>(chunk_holders);
            holder* holders = chunk.get();
            _chunks.push_back(std::move(chunk));
            for (std::size_t i = 0; i < chunk_holders; ++i) {
                holders[i].owner = this;
                holders[i].release = give_back;
                holders[i].next = _free;
                _free = &holders[i];
            }
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    holder* h = _free;
    _free = h->next;
    ++_held;
    return h;
}

void tun_blocks::give_back(tun::payload_holder* gone) noexcept {
    auto* h = static_cast<holder*>(gone);
    h->block.reset();
    h->next = h->owner->_free;
    h->owner->_free = h;
    --h->owner->_held;
}

tun::payload_slice tun_blocks::slice(bytes_view bytes, const ring::buffer& block) noexcept {
    // When blocks run short none may wait for a host's ACK: the session would have nothing to
    // receive into.
    if (!block || block.group()->held() > block.group()->count() / 2)
        return tun::copy_payload(bytes);
    const bool same = _current != nullptr && _current->block.group() == block.group() &&
                      _current->block.id() == block.id();
    if (!same) {
        end_turn();
        holder* h = take();
        if (h == nullptr) return {};
        h->block = block.share();
        h->references = 1;
        _current = h;
    }
    return {bytes, _current};
}

void tun_blocks::end_turn() noexcept {
    if (_current == nullptr) return;
    if (--_current->references == 0) give_back(_current);
    _current = nullptr;
}

}  // namespace burin::relay
