#include "ring/memory_pool.hh"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>

namespace burin::ring {

namespace {
inline constexpr std::size_t huge_page_bytes = 2u << 20;
}

memory_pool::memory_pool(std::size_t piece_bytes, std::uint32_t pieces_per_chunk,
                         std::uint32_t limit, page_size pages)
    : _piece_bytes((piece_bytes + 63) & ~std::size_t{63}),
      _pieces_per_chunk(pieces_per_chunk),
      _limit(limit),
      _pages(pages) {
    _free.reserve(limit);
    _chunks.reserve(limit / pieces_per_chunk + 1);
}

memory_pool::~memory_pool() {
    for (const chunk& c : _chunks) munmap(c.base, c.bytes);
}

bool memory_pool::grow() noexcept {
    std::uint32_t pieces = std::min(_pieces_per_chunk, _limit - _made);
    if (pieces == 0) return false;
    std::size_t bytes = pieces * _piece_bytes;
    void* base = nullptr;
    if (_pages == page_size::small) {
        base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) return false;
        madvise(base, bytes, MADV_NOHUGEPAGE);
        return add(base, bytes, pieces);
    }
    bytes = (bytes + huge_page_bytes - 1) & ~(huge_page_bytes - 1);
    pieces =
        static_cast<std::uint32_t>(std::min<std::size_t>(bytes / _piece_bytes, _limit - _made));
    // Reserved huge pages first; else an aligned mapping that transparent huge pages can back.
    base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
                -1, 0);
    if (base == MAP_FAILED) {
        std::size_t padded = bytes + huge_page_bytes;
        void* raw = mmap(nullptr, padded, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (raw == MAP_FAILED) return false;
        auto at = reinterpret_cast<std::uintptr_t>(raw);
        std::uintptr_t aligned = (at + huge_page_bytes - 1) & ~(huge_page_bytes - 1);
        if (aligned > at) munmap(raw, aligned - at);
        if (std::size_t tail = at + padded - aligned - bytes; tail > 0)
            munmap(reinterpret_cast<void*>(aligned + bytes), tail);
        base = reinterpret_cast<void*>(aligned);
        madvise(base, bytes, MADV_HUGEPAGE);
    }
    return add(base, bytes, pieces);
}

bool memory_pool::add(void* base, std::size_t bytes, std::uint32_t pieces) noexcept {
    auto* at = static_cast<std::byte*>(base);
    const chunk one{at, bytes, pieces, 0, false};
    _chunks.insert(std::upper_bound(_chunks.begin(), _chunks.end(), one,
                                    [](const chunk& a, const chunk& b) { return a.base < b.base; }),
                   one);
    for (std::uint32_t i = pieces; i-- > 0;) _free.push_back(at + i * _piece_bytes);
    _made += pieces;
    return true;
}

memory_pool::chunk& memory_pool::chunk_of(const std::byte* piece) noexcept {
    auto after = std::upper_bound(_chunks.begin(), _chunks.end(), piece,
                                  [](const std::byte* p, const chunk& c) { return p < c.base; });
    return *std::prev(after);
}

void memory_pool::trim(std::span<std::byte* const> empty) noexcept {
    for (chunk& c : _chunks) c.unused = 0;
    for (std::size_t i = 0; i < _free.size(); ++i) {
        chunk& c = chunk_of(_free[i]);
        ++c.unused;
        if (i >= _untouched) c.trimmed = false;
    }
    for (const std::byte* piece : empty) {
        chunk& c = chunk_of(piece);
        ++c.unused;
        c.trimmed = false;  // whoever uses it may have filled it before
    }
    for (chunk& c : _chunks) {
        const bool unused = c.unused == c.pieces;
        // Reserved huge pages of before Linux 5.18 refuse this, and stay.
        if (unused && !c.trimmed) madvise(c.base, c.bytes, MADV_DONTNEED);
        c.trimmed = unused;
    }
    // What still has memory is used first.
    std::sort(_free.begin(), _free.end());
    std::partition(_free.begin(), _free.end(),
                   [this](const std::byte* piece) { return chunk_of(piece).trimmed; });
    _untouched = _free.size();
}

std::byte* memory_pool::take() noexcept {
    if (_free.empty() && !grow()) return nullptr;
    std::byte* piece = _free.back();
    _free.pop_back();
    _untouched = std::min(_untouched, _free.size());
    return piece;
}

void memory_pool::give_back(std::byte* piece) noexcept {
    _free.push_back(piece);
}

}  // namespace burin::ring
