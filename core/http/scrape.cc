#include "core/http/scrape.hh"

#include <fmt/format.h>

#include "core/http/head.hh"

namespace burin::http {

namespace {

std::string response(std::string_view status, std::string_view type, std::string_view fields,
                     std::size_t length, std::string_view body) {
    return fmt::format(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\n{}Content-Length: {}\r\nConnection: close\r\n\r\n{}",
        status, type, fields, length, body);
}

constexpr std::string_view plain = "text/plain; charset=utf-8";

}  // namespace

scrape_request::state scrape_request::refuse(std::string_view status, std::string_view fields,
                                             bool with_body) {
    // Its length is told even where it is left out: what a GET would have got (RFC 9110 section
    // 9.3.2).
    const std::string body = fmt::format("{}\n", status);
    _answer = response(status, plain, fields, body.size(), with_body ? body : std::string_view());
    return state::refused;
}

scrape_request::state scrape_request::feed(bytes_view bytes) {
    const head_end end = find_head(bytes, _scanned);
    switch (end.what) {
        case head_end::state::need_more: return state::need_more;
        case head_end::state::too_large: return refuse("431 Request Header Fields Too Large");
        case head_end::state::malformed: return refuse("400 Bad Request");
        case head_end::state::found: break;
    }
    const head request = parse_head(bytes.first(end.bytes), head_kind::request);
    switch (request.error) {
        case head_error::none: break;
        case head_error::malformed: return refuse("400 Bad Request");
        case head_error::too_many_fields: return refuse("431 Request Header Fields Too Large");
        case head_error::unsupported_version: return refuse("505 HTTP Version Not Supported");
        case head_error::unsupported_encoding: return refuse("501 Not Implemented");
    }
    // RFC 9112 section 3.2.
    const std::size_t hosts = request.count("Host");
    if (hosts > 1 || (hosts == 0 && request.version >= 11)) return refuse("400 Bad Request");
    const std::string_view target = request.target;
    const bool with_body = request.method != "HEAD";
    if (target.substr(0, target.find('?')) != "/metrics")
        return refuse("404 Not Found", {}, with_body);
    if (request.method != "GET")
        return refuse("405 Method Not Allowed", "Allow: GET\r\n", with_body);
    return state::metrics;
}

std::string metrics_response(std::string_view body) {
    return response("200 OK", "text/plain; version=0.0.4; charset=utf-8", {}, body.size(), body);
}

std::string unavailable_response(std::string_view why) {
    const std::string body = fmt::format("{}\n", why);
    return response("503 Service Unavailable", plain, {}, body.size(), body);
}

}  // namespace burin::http
