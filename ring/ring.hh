// One io_uring, owned by one thread. An operation is an `op` that its owner embeds; the ring gives
// its completion to `op.done` on the owner's thread. Nothing is allocated an operation.
//
// Who owns what: whatever an operation points at (op, buffer, msghdr, address) belongs to the
// caller and must live until `done` was called without `more`. An owner that dies first must
// cancel, reap, and only then free: `in_flight` tells. A descriptor is closed with close() of this
// class after everything pending on it was reaped: closing a descriptor that the ring still holds
// sends no FIN.
//
// Errors: results are the kernel's, negative errno. The constructor throws `unavailable` with a
// sentence for a person.
// A kernel that takes no operation is asked again for ten seconds; after that, or when it has lost
// a completion, the process ends with a word to stderr: nobody can tell any longer what is in
// flight.
#pragma once

#include <liburing.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>

#include "ring/clock.hh"

namespace burin::ring {

struct completion {
    int result;           // bytes or a descriptor; negative errno
    std::uint32_t flags;  // IORING_CQE_F_*
    bool more() const noexcept { return (flags & IORING_CQE_F_MORE) != 0; }
    bool has_buffer() const noexcept { return (flags & IORING_CQE_F_BUFFER) != 0; }
    std::uint16_t buffer() const noexcept {
        return static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
    }
    // More bytes already wait in the socket.
    bool nonempty() const noexcept { return (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0; }
};

struct op {
    using done_function = void (*)(op&, completion) noexcept;
    done_function done = nullptr;
    void* owner = nullptr;
    bool in_flight = false;

    op() = default;
    op(void* owner_, done_function done_) : done(done_), owner(owner_) {}
    op(const op&) = delete;
    op& operator=(const op&) = delete;
    template <class T>
    T& of() const noexcept {
        return *static_cast<T*>(owner);
    }
};

// `bind<&relay::on_receive>(this)`: an op whose completion is a member function.
template <auto Member>
struct member_op;
template <class T, void (T::*Member)(completion) noexcept>
struct member_op<Member> : op {
    explicit member_op(T* self)
        : op(self, [](op& o, completion c) noexcept { (o.of<T>().*Member)(c); }) {}
};

struct features {
    bool read_multishot = true;  // Linux 6.7; without it TUN reads are one-shot
};

struct options {
    unsigned submissions = 1024;
    unsigned completions = 8192;
    features mask = {};  // false forces the path of an older kernel (tests)
};

class unavailable : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

class ring {
  public:
    explicit ring(const options& = {});  // on the thread that will use it
    ~ring();
    ring(const ring&) = delete;
    ring& operator=(const ring&) = delete;

    // ---- operations; each fills one submission, sent by the next enter() ----
    void receive(op&, int fd, std::span<std::byte> into) noexcept;
    // The kernel takes a buffer of `group` when bytes arrive: an idle socket holds none. At most
    // `bytes` of it.
    void receive_select(op&, int fd, std::uint16_t group, std::uint32_t bytes,
                        int flags = 0) noexcept;
    // Into memory of the caller's; whoever sent it and what else the kernel tells stand in the
    // message afterwards.
    void receive_message(op&, int fd, msghdr* message, int flags) noexcept;
    // Datagrams, multishot (look at more()): each into a buffer of `group`, behind what the kernel
    // tells of it. `shape` says how much room that has for the sender's address and for control
    // messages; it has no parts and lives as long as the operation.
    void receive_messages(op&, int fd, std::uint16_t group, msghdr* shape) noexcept;
    void send(op&, int fd, std::span<const std::byte> bytes, int flags = 0) noexcept;
    // Without a copy, if the way allows it: completes like send(), and, where that said more(),
    // once more when the kernel needs the bytes no longer (uring_abi.hh: cqe_notification), whose
    // result says whether it had copied them. -EINVAL before Linux 6.2.
    void send_zero_copy(op&, int fd, std::span<const std::byte> bytes) noexcept;
    void send_message(op&, int fd, const msghdr* message, int flags) noexcept;
    void accept(op&, int listener) noexcept;  // multishot; result = descriptor
    void connect(op&, int fd, const sockaddr* address, socklen_t size) noexcept;
    // Cancels everything pending on the descriptor; those operations complete with -ECANCELED.
    void cancel(op&, int fd) noexcept;
    void cancel(op&, const op& what) noexcept;
    void close(op&, int fd) noexcept;
    // Closes and forgets: no completion is delivered, and the descriptor goes whatever happens.
    void close_quietly(int fd) noexcept;
    void poll(op&, int fd, std::uint32_t events) noexcept;  // one-shot; result = events
    // TUN frames into buffers of `group`: multishot where the kernel has it, else one-shot (look at
    // more()).
    void read_frames(op&, int fd, std::uint16_t group) noexcept;
    void write_vector(op&, int fd, std::span<const iovec> parts) noexcept;
    void read(op&, int fd, std::span<std::byte> into) noexcept;
    // Completes an op (result = `value`) of another ring; `where` belongs to that ring.
    void message(int ring_descriptor, op& where, unsigned value) noexcept;

    // Submits, and waits until `deadline` (CLOCK_MONOTONIC, us) for at least one completion. One
    // io_uring_enter.
    void wait(microseconds_t deadline) noexcept;
    // Delivers every completion there is; returns how many.
    unsigned deliver() noexcept;
    unsigned enter(microseconds_t deadline) noexcept {
        wait(deadline);
        return deliver();
    }

    // No completion waits to be delivered: of what the kernel has done so far, everything is known.
    bool told_all() const noexcept {
        return io_uring_cq_ready(&_ring) == 0 && !io_uring_cq_has_overflow(&_ring);
    }

    const features& has() const noexcept { return _features; }
    int descriptor() const noexcept { return _ring.ring_fd; }
    ::io_uring& raw() noexcept { return _ring; }
    unsigned in_flight() const noexcept { return _in_flight; }
    std::uint64_t enters() const noexcept { return _enters; }

  private:
    io_uring_sqe* next(op*) noexcept;
    void deliver(const io_uring_cqe&) noexcept;

    ::io_uring _ring{};
    features _features;
    unsigned _in_flight = 0;
    std::uint64_t _enters = 0;
};

// One sentence that says whether this kernel grants what Burin needs; empty when it does.
std::string why_unavailable(int error);
// The same for a value of the sysctl kernel.io_uring_disabled.
std::string why_unavailable(int error, int disabled);

}  // namespace burin::ring
