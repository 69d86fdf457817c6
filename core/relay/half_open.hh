// Which flows of a queue are half-open (from their SYN until the host's handshake is complete), by
// host: who may have one more, and who gives way for it. A flow that is complete is none of them,
// and never gives way.
//
// All hosts together may have so many, and one host half of them. Where there are no more,
//   the host with the most gives its oldest for a host that has at least two fewer: whoever scans a
//   network crowds out himself;
//   else the oldest of all gives way, if it waits for so long that nobody will answer it any more;
//   else a host gives its own oldest, and the oldest host one for a host that has none, but not so
//   soon that a destination could not answer: then the new flow is refused.
//
// Flows are named by numbers below the number of flows there may be. Memory grows with the highest
// number and with hosts, to what there are at once; nothing is allocated for a flow. One thread.
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
    // Some round trips to a far destination, or a retransmission of the server's to a near one. It
    // bounds the opens that a flood causes: 5000 a second.
    ring::microseconds_t least_age = 500 * ring::millisecond;
    // What has not answered two SYNs of the server's.
    ring::microseconds_t stale_age = 2 * ring::second;
};

class half_open {
  public:
    static constexpr std::uint32_t none = ~0u;

    // Throws std::bad_alloc.
    half_open(const tun::hash_key& key, const half_open_settings&);

    enum class outcome : std::uint8_t {
        room,
        crowded,   // `loser`, of a host that has more, gives way
        replaces,  // `loser` gives way by its age
        refused,
    };
    struct answer {
        outcome what = outcome::room;
        std::uint32_t loser = none;
    };
    // Whether the source of this flow may have one more; changes nothing. `full`: somebody has to
    // give way, whatever the number.
    answer admit(const tun::flow_key&, ring::microseconds_t now, bool full) const noexcept;
    // After admit(), and after the loser has been removed.
    void insert(std::uint32_t flow, const tun::flow_key&, ring::microseconds_t now) noexcept;
    // Nothing happens when the flow is not here.
    void remove(std::uint32_t flow) noexcept;

    std::uint32_t size() const noexcept { return _size; }
    std::uint32_t hosts() const noexcept { return _table.size(); }
    std::uint32_t most_of_a_host() const noexcept { return _most_of_a_host; }

  private:
    // Lists of numbers, the oldest first.
    struct ends {
        std::uint32_t first = none, last = none;
    };
    struct links {
        std::uint32_t next = none, before = none;
    };
    struct entry {
        links by_host, by_age;
        std::uint32_t since_ms = 0;  // when it began, wrapping
        std::uint32_t host = none;   // none: it is not here
    };
    struct host {
        tun::flow_key key;  // the source alone
        ends flows;
        std::uint32_t count = 0;
        links by_rank;  // of those with the same count
    };
    template <auto Link, class T>
    static void push(std::vector<T>& all, ends& list, std::uint32_t one) noexcept;
    template <auto Link, class T>
    static void drop(std::vector<T>& all, ends& list, std::uint32_t one) noexcept;
    bool is_older(std::uint32_t flow, ring::microseconds_t age,
                  ring::microseconds_t now) const noexcept;
    std::uint32_t make_host(const tun::flow_key&) noexcept;
    void leave_rank(std::uint32_t index) noexcept;

    half_open_settings _settings;
    std::uint32_t _most_of_a_host;
    tun::flow_table _table;  // source address -> index into _hosts
    std::vector<entry> _entries;
    std::vector<host> _hosts;
    std::vector<std::uint32_t> _free;
    std::vector<ends> _ranks;  // hosts by count
    ends _ages;
    std::uint32_t _greatest = 0;  // the highest count that a host has
    std::uint32_t _size = 0;
};

}  // namespace burin::relay
