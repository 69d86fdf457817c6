#include "tun/tcp_scoreboard.hh"

#include <algorithm>
#include <new>
#include <utility>

namespace burin::tun {
namespace {

bool is_same_kind(const sent_range& a, const sent_range& b) noexcept {
    if (a.fate != b.fate) return false;
    switch (a.fate) {
        case sent_fate::sacked: return true;
        case sent_fate::lost: return a.repeated == b.repeated;
        case sent_fate::repaired: return a.sent_at == b.sent_at;
    }
    return false;
}

void add_original(tcp_delivery& news, sequence start, sequence end) noexcept {
    if (start == end) return;
    news.bytes += static_cast<std::uint32_t>(end - start);
    if (!news.original || start < news.original_start) news.original_start = start;
    if (!news.original || end > news.original_end) news.original_end = end;
    news.original = true;
}

void add_repaired(tcp_delivery& news, sequence start, sequence end,
                  std::uint32_t sent_at) noexcept {
    news.bytes += static_cast<std::uint32_t>(end - start);
    const auto later = static_cast<std::int32_t>(sent_at - news.repaired_at);
    if (!news.repaired || later > 0 || (later == 0 && end > news.repaired_end)) {
        news.repaired_at = sent_at;
        news.repaired_end = end;
    }
    news.repaired = true;
}

}  // namespace

std::unique_ptr<scoreboard_pool::block> scoreboard_pool::take() noexcept {
    if (_taken == most_blocks) return nullptr;
    std::unique_ptr<block> given;
    if (!_spare.empty()) {
        given = std::move(_spare.back());
        _spare.pop_back();
    } else {
        given.reset(new (std::nothrow) block);
    }
    if (given != nullptr) ++_taken;
    return given;
}

void scoreboard_pool::give(std::unique_ptr<block> back) noexcept {
    --_taken;
    if (_spare.size() == most_spare) return;
    try {
        _spare.push_back(std::move(back));
    } catch (const std::bad_alloc&) {
        return;  // freed instead of kept
    }
}

std::size_t tcp_scoreboard::first_ending_after(sequence at) const noexcept {
    const sent_range* first = list();
    const sent_range* found = std::partition_point(
        first, first + _count, [at](const sent_range& range) { return range.end <= at; });
    return static_cast<std::size_t>(found - first);
}

void tcp_scoreboard::count_in(const sent_range& range) noexcept {
    if (range.fate == sent_fate::sacked) _sacked += range.size();
    if (range.fate == sent_fate::lost) _lost += range.size();
}
void tcp_scoreboard::count_out(const sent_range& range) noexcept {
    if (range.fate == sent_fate::sacked) _sacked -= range.size();
    if (range.fate == sent_fate::lost) _lost -= range.size();
}

bool tcp_scoreboard::put(const sent_range& range, scoreboard_pool& pool) noexcept {
    const std::size_t first = first_ending_after(range.start);
    std::size_t last = first;
    while (last < _count && list()[last].start < range.end) ++last;
    // What stays of the ranges it cuts into, and then their neighbours that it may join.
    std::array<sent_range, 3> parts;
    std::size_t count = 0;
    if (first < last && list()[first].start < range.start) {
        parts[count] = list()[first];
        parts[count++].end = range.start;
    }
    const std::size_t middle = count;
    parts[count++] = range;
    if (first < last && list()[last - 1].end > range.end) {
        parts[count] = list()[last - 1];
        parts[count++].start = range.end;
    }
    if (_count - (last - first) + count > capacity()) {
        if (_block != nullptr) return false;
        std::unique_ptr<scoreboard_pool::block> block = pool.take();
        if (block == nullptr) return false;
        std::copy_n(_own.begin(), _count, block->ranges.begin());
        _block = std::move(block);
    }
    sent_range* all = list();
    for (std::size_t i = first; i < last; ++i) count_out(all[i]);
    if (last - first < count) {
        std::move_backward(all + last, all + _count, all + _count + (count - (last - first)));
    } else {
        std::move(all + last, all + _count, all + first + count);
    }
    _count = static_cast<std::uint32_t>(_count - (last - first) + count);
    for (std::size_t i = 0; i < count; ++i) {
        all[first + i] = parts[i];
        count_in(parts[i]);
    }
    const std::size_t here = first + middle;
    auto join = [&](std::size_t left) {
        if (left + 1 >= _count || all[left].end != all[left + 1].start) return;
        if (!is_same_kind(all[left], all[left + 1])) return;
        all[left].end = all[left + 1].end;
        std::move(all + left + 2, all + _count, all + left + 1);
        --_count;
    };
    join(here);
    if (here > 0) join(here - 1);
    return true;
}

void tcp_scoreboard::visit(sequence from, sequence upto, tcp_delivery& news) const noexcept {
    const sent_range* all = list();
    for (std::size_t i = first_ending_after(from); i < _count && all[i].start < upto; ++i) {
        const sent_range& range = all[i];
        const sequence start = range.start < from ? from : range.start;
        const sequence end = range.end < upto ? range.end : upto;
        add_original(news, from, start);
        switch (range.fate) {
            case sent_fate::sacked: break;
            case sent_fate::repaired: add_repaired(news, start, end, range.sent_at); break;
            case sent_fate::lost:
                // Given up twice, and one of the two came: which one, nobody can tell.
                if (range.repeated) {
                    news.bytes += static_cast<std::uint32_t>(end - start);
                } else {
                    add_original(news, start, end);
                }
                break;
        }
        from = end;
    }
    if (from < upto) add_original(news, from, upto);
}

void tcp_scoreboard::take_off(sequence from, sequence upto, tcp_delivery& news,
                              scoreboard_pool& pool) noexcept {
    visit(from, upto, news);
    sent_range* all = list();
    const std::size_t gone = first_ending_after(upto);
    for (std::size_t i = 0; i < gone; ++i) count_out(all[i]);
    std::move(all + gone, all + _count, all);
    _count -= static_cast<std::uint32_t>(gone);
    if (_count > 0 && all[0].start < upto) {
        count_out(all[0]);
        all[0].start = upto;
        count_in(all[0]);
    }
    shrink(pool);
}

bool tcp_scoreboard::sack(sequence start, sequence end, tcp_delivery& news,
                          scoreboard_pool& pool) noexcept {
    tcp_delivery more = news;
    visit(start, end, more);
    if (more.bytes == news.bytes) return true;  // all known
    // Some room stays for repairs, which split what they touch.
    if (_block != nullptr && _count + own_ranges > capacity()) return false;
    if (!put({start, end, 0, sent_fate::sacked, false}, pool)) return false;
    news = more;
    return true;
}

void tcp_scoreboard::lose_all(sequence from, sequence upto, scoreboard_pool& pool) noexcept {
    const sequence first = from;
    bool complete = true;
    while (from < upto) {
        const std::size_t index = first_ending_after(from);
        sequence end = upto;
        bool repeated = false;
        bool lose = true;
        std::uint32_t sent_at = 0;
        if (index < _count && list()[index].start <= from) {
            const sent_range& range = list()[index];
            if (range.end < end) end = range.end;
            lose = range.fate == sent_fate::repaired;
            repeated = range.repeated;
            sent_at = range.sent_at;
        } else if (index < _count && list()[index].start < end) {
            end = list()[index].start;
        }
        if (lose) complete &= put({from, end, sent_at, sent_fate::lost, repeated}, pool);
        from = end;
    }
    if (!complete) distrust(first, upto, pool);
}

void tcp_scoreboard::distrust(sequence from, sequence upto, scoreboard_pool& pool) noexcept {
    clear(pool);
    if (from < upto) put({from, upto, 0, sent_fate::lost, true}, pool);
}

const sent_range* tcp_scoreboard::first_lost() const noexcept {
    if (_lost == 0) return nullptr;
    const sent_range* all = list();
    for (std::size_t i = 0; i < _count; ++i) {
        if (all[i].fate == sent_fate::lost) return &all[i];
    }
    return nullptr;
}

void tcp_scoreboard::repair(sequence from, sequence upto, std::uint32_t now, sequence start,
                            sequence end, scoreboard_pool& pool) noexcept {
    const sent_range range{start, end, now, sent_fate::repaired, true};
    if (put(range, pool)) return;
    // No room for one more detail. When each repair left goes first: neighbours count as sent with
    // the later one, which only delays their being lost again.
    merge_repaired();
    if (put(range, pool)) return;
    // Then all details go, which costs repairs nobody needs.
    distrust(from, upto, pool);
    put(range, pool);
}

void tcp_scoreboard::merge_repaired() noexcept {
    sent_range* all = list();
    std::uint32_t kept = 0;
    for (std::uint32_t i = 0; i < _count; ++i) {
        const sent_range range = all[i];
        sent_range* left = kept > 0 ? &all[kept - 1] : nullptr;
        if (left != nullptr && left->end == range.start && left->fate == sent_fate::repaired &&
            range.fate == sent_fate::repaired) {
            left->end = range.end;
            if (static_cast<std::int32_t>(range.sent_at - left->sent_at) > 0) {
                left->sent_at = range.sent_at;
            }
        } else {
            all[kept++] = range;
        }
    }
    _count = kept;
}

void tcp_scoreboard::forgive(scoreboard_pool& pool) noexcept {
    for (std::size_t i = _count; i > 0; --i) {
        const sent_range range = list()[i - 1];
        if (range.fate != sent_fate::lost) continue;
        if (range.repeated) {
            put({range.start, range.end, range.sent_at, sent_fate::repaired, true}, pool);
        } else {
            remove(i - 1, pool);
        }
    }
}

void tcp_scoreboard::remove(std::size_t index, scoreboard_pool& pool) noexcept {
    sent_range* all = list();
    count_out(all[index]);
    std::move(all + index + 1, all + _count, all + index);
    --_count;
    shrink(pool);
}

void tcp_scoreboard::shrink(scoreboard_pool& pool) noexcept {
    if (_count == 0 && _block != nullptr) pool.give(std::move(_block));
}

void tcp_scoreboard::clear(scoreboard_pool& pool) noexcept {
    _count = _sacked = _lost = 0;
    shrink(pool);
}

}  // namespace burin::tun
