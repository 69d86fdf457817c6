// What a completion says of a kernel that was short of something just then.
#pragma once

#include <cerrno>

#include "ring/ring.hh"

namespace burin::ring {

// There was no memory or no descriptor for it, and nothing of it happened: it may be asked for
// again after a pause.
inline bool shortage(completion c) noexcept {
    return c.result == -ENOMEM || c.result == -ENOBUFS || c.result == -EMFILE ||
           c.result == -ENFILE;
}

// A cancel that did nothing. What else it may say is that the operation is cancelled, over, or
// about to be; whoever needs it gone asks again after this.
inline bool cancel_failed(completion c) noexcept {
    return c.result < 0 && c.result != -ENOENT && c.result != -EALREADY;
}

}  // namespace burin::ring
