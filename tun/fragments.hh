// Fragments of IP datagrams, both families: put together again on the way in (RFC 791, RFC 8200
// section 4.5), cut on the way out.
//
// What waits is bounded in bytes, datagrams, and time, for each source and in all; who is above its
// own bound loses its own oldest. Fragments that overlap end their datagram, and so does what is
// left of it afterwards (RFC 5722 for IPv6; for IPv4 the same, since no honest sender does it). An
// exact repetition is only dropped (RFC 8200). A first fragment must hold the transport header (RFC
// 1858, RFC 7112).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tun/clock.hh"
#include "tun/frame.hh"

namespace burin::tun {

struct fragment_limits {
    std::uint32_t most_bytes = 1u << 20;            // of all that wait, bookkeeping included
    std::uint32_t most_source_bytes = 256u * 1024;  // of one source: four of the largest
    std::uint32_t most_datagrams = 256;
    std::uint32_t most_source_datagrams = 32;
    std::uint32_t most_parts = 160;  // of a datagram: the largest over a link of 576 bytes
    // Linux's ipfrag_time; longer lets identifications of 16 bits come round (RFC 4963).
    time_us timeout = 30'000'000;
};

struct fragment_counters {
    std::uint64_t fragments = 0, reassembled = 0;
    std::uint64_t repeated = 0;     // exact duplicates
    std::uint64_t overlapping = 0;  // datagrams given up for it
    std::uint64_t malformed = 0;    // lengths that make no sense, no room for a transport header
    std::uint64_t evicted = 0;      // datagrams that made room for others
    std::uint64_t refused = 0;      // no room even so, or memory was refused
    std::uint64_t timed_out = 0;
};

// Owns what waits. One thread.
class fragment_store {
  public:
    explicit fragment_store(const fragment_limits& limits = {}) noexcept : _limits(limits) {}
    ~fragment_store();
    fragment_store(const fragment_store&) = delete;
    fragment_store& operator=(const fragment_store&) = delete;

    // Takes a copy of a frame of kind fragment. True: its datagram is complete; take() it before
    // the next add().
    bool add(const parsed_frame& part, time_us now) noexcept;
    // Writes the datagram as a frame that nobody vouches for: virtio header, IP header without
    // options or extensions, data. `into` may be where the last part lay, and has max_frame_bytes.
    bytes_view take(bytes_span into) noexcept;

    // When expire() has something to do; never_us: nothing waits. Never earlier than before.
    time_us deadline() const noexcept;
    // Gives up one datagram whose time is over; false: there is none. `first` is then the beginning
    // of its first part as a frame in `into`, cut to what fits there; empty when that never came.
    // It is there to be quoted: parse_frame() fills in what an error needs and calls it truncated.
    bool expire(time_us now, bytes_span into, bytes_view& first) noexcept;

    std::uint32_t bytes() const noexcept { return _bytes; }
    std::size_t datagrams() const noexcept { return _waiting.size(); }
    const fragment_counters& counters() const noexcept { return _counters; }

  private:
    struct part;
    struct datagram {
        flow_key key;  // the identification in place of the ports
        time_us since = 0;
        part* first = nullptr;  // by offset
        std::uint32_t data_bytes = 0;
        std::uint32_t charged = 0;
        std::uint32_t total = 0;  // 0: the last part has not come
        std::uint32_t parts = 0;
        ip_protocol protocol = ip_protocol::none;  // as its first part names it
        std::uint8_t traffic_class = 0;
        bool given_up = false;  // stays to swallow what still comes
    };

    std::size_t find(const flow_key& key) const noexcept;
    bool make_room(const flow_key& key, std::uint32_t bytes, bool another) noexcept;
    bool evict_oldest(const flow_key& but, const flow_address* source) noexcept;
    bool insert(datagram&, const parsed_frame&) noexcept;
    void give_up(datagram&, std::uint64_t& counter) noexcept;
    void drop_parts(datagram&) noexcept;
    void erase(std::size_t index) noexcept;
    static std::size_t write_headers(const datagram&, std::size_t bytes, bytes_span into) noexcept;

    fragment_limits _limits;
    std::vector<datagram> _waiting;  // the oldest first
    std::size_t _complete = 0;
    std::uint32_t _bytes = 0;
    fragment_counters _counters;
};

// Cuts a datagram towards a host to the size of the device. `whole` is its headers as they stand in
// header_buffer, not a superframe, with a checksum that is complete; `payload_bytes` follow it. One
// that fits comes out as it is.
class fragment_cutter {
  public:
    fragment_cutter(const header_buffer& whole, std::uint32_t payload_bytes, std::uint16_t mtu,
                    std::uint32_t id) noexcept;
    // The headers of the next part, and which bytes of the payload go behind them. False: all are
    // out.
    bool next(header_buffer& out, std::uint32_t& from, std::uint32_t& bytes) noexcept;

  private:
    const header_buffer& _whole;
    std::uint32_t _payload_bytes;
    std::uint32_t _id;
    std::uint32_t _ip_bytes;     // of `whole`
    std::uint32_t _upper_bytes;  // of its transport header
    std::uint32_t _unit;         // data bytes of a part; 0: all of it fits
    std::uint32_t _done = 0;     // data bytes, transport header included
    bool _over = false;
};

}  // namespace burin::tun
