// Which flows of a queue are half-open (from their SYN until the host's handshake is complete), by
// host: who may have one more, and who gives way for it. A flow that is complete is none of them,
// and never gives way.
//
// All hosts together may have so many, and one host half of them. Where there are no more, the host
// with the most gives its oldest for a host that has at least two fewer: whoever scans a network
// crowds out nobody but himself. Among equals, as when every SYN names a host of its own, the
// oldest gives way, but for one that is younger than a destination needs to answer: the new one is
// then refused.
//
// Entries are embedded in the flows. Nothing is allocated for a flow; for hosts, only when there
// are more of them than ever before. One thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "ring/clock.hh"
#include "tun/flow_key.hh"
#include "tun/flow_table.hh"

namespace burin::relay {

struct half_open_settings {
    std::uint32_t most = 2500;
    // Some round trips and a retransmission of a name server's at the far end: what has not
    // answered by then hardly will. It also bounds how many opens a second a flood can cause.
    ring::microseconds_t least_age = 250 * ring::millisecond;
};

// What a flow is listed by, here or in another list of its queue.
struct flow_entry {
    flow_entry* next = nullptr;
    flow_entry* before = nullptr;
    std::uint32_t since_ms = 0;  // when it began, wrapping
    std::uint32_t host = ~0u;
};

// In the order in which they were pushed.
struct flow_entries {
    flow_entry* first = nullptr;
    flow_entry* last = nullptr;
    void push(flow_entry& e) noexcept {
        e.next = nullptr;
        e.before = last;
        (last == nullptr ? first : last->next) = &e;
        last = &e;
    }
    void remove(flow_entry& e) noexcept {
        (e.before == nullptr ? first : e.before->next) = e.next;
        (e.next == nullptr ? last : e.next->before) = e.before;
        e.next = e.before = nullptr;
    }
};

class half_open {
  public:
    // Throws std::bad_alloc.
    half_open(const tun::hash_key& key, const half_open_settings&);

    enum class outcome : std::uint8_t {
        room,
        crowded,   // `loser`, of a host that has more, gives way
        replaces,  // `loser`, the oldest of this host or of equals, gives way
        refused,
    };
    struct answer {
        outcome what = outcome::room;
        flow_entry* loser = nullptr;
    };
    // Whether the source of this flow may have one more; changes nothing. `full`: somebody has to
    // give way, whatever the number.
    answer admit(const tun::flow_key&, ring::microseconds_t now, bool full) const noexcept;
    // After admit(), and after the loser has been removed.
    void insert(flow_entry&, const tun::flow_key&, ring::microseconds_t now) noexcept;
    // Nothing happens when the entry is not here.
    void remove(flow_entry&) noexcept;
    static bool holds(const flow_entry& e) noexcept { return e.host != none; }

    std::uint32_t size() const noexcept { return _size; }
    std::uint32_t hosts() const noexcept { return _table.size(); }
    std::uint32_t most_of_a_host() const noexcept { return _most_of_a_host; }

  private:
    static constexpr std::uint32_t none = ~0u;
    struct host {
        tun::flow_key key;  // the source alone
        flow_entries flows;
        std::uint32_t count = 0;
        std::uint32_t next = none, before = none;  // of those with the same count
    };
    struct rank {
        std::uint32_t first = none, last = none;
    };
    std::uint32_t make_host(const tun::flow_key&) noexcept;
    void enter_rank(std::uint32_t index) noexcept;
    void leave_rank(std::uint32_t index) noexcept;

    half_open_settings _settings;
    std::uint32_t _most_of_a_host;
    tun::flow_table _table;  // source address -> index into _hosts
    std::vector<host> _hosts;
    std::vector<std::uint32_t> _free;
    std::vector<rank> _ranks;     // hosts by count, in each the longest there first
    std::uint32_t _greatest = 0;  // the highest count that a host has
    std::uint32_t _size = 0;
};

}  // namespace burin::relay
