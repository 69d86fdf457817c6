// Which flow a frame belongs to: five-tuple -> index of a flow of this worker. Open addressing with
// linear probing and backward-shift deletion, so lookups never meet tombstones and an emptied table
// is as fast as a fresh one. The hash is keyed (flow_key.hh): a scanner cannot pile flows up.
//
// find() and erase() never allocate. insert() allocates only when the table doubles, up to `limit`
// flows; past that it refuses, which is the worker's bound on flows. Not shared between threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tun/flow_key.hh"

namespace burin::tun {

class flow_table {
  public:
    static constexpr std::uint32_t none = 0xffffffff;

    // `limit` in flows. Allocates room for the first 512; throws std::bad_alloc.
    flow_table(const hash_key& key, std::uint32_t limit);

    // The index put in, or `none`.
    std::uint32_t find(const flow_key& flow) const noexcept;
    enum class outcome { inserted, present, full };
    // `index` is any number but `none`. `full`: the limit is reached, or memory was refused.
    outcome insert(const flow_key& flow, std::uint32_t index) noexcept;
    // False when it was not there.
    bool erase(const flow_key& flow) noexcept;

    std::uint32_t size() const noexcept { return _size; }
    std::uint32_t limit() const noexcept { return _limit; }
    std::size_t memory_bytes() const noexcept { return (std::size_t{_mask} + 1) * sizeof(entry); }

  private:
    struct entry {
        flow_key key;
        std::uint32_t hash = 0;
        std::uint32_t index = none;
    };
    static_assert(sizeof(entry) == 48);

    std::uint32_t hash_of(const flow_key& flow) const noexcept;
    // Where the flow is, or the free entry where it would go.
    std::uint32_t locate(const flow_key& flow, std::uint32_t hash) const noexcept;
    bool grow() noexcept;

    std::unique_ptr<entry[]> _entries;
    std::uint32_t _mask;
    std::uint32_t _size = 0;
    std::uint32_t _limit;
    hash_key _key;
};

}  // namespace burin::tun
