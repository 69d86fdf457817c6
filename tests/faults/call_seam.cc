// The same for system calls that are made directly: those that give descriptors and memory.
#include <sys/mman.h>
#include <sys/socket.h>

#include <cerrno>

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

void* __wrap_mmap(void* at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    using namespace burin::faults;
    const rule* r =
        dice::mine().roll(operation::mmap, [](rule::kind k) { return k == rule::kind::error; });
    if (r == nullptr) return __real_mmap(at, bytes, protection, flags, fd, offset);
    errno = r->error;
    return MAP_FAILED;
}

}  // extern "C"
