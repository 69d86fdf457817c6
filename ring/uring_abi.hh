// What liburing 2.3's headers (Debian 12) lack of the kernel's io_uring interface, as constants of
// our own namespace so that they never collide with a newer header that has them. Values from the
// kernel's include/uapi/linux/io_uring.h.
#pragma once

#include <cstdint>

namespace burin::ring::abi {

inline constexpr std::uint8_t op_read_multishot = 49;  // Linux 6.7

}  // namespace burin::ring::abi
