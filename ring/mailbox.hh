// Messages to one thread from any other: control only (accepted descriptors, statistics, shutdown),
// never payload.
//
// A lock-free queue of many senders and one receiver (intrusive, after Vyukov); the receiver sleeps
// in its ring and is woken through an eventfd, at most once between two drains. The sender
// allocates a message, the receiver frees it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

namespace burin::ring {

class message {
  public:
    virtual ~message() = default;
    // Called once on the receiving thread; `context` is what the receiver gave to drain().
    virtual void deliver(void* context) = 0;

  private:
    friend class mailbox;
    std::atomic<message*> _next{nullptr};
};

class mailbox {
  public:
    mailbox();  // throws std::system_error when no descriptor is left
    ~mailbox();
    mailbox(const mailbox&) = delete;
    mailbox& operator=(const mailbox&) = delete;

    // Any thread. Never blocks.
    void post(std::unique_ptr<message>) noexcept;
    // The receiver. Delivers what is there, in the order of each sender; returns how many.
    unsigned drain(void* context);
    // The receiver: how many were delivered so far.
    std::uint64_t taken() const noexcept { return _taken; }
    // Readable (an 8-byte counter) when there may be messages; the receiver reads it before
    // drain().
    int descriptor() const noexcept { return _event; }

  private:
    message* pop() noexcept;

    struct stub final : message {
        void deliver(void*) override {}
    };
    alignas(64) std::atomic<message*> _head;  // senders push here
    std::atomic<bool> _awake{false};          // a wake-up is already under way
    alignas(64) message* _tail;               // the receiver takes here
    std::uint64_t _taken = 0;
    stub _stub;
    int _event;
};

}  // namespace burin::ring
