// What a sender knows of the bytes it has out beyond the cumulative acknowledgement: which ones the
// host holds (SACK), which ones count as lost, which ones were sent again and when. A sorted list
// of ranges; bytes in no range were sent once and nothing is known of them. So it is empty, and
// costs nothing, as long as nothing is lost.
//
// A few ranges lie in the flow itself. More of them take a block from the worker's pool, given back
// as soon as the list is empty again. With neither left the board refuses news; what it refuses to
// know is only sent again later, so a full board costs time and never bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tun/sequence.hh"

namespace burin::tun {

enum class sent_fate : std::uint8_t {
    sacked,    // the host has them and may still forget them (RFC 2018 section 8)
    lost,      // to be sent again
    repaired,  // sent again
};

struct sent_range {
    sequence start;
    sequence end;
    std::uint32_t sent_at = 0;  // when they were sent again last, in microseconds, wrapping
    sent_fate fate = sent_fate::lost;
    bool repeated = false;  // sent more than once

    std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(end - start); }
};
static_assert(sizeof(sent_range) == 16);

// What one acknowledgement proves to have arrived, not known before.
struct tcp_delivery {
    std::uint32_t bytes = 0;
    bool original = false;    // among them, bytes sent once only:
    sequence original_start;  // the first
    sequence original_end;    // and one past the last of those
    bool repaired = false;    // among them, bytes sent again:
    std::uint32_t repaired_at = 0;
    sequence repaired_end;
};

// Blocks of ranges, shared by the flows of a worker and bounded for all of them together.
class scoreboard_pool {
  public:
    static constexpr std::size_t block_ranges = 256;  // 4 KiB: 120 holes in one flight
    static constexpr std::size_t most_blocks = 2048;  // 8 MiB a worker
    static constexpr std::size_t most_spare = 64;
    struct block {
        std::array<sent_range, block_ranges> ranges;
    };

    // Null when there are no more.
    std::unique_ptr<block> take() noexcept;
    void give(std::unique_ptr<block> back) noexcept;
    std::size_t taken() const noexcept { return _taken; }

  private:
    std::vector<std::unique_ptr<block>> _spare;
    std::size_t _taken = 0;
};

class tcp_scoreboard {
  public:
    static constexpr std::size_t own_ranges = 4;

    bool empty() const noexcept { return _count == 0; }
    std::size_t ranges() const noexcept { return _count; }
    const sent_range& at(std::size_t index) const noexcept { return list()[index]; }
    std::uint32_t sacked_bytes() const noexcept { return _sacked; }
    std::uint32_t lost_bytes() const noexcept { return _lost; }

    // Bytes from `from` to `upto` are acknowledged cumulatively and leave the board; `news` is
    // empty before.
    void acknowledge(sequence from, sequence upto, tcp_delivery& news,
                     scoreboard_pool& pool) noexcept {
        if (_count > 0) return take_off(from, upto, news, pool);
        news.bytes = static_cast<std::uint32_t>(upto - from);
        news.original = true;
        news.original_start = from;
        news.original_end = upto;
    }
    // A SACK block within what is out. False: no room to remember it.
    bool sack(sequence start, sequence end, tcp_delivery& news, scoreboard_pool& pool) noexcept;
    // Asks `is_lost(start, end, range)` for each run of bytes before `upto` that are neither sacked
    // nor lost: `range` is null for those sent once. Answers of true make them lost.
    template <class Judge>
    void judge(sequence from, sequence upto, scoreboard_pool& pool, Judge&& is_lost) noexcept {
        while (from < upto) {
            const std::size_t index = first_ending_after(from);
            const bool within = index < _count && list()[index].start <= from;
            sequence end = upto;
            if (within) {
                const sent_range range = list()[index];
                if (range.end < end) end = range.end;
                if (range.fate == sent_fate::repaired && is_lost(from, end, &range)) {
                    put({from, end, range.sent_at, sent_fate::lost, true}, pool);
                }
            } else {
                if (index < _count && list()[index].start < end) end = list()[index].start;
                if (is_lost(from, end, static_cast<const sent_range*>(nullptr))) {
                    put({from, end, 0, sent_fate::lost, false}, pool);
                }
            }
            from = end;
        }
    }
    // Everything from `from` to `upto` that the host is not known to have is lost.
    void lose_all(sequence from, sequence upto, scoreboard_pool& pool) noexcept;
    // The host has forgotten, or lied: what it had counts as lost (RFC 2018 section 8).
    void distrust(sequence from, sequence upto, scoreboard_pool& pool) noexcept;
    // The first lost range; null when none is.
    const sent_range* first_lost() const noexcept;
    // Bytes at the front of the first lost range, or bytes nothing is known of, were sent again.
    void repair(sequence from, sequence upto, std::uint32_t now, sequence start, sequence end,
                scoreboard_pool& pool) noexcept;
    // Lost after all they are not: what was not sent again yet is simply out again.
    void forgive(scoreboard_pool& pool) noexcept;
    void clear(scoreboard_pool& pool) noexcept;

  private:
    sent_range* list() noexcept { return _block != nullptr ? _block->ranges.data() : _own.data(); }
    const sent_range* list() const noexcept {
        return _block != nullptr ? _block->ranges.data() : _own.data();
    }
    std::size_t capacity() const noexcept {
        return _block != nullptr ? scoreboard_pool::block_ranges : own_ranges;
    }
    // The index of the first range that ends behind `at`; _count when none does.
    std::size_t first_ending_after(sequence at) const noexcept;
    // Makes [range.start, range.end) this range, whatever it was. False: no room.
    bool put(const sent_range& range, scoreboard_pool& pool) noexcept;
    void take_off(sequence from, sequence upto, tcp_delivery& news, scoreboard_pool& pool) noexcept;
    void visit(sequence from, sequence upto, tcp_delivery& news) const noexcept;
    void count_in(const sent_range& range) noexcept;
    void count_out(const sent_range& range) noexcept;
    void merge_repaired() noexcept;
    void remove(std::size_t index, scoreboard_pool& pool) noexcept;
    void shrink(scoreboard_pool& pool) noexcept;

    std::unique_ptr<scoreboard_pool::block> _block;
    std::uint32_t _sacked = 0;
    std::uint32_t _lost = 0;
    std::uint32_t _count = 0;
    std::array<sent_range, own_ranges> _own;
};

}  // namespace burin::tun
