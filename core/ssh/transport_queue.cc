// The queue is one run of bytes: no allocation a message, and none at all once it has its size.
#include "core/ssh/transport_queue.hh"

#include <algorithm>
#include <cstring>

#include "crypto/secret.hh"

namespace burin::ssh {
namespace {

constexpr std::size_t least_capacity = 512;
// A burst may grow the queue far beyond what it needs day by day; above this it is given back.
constexpr std::size_t kept_capacity = 64 << 10;
constexpr std::size_t size_bytes = 4;

}  // namespace

message_queue::~message_queue() {
    crypto::wipe(_bytes.get() + _begin, _end - _begin);
}

bool message_queue::push(bytes_view payload, std::size_t limit) {
    const std::size_t size = size_bytes + payload.size();
    if (_end - _begin + size > limit) return false;
    if (_end + size > _capacity) make_room(size);
    store_u32(_bytes.get() + _end, static_cast<std::uint32_t>(payload.size()));
    if (!payload.empty()) {
        std::memcpy(_bytes.get() + _end + size_bytes, payload.data(), payload.size());
    }
    _end += size;
    return true;
}

bytes_view message_queue::front() const {
    return {_bytes.get() + _begin + size_bytes, load_u32(_bytes.get() + _begin)};
}

void message_queue::pop() {
    const std::size_t size = size_bytes + front().size();
    crypto::wipe(_bytes.get() + _begin, size);
    _begin += size;
    if (_begin != _end) return;
    _begin = _end = 0;
    if (_capacity > kept_capacity) {
        _bytes.reset();
        _capacity = 0;
    }
}

void message_queue::make_room(std::size_t size) {
    const std::size_t used = _end - _begin;
    if (used + size <= _capacity / 2) {
        std::memmove(_bytes.get(), _bytes.get() + _begin, used);
        crypto::wipe(_bytes.get() + used, _end - used);
    } else {
        const std::size_t capacity = std::max({least_capacity, 2 * _capacity, used + size});
        auto grown = std::make_unique_for_overwrite<std::byte[]>(capacity);
        if (used > 0) {
            std::memcpy(grown.get(), _bytes.get() + _begin, used);
            crypto::wipe(_bytes.get() + _begin, used);
        }
        _bytes = std::move(grown);
        _capacity = capacity;
    }
    _begin = 0;
    _end = used;
}

}  // namespace burin::ssh
