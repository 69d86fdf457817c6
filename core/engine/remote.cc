#include "core/engine/remote.hh"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace burin::engine {

namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return out;
}

// The matches of `(\[[^\[\]]+\]|[^\[\]:]+):?`, from left to right; what lies between them vanishes.
std::vector<std::string_view> split(std::string_view text) {
    std::vector<std::string_view> parts;
    std::size_t at = 0;
    while (at < text.size()) {
        std::size_t end;
        if (text[at] == '[') {
            end = text.find_first_of("[]", at + 1);
            bool group = end != std::string_view::npos && text[end] == ']' && end > at + 1;
            end = group ? end + 1 : at;
        } else {
            end = std::min(text.find_first_of("[]:", at), text.size());
        }
        if (end == at) {
            ++at;
            continue;
        }
        parts.push_back(text.substr(at, end - at));
        at = end;
        if (at < text.size() && text[at] == ':') ++at;
    }
    return parts;
}

// Go asks whether "//" + host parses as a URL; what passes there only by being no host at all (a
// path, a query, user info) is refused here at once.
bool is_host(std::string_view text) noexcept {
    return std::none_of(text.begin(), text.end(), [](char c) {
        auto octet = static_cast<unsigned char>(c);
        return octet <= 0x20 || octet == 0x7f ||
               std::string_view("/?#@%\\^`{|}").find(c) != std::string_view::npos;
    });
}

}  // namespace

unsigned port_number(std::string_view text) noexcept {
    if (text.starts_with('+')) text.remove_prefix(1);
    if (text.empty()) return 0;
    unsigned value = 0;
    for (char c : text) {
        if (c < '0' || c > '9') return 0;
        value = value * 10 + static_cast<unsigned>(c - '0');
        if (value > 65535) return 0;
    }
    return value;
}

std::string remote::local() const {
    return stdio ? "stdio" : fmt::format("{}:{}", local_host, local_port);
}

std::string remote::target() const {
    return socks ? "socks" : fmt::format("{}:{}", remote_host, remote_port);
}

std::string remote::text() const {
    auto without = [](const std::string& whole, std::string_view start) {
        return whole.starts_with(start) ? whole.substr(start.size()) : whole;
    };
    return fmt::format("{}{}=>{}{}", reverse ? "R:" : "", without(local(), "0.0.0.0:"),
                       without(target(), "127.0.0.1:"), datagrams() ? "/udp" : "");
}

remote_reading parse_remote(std::string_view text) {
    auto failed = [](const char* why) { return remote_reading{std::nullopt, why}; };
    remote r;
    if (text.starts_with("R:")) {
        r.reverse = true;
        text.remove_prefix(2);
    }
    std::vector<std::string_view> parts = split(text);
    if (parts.empty() || parts.size() > 4) return failed("Invalid remote");
    // From the last part to the first: the remote side is set first and gives the defaults.
    for (std::size_t i = parts.size(); i-- > 0;) {
        if (i + 1 == parts.size() && parts[i] == "socks") {
            r.socks = true;
            continue;
        }
        if (i == 0 && parts[i] == "stdio") {
            r.stdio = true;
            continue;
        }
        std::string part(parts[i]);
        std::string suffix = lower(part.size() >= 4 ? part.substr(part.size() - 4) : "");
        if (suffix == "/tcp" || suffix == "/udp") {
            part = lower(part.substr(0, part.size() - 4));
            (r.remote_port.empty() ? r.remote_proto : r.local_proto) = suffix.substr(1);
        }
        if (port_number(part) != 0) {
            if (!r.socks && r.remote_port.empty()) r.remote_port = part;
            r.local_port = part;
            continue;
        }
        if (!r.socks && r.remote_port.empty() && r.local_port.empty())
            return failed("Missing ports");
        if (!is_host(part)) return failed("Invalid host");
        if (!r.socks && r.remote_host.empty())
            r.remote_host = part;
        else
            r.local_host = part;
    }
    if (r.socks) {
        if (r.local_host.empty()) r.local_host = "127.0.0.1";
        if (r.local_port.empty()) r.local_port = "1080";
    } else {
        if (r.local_host.empty()) r.local_host = "0.0.0.0";
        if (r.remote_host.empty()) r.remote_host = "127.0.0.1";
    }
    if (r.remote_proto.empty()) r.remote_proto = "tcp";
    if (r.local_proto.empty()) r.local_proto = r.remote_proto;
    if (r.local_proto != r.remote_proto)
        return failed("cross-protocol remotes are not supported yet");
    if (r.socks && r.remote_proto != "tcp") return failed("only TCP SOCKS is supported");
    if (r.stdio && r.reverse) return failed("stdio cannot be reversed");
    return {std::move(r), {}};
}

}  // namespace burin::engine
