#include "core/relay/dns_steering.hh"

#include <fmt/format.h>

#include "core/relay/endpoint.hh"
#include "core/relay/target.hh"

namespace burin::relay {

std::optional<dns_steering> dns_steering::parse(std::string_view text) {
    if (text.find_first_of("/%") != text.npos) return {};
    const bool bracketed = text.starts_with('[');
    std::string_view host = text;
    if (bracketed && text.ends_with(']')) host = text.substr(1, text.size() - 2);
    auto resolver = endpoint::literal(host, dns_port);
    if (!resolver) {
        const auto with_port = parse_target(text);
        if (!with_port || text.starts_with(':')) return {};
        resolver = endpoint::literal(with_port->host, with_port->port);
    }
    if (!resolver || (bracketed && resolver->family() != AF_INET6)) return {};
    dns_steering steering;
    steering._resolver = resolver->text();
    return steering;
}

std::string dns_steering::target(const tun::flow_key& key) const {
    if (steers(key)) return _resolver;
    const std::string address = to_text(key.destination);
    if (key.destination.is_v4()) return fmt::format("{}:{}", address, key.destination_port);
    return fmt::format("[{}]:{}", address, key.destination_port);
}

}  // namespace burin::relay
