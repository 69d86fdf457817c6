#include "ring/buffer_group.hh"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <stdexcept>
#include <utility>

namespace burin::ring {

namespace {
// After this many turns without running dry one buffer fewer is offered.
inline constexpr std::uint32_t quiet_turns_limit = 4096;
}  // namespace

buffer_group::buffer_group(ring& r, const shape& s)
    : _ring(r),
      _shape(s),
      _memory(std::size_t{s.bytes} + s.headroom, s.chunk, s.count, s.pages),
      _target(s.offered) {
    _offers_bytes = s.count * sizeof(io_uring_buf);
    void* at =
        mmap(nullptr, _offers_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (at == MAP_FAILED) throw unavailable(why_unavailable(ENOMEM));
    _offers = static_cast<io_uring_buf_ring*>(at);
    io_uring_buf_ring_init(_offers);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(at);
    registration.ring_entries = s.count;
    registration.bgid = s.id;
    if (int e = io_uring_register_buf_ring(&r.raw(), &registration, 0); e < 0) {
        munmap(at, _offers_bytes);
        throw unavailable(why_unavailable(-e));
    }
    _data.resize(s.count);
    _references.resize(s.count);
    _empty.reserve(s.count);
    _order.reserve(s.count);
    _free.resize((s.count + word_bits - 1) / word_bits);
    for (std::uint32_t id = 0; id < s.count; ++id)
        _free[id / word_bits] |= std::uint64_t{1} << id % word_bits;
    offer();
}

buffer_group::~buffer_group() {
    io_uring_unregister_buf_ring(&_ring.raw(), _shape.id);
    munmap(_offers, _offers_bytes);
}

buffer buffer_group::take(completion c) noexcept {
    std::uint16_t id = c.buffer();
    --_offered;
    ++_held;
    _references[id] = 1;
    return {this, id};
}

bool buffer_group::map(std::uint16_t id) noexcept {
    if (_data[id] != nullptr) return true;
    std::byte* piece = _memory.take();
    if (piece == nullptr) return false;
    _data[id] = piece + _shape.headroom;
    return true;
}

std::uint32_t buffer_group::take_free() noexcept {
    for (std::size_t word = 0; word < _free.size(); ++word) {
        if (_free[word] == 0) continue;
        const auto id = static_cast<std::uint16_t>(
            word * word_bits + static_cast<unsigned>(std::countr_zero(_free[word])));
        if (!map(id)) return none;
        _free[word] &= _free[word] - 1;
        return id;
    }
    return none;
}

buffer buffer_group::borrow() noexcept {
    const std::uint32_t id = take_free();
    if (id == none) return {};
    ++_held;
    _references[id] = 1;
    return {this, static_cast<std::uint16_t>(id)};
}

void buffer_group::release(std::uint16_t id) noexcept {
    --_held;
    _free[id / word_bits] |= std::uint64_t{1} << id % word_bits;
}

void buffer_group::ran_out() noexcept {
    ++_times_out;
    _quiet_turns = 0;
    // Sixteen flows that begin at once find none at once: that is one time.
    if (!std::exchange(_dry, true)) _target = std::min(_target * 2, _shape.count - _shape.kept);
}

void buffer_group::offer() noexcept {
    _dry = false;
    if (++_quiet_turns >= quiet_turns_limit) {
        _quiet_turns = 0;
        if (_target > _shape.offered) --_target;
    }
    int mask = io_uring_buf_ring_mask(_shape.count);
    int added = 0;
    while (_offered < _target) {
        const std::uint32_t free = take_free();
        if (free == none) break;
        const auto id = static_cast<std::uint16_t>(free);
        io_uring_buf_ring_add(_offers, _data[id], _shape.bytes, id, mask, added++);
        ++_offered;
    }
    if (added > 0) io_uring_buf_ring_advance(_offers, added);
}

io_uring_buf& buffer_group::offer_at(std::uint32_t i) noexcept {
    return _offers->bufs[(_offers->tail - _offered + i) & (_shape.count - 1)];
}

// Those that are picked first lie side by side, so that few chunks keep memory for them.
void buffer_group::gather_offered() noexcept {
    _order.clear();
    for (std::uint32_t i = 0; i < _offered; ++i) _order.push_back(offer_at(i).bid);
    std::sort(_order.begin(), _order.end(),
              [this](std::uint16_t a, std::uint16_t b) { return _data[a] < _data[b]; });
    for (std::uint32_t i = 0; i < _offered; ++i) {
        io_uring_buf& one = offer_at(i);  // not all of it: the first holds the ring's tail as well
        one.bid = _order[i];
        one.addr = reinterpret_cast<std::uint64_t>(_data[one.bid]);
    }
}

void buffer_group::trim() noexcept {
    // The highest first: the pool gives the piece of the lowest out again first.
    for (std::uint32_t id = _shape.count; id-- > 0;) {
        const bool free = (_free[id / word_bits] >> id % word_bits & 1) != 0;
        if (!free || _data[id] == nullptr) continue;
        _memory.give_back(_data[id] - _shape.headroom);
        _data[id] = nullptr;
    }
    _target = _shape.offered;
    // A buffer that the kernel has filled counts as offered until its completion is there.
    _empty.clear();
    if (_ring.told_all()) {
        gather_offered();
        for (std::uint32_t i = _shape.offered; i < _offered; ++i)
            _empty.push_back(_data[offer_at(i).bid] - _shape.headroom);
    }
    _memory.trim(_empty);
}

}  // namespace burin::ring
