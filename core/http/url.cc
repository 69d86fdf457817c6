// Server URLs by the rules of docs/wire.md section 2.1, with Go's net/url in mind.
#include <fmt/format.h>

#include <algorithm>

#include "core/http/head.hh"
#include "core/http/upgrade.hh"

namespace burin::http {

namespace {

bool is_alnum(char c) noexcept {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
int hex(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}
bool is_escape(std::string_view text, std::size_t at) noexcept {
    return text.size() - at >= 3 && hex(text[at + 1]) >= 0 && hex(text[at + 2]) >= 0;
}

void append_escaped(std::string& to, char c) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    auto octet = static_cast<unsigned char>(c);
    to += '%';
    to += digits[octet >> 4];
    to += digits[octet & 15];
}

// A path that is well-formed as written is kept; any other is decoded and encoded anew, as Go's
// EscapedPath does. False when a percent sign is not followed by two digits.
bool clean_path(std::string_view path, std::string& into) {
    constexpr std::string_view written = "-_.~!$&'()*+,;=:@/[]";
    constexpr std::string_view encoded = "-_.~$&+,/:;=@";
    bool kept = true;
    std::string decoded;
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (path[i] != '%') {
            kept = kept && (is_alnum(path[i]) || written.find(path[i]) != std::string_view::npos);
            decoded += path[i];
            continue;
        }
        if (!is_escape(path, i)) return false;
        decoded += static_cast<char>(hex(path[i + 1]) * 16 + hex(path[i + 2]));
        i += 2;
    }
    if (kept) {
        into = path;
        return true;
    }
    for (char c : decoded) {
        if (is_alnum(c) || encoded.find(c) != std::string_view::npos)
            into += c;
        else
            append_escaped(into, c);
    }
    return true;
}

bool is_port(std::string_view text) noexcept {
    return !text.empty() && text.size() <= 5 &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool host_is_good(std::string_view host, bool bracketed) noexcept {
    return !host.empty() && host.size() <= 255 &&
           std::all_of(host.begin(), host.end(), [bracketed](char c) {
               return is_alnum(c) || c == '-' || c == '.' || c == '_' ||
                      (bracketed && (c == ':' || c == '%'));
           });
}

}  // namespace

server_url parse_url(std::string_view url) {
    server_url out;
    auto failed = [&out](std::string why) {
        out.error = std::move(why);
        return out;
    };
    for (char c : url)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
            return failed("invalid server URL: control character");
    std::string_view rest = url;
    if (rest.starts_with("http://")) {
        rest.remove_prefix(7);
    } else if (rest.starts_with("https://")) {
        rest.remove_prefix(8);
        out.tls = true;
    } else if (std::size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
        return failed("unsupported scheme in server URL '" + loggable(url) +
                      "': use http:// or https://, or none");
    }
    rest = rest.substr(0, rest.find('#'));
    std::size_t host_end = rest.find_first_of("/?");
    std::string_view authority = rest.substr(0, host_end);
    std::string_view tail =
        host_end == std::string_view::npos ? std::string_view{} : rest.substr(host_end);
    if (authority.find('@') != std::string_view::npos)
        return failed("malformed ws or wss URL: user name or password in it (use --auth)");

    // The port is what follows the last colon that is not inside brackets.
    std::size_t bracket = authority.rfind(']');
    std::size_t colon = authority.rfind(':');
    bool has_colon =
        colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
    std::string_view host = has_colon ? authority.substr(0, colon) : authority;
    std::string_view port = has_colon ? authority.substr(colon + 1) : std::string_view{};
    bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
    if (bracketed) host = host.substr(1, host.size() - 2);
    if (!host_is_good(host, bracketed))
        return failed("invalid host in server URL '" + loggable(url) +
                      "' (an IPv6 address stands in brackets, a name in its ASCII form)");
    std::string_view written_port = port;
    if (port.empty()) port = out.tls ? "443" : "80";
    unsigned number = 0;
    if (is_port(port))
        for (char c : port) number = number * 10 + static_cast<unsigned>(c - '0');
    if (number == 0 || number > 65535)
        return failed("invalid port '" + loggable(written_port) + "' in server URL");
    out.port = static_cast<std::uint16_t>(number);

    // A zone belongs to this machine and stays out of the Host header (RFC 6874 section 4).
    std::string_view named = host;
    if (std::size_t zone = host.find('%'); zone != std::string_view::npos) {
        named = host.substr(0, zone);
        std::string_view name = host.substr(zone + 1);
        if (name.starts_with("25")) name.remove_prefix(2);
        out.host = fmt::format("{}%{}", named, name);
    } else {
        out.host = host;
    }
    auto in_brackets = [bracketed](std::string_view h) {
        return bracketed ? fmt::format("[{}]", h) : std::string(h);
    };
    out.authority = fmt::format("{}:{}", in_brackets(named), port);

    std::size_t mark = tail.find('?');
    std::string path;
    if (!clean_path(tail.substr(0, mark), path))
        return failed("invalid escape in the path of the server URL");
    std::string query;
    if (mark != std::string_view::npos) {
        query = "?";
        for (char c : tail.substr(mark + 1)) {
            if (c == ' ')
                query += "%20";
            else
                query += c;
        }
    }
    out.text =
        fmt::format("{}://{}:{}{}{}", out.tls ? "wss" : "ws", in_brackets(host), port, path, query);
    out.target = (path.empty() ? "/" : path) + query;
    return out;
}

}  // namespace burin::http
