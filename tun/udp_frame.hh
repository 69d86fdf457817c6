// UDP datagrams towards a host that are larger than the device's MTU. Over IPv4 one packet without
// "don't fragment": the kernel delivers it whole to this machine and cuts it for a LAN. Over IPv6
// no router may cut (RFC 8200 section 4.5), so the parts are made here.
#pragma once

#include <cstdint>

#include "crypto/wire.hh"
#include "tun/frame.hh"

namespace burin::tun {

// As write_udp_header() without a superframe, for a packet that may be cut on its way; `id` tells
// it from others of the same hosts (RFC 6864). IPv4 only: flow.source.is_v4().
void write_large_udp_header(header_buffer& out, const flow_key& flow, std::uint32_t payload_bytes,
                            std::uint16_t id) noexcept;

// The headers of the part that begins `offset` bytes into the payload; returns how many bytes of
// the payload belong behind them, all parts together not more than `mtu` bytes of IPv6. The
// checksum is whole and in the first part. IPv6 only; offset < payload.size() <=
// max_udp_payload_bytes.
std::uint32_t write_udp_fragment(header_buffer& out, const flow_key& flow, bytes_view payload,
                                 std::uint32_t offset, std::uint32_t id,
                                 std::uint16_t mtu) noexcept;

// What fits an IPv4 packet, and what we take from the far end in either family.
inline constexpr std::uint32_t max_udp_payload_bytes =
    max_packet_bytes - ipv4_header_bytes - udp_header_bytes;

}  // namespace burin::tun
