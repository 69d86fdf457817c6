// One frame of a TUN with IFF_VNET_HDR: virtio header, IPv4 or IPv6, and what they carry.
// parse_frame reads what the kernel wrote into a slot; the write functions make what goes in front
// of payload on its way back.
//
// Nothing is copied: a parsed_frame's payload points into the frame it was parsed from and lives as
// long as that. Packet memory is read through load_* only, never cast to a struct. Every refusal
// has its own reason, so that drops can be counted and none is silent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "crypto/wire.hh"
#include "tun/flow_key.hh"
#include "tun/ip_header.hh"
#include "tun/sequence.hh"
#include "tun/tcp_sack.hh"

namespace burin::tun {

// Ours, because Debian 12's linux/virtio_net.h is not C++ (virtio 1.2 section 5.1.6; TUN uses the
// legacy layout in the machine's own byte order, without num_buffers).
inline constexpr std::size_t virtio_header_bytes = 10;
inline constexpr std::uint8_t virtio_needs_csum = 1;
inline constexpr std::uint8_t virtio_data_valid = 2;
inline constexpr std::uint8_t virtio_gso_none = 0;
inline constexpr std::uint8_t virtio_gso_tcp_v4 = 1;
inline constexpr std::uint8_t virtio_gso_tcp_v6 = 4;
inline constexpr std::uint8_t virtio_gso_udp_l4 = 5;
inline constexpr std::uint8_t virtio_gso_ecn = 0x80;

inline constexpr std::size_t tcp_header_bytes = 20;
inline constexpr std::size_t udp_header_bytes = 8;
inline constexpr std::size_t icmp_header_bytes = 8;  // of every message we read or write
// The largest there can be: IPv6 counts its payload without its header.
inline constexpr std::size_t max_frame_bytes =
    virtio_header_bytes + ipv6_header_bytes + max_packet_bytes;

inline constexpr std::uint8_t tcp_fin = 0x01;
inline constexpr std::uint8_t tcp_syn = 0x02;
inline constexpr std::uint8_t tcp_rst = 0x04;
inline constexpr std::uint8_t tcp_psh = 0x08;
inline constexpr std::uint8_t tcp_ack = 0x10;
inline constexpr std::uint8_t tcp_urg = 0x20;
inline constexpr std::uint8_t tcp_ece = 0x40;
inline constexpr std::uint8_t tcp_cwr = 0x80;

inline constexpr std::uint8_t tcp_option_end = 0;
inline constexpr std::uint8_t tcp_option_nop = 1;
inline constexpr std::uint8_t tcp_option_mss = 2;
inline constexpr std::uint8_t tcp_option_window_scale = 3;
inline constexpr std::uint8_t tcp_option_sack_permitted = 4;
inline constexpr std::uint8_t tcp_option_timestamps = 8;

// The two low bits of traffic_class (RFC 3168 section 5).
inline constexpr std::uint8_t ecn_mask = 3;
inline constexpr std::uint8_t ecn_none = 0;
inline constexpr std::uint8_t ecn_capable = 2;     // ECT(0)
inline constexpr std::uint8_t ecn_congestion = 3;  // CE

struct tcp_options {
    std::uint16_t mss = 0;          // 0: absent
    std::int8_t window_shift = -1;  // -1: absent; capped at 14 (RFC 7323 section 2.3)
    bool sack_permitted = false;    // RFC 2018
    std::uint8_t sack_bytes = 0;    // 0: no SACK option
    bool has_timestamps = false;    // RFC 7323 section 3; read, not answered (see tcp.hh)
    std::uint32_t timestamp = 0;
    std::uint32_t timestamp_echo = 0;
    const std::byte* sack = nullptr;  // its blocks, as they lie in the frame (read_sack())

    bytes_view sack_blocks() const noexcept { return {sack, sack_bytes}; }
};

// What came of a frame. The first five are right frames that have their own consumers; everything
// after is dropped.
enum class frame_kind : std::uint8_t {
    tcp,
    udp,                // payload without the header; gso_size not 0: datagrams of that size
    icmp,               // of the packet's family; payload is the whole message
    other_protocol,     // payload is what that protocol has
    fragment,           // a part of a datagram (tun/fragments.hh)
    multicast,          // destination is multicast or broadcast: router and listener discovery too
    link_local,         // IPv6 link-local: never leaves the link (RFC 4291 section 2.5.6)
    truncated,          // shorter than its headers or its lengths say
    bad_ip_header,      // version, lengths or the order of extension headers make no sense
    bad_ip_checksum,    // RFC 1071 over the IPv4 header
    bad_address,        // one that cannot be answered or reached: unspecified, loopback, a
                        // multicast source, IPv4 in IPv6's clothes
    source_routed,      // an IPv6 routing header with segments left: not meant for us (RFC 5095)
    bad_tcp_header,     // data offset, port 0, or options cut off
    bad_tcp_checksum,   // neither NEEDS_CSUM nor DATA_VALID, and wrong
    bad_udp_header,     // length or port 0
    bad_udp_checksum,   // as for TCP; or none at all over IPv6 (RFC 8200 section 8.1)
    bad_icmp_checksum,  // the same
    kinds               // number of the above
};
std::string_view to_text(frame_kind kind) noexcept;

// Where a fragment belongs.
struct fragment_fields {
    std::uint32_t id = 0;
    std::uint16_t offset = 0;  // in bytes
    bool more = false;         // this is not the last one
};

struct parsed_frame {
    flow_key key;  // source: who sent this frame; no ports but for TCP and UDP
    std::uint8_t virtio_flags = 0;
    std::uint8_t gso_type = 0;
    std::uint16_t gso_size = 0;  // payload bytes of each segment of a superframe
    std::uint8_t ip_version = 0;
    std::uint8_t traffic_class = 0;  // DSCP and ECN
    std::uint8_t flags = 0;          // tcp_fin | ...
    std::uint16_t window = 0;        // as on the wire, unscaled
    sequence seq;
    sequence ack;
    tcp_options options;
    // Where in `packet` the protocol that key.protocol tells was named.
    std::uint16_t protocol_at = 0;
    fragment_fields fragment;
    bytes_view payload;
    bytes_view packet;  // from the IP header to the end that the header tells

    bool has(std::uint8_t flag) const noexcept { return (flags & flag) != 0; }
    // Sequence numbers the segment takes up (RFC 9293: SEG.LEN).
    std::uint32_t length() const noexcept {
        return static_cast<std::uint32_t>(payload.size()) + (has(tcp_syn) ? 1u : 0u) +
               (has(tcp_fin) ? 1u : 0u);
    }
};

// Parses a frame as read from the TUN, virtio header first. The IPv4 checksum is always verified;
// that of TCP, UDP and ICMP in full unless NEEDS_CSUM or DATA_VALID vouches for it, because what
// another host sent and the kernel only forwarded arrives unverified. hdr_len and csum_start are
// never believed; the headers' own lengths decide. IPv6 extension headers are stepped over, 8 at
// most, options unread: nothing of them goes beyond this machine. What is left of the hop limit
// means nothing here: the destination's stand-in is the end of the way, not a hop of it.
// No allocation; any input is safe.
frame_kind parse_frame(bytes_view frame, parsed_frame& out) noexcept;

// What a TCP header says beyond addresses and ports.
struct tcp_fields {
    sequence seq;
    sequence ack;
    std::uint8_t flags = 0;
    std::uint16_t window = 0;
    std::uint16_t mss = 0;          // option written when not 0
    std::int8_t window_shift = -1;  // option written when not negative
    bool sack_permitted = false;
    std::span<const sack_block> sack = {};  // option written when not empty
    std::uint8_t ecn = ecn_none;            // of the IP header (RFC 3168 section 5)
};

// Virtio, IP and TCP headers of one outgoing frame, options included.
class header_buffer {
  public:
    // 10 + 40 + 60: the longest a frame towards a host can need.
    static constexpr std::size_t capacity = 112;
    bytes_view bytes() const noexcept { return {_bytes.data(), _size}; }
    std::byte* data() noexcept { return _bytes.data(); }
    void resize(std::size_t size) noexcept { _size = static_cast<std::uint8_t>(size); }

  private:
    std::array<std::byte, capacity> _bytes;
    std::uint8_t _size = 0;
};

// The virtio header of what the kernel need not touch again.
void write_plain_virtio_header(std::byte* at) noexcept;

// Writes the headers of a frame *to the source* of `flow` (the host): addresses and ports are those
// of the flow's own frames, swapped. The TCP checksum is left to the kernel (NEEDS_CSUM with the
// pseudo-header sum), so payload is never touched. More than `gso_size` bytes of payload (when not
// 0) makes a superframe that the kernel, or the network card, cuts into segments of that size.
// `payload_bytes` plus headers must not exceed max_packet_bytes.
void write_tcp_header(header_buffer& out, const flow_key& flow, const tcp_fields& fields,
                      std::uint32_t payload_bytes, std::uint16_t gso_size) noexcept;

// The same for UDP; a superframe is datagrams of `gso_size`, the last one may be shorter. Wants a
// device that has USO (tun/device.hh).
void write_udp_header(header_buffer& out, const flow_key& flow, std::uint32_t payload_bytes,
                      std::uint16_t gso_size) noexcept;

// The RST that answers a segment nobody owns (RFC 9293 section 3.10.7.1). False: it was a RST
// itself, and none is due.
bool write_reset(header_buffer& out, const parsed_frame& cause) noexcept;

}  // namespace burin::tun
