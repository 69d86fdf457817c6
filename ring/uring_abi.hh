// What liburing 2.3's headers (Debian 12) lack of the kernel's io_uring interface, as constants of
// our own namespace so that they never collide with a newer header that has them. Values from the
// kernel's include/uapi/linux/io_uring.h.
#pragma once

#include <cstdint>

namespace burin::ring::abi {

inline constexpr std::uint8_t op_read_multishot = 49;  // Linux 6.7
// Of a send without a copy, Linux 6.2: whether the kernel made one all the same is told.
inline constexpr std::uint16_t send_zero_copy_report = 1u << 3;
inline constexpr std::uint32_t notification_copied = 1u << 31;
inline constexpr std::uint32_t cqe_notification = 1u << 3;  // the second completion of such a send

}  // namespace burin::ring::abi
