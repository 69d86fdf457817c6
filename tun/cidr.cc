#include "tun/cidr.hh"

#include <arpa/inet.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace burin::tun {

ip_address::ip_address(const in_addr& address) noexcept {
    std::memcpy(_bytes.data(), &address, sizeof address);
}

ip_address::ip_address(const in6_addr& address) noexcept : _family(AF_INET6) {
    std::memcpy(_bytes.data(), &address, sizeof address);
}

std::optional<ip_address> ip_address::parse(std::string_view text) {
    // inet_pton wants a terminated string; the longest literal has 45 characters.
    char copy[INET6_ADDRSTRLEN] = {};
    if (text.empty() || text.size() >= sizeof copy) return {};
    if (text.find('\0') != text.npos) return {};
    text.copy(copy, text.size());
    in_addr v4;
    if (inet_pton(AF_INET, copy, &v4) == 1) return ip_address(v4);
    in6_addr v6;
    if (inet_pton(AF_INET6, copy, &v6) == 1) return ip_address(v6);
    return {};
}

std::optional<ip_address> ip_address::from(const sockaddr& address) noexcept {
    if (address.sa_family == AF_INET) {
        sockaddr_in v4;
        std::memcpy(&v4, &address, sizeof v4);
        return ip_address(v4.sin_addr);
    }
    if (address.sa_family != AF_INET6) return {};
    sockaddr_in6 v6;
    std::memcpy(&v6, &address, sizeof v6);
    if (!IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr)) return ip_address(v6.sin6_addr);
    in_addr inner;
    std::memcpy(&inner, v6.sin6_addr.s6_addr + 12, sizeof inner);
    return ip_address(inner);
}

bool ip_address::loopback() const noexcept {
    if (_family == AF_INET) return _bytes[0] == 127;
    return std::all_of(_bytes.begin(), _bytes.begin() + 15, [](auto b) { return b == 0; }) &&
           _bytes[15] == 1;
}

bool ip_address::link_local_v6() const noexcept {
    return _family == AF_INET6 && _bytes[0] == 0xfe && (_bytes[1] & 0xc0) == 0x80;
}

std::string ip_address::text() const {
    char out[INET6_ADDRSTRLEN] = {};
    inet_ntop(_family, _bytes.data(), out, sizeof out);
    return out;
}

socklen_t ip_address::socket_address(std::uint16_t port, sockaddr_storage& to) const noexcept {
    to = {};
    if (_family == AF_INET) {
        sockaddr_in v4{};
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        std::memcpy(&v4.sin_addr, _bytes.data(), sizeof v4.sin_addr);
        std::memcpy(&to, &v4, sizeof v4);
        return sizeof v4;
    }
    sockaddr_in6 v6{};
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    std::memcpy(&v6.sin6_addr, _bytes.data(), sizeof v6.sin6_addr);
    std::memcpy(&to, &v6, sizeof v6);
    return sizeof v6;
}

ip_address ip_address::masked(unsigned prefix) const noexcept {
    ip_address out = *this;
    for (unsigned i = 0; i < out._bytes.size(); ++i) {
        unsigned keep = prefix > i * 8 ? std::min(prefix - i * 8, 8U) : 0;
        out._bytes[i] &= static_cast<std::uint8_t>(0xff00U >> keep);
    }
    return out;
}

ip_address ip_address::flipped(unsigned index) const noexcept {
    ip_address out = *this;
    out._bytes[index / 8] ^= static_cast<std::uint8_t>(0x80U >> (index % 8));
    return out;
}

bool cidr::contains(const ip_address& other) const noexcept {
    return other.family() == address.family() && other.masked(prefix) == network();
}

bool cidr::contains(const cidr& other) const noexcept {
    return other.prefix >= prefix && contains(other.address);
}

std::string cidr::text() const {
    return address.text() + "/" + std::to_string(prefix);
}

namespace {

bool multicast(const ip_address& address) {
    return address.family() == AF_INET ? (address.bytes()[0] & 0xf0) == 0xe0
                                       : address.bytes()[0] == 0xff;
}

// What was given, cut to a length that a message can carry, without control characters.
std::string quoted(std::string_view text) {
    std::string out = "'";
    for (char c : text.substr(0, 64)) out += c >= ' ' && c < 127 ? c : '?';
    if (text.size() > 64) out += "...";
    return out + "'";
}

failure refused(std::string_view text, std::string_view why) {
    return {EINVAL, quoted(text) + " " + std::string(why)};
}

outcome<cidr> parse(std::string_view text) {
    std::size_t slash = text.find('/');
    auto address = ip_address::parse(text.substr(0, slash));
    if (!address)
        return refused(text,
                       "is not an IP address or prefix; write it like 10.9.0.0/24 or fd00::/64");
    if (slash == text.npos) return cidr{*address, address->bits()};
    std::string_view digits = text.substr(slash + 1);
    unsigned prefix = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), prefix);
    if (error != std::errc() || end != digits.data() + digits.size() || prefix > address->bits())
        return refused(text, "needs a prefix length of 0 to " + std::to_string(address->bits()) +
                                 " after the slash");
    return cidr{*address, prefix};
}

}  // namespace

outcome<cidr> parse_interface(std::string_view text) {
    auto parsed = parse(text);
    if (!parsed) return parsed;
    const cidr& given = parsed.value();
    if (given.prefix == 0) return refused(text, "needs a prefix length of at least 1");
    if (given.address.loopback() || multicast(given.address) ||
        given.address == given.address.masked(0))
        return refused(text, "is not an address that an interface can have");
    if (given.address.family() == AF_INET && given.prefix < 31) {
        ip_address last = given.network();
        for (unsigned bit = given.prefix; bit < 32; ++bit) last = last.flipped(bit);
        bool lowest = given.address == given.network();
        bool highest = given.address == last;
        if (lowest || highest)
            return refused(text, lowest ? "is the network's own address; give one inside of it"
                                        : "is the network's broadcast address; give one inside");
    }
    return parsed;
}

outcome<cidr> parse_network(std::string_view text) {
    auto parsed = parse(text);
    if (!parsed) return parsed;
    const cidr& given = parsed.value();
    cidr network{given.network(), given.prefix};
    if (network != given)
        return refused(
            text, "has bits set beyond its prefix length; did you mean " + network.text() + "?");
    if (given.prefix >= 4 && multicast(given.address))
        return refused(text, "is multicast, which a tunnel of flows cannot carry");
    if ((given.prefix >= 8 || given.address.family() == AF_INET6) && given.address.loopback())
        return refused(text, "is this machine itself and cannot be routed elsewhere");
    return parsed;
}

namespace {

// Halves `part` until each piece is free of `hole` or is `hole` itself.
void cut(cidr part, const cidr& hole, std::vector<cidr>& out) {
    if (hole.contains(part)) return;
    if (!part.contains(hole)) {
        out.push_back(part);
        return;
    }
    while (part.prefix < hole.prefix) {
        cidr near{hole.address.masked(part.prefix + 1), part.prefix + 1};
        out.push_back({near.address.flipped(part.prefix), part.prefix + 1});
        part = near;
    }
}

}  // namespace

std::vector<cidr> subtract(const cidr& whole, std::span<const cidr> excluded) {
    std::vector<cidr> parts{{whole.network(), whole.prefix}};
    for (const cidr& hole : excluded) {
        if (hole.address.family() != whole.address.family()) continue;
        std::vector<cidr> next;
        for (const cidr& part : parts) cut(part, {hole.network(), hole.prefix}, next);
        parts = std::move(next);
    }
    std::sort(parts.begin(), parts.end());
    return parts;
}

}  // namespace burin::tun
