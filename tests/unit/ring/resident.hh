// Which memory is there.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/catch.hh"

namespace burin::ring {

// Of the whole pages that a piece covers, how many have memory.
inline std::size_t resident_pages(const std::byte* piece, std::size_t bytes) {
    constexpr std::uintptr_t page = 4096;
    const auto at = (reinterpret_cast<std::uintptr_t>(piece) + page - 1) & ~(page - 1);
    const auto end = (reinterpret_cast<std::uintptr_t>(piece) + bytes) & ~(page - 1);
    std::vector<unsigned char> there((end - at) / page);
    REQUIRE(mincore(reinterpret_cast<void*>(at), end - at, there.data()) == 0);
    std::size_t count = 0;
    for (unsigned char one : there) count += one & 1;
    return count;
}

}  // namespace burin::ring
