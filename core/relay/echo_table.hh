// Echo requests that wait for an answer: how many there can be, whom each belongs to, and which has
// waited longest. Used at both ends of an echo channel; a plain container without a clock.
//
// An entry is named by a number: its place in the low bits, above them how often that place was
// taken, so that an answer that comes too late finds nobody. Places rest for a while before they
// are taken again. Each owner keeps its own line, in the order in which its entries were added.
//
// Allocates only when more wait than ever before. One thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <vector>

#include "ring/clock.hh"

namespace burin::relay {

template <class Value>
class echo_table {
    static constexpr std::uint32_t nobody = ~0u;

  public:
    static constexpr unsigned place_bits = 12;
    static constexpr std::uint32_t most_places = 1u << place_bits;

    // One owner's entries. Its owner removes them before it goes.
    class line {
      public:
        std::uint32_t size() const noexcept { return _size; }
        bool empty() const noexcept { return _size == 0; }

      private:
        friend class echo_table;
        std::uint32_t _first = nobody, _last = nobody, _size = 0;
    };

    // `most` entries, and no more than most_places.
    explicit echo_table(std::uint32_t most) noexcept : _most(std::min(most, most_places)) {}

    // The number of the new entry; nothing when the table is full.
    std::optional<std::uint32_t> add(line& l, ring::microseconds_t now, const Value& value) {
        const std::uint32_t at = take_place();
        if (at == nobody) return {};
        entry& e = _entries[at];
        e.taken = true;
        e.since = now;
        e.value = value;
        e.before = l._last;
        e.next = nobody;
        (l._last == nobody ? l._first : _entries[l._last].next) = at;
        l._last = at;
        ++l._size;
        ++_size;
        return e.times << place_bits | at;
    }
    // nullptr: there is none of that number, of which only the bits of `known` are known. Valid
    // until the next add().
    Value* find(std::uint32_t number, std::uint32_t known = ~0u) noexcept {
        const std::uint32_t at = number & (most_places - 1);
        if (at >= _entries.size() || !_entries[at].taken) return nullptr;
        if ((((_entries[at].times << place_bits | at) ^ number) & known) != 0) return nullptr;
        return &_entries[at].value;
    }
    // An entry of this line that find() found.
    void remove(line& l, std::uint32_t number) noexcept {
        const std::uint32_t at = number & (most_places - 1);
        entry& e = _entries[at];
        (e.before == nobody ? l._first : _entries[e.before].next) = e.next;
        (e.next == nobody ? l._last : _entries[e.next].before) = e.before;
        --l._size;
        --_size;
        e.taken = false;
        ++e.times;
        e.next = nobody;
        (_free_last == nobody ? _free_first : _entries[_free_last].next) = at;
        _free_last = at;
        ++_free;
    }
    // Of the entry that has waited longest; there is one.
    std::uint32_t oldest(const line& l) const noexcept {
        return _entries[l._first].times << place_bits | l._first;
    }
    ring::microseconds_t oldest_since(const line& l) const noexcept {
        return _entries[l._first].since;
    }

    std::uint32_t size() const noexcept { return _size; }

  private:
    struct entry {
        ring::microseconds_t since = 0;
        std::uint32_t before = nobody, next = nobody;  // in its line, or among the free ones
        std::uint32_t times = 0;
        bool taken = false;
        Value value{};
    };
    // So many free places rest while there are places that were never used.
    static constexpr std::uint32_t resting = 256;

    std::uint32_t take_place() {
        if (_entries.size() < _most && _free < resting) {
            _entries.emplace_back();
            return static_cast<std::uint32_t>(_entries.size() - 1);
        }
        const std::uint32_t at = _free_first;
        if (at == nobody) return nobody;
        _free_first = _entries[at].next;
        if (_free_first == nobody) _free_last = nobody;
        --_free;
        return at;
    }

    std::uint32_t _most;
    std::vector<entry> _entries;
    std::uint32_t _free_first = nobody, _free_last = nobody, _free = 0;
    std::uint32_t _size = 0;
};

}  // namespace burin::relay
