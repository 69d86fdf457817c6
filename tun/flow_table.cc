#include "tun/flow_table.hh"

#include <new>

namespace burin::tun {
namespace {

constexpr std::uint32_t first_capacity = 1024;  // 48 KiB: half of it used before the first doubling

}  // namespace

flow_table::flow_table(const hash_key& key, std::uint32_t limit)
    : _entries(std::make_unique<entry[]>(first_capacity)),
      _mask(first_capacity - 1),
      _limit(limit),
      _key(key) {}

std::uint32_t flow_table::hash_of(const flow_key& flow) const noexcept {
    return static_cast<std::uint32_t>(keyed_hash(_key, flow));
}

std::uint32_t flow_table::locate(const flow_key& flow, std::uint32_t hash) const noexcept {
    std::uint32_t at = hash & _mask;
    while (_entries[at].index != none) {
        if (_entries[at].hash == hash && _entries[at].key == flow) break;
        at = (at + 1) & _mask;
    }
    return at;
}

std::uint32_t flow_table::find(const flow_key& flow) const noexcept {
    return _entries[locate(flow, hash_of(flow))].index;
}

flow_table::outcome flow_table::insert(const flow_key& flow, std::uint32_t index) noexcept {
    const std::uint32_t hash = hash_of(flow);
    std::uint32_t at = locate(flow, hash);
    if (_entries[at].index != none) return outcome::present;
    if (_size >= _limit) return outcome::full;
    // Half full at most: a miss then probes 1.5 entries on average.
    if (_size >= (_mask + 1) / 2) {
        if (!grow()) return outcome::full;
        at = locate(flow, hash);
    }
    _entries[at] = {flow, hash, index};
    ++_size;
    return outcome::inserted;
}

bool flow_table::erase(const flow_key& flow) noexcept {
    std::uint32_t hole = locate(flow, hash_of(flow));
    if (_entries[hole].index == none) return false;
    // Close the gap: every later entry of the run moves up unless that would put it before its
    // home.
    std::uint32_t at = hole;
    for (;;) {
        at = (at + 1) & _mask;
        if (_entries[at].index == none) break;
        const std::uint32_t home = _entries[at].hash & _mask;
        if (((at - home) & _mask) >= ((at - hole) & _mask)) {
            _entries[hole] = _entries[at];
            hole = at;
        }
    }
    _entries[hole].index = none;
    --_size;
    return true;
}

bool flow_table::grow() noexcept {
    const std::uint32_t capacity = (_mask + 1) * 2;
    std::unique_ptr<entry[]> larger(new (std::nothrow) entry[capacity]);
    if (larger == nullptr) return false;
    const std::uint32_t mask = capacity - 1;
    for (std::uint32_t i = 0; i <= _mask; ++i) {
        const entry& old = _entries[i];
        if (old.index == none) continue;
        std::uint32_t at = old.hash & mask;
        while (larger[at].index != none) at = (at + 1) & mask;
        larger[at] = old;
    }
    _entries = std::move(larger);
    _mask = mask;
    return true;
}

}  // namespace burin::tun
