// What happens when a crypto library fails at something that cannot fail: going on would send wrong
// octets or weak keys, so the program ends and says where.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace burin::crypto {

[[noreturn]] inline void library_failed(const char* what) noexcept {
    std::fprintf(stderr, "burin: fatal: crypto library failed: %s\n", what);
    std::abort();
}

// `expected` is the library's word for success.
inline void must_be(int result, int expected, const char* what) noexcept {
    if (result != expected) [[unlikely]]
        library_failed(what);
}

}  // namespace burin::crypto
