#include "ring/mailbox.hh"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace burin::ring {

mailbox::mailbox() : _head(&_stub), _tail(&_stub), _event(eventfd(0, EFD_CLOEXEC)) {
    if (_event < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
}

mailbox::~mailbox() {
    while (message* m = pop()) delete m;
    ::close(_event);
}

void mailbox::post(std::unique_ptr<message> owned) noexcept {
    message* m = owned.release();
    m->_next.store(nullptr, std::memory_order_relaxed);
    message* before = _head.exchange(m, std::memory_order_acq_rel);
    before->_next.store(m, std::memory_order_release);
    // seq_cst against the receiver's clearing in drain(): either it sees the message or we see it
    // cleared.
    if (!_awake.exchange(true, std::memory_order_seq_cst)) {
        std::uint64_t one = 1;
        [[maybe_unused]] ssize_t written = ::write(_event, &one, sizeof one);
    }
}

message* mailbox::pop() noexcept {
    message* tail = _tail;
    message* next = tail->_next.load(std::memory_order_acquire);
    if (tail == &_stub) {
        if (next == nullptr) return nullptr;
        _tail = tail = next;
        next = tail->_next.load(std::memory_order_acquire);
    }
    if (next != nullptr) {
        _tail = next;
        return tail;
    }
    // The last one: put the stub behind it so that it can be taken. A sender between its two steps
    // has announced itself by the exchange and will wake us again.
    if (tail != _head.load(std::memory_order_acquire)) return nullptr;
    _stub._next.store(nullptr, std::memory_order_relaxed);
    message* before = _head.exchange(&_stub, std::memory_order_acq_rel);
    before->_next.store(&_stub, std::memory_order_release);
    next = tail->_next.load(std::memory_order_acquire);
    if (next == nullptr) return nullptr;
    _tail = next;
    return tail;
}

unsigned mailbox::drain(void* context) {
    _awake.exchange(false, std::memory_order_seq_cst);
    unsigned delivered = 0;
    while (message* m = pop()) {
        std::unique_ptr<message> owned(m);
        ++_taken;  // before: a message may ask
        owned->deliver(context);
        ++delivered;
    }
    return delivered;
}

}  // namespace burin::ring
