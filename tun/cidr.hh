// Addresses and prefixes as people write them (RFC 4632 section 3.1, RFC 4291 section 2.3) and as
// routes need them. Plain values; nothing here talks to the kernel.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tun/outcome.hh"

namespace burin::tun {

// AF_INET or AF_INET6 and the address in network order; an IPv4 address stands in the first four
// bytes, the others are zero. Scope ids are not part of it.
class ip_address {
  public:
    // 0.0.0.0
    ip_address() noexcept = default;
    ip_address(const in_addr& address) noexcept;
    ip_address(const in6_addr& address) noexcept;

    // A literal without brackets, zone or prefix; nullopt for anything else (names, "1.2.3").
    static std::optional<ip_address> parse(std::string_view text);
    // From a socket address; nullopt for a family that is not IP. An IPv4-mapped IPv6 address
    // becomes the IPv4 address that it stands for (RFC 4291 section 2.5.5.2).
    static std::optional<ip_address> from(const sockaddr& address) noexcept;

    int family() const noexcept { return _family; }
    // 32 or 128.
    unsigned bits() const noexcept { return _family == AF_INET ? 32 : 128; }
    std::span<const std::uint8_t> bytes() const noexcept { return {_bytes.data(), bits() / 8}; }
    // 127.0.0.0/8 or ::1.
    bool loopback() const noexcept;
    // fe80::/10: means nothing without an interface.
    bool link_local_v6() const noexcept;
    std::string text() const;
    // Fills `to`; returns how many bytes of it count.
    socklen_t socket_address(std::uint16_t port, sockaddr_storage& to) const noexcept;

    // The address with every bit from `prefix` on cleared; with bit `index` (from the left)
    // inverted.
    ip_address masked(unsigned prefix) const noexcept;
    ip_address flipped(unsigned index) const noexcept;

    friend auto operator<=>(const ip_address&, const ip_address&) = default;

  private:
    int _family = AF_INET;
    std::array<std::uint8_t, 16> _bytes{};
};

struct cidr {
    ip_address address;
    unsigned prefix = 0;

    ip_address network() const noexcept { return address.masked(prefix); }
    bool contains(const ip_address& other) const noexcept;
    bool contains(const cidr& other) const noexcept;
    std::string text() const;

    friend auto operator<=>(const cidr&, const cidr&) = default;
};

// "10.9.0.1/24": an interface's address, host bits kept. A bare address counts as /32 or /128.
// Refused: the network or broadcast address of an IPv4 prefix shorter than /31, unspecified,
// loopback and multicast addresses.
outcome<cidr> parse_interface(std::string_view text);

// "10.0.0.0/8": a route's destination. Set host bits are an error that names the network meant.
// Refused too: prefixes inside loopback or multicast space.
outcome<cidr> parse_network(std::string_view text);

// The fewest prefixes that cover `whole` without any address of `excluded`; sorted. Excluded
// prefixes of the other family count for nothing. At most 32 (128) prefixes an exclusion.
std::vector<cidr> subtract(const cidr& whole, std::span<const cidr> excluded);

}  // namespace burin::tun
