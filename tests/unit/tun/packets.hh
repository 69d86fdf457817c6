// Packets as other hosts send them, put together byte by byte from the RFCs, checksums included;
// shares nothing with the code under test.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "crypto/wire.hh"

namespace burin::hand {

using octets = std::vector<std::uint8_t>;

inline octets operator+(octets a, const octets& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}
inline octets text(const std::string& from) {
    return {from.begin(), from.end()};
}
// Bytes that differ from place to place.
inline octets filler(std::size_t size, unsigned salt = 0) {
    octets out(size);
    for (std::size_t i = 0; i < size; ++i)
        out[i] = static_cast<std::uint8_t>(i * 7 + (i >> 8) * 13 + salt);
    return out;
}
inline octets be16(unsigned value) {
    return {static_cast<std::uint8_t>(value >> 8), static_cast<std::uint8_t>(value)};
}
inline octets be32(std::uint32_t value) {
    return be16(value >> 16) + be16(value & 0xffff);
}

// RFC 1071 as it is written there.
inline unsigned sum(const octets& in, unsigned start = 0) {
    std::uint64_t total = start;
    for (std::size_t i = 0; i < in.size(); ++i)
        total += i % 2 == 0 ? unsigned{in[i]} << 8 : unsigned{in[i]};
    while (total > 0xffff) total = (total & 0xffff) + (total >> 16);
    return static_cast<unsigned>(total);
}
inline void put16(octets& at, std::size_t where, unsigned value) {
    at[where] = static_cast<std::uint8_t>(value >> 8);
    at[where + 1] = static_cast<std::uint8_t>(value);
}

struct ends {
    octets from, to;  // 4 or 16 bytes
    bool v6() const { return from.size() == 16; }
    ends back() const { return {to, from}; }
};
inline const ends lan4{{10, 5, 0, 2}, {10, 77, 0, 1}};
inline const ends lan6{{0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
                       {0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}};

inline unsigned pseudo(const ends& e, unsigned protocol, std::size_t size) {
    return sum(e.from + e.to + be32(static_cast<std::uint32_t>(size)) + be32(protocol));
}

// `place`: the IPv4 word of flags and offset.
inline octets ip(const ends& e, unsigned protocol, const octets& payload, unsigned id = 0x1c46,
                 unsigned place = 0) {
    const auto next = static_cast<std::uint8_t>(protocol);
    if (e.v6()) {
        return octets{0x60, 0, 0, 0} + be16(static_cast<unsigned>(payload.size())) +
               octets{next, 63} + e.from + e.to + payload;
    }
    octets header = octets{0x45, 0} + be16(static_cast<unsigned>(20 + payload.size())) + be16(id) +
                    be16(place) + octets{63, next, 0, 0} + e.from + e.to;
    put16(header, 10, ~sum(header));
    return header + payload;
}

// IPv6 extension headers: `size` is a multiple of 8.
inline octets extension(unsigned next, const octets& rest, std::size_t size = 8) {
    octets out =
        octets{static_cast<std::uint8_t>(next), static_cast<std::uint8_t>(size / 8 - 1)} + rest;
    out.resize(size);  // padded with Pad1
    return out;
}
inline octets fragment_header(unsigned next, unsigned offset, bool more, std::uint32_t id) {
    return octets{static_cast<std::uint8_t>(next), 0} + be16(offset | (more ? 1u : 0u)) + be32(id);
}
// A part of a datagram, of either family.
inline octets fragment(const ends& e, unsigned protocol, const octets& part, unsigned offset,
                       bool more, std::uint32_t id) {
    if (e.v6()) return ip(e, 44, fragment_header(protocol, offset, more, id) + part);
    return ip(e, protocol, part, id, offset / 8 | (more ? 0x2000u : 0u));
}

inline octets udp(const ends& e, unsigned from, unsigned to, const octets& data) {
    octets out =
        be16(from) + be16(to) + be16(static_cast<unsigned>(8 + data.size())) + be16(0) + data;
    const unsigned value = ~sum(out, pseudo(e, 17, out.size())) & 0xffff;
    put16(out, 6, value == 0 ? 0xffff : value);
    return out;
}
inline octets tcp(const ends& e, unsigned from, unsigned to, std::uint32_t seq, std::uint32_t ack,
                  unsigned flags, const octets& data = {}, const octets& options = {}) {
    octets out = be16(from) + be16(to) + be32(seq) + be32(ack) +
                 octets{static_cast<std::uint8_t>((20 + options.size()) / 4 << 4),
                        static_cast<std::uint8_t>(flags)} +
                 be16(0xfaf0) + be32(0) + options + data;
    put16(out, 16, ~sum(out, pseudo(e, 6, out.size())));
    return out;
}
inline octets icmp(const ends& e, unsigned type, unsigned code, std::uint32_t rest,
                   const octets& data = {}) {
    octets out = octets{static_cast<std::uint8_t>(type), static_cast<std::uint8_t>(code), 0, 0} +
                 be32(rest) + data;
    put16(out, 2, ~sum(out, e.v6() ? pseudo(e, 58, out.size()) : 0));
    return out;
}
inline unsigned icmp_protocol(const ends& e) {
    return e.v6() ? 58 : 1;
}

// As it is read from the TUN; a heap block of exactly this size.
inline byte_vector frame(const octets& packet, unsigned virtio_flags = 0, unsigned gso_type = 0,
                         unsigned gso_size = 0) {
    const octets raw = octets{static_cast<std::uint8_t>(virtio_flags),
                              static_cast<std::uint8_t>(gso_type),
                              0,
                              0,
                              static_cast<std::uint8_t>(gso_size),  // little-endian
                              static_cast<std::uint8_t>(gso_size >> 8),
                              0,
                              0,
                              0,
                              0} +
                       packet;
    const bytes_view bytes = std::as_bytes(std::span(raw));
    return {bytes.begin(), bytes.end()};
}
inline octets to_octets(bytes_view bytes) {
    octets out;
    for (std::byte b : bytes) out.push_back(static_cast<std::uint8_t>(b));
    return out;
}

}  // namespace burin::hand
