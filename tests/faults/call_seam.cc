// The same for system calls that are made directly: those that give descriptors and memory, the one
// that sends a FIN, and the one that tells the time.
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>
#include <ctime>

#include "tests/faults/control.hh"

extern "C" {

int __real_socket(int, int, int);
void* __real_mmap(void*, size_t, int, int, int, off_t);

int __wrap_socket(int family, int type, int protocol) {
    using namespace burin::faults;
    const rule* r =
        dice::mine().roll(operation::socket, [](rule::kind k) { return k == rule::kind::error; });
    if (r == nullptr) return __real_socket(family, type, protocol);
    errno = r->error;
    return -1;
}

int __real_shutdown(int, int);

int __wrap_shutdown(int descriptor, int how) {
    using namespace burin::faults;
    const rule* r =
        dice::mine().roll(operation::shutdown, [](rule::kind k) { return k == rule::kind::error; });
    if (r == nullptr) return __real_shutdown(descriptor, how);
    errno = r->error;
    return -1;
}

void* __wrap_mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    using namespace burin::faults;
    const rule* r =
        dice::mine().roll(operation::mmap, [](rule::kind k) { return k == rule::kind::error; });
    if (r == nullptr) return __real_mmap(at, bytes, protection, flags, fd, offset);
    errno = r->error;
    return MAP_FAILED;
}

int __real_clock_gettime(clockid_t, timespec*);

int __wrap_clock_gettime(clockid_t which, timespec* into) {
    const int result = __real_clock_gettime(which, into);
    if (result != 0 || which != CLOCK_MONOTONIC) return result;
    constexpr std::int64_t million = 1'000'000;
    const std::int64_t ahead =
        burin::faults::shared_page().ahead_us.load(std::memory_order_relaxed);
    const std::int64_t us = into->tv_sec * million + into->tv_nsec / 1000 + ahead;
    into->tv_sec = us / million;
    into->tv_nsec = us % million * 1000;
    return 0;
}

}  // extern "C"
