#include "core/relay/endpoint.hh"

#include <arpa/inet.h>
#include <net/if.h>

#include <charconv>
#include <cstring>

namespace burin::relay {

endpoint::endpoint() noexcept {
    std::memset(&_any, 0, sizeof _any);
    _any.v4.sin_family = AF_INET;
}

std::optional<endpoint> endpoint::from(const sockaddr* address, socklen_t bytes) noexcept {
    endpoint made;
    bool v4 = address->sa_family == AF_INET && bytes >= sizeof made._any.v4;
    bool v6 = address->sa_family == AF_INET6 && bytes >= sizeof made._any.v6;
    if (!v4 && !v6) return {};
    std::memcpy(&made._any, address, v4 ? sizeof made._any.v4 : sizeof made._any.v6);
    return made;
}

std::optional<endpoint> endpoint::literal(std::string_view text, std::uint16_t port) {
    std::string_view zone;
    if (std::size_t percent = text.find('%'); percent != text.npos) {
        zone = text.substr(percent + 1);
        text = text.substr(0, percent);
        if (zone.empty()) return {};
    }
    char copy[INET6_ADDRSTRLEN] = {};
    if (text.empty() || text.size() >= sizeof copy || text.find('\0') != text.npos) return {};
    text.copy(copy, text.size());
    endpoint made;
    if (zone.empty() && inet_pton(AF_INET, copy, &made._any.v4.sin_addr) == 1) {
        made.set_port(port);
        return made;
    }
    std::memset(&made._any, 0, sizeof made._any);
    made._any.v6.sin6_family = AF_INET6;
    if (inet_pton(AF_INET6, copy, &made._any.v6.sin6_addr) != 1) return {};
    if (!zone.empty()) {
        std::uint32_t number = 0;
        auto [end, error] = std::from_chars(zone.data(), zone.data() + zone.size(), number);
        bool numeric = error == std::errc() && end == zone.data() + zone.size();
        made._any.v6.sin6_scope_id = numeric ? number : if_nametoindex(std::string(zone).c_str());
        if (made._any.v6.sin6_scope_id == 0) return {};
    }
    made.set_port(port);
    return made;
}

std::uint16_t endpoint::port() const noexcept {
    return ntohs(family() == AF_INET ? _any.v4.sin_port : _any.v6.sin6_port);
}

void endpoint::set_port(std::uint16_t port) noexcept {
    (family() == AF_INET ? _any.v4.sin_port : _any.v6.sin6_port) = htons(port);
}

bool endpoint::loopback() const noexcept {
    if (family() == AF_INET) return ntohl(_any.v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&_any.v6.sin6_addr);
}

std::string endpoint::text() const {
    char out[INET6_ADDRSTRLEN] = {};
    if (family() == AF_INET) {
        inet_ntop(AF_INET, &_any.v4.sin_addr, out, sizeof out);
        return std::string(out) + ":" + std::to_string(port());
    }
    inet_ntop(AF_INET6, &_any.v6.sin6_addr, out, sizeof out);
    std::string whole = "[";
    whole += out;
    if (_any.v6.sin6_scope_id != 0) {
        char name[IF_NAMESIZE] = {};
        whole += '%';
        whole += if_indextoname(_any.v6.sin6_scope_id, name) != nullptr
                     ? std::string(name)
                     : std::to_string(_any.v6.sin6_scope_id);
    }
    whole += "]:";
    whole += std::to_string(port());
    return whole;
}

bool endpoint::operator==(const endpoint& other) const noexcept {
    if (family() != other.family() || port() != other.port()) return false;
    if (family() == AF_INET) return _any.v4.sin_addr.s_addr == other._any.v4.sin_addr.s_addr;
    return _any.v6.sin6_scope_id == other._any.v6.sin6_scope_id &&
           std::memcmp(&_any.v6.sin6_addr, &other._any.v6.sin6_addr, sizeof(in6_addr)) == 0;
}

}  // namespace burin::relay
