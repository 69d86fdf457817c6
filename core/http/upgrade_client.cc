// The client's half of the upgrade: the GET that Go's net/http and gorilla/websocket would send
// (docs/wire.md section 2.1), and the 101.
#include <fmt/format.h>

#include <algorithm>

#include "core/http/head.hh"
#include "core/http/upgrade.hh"
#include "crypto/base64.hh"

namespace burin::http {

namespace {

constexpr std::string_view sub_protocol = "chisel-v3";

// As Go's textproto does: the first letter and each one behind a hyphen upper, the others lower; a
// name that is not a token stays as it is.
std::string canonical(std::string_view name) {
    std::string out(name);
    if (!is_token(name)) return out;
    bool upper = true;
    for (char& c : out) {
        if (upper && c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        if (!upper && c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
        upper = c == '-';
    }
    return out;
}

}  // namespace

std::string header_list::add(std::string_view line) {
    std::size_t colon = line.find(':');
    if (colon == std::string_view::npos)
        return "Invalid header (" + loggable(line) +
               "). Should be in the format \"HeaderName: HeaderContent\"";
    std::string_view name = line.substr(0, colon);
    if (!is_token(name))
        return "Invalid header name '" + loggable(name) + "': letters, digits and hyphens only";
    std::string value(line.substr(colon + 1));
    // A line break in a value would begin another header; Go makes it a space.
    std::replace(value.begin(), value.end(), '\n', ' ');
    std::replace(value.begin(), value.end(), '\r', ' ');
    if (std::any_of(value.begin(), value.end(), [](char c) {
            return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
        }))
        return "Invalid header value for '" + std::string(name) + "': control characters";
    set(canonical(name), trimmed(value));
    return {};
}

void header_list::set(std::string_view name, std::string_view value) {
    auto same = std::find_if(_entries.begin(), _entries.end(),
                             [name](const entry& e) { return e.name == name; });
    if (same != _entries.end())
        same->value = value;
    else
        _entries.push_back({std::string(name), std::string(value)});
}

const std::string* header_list::find(std::string_view name) const noexcept {
    for (const entry& e : _entries)
        if (e.name == name) return &e.value;
    return nullptr;
}

upgrade_request build_request(const server_url& url, const header_list& headers,
                              bytes_view nonce_of_16, feature_set ours) {
    constexpr std::string_view reserved[] = {"Upgrade",
                                             "Connection",
                                             "Sec-Websocket-Key",
                                             "Sec-Websocket-Version",
                                             "Sec-Websocket-Extensions",
                                             "Sec-Websocket-Protocol",
                                             features_header};
    upgrade_request out;
    out.key = crypto::base64(nonce_of_16);
    std::vector<header_list::entry> lines = {
        {std::string(features_header), ours.text()},
        {"Connection", "Upgrade"},
        {"Sec-WebSocket-Key", out.key},
        {"Sec-WebSocket-Protocol", std::string(sub_protocol)},
        {"Sec-WebSocket-Version", "13"},
        {"Upgrade", "websocket"},
    };
    std::string host = url.authority, agent = "Go-http-client/1.1";
    for (const header_list::entry& given : headers.entries()) {
        for (std::string_view name : reserved) {
            if (!equal_without_case(given.name, name)) continue;
            out.error = fmt::format("websocket: duplicate header not allowed: {}", given.name);
            return out;
        }
        if (given.name == "Host") {
            if (!given.value.empty()) host = given.value;
        } else if (given.name == "User-Agent") {
            agent = given.value;
        } else if (given.name != "Content-Length" && given.name != "Transfer-Encoding" &&
                   given.name != "Trailer") {  // Go's writer leaves these out: a GET has no body
            lines.push_back(given);
        }
    }
    std::stable_sort(lines.begin(), lines.end(),
                     [](const auto& a, const auto& b) { return a.name < b.name; });
    out.bytes = fmt::format("GET {} HTTP/1.1\r\nHost: {}\r\n", url.target, host);
    if (!agent.empty()) out.bytes += fmt::format("User-Agent: {}\r\n", agent);
    for (const header_list::entry& line : lines)
        out.bytes += fmt::format("{}: {}\r\n", line.name, line.value);
    out.bytes += "\r\n";
    return out;
}

client_answer parse_answer(bytes_view bytes, std::string_view key) {
    client_answer a;
    auto refused = [&a](std::string_view why) {
        a.what = client_answer::kind::refused;
        a.error = fmt::format("websocket: bad handshake ({})", why);
        return a;
    };
    constexpr std::string_view too_large = "response head above 16 KiB";
    head response;
    // Other 1xx come before the answer, and mean nothing to who did not ask (RFC 9110 section
    // 15.2); with them it is no longer than without.
    do {
        const bytes_view left = bytes.subspan(a.consumed);
        std::size_t scanned = 0;
        head_end end = find_head(left, scanned);
        switch (end.what) {
            case head_end::state::need_more:
                if (bytes.size() >= max_head_bytes) return refused(too_large);
                a.consumed = 0;
                return a;
            case head_end::state::too_large: return refused(too_large);
            case head_end::state::malformed:
                return refused(fmt::format("malformed HTTP response: {}", end.rule));
            case head_end::state::found: break;
        }
        response = parse_head(left.first(end.bytes), head_kind::response);
        if (response.error != head_error::none)
            return refused(fmt::format("malformed HTTP response: {}", response.rule));
        a.consumed += end.bytes;
        if (a.consumed > max_head_bytes) return refused(too_large);
    } while (response.status >= 100 && response.status < 200 && response.status != 101);
    // The status is no more than Go tells with its debug switch, and what a person needs first.
    if (response.status != 101) {
        const std::string_view to = response.first("Location");
        if (response.status / 100 == 3 && !to.empty())
            return refused(fmt::format("status {}, which sends us to {}: not followed",
                                       response.status, loggable(to)));
        return refused(fmt::format("status {}", response.status));
    }
    if (!response.has_token("Upgrade", "websocket")) return refused("no 'websocket' in Upgrade");
    if (!response.has_token("Connection", "upgrade")) return refused("no 'upgrade' in Connection");
    if (response.count("Sec-WebSocket-Accept") != 1 ||
        response.first("Sec-WebSocket-Accept") != accept_value(key))
        return refused("wrong Sec-WebSocket-Accept");
    // RFC 6455 section 4.1: what we did not ask for. Go's servers name neither.
    if (response.count("Sec-WebSocket-Extensions") > 0)
        return refused(fmt::format("an extension that was not asked for: {}",
                                   loggable(response.first("Sec-WebSocket-Extensions"))));
    if (response.count("Sec-WebSocket-Protocol") > 0 &&
        response.first("Sec-WebSocket-Protocol") != sub_protocol)
        return refused(fmt::format("protocol '{}' instead of '{}'",
                                   loggable(response.first("Sec-WebSocket-Protocol")),
                                   sub_protocol));
    // What follows a 101 is the tunnel (RFC 9112 section 6.3); who announces a body sees another.
    if (response.has_body) return refused("a 101 with a body");
    a.what = client_answer::kind::tunnel;
    a.peer_is_burin = response.count(features_header) > 0;
    a.peer_features = feature_set::parse(response.first(features_header));
    return a;
}

}  // namespace burin::http
