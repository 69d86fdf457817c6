// A coroutine without a scheduler: the stages of a handshake read from top to bottom and await the
// next message from whoever has one (docs/architecture.md "Four ideas", 4). Nothing here does I/O.
//
//   task stage() {
//       bytes_span payload = co_await _inbox.next(due(message::newkeys));
//       ...
//   }
//
// A task starts when start() is called, runs until it awaits, and goes on inside inbox::deliver().
// Destroying a task that awaits destroys its frame and what lives in it, and is always safe as long
// as it is not done from inside that very task.
#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <utility>

#include "core/ssh/messages.hh"
#include "crypto/wire.hh"

namespace burin::ssh {

class [[nodiscard]] task {
  public:
    struct promise_type {
        task get_return_object() {
            return task(std::coroutine_handle<promise_type>::from_promise(*this));
        }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        // Nothing in a stage throws but an allocation, and without memory there is no way on.
        [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }
    };

    task() = default;
    task(task&& other) noexcept : _frame(std::exchange(other._frame, nullptr)) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            destroy();
            _frame = std::exchange(other._frame, nullptr);
        }
        return *this;
    }
    ~task() { destroy(); }

    void start() { _frame.resume(); }
    // Started or not, it has not come to its end.
    bool running() const { return _frame && !_frame.done(); }

  private:
    explicit task(std::coroutine_handle<promise_type> frame) : _frame(frame) {}
    void destroy() {
        if (_frame) _frame.destroy();
    }
    std::coroutine_handle<promise_type> _frame;
};

// Sets of message numbers below 64, which all numbers that stages await are.
using message_set = std::uint64_t;
inline constexpr message_set due(message number) {
    return message_set{1} << static_cast<unsigned>(number);
}
template <class... Others>
constexpr message_set due(message number, Others... others) {
    return due(number) | due(others...);
}

// Where a stage waits for its next message. At most one stage awaits at a time.
class inbox {
  public:
    struct awaiter {
        inbox& from;
        message_set numbers;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> stage) const noexcept {
            from._stage = stage;
            from._due = numbers;
        }
        // Writable, because secrets are wiped where they arrived. Valid until the next await.
        bytes_span await_resume() const noexcept { return from._payload; }
    };

    awaiter next(message_set numbers) { return {*this, numbers}; }

    bool awaits(message number) const {
        return _stage && static_cast<unsigned>(number) < 64 && (_due & due(number)) != 0;
    }
    // Hands over a message that is awaited; the stage runs until it awaits again or ends.
    void deliver(bytes_span payload) {
        _payload = payload;
        std::exchange(_stage, nullptr).resume();
        _payload = {};
    }

  private:
    std::coroutine_handle<> _stage;
    message_set _due = 0;
    bytes_span _payload;
};

}  // namespace burin::ssh
