// What bench_datagrams puts into a datagram, and what it learns from the ones that come: numbers, a
// time and seeded bytes, so that a datagram that is lost, doubled, late, changed or somebody else's
// is known for what it is.
//
//   magic 4, kind 1, zero 3, run 8, flow 8, number 8, sent_ns 8, then bytes of load_pattern.hh that
//   depend on flow and number. In the byte order of the machine: both ends are this program.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "bench/load_pattern.hh"

namespace load {

struct datagram_record {
    enum class kind : std::uint8_t {
        data = 1,
        ask = 2,   // how much of this run has arrived?
        told = 3,  // the answer
    };
    static constexpr std::uint32_t expected_magic = 0x62757231;

    std::uint32_t magic = expected_magic;
    kind what = kind::data;
    std::uint8_t zero[3] = {};
    std::uint64_t run = 0;
    std::uint64_t flow = 0;
    std::uint64_t number = 0;
    std::uint64_t sent_ns = 0;
};
static_assert(sizeof(datagram_record) == 40);

// Bytes of `pattern` that follow the record of this flow and number.
inline const std::uint8_t* filler(const pattern& bytes, const datagram_record& r) noexcept {
    return bytes.at(r.flow * 7919 + r.number * 127);
}

// `room` is the whole datagram.
inline void write_datagram(std::span<std::uint8_t> room, const datagram_record& r,
                           const pattern& bytes) noexcept {
    std::memcpy(room.data(), &r, sizeof r);
    std::memcpy(room.data() + sizeof r, filler(bytes, r), room.size() - sizeof r);
}

// False: it is none of ours, or was changed on the way.
inline bool read_datagram(std::span<const std::uint8_t> bytes, datagram_record& r,
                          const pattern& expected) noexcept {
    if (bytes.size() < sizeof r) return false;
    std::memcpy(&r, bytes.data(), sizeof r);
    if (r.magic != datagram_record::expected_magic) return false;
    return r.what != datagram_record::kind::data ||
           std::memcmp(bytes.data() + sizeof r, filler(expected, r), bytes.size() - sizeof r) == 0;
}

// The numbers of one flow, as they come.
class arrivals {
  public:
    // A flow's numbers are below this; more make a datagram somebody else's.
    static constexpr std::uint64_t most = 1u << 26;

    // False: it has come before.
    bool note(std::uint64_t number) {
        if (number >= most) return false;
        if (number / 64 >= _seen.size()) _seen.resize(number / 64 + 1 + _seen.size());
        const std::uint64_t bit = std::uint64_t{1} << number % 64;
        std::uint64_t& word = _seen[number / 64];
        if ((word & bit) != 0) {
            ++_doubled;
            return false;
        }
        word |= bit;
        ++_count;
        if (number + 1 < _next)
            ++_overtaken;
        else
            _next = number + 1;
        return true;
    }
    std::uint64_t count() const noexcept { return _count; }
    std::uint64_t doubled() const noexcept { return _doubled; }
    // Came after one with a larger number.
    std::uint64_t overtaken() const noexcept { return _overtaken; }

  private:
    std::vector<std::uint64_t> _seen;
    std::uint64_t _next = 0, _count = 0, _doubled = 0, _overtaken = 0;
};

// What one end has seen of a run, all flows together.
struct arrival_sums {
    std::uint64_t count = 0, doubled = 0, overtaken = 0, strange = 0;
};

inline arrival_sums sum(std::span<const arrivals> flows, std::uint64_t strange) noexcept {
    arrival_sums all;
    for (const arrivals& one : flows) {
        all.count += one.count();
        all.doubled += one.doubled();
        all.overtaken += one.overtaken();
    }
    all.strange = strange;
    return all;
}

}  // namespace load
