// Deadlines of one worker: a hierarchical wheel, 1 ms a tick, arming and disarming in constant time
// without allocation. A `timer` is embedded in its owner and disarms itself when it dies. Time
// comes from outside, so a test drives it with a clock of its own. Deadlines fire at or up to one
// tick after their time, never before.
#pragma once

#include <array>
#include <cstdint>

#include "ring/clock.hh"

namespace burin::ring {

class timer_wheel;

class timer {
  public:
    using function = void (*)(void* owner, microseconds_t now) noexcept;
    timer(void* owner, function fire) noexcept : _owner(owner), _fire(fire) {}
    ~timer() { disarm(); }
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;

    bool armed() const noexcept { return _wheel != nullptr; }
    microseconds_t deadline() const noexcept { return _deadline; }
    void disarm() noexcept;

  private:
    friend class timer_wheel;
    timer* _next = nullptr;
    timer** _back = nullptr;  // the pointer that points at us
    timer_wheel* _wheel = nullptr;
    microseconds_t _deadline = 0;
    void* _owner;
    function _fire;
    std::uint16_t _slot = 0;
};

// `on_timer<&session::on_keepalive>(this)`: a timer that calls a member function with the time.
template <auto Member>
struct member_timer;
template <class T, void (T::*Member)(microseconds_t) noexcept>
struct member_timer<Member> : timer {
    explicit member_timer(T* self)
        : timer(self,
                [](void* o, microseconds_t now) noexcept { (static_cast<T*>(o)->*Member)(now); }) {}
};

class timer_wheel {
  public:
    explicit timer_wheel(microseconds_t now) noexcept : _tick(now / millisecond) {}
    timer_wheel(const timer_wheel&) = delete;
    timer_wheel& operator=(const timer_wheel&) = delete;

    // Arms (or moves) a timer; deadlines in the past fire at the next advance.
    void arm(timer&, microseconds_t deadline) noexcept;
    // Fires everything due. Firing may arm and disarm any timer.
    void advance(microseconds_t now) noexcept;
    // When advance() should be called next; no later than the earliest deadline, `never` when none
    // is armed.
    microseconds_t next() const noexcept;
    std::uint32_t armed() const noexcept { return _armed; }

    static constexpr microseconds_t never = ~microseconds_t{0};

  private:
    friend class timer;
    static constexpr unsigned slot_bits = 6, slots = 1u << slot_bits,
                              levels = 5;  // 2^30 ms: 12 days
    // Into the list for its deadline, seen from tick `base`; no earlier than tick `earliest`.
    void place(timer&, std::uint64_t base, std::uint64_t earliest) noexcept;
    // Moves what the slot of tick `due` holds to the levels below.
    void cascade(unsigned level, std::uint64_t due) noexcept;

    std::array<std::array<timer*, slots>, levels> _lists{};
    std::array<std::uint64_t, levels> _occupied{};
    std::uint64_t _tick;  // everything up to and including this tick has fired
    std::uint32_t _armed = 0;
};

}  // namespace burin::ring
