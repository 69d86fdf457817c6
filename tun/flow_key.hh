// Who talks to whom: the five-tuple of a flow as its first frame from the TUN shows it, and a keyed
// hash of it. Source is the host behind (or on) the gateway, destination what it wants to reach.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace burin::tun {

// One end of a flow. 16 bytes in network order; an IPv4 address is its mapped form ::ffff:a.b.c.d
// (RFC 4291 2.5.5.2), so that one key and one table serve both families.
struct flow_address {
    std::array<std::uint8_t, 16> bytes{};

    static constexpr flow_address v4(std::uint32_t host_order) noexcept {
        flow_address address;
        address.bytes[10] = address.bytes[11] = 0xff;
        for (unsigned i = 0; i < 4; ++i) {
            address.bytes[12 + i] = static_cast<std::uint8_t>(host_order >> (24 - 8 * i));
        }
        return address;
    }
    constexpr bool is_v4() const noexcept {
        constexpr std::array<std::uint8_t, 8> marked{0, 0, 0xff, 0xff};
        const auto words = std::bit_cast<std::array<std::uint64_t, 2>>(bytes);
        const auto mark = std::bit_cast<std::uint64_t>(marked);
        const auto mask =
            std::bit_cast<std::uint64_t>(std::array<std::uint8_t, 8>{0xff, 0xff, 0xff, 0xff});
        return words[0] == 0 && (words[1] & mask) == mark;
    }
    // Meaningful for is_v4() only; host order.
    constexpr std::uint32_t to_v4() const noexcept {
        return std::uint32_t{bytes[12]} << 24 | std::uint32_t{bytes[13]} << 16 |
               std::uint32_t{bytes[14]} << 8 | bytes[15];
    }
    friend bool operator==(const flow_address&, const flow_address&) noexcept = default;
};

// "192.0.2.1" or "2001:db8::1": what a channel's target is named by, without brackets.
std::string to_text(const flow_address& address);

// The values of IANA's registry; any other number is as good.
enum class ip_protocol : std::uint8_t {
    hop_by_hop = 0,
    icmp = 1,
    tcp = 6,
    udp = 17,
    routing = 43,
    fragment = 44,
    icmp_v6 = 58,
    none = 59,  // IPv6: nothing follows
    destination_options = 60
};

struct flow_key {
    flow_address source;
    flow_address destination;
    std::uint16_t source_port = 0;  // host order
    std::uint16_t destination_port = 0;
    ip_protocol protocol = ip_protocol::tcp;
    std::array<std::uint8_t, 3> zero{};  // no padding: the hash reads all 40 bytes

    friend bool operator==(const flow_key&, const flow_key&) noexcept = default;
};
static_assert(sizeof(flow_key) == 40 && std::has_unique_object_representations_v<flow_key>);

// A secret from the system's random source, drawn at start by whoever owns the worker.
struct hash_key {
    std::uint64_t low = 0;
    std::uint64_t high = 0;
};

// SipHash-1-3 of the 40 bytes: nobody without the key can fill one bucket, or learn one flow's
// initial sequence number from another's.
inline std::uint64_t keyed_hash(const hash_key& key, const flow_key& flow) noexcept {
    std::uint64_t v0 = key.low ^ 0x736f6d6570736575;
    std::uint64_t v1 = key.high ^ 0x646f72616e646f6d;
    std::uint64_t v2 = key.low ^ 0x6c7967656e657261;
    std::uint64_t v3 = key.high ^ 0x7465646279746573;
    auto round = [&] {
        v0 += v1;
        v1 = std::rotl(v1, 13) ^ v0;
        v0 = std::rotl(v0, 32);
        v2 += v3;
        v3 = std::rotl(v3, 16) ^ v2;
        v0 += v3;
        v3 = std::rotl(v3, 21) ^ v0;
        v2 += v1;
        v1 = std::rotl(v1, 17) ^ v2;
        v2 = std::rotl(v2, 32);
    };
    for (std::uint64_t word : std::bit_cast<std::array<std::uint64_t, 5>>(flow)) {
        v3 ^= word;
        round();
        v0 ^= word;
    }
    const std::uint64_t last = std::uint64_t{sizeof(flow_key)} << 56;
    v3 ^= last;
    round();
    v0 ^= last;
    v2 ^= 0xff;
    round();
    round();
    round();
    return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace burin::tun
