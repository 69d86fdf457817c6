// Equal pieces of one mapping, on huge pages where there are any, given out last in first out so
// that what is used stays in cache. One thread. Grows by one chunk at a time up to its limit; never
// shrinks before it dies.
//
// Errors: take() gives nullptr at the limit or when the kernel refuses memory; the caller decides
// what waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace burin::ring {

// For pieces of which mostly the front is used: small pages. The first use of a huge one clears all
// of it, which can take milliseconds on a virtual machine.
enum class page_size : std::uint8_t { huge, small };

class memory_pool {
  public:
    // Pieces of `piece_bytes` (rounded up to 64), `pieces_per_chunk` mapped at a time, `limit` in
    // all.
    memory_pool(std::size_t piece_bytes, std::uint32_t pieces_per_chunk, std::uint32_t limit,
                page_size pages = page_size::huge);
    ~memory_pool();
    memory_pool(const memory_pool&) = delete;
    memory_pool& operator=(const memory_pool&) = delete;

    std::byte* take() noexcept;
    void give_back(std::byte* piece) noexcept;

    std::size_t piece_bytes() const noexcept { return _piece_bytes; }
    std::uint32_t in_use() const noexcept {
        return _made - static_cast<std::uint32_t>(_free.size());
    }
    std::uint32_t made() const noexcept { return _made; }
    std::uint32_t limit() const noexcept { return _limit; }

  private:
    bool grow() noexcept;
    bool add(void* base, std::size_t bytes, std::uint32_t pieces) noexcept;

    struct chunk {
        void* base;
        std::size_t bytes;
    };
    std::size_t _piece_bytes;
    std::uint32_t _pieces_per_chunk;
    std::uint32_t _limit;
    page_size _pages;
    std::uint32_t _made = 0;
    std::vector<std::byte*> _free;
    std::vector<chunk> _chunks;
};

}  // namespace burin::ring
