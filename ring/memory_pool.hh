// Equal pieces of one mapping, on huge pages where there are any, given out last in first out so
// that what is used stays in cache. One thread. Grows by one chunk at a time up to its limit;
// trim() gives memory back that nobody uses.
//
// Errors: take() gives nullptr at the limit or when the kernel refuses memory; the caller decides
// what waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace burin::ring {

// For pieces of which mostly the front is used: small pages. The first use of a huge one clears all
// of it, which can take milliseconds on a virtual machine.
enum class page_size : std::uint8_t { huge, small };

class memory_pool {
  public:
    // Pieces of `piece_bytes` (rounded up to 64), at least `pieces_per_chunk` mapped at a time (as
    // many as fit the huge pages they need), `limit` in all.
    memory_pool(std::size_t piece_bytes, std::uint32_t pieces_per_chunk, std::uint32_t limit,
                page_size pages = page_size::huge);
    ~memory_pool();
    memory_pool(const memory_pool&) = delete;
    memory_pool& operator=(const memory_pool&) = delete;

    std::byte* take() noexcept;
    void give_back(std::byte* piece) noexcept;
    // The kernel gets the memory of every chunk of which no piece is in use, or only some of
    // `empty`, which are in use but have nothing in them: they stay mapped and are filled anew when
    // they are used again. Some system calls: not for the middle of a flow.
    void trim(std::span<std::byte* const> empty = {}) noexcept;

    std::size_t piece_bytes() const noexcept { return _piece_bytes; }
    std::uint32_t in_use() const noexcept {
        return _made - static_cast<std::uint32_t>(_free.size());
    }
    std::uint32_t made() const noexcept { return _made; }
    std::uint32_t limit() const noexcept { return _limit; }
    // Of the chunks that had, or may have had, memory after the last trim().
    std::size_t resident_bytes() const noexcept {
        std::size_t bytes = 0;
        for (const chunk& c : _chunks) bytes += c.trimmed ? 0 : c.bytes;
        return bytes;
    }

  private:
    bool grow() noexcept;
    bool add(void* base, std::size_t bytes, std::uint32_t pieces) noexcept;

    struct chunk {
        std::byte* base;
        std::size_t bytes;
        std::uint32_t pieces;
        std::uint32_t unused;  // for trim()
        bool trimmed;          // and not in use since
    };
    chunk& chunk_of(const std::byte* piece) noexcept;

    std::size_t _piece_bytes;
    std::uint32_t _pieces_per_chunk;
    std::uint32_t _limit;
    page_size _pages;
    std::uint32_t _made = 0;
    std::vector<std::byte*> _free;
    std::size_t _untouched = 0;  // so many of them, from the front, were there since trim()
    std::vector<chunk> _chunks;  // by address
};

}  // namespace burin::ring
