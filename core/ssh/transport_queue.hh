// Messages that wait to be sealed, in order. Passwords pass through here, so what was taken out is
// wiped, and so is memory that is left behind when the queue grows.
#pragma once

#include <cstddef>
#include <memory>

#include "crypto/wire.hh"

namespace burin::ssh {

class message_queue {
  public:
    message_queue() = default;
    ~message_queue();
    message_queue(const message_queue&) = delete;
    message_queue& operator=(const message_queue&) = delete;

    // Copies a message in. False, and nothing happens, when more than `limit` bytes would wait.
    bool push(bytes_view payload, std::size_t limit);
    bool empty() const { return _begin == _end; }
    // The oldest message; not when empty.
    bytes_view front() const;
    void pop();
    std::size_t held_bytes() const { return _capacity; }

  private:
    void make_room(std::size_t size);
    std::unique_ptr<std::byte[]> _bytes;
    std::size_t _capacity = 0;
    // Between both: four bytes of size and the message, one after another.
    std::size_t _begin = 0;
    std::size_t _end = 0;
};

}  // namespace burin::ssh
