// Selective acknowledgement as its receiver gives it (RFC 2018): which runs of bytes behind a gap
// are here, the most recent first, and once each what came a second time (D-SACK, RFC 2883). The
// option's octets are read and written here as well.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "crypto/wire.hh"
#include "tun/sequence.hh"

namespace burin::tun {

struct sack_block {
    sequence start;
    sequence end;  // one past the last byte
};

// RFC 2018 section 3: what 40 bytes of options hold, without timestamps.
inline constexpr std::size_t most_sack_blocks = 4;
inline constexpr std::uint8_t option_sack = 5;

// `option`: the blocks of a SACK option, without its kind and length.
inline std::size_t read_sack(bytes_view option,
                             std::span<sack_block, most_sack_blocks> out) noexcept {
    std::size_t count = 0;
    for (; count < most_sack_blocks && option.size() >= 8; ++count) {
        out[count] = {sequence(load_u32(option.data())), sequence(load_u32(option.data() + 4))};
        option = option.subspan(8);
    }
    return count;
}

// Two bytes of padding, then the option; returns where it ends. Nothing for no blocks.
inline std::byte* write_sack(std::byte* at, std::span<const sack_block> blocks) noexcept {
    if (blocks.empty()) return at;
    at[0] = at[1] = std::byte{1};
    at[2] = std::byte{option_sack};
    at[3] = static_cast<std::byte>(2 + 8 * blocks.size());
    at += 4;
    for (const sack_block& block : blocks) {
        store_u32(at, block.start.value());
        store_u32(at + 4, block.end.value());
        at += 8;
    }
    return at;
}

class sack_list {
  public:
    bool empty() const noexcept { return _count == 0 && !_has_duplicate; }

    // These bytes arrived behind a gap and are kept: RFC 2018 section 4 wants their run first.
    void insert(sequence start, sequence end) noexcept {
        sack_block run{start, end};
        std::array<sack_block, most_sack_blocks> rest;
        std::size_t others = 0;
        for (std::size_t i = 0; i < _count; ++i) {
            const sack_block& old = _blocks[i];
            if (old.start <= run.end && run.start <= old.end) {
                if (old.start < run.start) run.start = old.start;
                if (old.end > run.end) run.end = old.end;
            } else {
                rest[others++] = old;
            }
        }
        _blocks[0] = run;
        _count = 1;
        for (std::size_t i = 0; i < others && _count < most_sack_blocks; ++i) {
            _blocks[_count++] = rest[i];
        }
    }
    // These bytes were here already.
    void duplicate(sequence start, sequence end) noexcept {
        _duplicate = {start, end};
        _has_duplicate = true;
    }
    // Everything before `next` is delivered or being delivered.
    void forget_until(sequence next) noexcept {
        std::size_t kept = 0;
        for (std::size_t i = 0; i < _count; ++i) {
            if (_blocks[i].end > next) _blocks[kept++] = _blocks[i];
        }
        _count = static_cast<std::uint8_t>(kept);
    }

    // What an acknowledgement of `next` says. A run that starts there waits for credit only; shown
    // as a block it would read as reneging.
    std::size_t list(sequence next, std::span<sack_block, most_sack_blocks> out) const noexcept {
        std::size_t count = 0;
        if (_has_duplicate) out[count++] = _duplicate;
        for (std::size_t i = 0; i < _count && count < out.size(); ++i) {
            if (_blocks[i].start > next) out[count++] = _blocks[i];
        }
        return count;
    }
    // It was said; a duplicate is said once (RFC 2883 section 4).
    void said() noexcept { _has_duplicate = false; }
    void clear() noexcept { *this = {}; }

  private:
    std::array<sack_block, most_sack_blocks> _blocks;
    sack_block _duplicate;
    std::uint8_t _count = 0;
    bool _has_duplicate = false;
};

}  // namespace burin::tun
