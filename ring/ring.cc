#include "ring/ring.hh"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>

#include "ring/shortage.hh"
#include "ring/uring_abi.hh"

namespace burin::ring {
namespace {

[[noreturn]] void broken(const char* what, int error) {
    std::fprintf(stderr, "burin: io_uring: %s: %s\n", what, std::strerror(error));
    std::abort();
}

// Results with which the kernel took nothing, or only part, and may take it the next time.
bool passing(int result) noexcept {
    return result == -EBUSY || result == -EAGAIN || result == -EINTR || result == -ENOMEM;
}

// A kernel without memory for what is queued: asked again at once so many times, and then once a
// millisecond for ten seconds. Whoever is out of memory for longer is not helped by waiting.
constexpr unsigned tries_at_once = 100, tries_in_all = 10'100;

// What a descriptor that is being closed has for a name: it has no op. Those are aligned.
std::uint64_t closing_name(int fd) noexcept {
    return static_cast<std::uint64_t>(static_cast<unsigned>(fd)) << 1 | 1;
}

// One more try to make the kernel take what is queued; `tries`: how many there were.
void submit_again(::io_uring& ring, unsigned& tries) {
    if (tries == tries_in_all) broken("submit", EAGAIN);
    if (tries++ >= tries_at_once) {
        const timespec pause{0, 1'000'000};
        nanosleep(&pause, nullptr);
    }
    // With what has completed taken along: a full queue of completions may be in the way.
    if (int r = io_uring_submit_and_get_events(&ring); r < 0 && !passing(r)) broken("submit", -r);
}

int io_uring_disabled() {
    std::ifstream file("/proc/sys/kernel/io_uring_disabled");
    int value = 0;
    file >> value;
    return file ? value : 0;
}

}  // namespace

std::string why_unavailable(int error) {
    return why_unavailable(error, io_uring_disabled());
}

std::string why_unavailable(int error, int disabled) {
    utsname kernel{};
    uname(&kernel);
    std::string head = "io_uring cannot be used: ";
    switch (error) {
        case ENOSYS:
            return head + "kernel " + kernel.release +
                   " does not have it or hides it; Burin needs Linux 6.1 or newer";
        case EPERM:
            if (disabled != 0)
                return head + "sysctl kernel.io_uring_disabled is " + std::to_string(disabled) +
                       "; set it to 0 (or to 1 and run with CAP_SYS_ADMIN)";
            return head +
                   "a seccomp filter refuses it (containers do by default); allow io_uring_setup, "
                   "io_uring_enter and io_uring_register in the container's seccomp profile";
        case ENOMEM: {
            rlimit limit{};
            getrlimit(RLIMIT_MEMLOCK, &limit);
            return head + "locked memory is limited to " + std::to_string(limit.rlim_cur / 1024) +
                   " KiB; raise it (ulimit -l, LimitMEMLOCK=)";
        }
        case EINVAL:
            return head + "kernel " + kernel.release +
                   " lacks SINGLE_ISSUER or DEFER_TASKRUN; Burin needs Linux 6.1 or newer";
        default: return head + std::strerror(error);
    }
}

ring::ring(const options& wanted) {
    io_uring_params params{};
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                   IORING_SETUP_SUBMIT_ALL;
    params.cq_entries = wanted.completions;
    if (int r = io_uring_queue_init_params(wanted.submissions, &_ring, &params); r < 0)
        throw unavailable(why_unavailable(-r));
    fcntl(_ring.ring_fd, F_SETFD, FD_CLOEXEC);
    io_uring_register_ring_fd(&_ring);  // saves a descriptor lookup an enter; works without
    io_uring_probe* probe = io_uring_get_probe_ring(&_ring);
    _features.read_multishot =
        wanted.mask.read_multishot && probe != nullptr && probe->last_op >= abi::op_read_multishot;
    if (probe != nullptr) io_uring_free_probe(probe);
}

ring::~ring() {
    io_uring_queue_exit(&_ring);
}

io_uring_sqe* ring::next(op* o) noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&_ring);
    for (unsigned tries = 0; sqe == nullptr;) {  // more in one turn than the queue holds
        ++_enters;
        submit_again(_ring, tries);
        sqe = io_uring_get_sqe(&_ring);
    }
    io_uring_sqe_set_data(sqe, o);
    if (o != nullptr) {
        o->in_flight = true;
        ++_in_flight;
    }
    return sqe;
}

// The prep functions of liburing 2.3 clear user_data? They do not: data is set by next() and kept
// by io_uring_prep_rw of 2.3, but newer ones document "call set_data after prep", so each operation
// sets it again through this helper.
namespace {
void tag(io_uring_sqe* sqe, op* o) noexcept {
    io_uring_sqe_set_data(sqe, o);
}
}  // namespace

void ring::receive(op& o, int fd, std::span<std::byte> into) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_recv(sqe, fd, into.data(), into.size(), 0);
    tag(sqe, &o);
}

void ring::receive_select(op& o, int fd, std::uint16_t group, std::uint32_t bytes,
                          int flags) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_recv(sqe, fd, nullptr, bytes, flags);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    tag(sqe, &o);
}

void ring::receive_messages(op& o, int fd, std::uint16_t group, msghdr* shape) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_recvmsg_multishot(sqe, fd, shape, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    tag(sqe, &o);
}

void ring::receive_message(op& o, int fd, msghdr* message, int flags) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_recvmsg(sqe, fd, message, static_cast<unsigned>(flags));
    tag(sqe, &o);
}

void ring::send(op& o, int fd, std::span<const std::byte> bytes, int flags) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_send(sqe, fd, bytes.data(), bytes.size(), flags | MSG_NOSIGNAL);
    tag(sqe, &o);
}

void ring::send_zero_copy(op& o, int fd, std::span<const std::byte> bytes) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_send_zc(sqe, fd, bytes.data(), bytes.size(), MSG_NOSIGNAL,
                          abi::send_zero_copy_report);
    tag(sqe, &o);
}

void ring::send_message(op& o, int fd, const msghdr* message, int flags) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_sendmsg(sqe, fd, message, static_cast<unsigned>(flags) | MSG_NOSIGNAL);
    tag(sqe, &o);
}

void ring::accept(op& o, int listener) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_multishot_accept(sqe, listener, nullptr, nullptr, SOCK_CLOEXEC);
    tag(sqe, &o);
}

void ring::connect(op& o, int fd, const sockaddr* address, socklen_t size) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_connect(sqe, fd, address, size);
    tag(sqe, &o);
}

void ring::cancel(op& o, int fd) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_cancel_fd(sqe, fd, IORING_ASYNC_CANCEL_ALL);
    tag(sqe, &o);
}

void ring::cancel(op& o, const op& what) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_cancel(sqe, const_cast<op*>(&what), 0);
    tag(sqe, &o);
}

void ring::close(op& o, int fd) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_close(sqe, fd);
    tag(sqe, &o);
}

void ring::close_quietly(int fd) noexcept {
    io_uring_sqe* sqe = next(nullptr);
    io_uring_prep_close(sqe, fd);
    io_uring_sqe_set_data64(sqe, closing_name(fd));
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void ring::poll(op& o, int fd, std::uint32_t events) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_poll_add(sqe, fd, events);
    tag(sqe, &o);
}

void ring::read_frames(op& o, int fd, std::uint16_t group) noexcept {
    io_uring_sqe* sqe = next(&o);
    if (_features.read_multishot)
        io_uring_prep_rw(abi::op_read_multishot, sqe, fd, nullptr, 0, std::uint64_t(-1));
    else
        io_uring_prep_rw(IORING_OP_READ, sqe, fd, nullptr, 1u << 30, std::uint64_t(-1));
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    tag(sqe, &o);
}

void ring::write_vector(op& o, int fd, std::span<const iovec> parts) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_writev(sqe, fd, parts.data(), static_cast<unsigned>(parts.size()),
                         std::uint64_t(-1));
    tag(sqe, &o);
}

void ring::read(op& o, int fd, std::span<std::byte> into) noexcept {
    io_uring_sqe* sqe = next(&o);
    io_uring_prep_read(sqe, fd, into.data(), static_cast<unsigned>(into.size()), std::uint64_t(-1));
    tag(sqe, &o);
}

void ring::message(int ring_descriptor, op& where, unsigned value) noexcept {
    io_uring_sqe* sqe = next(nullptr);
    io_uring_prep_msg_ring(sqe, ring_descriptor, value, reinterpret_cast<std::uint64_t>(&where), 0);
    tag(sqe, nullptr);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
}

void ring::deliver(const io_uring_cqe& cqe) noexcept {
    auto* o = static_cast<op*>(io_uring_cqe_get_data(&cqe));
    if (o == nullptr) return;
    if (const std::uint64_t name = cqe.user_data; (name & 1) != 0) {
        // A close that did not come to be run. Any other error is that of a file, which is gone.
        if (shortage({cqe.res, 0}) || cqe.res == -EAGAIN || cqe.res == -ECANCELED)
            ::close(static_cast<int>(name >> 1));
        return;
    }
    completion c{cqe.res, cqe.flags};
    if (!c.more() && o->in_flight) {
        o->in_flight = false;
        --_in_flight;
    }
    o->done(*o, c);
}

void ring::wait(microseconds_t deadline) noexcept {
    ++_enters;
    microseconds_t now = monotonic_now();
    io_uring_cqe* cqe = nullptr;
    int r;
    if (deadline <= now) {
        r = io_uring_submit_and_get_events(&_ring);
    } else {
        microseconds_t wait = deadline - now;
        __kernel_timespec timeout{static_cast<long long>(wait / second),
                                  static_cast<long long>(wait % second) * 1000};
        r = io_uring_submit_and_wait_timeout(&_ring, &cqe, 1, &timeout, nullptr);
    }
    if (r < 0 && r != -ETIME && !passing(r)) broken("enter", -r);
    // What the kernel did not take for want of memory must go before its arguments are reused.
    for (unsigned tries = 0; io_uring_sq_ready(&_ring) > 0;) {
        ++_enters;
        submit_again(_ring, tries);
    }
}

unsigned ring::deliver() noexcept {
    // What is there now: completions that these cause wait for the next turn, so that a turn ends.
    unsigned ready = io_uring_cq_ready(&_ring);
    for (unsigned i = 0; i < ready; ++i) {
        io_uring_cqe* cqe = nullptr;
        unsigned head;
        io_uring_for_each_cqe(&_ring, head, cqe) break;
        if (cqe == nullptr) return i;
        // A copy: done() may submit, and a full queue makes next() enter and reuse the slot.
        io_uring_cqe copy = *cqe;
        io_uring_cq_advance(&_ring, 1);
        deliver(copy);
    }
    return ready;
}

}  // namespace burin::ring
