// UDP datagrams towards a host that are larger than the device's MTU: the header that the parts of
// one begin with (tun/fragments.hh cuts them).
#pragma once

#include "crypto/wire.hh"
#include "tun/frame.hh"

namespace burin::tun {

// As write_udp_header() without a superframe, but the checksum is complete: the kernel does not
// complete that of a part. At most max_udp_payload_bytes.
void write_whole_udp_header(header_buffer& out, const flow_key& flow, bytes_view payload) noexcept;

// What fits an IPv4 packet, and what we take from the far end in either family.
inline constexpr std::size_t max_udp_payload_bytes =
    max_packet_bytes - ipv4_header_bytes - udp_header_bytes;

}  // namespace burin::tun
