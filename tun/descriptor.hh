// A file descriptor with one owner: closed when its owner dies, moved and never copied. Whoever
// hands the number of an owned descriptor to the kernel for later (a ring operation in flight) must
// see that operation end before the owner dies: closing does not end it.
#pragma once

#include <unistd.h>

#include <utility>

namespace burin::tun {

class descriptor {
  public:
    descriptor() noexcept = default;
    explicit descriptor(int number) noexcept : _number(number) {}
    descriptor(descriptor&& other) noexcept : _number(std::exchange(other._number, -1)) {}
    descriptor& operator=(descriptor&& other) noexcept {
        if (this != &other) {
            close();
            _number = std::exchange(other._number, -1);
        }
        return *this;
    }
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    ~descriptor() { close(); }

    // -1 when it owns nothing.
    int number() const noexcept { return _number; }
    explicit operator bool() const noexcept { return _number >= 0; }
    // Gives the number away; the caller closes it.
    int release() noexcept { return std::exchange(_number, -1); }
    // Linux frees the number even where close() reports an error, so there is nothing to retry.
    void close() noexcept {
        if (_number >= 0) ::close(std::exchange(_number, -1));
    }

  private:
    int _number = -1;
};

}  // namespace burin::tun
