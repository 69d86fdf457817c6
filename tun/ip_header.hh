// The IP header in front of what we say to a host, and the sums that tie a segment to it; what
// tun/frame.hh, tun/icmp.hh and tun/fragments.hh have in common. Both families, one set of calls:
// the flow's addresses tell which.
#pragma once

#include <cstddef>
#include <cstdint>

#include "crypto/wire.hh"
#include "tun/flow_key.hh"

namespace burin::tun {

inline constexpr std::size_t ipv4_header_bytes = 20;
inline constexpr std::size_t ipv6_header_bytes = 40;
inline constexpr std::size_t fragment_header_bytes = 8;  // IPv6 (RFC 8200 section 4.5)
// The largest IPv4 packet, and the largest we write; the kernel's tso_max_size on a TUN is the
// same.
inline constexpr std::size_t max_packet_bytes = 65535;

inline std::uint16_t load_u16(const std::byte* at) noexcept {
    std::uint16_t value;
    __builtin_memcpy(&value, at, sizeof value);
    return __builtin_bswap16(value);
}
inline void store_u16(std::byte* at, std::uint16_t value) noexcept {
    value = __builtin_bswap16(value);
    __builtin_memcpy(at, &value, sizeof value);
}
inline std::uint8_t load_u8(const std::byte* at) noexcept {
    return static_cast<std::uint8_t>(*at);
}
inline void store_u8(std::byte* at, unsigned value) noexcept {
    *at = static_cast<std::byte>(value);
}

// Of the headers that write_ip_header() makes for this flow.
constexpr std::size_t ip_header_bytes(const flow_key& flow) noexcept {
    return flow.source.is_v4() ? ipv4_header_bytes : ipv6_header_bytes;
}

// Addresses, protocol and length: the part of a transport checksum that is not in the segment (RFC
// 9293 section 3.1, RFC 8200 section 8.1). Not folded; the same in both directions of a flow.
std::uint64_t pseudo_header_sum(const flow_key& flow, ip_protocol protocol,
                                std::size_t length) noexcept;

// A header *to the source* of `flow`, from its destination, without options: version, lengths, a
// hop limit of 64, and for IPv4 "don't fragment" and the checksum. Fills ip_header_bytes(flow);
// `bytes` is what follows. Both addresses are of one family.
void write_ip_header(std::byte* at, const flow_key& flow, ip_protocol protocol, std::size_t bytes,
                     std::uint8_t traffic_class = 0) noexcept;
// After a change of an IPv4 header's fields.
void repair_ipv4_checksum(std::byte* header) noexcept;

}  // namespace burin::tun
