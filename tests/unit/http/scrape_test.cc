// Requests for metrics (docs/observability.md): one path, one method, and an answer to all else.
#include "core/http/scrape.hh"

#include "core/http/head.hh"
#include "core/http/upgrade.hh"
#include "tests/catch.hh"

using namespace burin;
using state = http::scrape_request::state;

namespace {

// The status line of what is answered at once; "metrics", or "need more".
std::string outcome(std::string_view request) {
    http::scrape_request r;
    switch (r.feed(as_bytes(request))) {
        case state::need_more: return "need more";
        case state::metrics: return "metrics";
        case state::refused: break;
    }
    return r.answer().substr(0, r.answer().find("\r\n"));
}

std::string body_of(std::string_view response) {
    return std::string(response.substr(response.find("\r\n\r\n") + 4));
}

}  // namespace

TEST_CASE("metrics are asked for by GET /metrics, with or without a query") {
    CHECK(outcome("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n") == "metrics");
    CHECK(outcome("GET /metrics?name=x HTTP/1.1\r\nHost: a:9100\r\nAccept: */*\r\n\r\n") ==
          "metrics");
    CHECK(outcome("GET /metrics HTTP/1.0\r\n\r\n") == "metrics");
    CHECK(outcome("GET /metrics HTTP/1.1\r\nHost: a\r\n") == "need more");
    CHECK(outcome("") == "need more");
}

TEST_CASE("other paths are not found, other methods not allowed") {
    for (std::string_view path : {"/", "/metric", "/metrics/", "//metrics", "/METRICS", "*", "a"}) {
        CAPTURE(path);
        CHECK(outcome("GET " + std::string(path) + " HTTP/1.1\r\nHost: a\r\n\r\n") ==
              "HTTP/1.1 404 Not Found");
    }
    for (std::string_view method : {"POST", "PUT", "DELETE", "OPTIONS", "TRACE", "HEAD", "get"}) {
        CAPTURE(method);
        const std::string request = std::string(method) + " /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
        CHECK(outcome(request) == "HTTP/1.1 405 Method Not Allowed");
        http::scrape_request r;
        r.feed(as_bytes(request));
        CHECK(r.answer().find("\r\nAllow: GET\r\n") != std::string::npos);
        // RFC 9110 section 9.3.2: nothing behind the head.
        CHECK(body_of(r.answer()) == (method == "HEAD" ? "" : "405 Method Not Allowed\n"));
        CHECK(r.answer().find("\r\nContent-Length: 23\r\n") != std::string::npos);
    }
    CHECK(outcome("POST /elsewhere HTTP/1.1\r\nHost: a\r\n\r\n") == "HTTP/1.1 404 Not Found");
}

TEST_CASE("what is no request is told so") {
    CHECK(outcome("GET /metrics HTTP/1.1\r\n\r\n") == "HTTP/1.1 400 Bad Request");
    CHECK(outcome("GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n") ==
          "HTTP/1.1 400 Bad Request");
    CHECK(outcome("GET /metrics HTTP/1.1\nHost: a\n\n") == "HTTP/1.1 400 Bad Request");
    CHECK(outcome("GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n") == "HTTP/1.1 400 Bad Request");
    CHECK(outcome("\x16\x03\x01\r\n\r\n") == "HTTP/1.1 400 Bad Request");
    CHECK(outcome("GET /metrics HTTP/2.0\r\nHost: a\r\n\r\n") ==
          "HTTP/1.1 505 HTTP Version Not Supported");
    std::string many = "GET /metrics HTTP/1.1\r\nHost: a\r\n";
    for (std::size_t i = 0; i <= http::max_head_fields; ++i) many += "X: y\r\n";
    CHECK(outcome(many + "\r\n") == "HTTP/1.1 431 Request Header Fields Too Large");
}

TEST_CASE("a head is read in pieces of any size, up to its limit") {
    const std::string request = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";
    http::scrape_request r;
    for (std::size_t n = 1; n < request.size(); ++n)
        REQUIRE(r.feed(as_bytes(std::string_view(request).substr(0, n))) == state::need_more);
    CHECK(r.feed(as_bytes(request)) == state::metrics);
    const std::string endless = "GET /metrics HTTP/1.1\r\nX: " + std::string(20'000, 'y');
    http::scrape_request long_one;
    CHECK(long_one.feed(as_bytes(std::string_view(endless).substr(0, http::max_head_bytes - 1))) ==
          state::need_more);
    CHECK(long_one.feed(as_bytes(endless)) == state::refused);
    CHECK(long_one.answer().starts_with("HTTP/1.1 431 "));
}

TEST_CASE("responses say what they are, how long, and that they are the last") {
    const std::string good = http::metrics_response("a 1\n");
    CHECK(good ==
          "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
          "Content-Length: 4\r\nConnection: close\r\n\r\na 1\n");
    const std::string bad = http::unavailable_response("a worker does not answer");
    CHECK(bad.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    CHECK(body_of(bad) == "a worker does not answer\n");
}
