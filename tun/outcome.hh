// How tun/ and those above it hand back what went wrong at start-up and on the control path: a
// value with the kernel's errno and one sentence for a person (what was tried, on what, what to
// do). The data path does not use these: it counts.
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace burin::tun {

// `code` is a positive errno; 0 means that nothing failed. `what` is a whole sentence without a
// full stop, in English, and holds no secret.
struct [[nodiscard]] failure {
    int code = 0;
    std::string what;

    explicit operator bool() const noexcept { return code != 0; }
};

// A value or the failure that took its place; value() only after ok().
template <class T>
class [[nodiscard]] outcome {
  public:
    outcome(T value) : _held(std::in_place_index<0>, std::move(value)) {}
    outcome(failure why) : _held(std::in_place_index<1>, std::move(why)) {}

    bool ok() const noexcept { return _held.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }
    T& value() & { return std::get<0>(_held); }
    const T& value() const& { return std::get<0>(_held); }
    T&& value() && { return std::get<0>(std::move(_held)); }
    T* operator->() { return &std::get<0>(_held); }
    const failure& error() const { return std::get<1>(_held); }

  private:
    std::variant<T, failure> _held;
};

}  // namespace burin::tun
