// What this process may do beyond its user's rights. Everything that a capability allows is given
// up once devices are made and ports are bound, before a byte of a peer is read; and nobody but
// the administrator looks into its memory. Capabilities belong to threads: threads inherit what the
// one that starts them has left.
#pragma once

#include <string>
#include <vector>

namespace burin::engine {

enum class privilege_stage {
    // What the kernel wants for the making of rings stays (io_uring_disabled = 1), and what spares
    // them the limit of locked memory where that cannot be raised.
    before_rings,
    final,
};

// Leaves the calling thread those capabilities of `kept` (CAP_* of linux/capability.h) that it has,
// and no others; the bounding set is cut alike where the thread may do that. No program that it
// would start could gain any (no_new_privs). May be called again with less. An error text for a
// person, or empty.
std::string drop_privileges(const std::vector<unsigned>& kept, privilege_stage);

// Keys and passwords are in no core file, and no other process of this user reads them.
void close_memory() noexcept;

}  // namespace burin::engine
