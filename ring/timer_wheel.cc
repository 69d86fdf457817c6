#include "ring/timer_wheel.hh"

#include <bit>

namespace burin::ring {

void timer::disarm() noexcept {
    if (_wheel == nullptr) return;
    *_back = _next;
    if (_next != nullptr) _next->_back = _back;
    unsigned level = _slot / timer_wheel::slots, slot = _slot % timer_wheel::slots;
    if (_wheel->_lists[level][slot] == nullptr)
        _wheel->_occupied[level] &= ~(std::uint64_t{1} << slot);
    --_wheel->_armed;
    _wheel = nullptr;
}

void timer_wheel::arm(timer& t, microseconds_t deadline) noexcept {
    t.disarm();
    t._deadline = deadline;
    t._wheel = this;
    ++_armed;
    place(t, _tick, _tick + 1);
}

void timer_wheel::place(timer& t, std::uint64_t base, std::uint64_t earliest) noexcept {
    std::uint64_t due = (t._deadline + millisecond - 1) / millisecond;
    if (due < earliest) due = earliest;
    std::uint64_t distance = due - base;
    unsigned level = 0;
    while (level + 1 < levels && distance >= (std::uint64_t{1} << (slot_bits * (level + 1))))
        ++level;
    constexpr std::uint64_t longest = (std::uint64_t{1} << (slot_bits * levels)) - 1;
    if (distance > longest) due = base + longest;  // looked at again when it comes round
    auto slot = static_cast<unsigned>((due >> (slot_bits * level)) % slots);
    timer*& head = _lists[level][slot];
    t._next = head;
    t._back = &head;
    if (head != nullptr) head->_back = &t._next;
    head = &t;
    t._slot = static_cast<std::uint16_t>(level * slots + slot);
    _occupied[level] |= std::uint64_t{1} << slot;
}

void timer_wheel::cascade(unsigned level, std::uint64_t due) noexcept {
    auto slot = static_cast<unsigned>((due >> (slot_bits * level)) % slots);
    timer* t = _lists[level][slot];
    _lists[level][slot] = nullptr;
    _occupied[level] &= ~(std::uint64_t{1} << slot);
    while (t != nullptr) {
        timer* after = t->_next;
        place(*t, due, due);
        t = after;
    }
}

void timer_wheel::advance(microseconds_t now) noexcept {
    std::uint64_t target = now / millisecond;
    while (_tick < target) {
        if (_armed == 0) {
            _tick = target;
            return;
        }
        // Skip empty ticks of the lowest level, up to its next turn-round.
        std::uint64_t next_round = (_tick | (slots - 1)) + 1;
        std::uint64_t step = _tick + 1;
        if (_occupied[0] == 0) step = next_round;
        if (step > target) step = target;
        std::uint64_t due = step;
        // The levels above give down what falls into this round.
        for (unsigned level = 1; level < levels; ++level) {
            if ((due & ((std::uint64_t{1} << (slot_bits * level)) - 1)) != 0) break;
            cascade(level, due);
        }
        _tick = due;
        auto slot = static_cast<unsigned>(due % slots);
        // A timer may arm another for this very tick's slot one round later: take only what is due.
        while (timer* t = _lists[0][slot]) {
            t->disarm();
            t->_fire(t->_owner, now);
        }
    }
}

microseconds_t timer_wheel::next() const noexcept {
    if (_armed == 0) return never;
    for (unsigned level = 0; level < levels; ++level) {
        if (_occupied[level] == 0) continue;
        std::uint64_t position = _tick >> (slot_bits * level);
        unsigned at = static_cast<unsigned>(position % slots);
        std::uint64_t turned = std::rotr(_occupied[level], static_cast<int>((at + 1) % slots));
        auto ahead = static_cast<std::uint64_t>(std::countr_zero(turned)) + 1;
        std::uint64_t due = (position + ahead) << (slot_bits * level);
        // A lower level's deadline is earlier than any of a higher one, except across a turn-round:
        // the higher level must then be cascaded first, which happens at its own boundary.
        std::uint64_t boundary = due;
        for (unsigned above = level + 1; above < levels; ++above) {
            if (_occupied[above] == 0) continue;
            std::uint64_t b = ((_tick >> (slot_bits * above)) + 1) << (slot_bits * above);
            if (b < boundary) boundary = b;
        }
        return boundary * millisecond;
    }
    return never;
}

}  // namespace burin::ring
