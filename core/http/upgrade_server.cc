// The server's half of the upgrade. Bodies, header order and status lines are those of Go's
// net/http and gorilla/websocket (docs/wire.md section 2.2).
#include <algorithm>
#include <ctime>
#include <optional>

#include "core/http/head.hh"
#include "core/http/upgrade.hh"
#include "crypto/base64.hh"
#include "crypto/digest.hh"

namespace burin::http {

namespace {

using decision = server_decision;

constexpr std::string_view sub_protocol = "chisel-v3";
constexpr std::string_view plain_text = "Content-Type: text/plain; charset=utf-8\r\n";

// RFC 9110 section 5.6.7, without the locale that strftime would ask.
std::string http_date(std::time_t now) {
    constexpr std::string_view days = "SunMonTueWedThuFriSat";
    constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
    std::tm t{};
    gmtime_r(&now, &t);
    auto two = [](int value) {
        return std::string{static_cast<char>('0' + value / 10),
                           static_cast<char>('0' + value % 10)};
    };
    return std::string(days.substr(static_cast<std::size_t>(t.tm_wday) * 3, 3)) + ", " +
           two(t.tm_mday) + " " +
           std::string(months.substr(static_cast<std::size_t>(t.tm_mon) * 3, 3)) + " " +
           std::to_string(t.tm_year + 1900) + " " + two(t.tm_hour) + ":" + two(t.tm_min) + ":" +
           two(t.tm_sec) + " GMT";
}

// What Go's server says before any handler runs, and closes. `rule` is what the request breaks.
decision refuse(std::string_view status, std::string_view body, std::size_t consumed,
                std::string_view rule) {
    decision d;
    d.what = decision::kind::respond;
    d.response = "HTTP/1.1 " + std::string(status) + "\r\n" + std::string(plain_text) +
                 "Connection: close\r\n\r\n" + std::string(body);
    d.log =
        "refused an HTTP request (" + std::string(status.substr(0, 3)) + "): " + std::string(rule);
    d.consumed = consumed;
    d.close = true;
    return d;
}
decision refuse(std::string_view status, std::size_t consumed, std::string_view rule) {
    return refuse(status, status, consumed, rule);
}

struct answer {
    std::string_view status;
    std::string_view body;
    bool upgrade_error = false;  // the headers of http.Error and of gorilla's returnError
};

void respond(decision& d, const head& request, const answer& a, std::time_t now) {
    bool old = request.version < 11;
    bool keep = old ? request.has_token("Connection", "keep-alive")
                    : !request.has_token("Connection", "close");
    // The body is not read here, so nothing behind it can be trusted to be a request.
    if (request.has_body) keep = false;
    std::string& r = d.response;
    r = old ? "HTTP/1.0 " : "HTTP/1.1 ";
    r += std::string(a.status) + "\r\n";
    if (a.upgrade_error)
        r += std::string(plain_text) +
             "Sec-Websocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\n";
    r +=
        "Date: " + http_date(now) + "\r\nContent-Length: " + std::to_string(a.body.size()) + "\r\n";
    if (!a.upgrade_error) r += plain_text;
    if (keep && old) r += "Connection: keep-alive\r\n";
    if (!keep && !old) r += "Connection: close\r\n";
    r += "\r\n";
    if (request.method != "HEAD") r += a.body;
    d.what = decision::kind::respond;
    d.close = !keep;
    d.request = loggable(request.method) + " " + loggable(request.target);
    d.forwarded_for = loggable(request.first("X-Forwarded-For"));
    if (d.forwarded_for.empty()) d.forwarded_for = loggable(request.first("X-Real-Ip"));
    d.status = a.status.substr(0, 3);
    d.body_bytes = request.method == "HEAD" ? 0 : a.body.size();
}

// The decoded path of a request target; nothing when it is not one.
std::optional<std::string> path_of(std::string_view target) {
    if (target == "*") return std::string("*");
    if (!target.starts_with('/')) {
        std::size_t scheme = target.find("://");
        if (scheme == std::string_view::npos || scheme == 0) return std::nullopt;
        std::size_t slash = target.find_first_of("/?", scheme + 3);
        target = slash == std::string_view::npos ? "/" : target.substr(slash);
    }
    target = target.substr(0, target.find('?'));
    std::string path;
    auto hex = [](char c) {
        if (c >= '0' && c <= '9') return c - '0';
        if (c >= 'a' && c <= 'f') return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    };
    for (std::size_t i = 0; i < target.size(); ++i) {
        if (target[i] != '%') {
            path += target[i];
            continue;
        }
        if (target.size() - i < 3) return std::nullopt;
        int high = hex(target[i + 1]), low = hex(target[i + 2]);
        if (high < 0 || low < 0) return std::nullopt;
        path += static_cast<char>(high * 16 + low);
        i += 2;
    }
    return path;
}

bool valid_key(std::string_view key) {
    auto bytes = crypto::from_base64(key);
    return bytes && bytes->size() == 16;
}

// The octets of a host and port (RFC 3986 section 3.2.2). Who is asked for does not matter here,
// but what a Host field may not hold is no request (RFC 9112 section 3.2).
bool valid_host(std::string_view host) noexcept {
    constexpr std::string_view marks = "-._~%!$&'()*+,;=:[]";
    return std::all_of(host.begin(), host.end(), [&](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               marks.find(c) != std::string_view::npos;
    });
}

constexpr std::string_view not_by_get = "not by GET";

// What RFC 6455 section 4.2.1 wants of the request, in Go's order; empty: nothing is wrong.
// `behind` bytes came with it.
std::string_view broken_upgrade(const head& request, std::size_t behind) {
    if (!request.has_token("Connection", "upgrade")) return "no 'upgrade' in Connection";
    if (request.method != "GET") return not_by_get;
    if (request.version < 11) return "by HTTP/1.0";
    if (!request.has_token("Sec-WebSocket-Version", "13")) return "Sec-WebSocket-Version is not 13";
    if (request.count("Sec-WebSocket-Key") != 1) return "not one Sec-WebSocket-Key";
    if (!valid_key(request.first("Sec-WebSocket-Key")))
        return "Sec-WebSocket-Key is not base64 of 16 bytes";
    if (request.has_body) return "with a body";
    // Section 4.1: a client waits for the 101. What a proxy sent behind a request that it did not
    // take for an upgrade must not become frames.
    if (behind > 0) return "with bytes behind it, before the 101";
    return {};
}

}  // namespace

std::string accept_value(std::string_view key) {
    auto digest = crypto::sha1({as_bytes(key), as_bytes("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")});
    return crypto::base64(digest);
}

server_decision upgrade_server::feed(bytes_view bytes, std::time_t now) {
    decision d;
    if (!bytes.empty() && _scanned == 0) {
        protocol p = detect(bytes.first(1));
        if (p == protocol::unknown || p == protocol::tls)
            return refuse("400 Bad Request", bytes.size(), "neither HTTP nor SSH");
    }
    head_end end = find_head(bytes, _scanned);
    switch (end.what) {
        case head_end::state::need_more: return d;
        case head_end::state::too_large:
            return refuse("431 Request Header Fields Too Large", bytes.size(), end.rule);
        case head_end::state::malformed: return refuse("400 Bad Request", bytes.size(), end.rule);
        case head_end::state::found: break;
    }
    _scanned = 0;
    head request = parse_head(bytes.first(end.bytes), head_kind::request);
    switch (request.error) {
        case head_error::none: break;
        case head_error::malformed: return refuse("400 Bad Request", bytes.size(), request.rule);
        case head_error::too_many_fields:
            return refuse("431 Request Header Fields Too Large", bytes.size(), request.rule);
        case head_error::unsupported_version:
            return refuse("505 HTTP Version Not Supported: unsupported protocol version",
                          bytes.size(), request.rule);
        case head_error::unsupported_encoding:
            return refuse("501 Not Implemented", "Unsupported transfer encoding", bytes.size(),
                          request.rule);
    }
    std::size_t hosts = request.count("Host");
    if (hosts == 0 && request.version >= 11)
        return refuse("400 Bad Request: missing required Host header", bytes.size(), "no Host");
    if (hosts > 1) return refuse("400 Bad Request", bytes.size(), "more than one Host");
    if (!valid_host(request.first("Host")))
        return refuse("400 Bad Request: malformed Host header", bytes.size(),
                      "a Host that is none");
    std::optional<std::string> path = path_of(request.target);
    if (!path) return refuse("400 Bad Request", bytes.size(), "a target that is none");

    d.consumed = end.bytes;
    std::string_view wanted = request.first("Sec-WebSocket-Protocol");
    bool upgrade = equal_without_case(request.first("Upgrade"), "websocket");
    if (upgrade && wanted == sub_protocol) {
        constexpr answer bad{"400 Bad Request", "Bad Request\n", true};
        constexpr answer bad_method{"405 Method Not Allowed", "Method Not Allowed\n", true};
        const std::size_t behind = bytes.size() - end.bytes;
        if (const std::string_view rule = broken_upgrade(request, behind); !rule.empty()) {
            // What comes behind it is no request, with it or later: whoever sent it may have taken
            // the answer for given.
            request.has_body = true;
            respond(d, request, rule == not_by_get ? bad_method : bad, now);
            d.log = "refused an upgrade (" + std::string(d.status) + "): " + std::string(rule);
            return d;
        }
        d.what = decision::kind::tunnel;
        d.response =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Accept: " +
            accept_value(request.first("Sec-WebSocket-Key")) + "\r\n";
        if (request.count(features_header) > 0) {
            d.peer_is_burin = true;
            d.peer_features = feature_set::parse(request.first(features_header));
            d.response += std::string(features_header) + ": " + _ours.text() + "\r\n";
        }
        d.response += "\r\n";
        return d;
    }
    if (upgrade)
        d.log = "ignored client connection using protocol '" + loggable(wanted) + "', expected '" +
                std::string(sub_protocol) + "'";
    if (*path == "/health")
        respond(d, request, {"200 OK", "OK\n"}, now);
    else if (*path == "/version")
        respond(d, request, {"200 OK", _version}, now);
    else
        respond(d, request, {"404 Not Found", "Not found"}, now);
    return d;
}

}  // namespace burin::http
