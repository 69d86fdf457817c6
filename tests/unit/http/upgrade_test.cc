// The upgrade, both halves. The answers are those that a Go server (net/http, gorilla/websocket)
// gave to the same bytes, the requests those that a Go client sent.
#include "core/http/upgrade.hh"

#include <fmt/format.h>

#include <array>
#include <string>

#include "tests/catch.hh"
#include "tests/unit/http/upgrade_lines.hh"

using namespace burin;
using namespace burin::http;
using kind = server_decision::kind;

namespace {

constexpr std::time_t when = 1795401331;  // Mon, 23 Nov 2026 02:35:31 GMT
constexpr std::string_view date = "Date: Mon, 23 Nov 2026 02:35:31 GMT\r\n";
constexpr std::string_view plain = "Content-Type: text/plain; charset=utf-8\r\n";

server_decision decide(std::string_view request) {
    upgrade_server server("1.11.5");
    return server.feed(as_bytes(request), when);
}

std::string refusal(std::string_view status, std::string_view body) {
    return fmt::format("HTTP/1.1 {}\r\n{}Connection: close\r\n\r\n{}", status, plain, body);
}
std::string refusal(std::string_view status) {
    return refusal(status, status);
}

std::string upgrade_request_with(std::string_view from, std::string_view to) {
    std::string lines(upgrade_lines);
    auto at = lines.find(from);
    REQUIRE(at != std::string::npos);
    lines.replace(at, from.size(), to);
    return fmt::format("GET /any/path?x HTTP/1.1\r\nHost: x\r\n{}\r\n", lines);
}

std::array<std::byte, 16> nonce() {
    std::array<std::byte, 16> out;
    std::string_view text = "the sample nonce";
    for (std::size_t i = 0; i < 16; ++i) out[i] = std::byte(text[i]);
    return out;
}

}  // namespace

TEST_CASE("first bytes tell what is spoken") {
    struct row {
        std::string_view bytes;
        protocol spoken;
    };
    const row rows[] = {
        {"", protocol::need_more},
        {"S", protocol::need_more},
        {"SSH", protocol::need_more},
        {"SSH-", protocol::ssh},
        {"SSH-2.0-x", protocol::ssh},
        {"SEARCH / HTTP/1.1", protocol::http},
        {"SS", protocol::need_more},
        {"SSX", protocol::http},
        {"\x16", protocol::need_more},
        {"\x16\x03", protocol::tls},
        {"\x16\x03\x01", protocol::tls},
        {"\x16\x02", protocol::unknown},
        {"G", protocol::http},
        {"get /", protocol::http},
        {"\r\n", protocol::unknown},
        {"0", protocol::unknown},
        {{"\0\0", 2}, protocol::unknown},
        {"\xff", protocol::unknown},
    };
    for (const row& r : rows) {
        CAPTURE(r.bytes);
        CHECK(detect(as_bytes(r.bytes)) == r.spoken);
    }
}

TEST_CASE("plain requests are answered as Go answers them") {
    auto body = [](std::string_view version, std::string_view status, std::string_view text,
                   std::string_view connection = "", bool head = false) {
        return fmt::format("HTTP/{} {}\r\n{}Content-Length: {}\r\n{}{}\r\n{}", version, status,
                           date, text.size(), plain, connection, head ? "" : text);
    };
    struct row {
        std::string_view request;
        std::string response;
        bool close;
    };
    const row rows[] = {
        {"GET /health HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "200 OK", "OK\n"), false},
        {"GET /health?a=b HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "200 OK", "OK\n"), false},
        {"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "200 OK", "OK\n"), false},
        {"GET http://h/%68ealth HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "200 OK", "OK\n"), false},
        {"GET /healthy HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "404 Not Found", "Not found"),
         false},
        {"GET /health/ HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "404 Not Found", "Not found"),
         false},
        {"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "200 OK", "1.11.5"), false},
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "404 Not Found", "Not found"), false},
        {"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "200 OK", "OK\n", "", true),
         false},
        {"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", body("1.1", "404 Not Found", "Not found", "", true),
         false},
        {"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
         body("1.1", "200 OK", "OK\n", "Connection: close\r\n"), true},
        {"GET /health HTTP/1.0\r\n\r\n", body("1.0", "200 OK", "OK\n"), true},
        {"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
         body("1.0", "200 OK", "OK\n", "Connection: keep-alive\r\n"), false},
        // Go reads the body and goes on; here nothing behind it is trusted to be a request.
        {"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n",
         body("1.1", "200 OK", "1.11.5", "Connection: close\r\n"), true},
        {"POST /version HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
         body("1.1", "200 OK", "1.11.5", "Connection: close\r\n"), true},
        {"POST /version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
         body("1.1", "200 OK", "1.11.5"), false},
    };
    for (const row& r : rows) {
        CAPTURE(r.request);
        server_decision d = decide(r.request);
        CHECK(d.what == kind::respond);
        CHECK(d.response == r.response);
        CHECK(d.close == r.close);
        CHECK(d.consumed == r.request.size());
        CHECK(d.log.empty());
    }
}

TEST_CASE("what is not HTTP, or could be read in two ways, is refused and closed") {
    const std::string bad = refusal("400 Bad Request");
    struct row {
        std::string request;
        std::string response;
    };
    const std::string_view tail = "Host: x\r\n";
    auto get = [tail](std::string_view line) {
        return fmt::format("GET / HTTP/1.1\r\n{}{}\r\n\r\n", tail, line);
    };
    const row rows[] = {
        {"GET / HTTP/1.1\r\n\r\n", refusal("400 Bad Request: missing required Host header")},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", bad},
        {"blah blah\r\n\r\n", bad},
        {"GET health HTTP/1.1\r\nHost: x\r\n\r\n", bad},
        {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", bad},
        {"GET /\r\n\r\n", bad},
        {"\x01\x02\x03", bad},
        {"\r\n", bad},
        {get("Foo : x"), bad},
        {get(": x"), bad},
        {get("Foo"), bad},
        {get("Foo: a\rb"), bad},
        {get("A: b\r\n folded"), bad},
        {get("A: b\r\n\tfolded"), bad},
        {get("Content-Length: 3\r\nContent-Length: 3"), bad},
        {get("Content-Length: 3\r\nTransfer-Encoding: chunked"), bad},
        {get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), bad},
        {get("Content-Length: +3"), bad},
        {get("Content-Length: 3, 3"), bad},
        {get("Content-Length: 99999999999999999999"), bad},
        {"GET / HTTP/1.1\nHost: x\n\n", bad},
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", bad},
        {std::string("GET / HTTP/1.1\r\nHost: x\0\r\n\r\n", 28), bad},
        {get("Transfer-Encoding: gzip"),
         refusal("501 Not Implemented", "Unsupported transfer encoding")},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
         refusal("505 HTTP Version Not Supported: unsupported protocol version")},
        {get("X: " + std::string(20'000, 'a')), refusal("431 Request Header Fields Too Large")},
    };
    for (const row& r : rows) {
        CAPTURE(r.request.substr(0, 100));
        server_decision d = decide(r.request);
        CHECK(d.what == kind::respond);
        CHECK(d.response == r.response);
        CHECK(d.close);
        CHECK(d.consumed == r.request.size());
    }
}

TEST_CASE("a head is read in any pieces, and one byte too many is refused") {
    std::string request = fmt::format("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", upgrade_lines);
    upgrade_server server;
    for (std::size_t n = 0; n < request.size(); ++n) {
        REQUIRE(server.feed(as_bytes(std::string_view(request).substr(0, n)), when).what ==
                kind::need_more);
    }
    server_decision d = server.feed(as_bytes(request), when);
    CHECK(d.what == kind::tunnel);
    CHECK(d.consumed == request.size());

    auto sized = [](std::size_t size) {
        std::string start = "GET / HTTP/1.1\r\nHost: x\r\nX: ";
        return start + std::string(size - start.size() - 4, 'a') + "\r\n\r\n";
    };
    CHECK(decide(sized(max_head_bytes)).response.starts_with("HTTP/1.1 404"));
    CHECK(decide(sized(max_head_bytes + 1)).response.starts_with("HTTP/1.1 431"));
    CHECK(decide(sized(max_head_bytes).substr(0, max_head_bytes - 1)).what == kind::need_more);
}

TEST_CASE("requests follow one another on a connection") {
    std::string two =
        "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    upgrade_server server("7");
    server_decision first = server.feed(as_bytes(two), when);
    CHECK(first.response.ends_with("\r\n\r\nOK\n"));
    CHECK_FALSE(first.close);
    server_decision second =
        server.feed(as_bytes(std::string_view(two).substr(first.consumed)), when);
    CHECK(second.response.ends_with("\r\n\r\n7"));
    CHECK(first.consumed + second.consumed == two.size());
}

TEST_CASE("an exact chisel-v3 request becomes a tunnel") {
    server_decision d =
        decide(fmt::format("GET /any?x HTTP/1.1\r\nHost: y\r\n{}\r\n", upgrade_lines));
    CHECK(d.what == kind::tunnel);
    CHECK(d.response ==
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    CHECK_FALSE(d.peer_is_burin);
    CHECK_FALSE(d.close);
    for (auto [from, to] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
             {"Upgrade: websocket", "Upgrade: WebSocket"},
             {"Connection: Upgrade", "Connection: keep-alive, upgrade"},
             {"Connection: Upgrade", "Connection: close\r\nConnection: UPGRADE"},
             {"Sec-WebSocket-Protocol: chisel-v3",
              "sec-websocket-protocol: chisel-v3\r\nSec-WebSocket-Protocol: foo"},
             {"Sec-WebSocket-Version",
              "Sec-WebSocket-Extensions: permessage-deflate\r\n"
              "Origin: http://elsewhere\r\nSec-WebSocket-Version"}}) {
        CAPTURE(to);
        CHECK(decide(upgrade_request_with(from, to)).what == kind::tunnel);
    }
}

TEST_CASE("other sub-protocols are no tunnels and are told") {
    struct row {
        std::string_view protocol, logged;
    };
    for (const row& r : {row{"chisel-v3, x", "chisel-v3, x"}, row{"chisel-v2", "chisel-v2"},
                         row{"foo\r\nSec-WebSocket-Protocol: chisel-v3", "foo"},
                         row{"CHISEL-V3", "CHISEL-V3"}, row{"\xe2\x80\xae", "\\xe2\\x80\\xae"}}) {
        CAPTURE(r.protocol);
        server_decision d = decide(upgrade_request_with("chisel-v3", r.protocol));
        CHECK(d.what == kind::respond);
        CHECK(d.response.starts_with("HTTP/1.1 404 Not Found\r\n"));
        CHECK(d.log ==
              fmt::format("ignored client connection using protocol '{}', expected 'chisel-v3'",
                          r.logged));
    }
    server_decision none =
        decide(upgrade_request_with("Sec-WebSocket-Protocol: chisel-v3\r\n", ""));
    CHECK(none.log == "ignored client connection using protocol '', expected 'chisel-v3'");
    server_decision h2c = decide(upgrade_request_with("websocket", "h2c"));
    CHECK(h2c.log.empty());
    CHECK(h2c.response.starts_with("HTTP/1.1 404"));
}

TEST_CASE("a wrong upgrade gets 400 or 405") {
    auto answer = [](std::string_view status, std::string_view text) {
        return fmt::format(
            "HTTP/1.1 {}\r\n{}Sec-Websocket-Version: 13\r\nX-Content-Type-Options: nosniff\r\n{}"
            "Content-Length: {}\r\nConnection: close\r\n\r\n{}",
            status, plain, date, text.size(), text);
    };
    std::string bad = answer("400 Bad Request", "Bad Request\n");
    std::string method = answer("405 Method Not Allowed", "Method Not Allowed\n");
    for (auto [from, to] : std::initializer_list<std::pair<std::string_view, std::string_view>>{
             {"Connection: Upgrade", "Connection: keep-alive"},
             {"Connection: Upgrade", "Connection: Upgraded"},
             {"Connection: Upgrade\r\n", ""},
             {"Version: 13", "Version: 12"},
             {"Sec-WebSocket-Version: 13\r\n", ""},
             {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ"},
             {"dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="},
             {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"},      // 15 octets
             {"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZTE="},  // 17
             {"dGhlIHNhbXBsZSBub25jZQ==", "*"},
             {"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""}}) {
        CAPTURE(from, to);
        server_decision d = decide(upgrade_request_with(from, to));
        CHECK(d.response == bad);
        CHECK(d.close);
    }
    std::string post = upgrade_request_with("Version: 13", "Version: 13").replace(0, 3, "POST");
    CHECK(decide(post).response == method);
    CHECK(decide(upgrade_request_with("Version: 13", "Version: 13\r\nContent-Length: 5"))
              .response.starts_with("HTTP/1.1 400"));
}

TEST_CASE("ends of ours name their features, unknown ones are ignored") {
    server_decision d = decide(upgrade_request_with(
        "Upgrade: websocket", "Burin-Features: time-travel, batch\r\nUpgrade: websocket"));
    CHECK(d.what == kind::tunnel);
    CHECK(d.peer_is_burin);
    CHECK(d.peer_features.has(feature::batch));
    CHECK_FALSE(d.peer_features.has(feature::cancel));
    CHECK(d.response.ends_with(
        "xOo=\r\nBurin-Features: batch, cancel-open, echo, unreachable, early-data\r\n\r\n"));
    client_answer a = parse_answer(as_bytes(d.response), "dGhlIHNhbXBsZSBub25jZQ==");
    CHECK(a.what == client_answer::kind::tunnel);
    CHECK(a.peer_is_burin);
    CHECK(a.peer_features.has(feature::batch));
    CHECK(a.peer_features.has(feature::cancel));
    server_decision empty =
        decide(upgrade_request_with("Upgrade: websocket", "Burin-Features:\r\nUpgrade: websocket"));
    CHECK(empty.peer_is_burin);
    CHECK_FALSE(empty.peer_features.has(feature::batch));
    CHECK(feature_set::parse("batch").text() == "batch");
    // A server leaves out what it may not do.
    upgrade_server silent("1.0", feature_set::all().without(feature::echo));
    const std::string both = upgrade_request_with(
        "Upgrade: websocket", "Burin-Features: batch, echo\r\nUpgrade: websocket");
    server_decision less = silent.feed(as_bytes(both));
    CHECK(less.peer_features.has(feature::echo));
    CHECK(less.response.ends_with(
        "xOo=\r\nBurin-Features: batch, cancel-open, unreachable, early-data\r\n\r\n"));
    CHECK(feature_set::parse("echo , cancel-open,unreachable,early-data,batch") ==
          feature_set::all());
    CHECK(feature_set::parse("x,y , ,batch ,").text() == "batch");
    CHECK(feature_set::parse("cancel-open,batch").text() == "batch, cancel-open");
    CHECK(feature_set::parse("Batch").text() == "");
    CHECK((feature_set::all() & feature_set{}) == feature_set{});
}

// ---- client ----

TEST_CASE("server URLs follow Go's rules") {
    struct row {
        std::string_view url, host;
        unsigned port;
        std::string_view authority, target, text;
    };
    const row rows[] = {
        {"example.com", "example.com", 80, "example.com:80", "/", "ws://example.com:80"},
        {"http://example.com", "example.com", 80, "example.com:80", "/", "ws://example.com:80"},
        {"https://example.com", "example.com", 443, "example.com:443", "/",
         "wss://example.com:443"},
        {"example.com:8080/", "example.com", 8080, "example.com:8080", "/",
         "ws://example.com:8080/"},
        {"127.0.0.1:19081/some/path?q=1", "127.0.0.1", 19081, "127.0.0.1:19081", "/some/path?q=1",
         "ws://127.0.0.1:19081/some/path?q=1"},
        {"http://h?q=1", "h", 80, "h:80", "/?q=1", "ws://h:80?q=1"},
        {"http://h/a b/%41?x=%20#frag", "h", 80, "h:80", "/a%20b/A?x=%20",
         "ws://h:80/a%20b/A?x=%20"},
        {"http://h/a%2fb/[x]", "h", 80, "h:80", "/a%2fb/[x]", "ws://h:80/a%2fb/[x]"},
        {"http://h/a%2fb\"<>[]^`{|}\\", "h", 80, "h:80", "/a/b%22%3C%3E%5B%5D%5E%60%7B%7C%7D%5C",
         "ws://h:80/a/b%22%3C%3E%5B%5D%5E%60%7B%7C%7D%5C"},
        {"http://h/\xc3\xa9", "h", 80, "h:80", "/%C3%A9", "ws://h:80/%C3%A9"},
        {"[::1]:9", "::1", 9, "[::1]:9", "/", "ws://[::1]:9"},
        {"[::1]", "::1", 80, "[::1]:80", "/", "ws://[::1]:80"},
        {"http://[fe80::1%25eth0]:1/", "fe80::1%eth0", 1, "[fe80::1]:1", "/",
         "ws://[fe80::1%25eth0]:1/"},
        {"httpbin.org", "httpbin.org", 80, "httpbin.org:80", "/", "ws://httpbin.org:80"},
    };
    for (const row& r : rows) {
        CAPTURE(r.url);
        server_url u = parse_url(r.url);
        CHECK(u.error.empty());
        CHECK(u.host == r.host);
        CHECK(u.port == r.port);
        CHECK(u.authority == r.authority);
        CHECK(u.target == r.target);
        CHECK(u.text == r.text);
        CHECK(u.tls == r.text.starts_with("wss"));
    }
    for (std::string_view bad : {"", "http://", "ws://h", "wss://h", "ftp://h", "http://u:p@h/",
                                 "u@h", "h:0", "h:65536", "h:x", "h:-1", "http://::1:80", "h/%zz",
                                 "h/%4", "h\n", "a b", "h\x7f", "[::1", "[]:80"}) {
        CAPTURE(bad);
        CHECK_FALSE(parse_url(bad).error.empty());
    }
    CHECK(parse_url("http://u:p@h/").error.starts_with("malformed ws or wss URL"));
}

TEST_CASE("the request equals Go's but for the key and our header") {
    server_url url = parse_url("http://127.0.0.1:19081/some/path?q=1");
    upgrade_request plain_request = build_request(url, {}, nonce());
    CHECK(plain_request.key == "dGhlIHNhbXBsZSBub25jZQ==");
    CHECK(plain_request.bytes ==
          "GET /some/path?q=1 HTTP/1.1\r\nHost: 127.0.0.1:19081\r\n"
          "User-Agent: Go-http-client/1.1\r\nBurin-Features: batch, cancel-open, echo, "
          "unreachable, early-data\r\nConnection: "
          "Upgrade\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chisel-v3\r\n"
          "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n\r\n");

    header_list headers;
    for (std::string_view line :
         {"foo: first", "aaa:1", "user-agent: me", "zed: a\nb", "host: h.example",
          "Sec-Websocket-Foo: 1", "uq:", "FOO:  bar ", "content-length: 5"})
        CHECK(headers.add(line).empty());
    CHECK(build_request(url, headers, nonce()).bytes ==
          "GET /some/path?q=1 HTTP/1.1\r\nHost: h.example\r\nUser-Agent: me\r\nAaa: 1\r\n"
          "Burin-Features: batch, cancel-open, echo, unreachable, early-data\r\nConnection: "
          "Upgrade\r\nFoo: "
          "bar\r\n"
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: chisel-v3\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-Websocket-Foo: 1\r\nUpgrade: websocket\r\nUq: \r\n"
          "Zed: a b\r\n\r\n");
    headers.set("Host", "other");
    headers.set("User-Agent", "");
    std::string bytes = build_request(url, headers, nonce()).bytes;
    CHECK(bytes.find("Host: other\r\n") != std::string::npos);
    CHECK(bytes.find("User-Agent") == std::string::npos);

    for (std::string_view name :
         {"upgrade", "Connection", "sec-websocket-key", "Sec-WebSocket-Version",
          "SEC-WEBSOCKET-EXTENSIONS", "Sec-WebSocket-Protocol", "burin-features"}) {
        CAPTURE(name);
        header_list forbidden;
        CHECK(forbidden.add(fmt::format("{}: x", name)).empty());
        upgrade_request refused = build_request(url, forbidden, nonce());
        CHECK(refused.error.starts_with("websocket: duplicate header not allowed: "));
        CHECK(refused.bytes.empty());
    }
    header_list keys;
    CHECK(keys.add("sec-websocket-key: x").empty());
    CHECK(build_request(url, keys, nonce()).error ==
          "websocket: duplicate header not allowed: Sec-Websocket-Key");
    CHECK(keys.add("no colon") ==
          "Invalid header (no colon). Should be in the format \"HeaderName: HeaderContent\"");
    CHECK_FALSE(keys.add("Bad Name: x").empty());
    CHECK_FALSE(keys.add("X: a\x01").empty());
    CHECK_FALSE(keys.add(": x").empty());
}

TEST_CASE("only the right 101 opens the tunnel") {
    const std::string_view key = "dGhlIHNhbXBsZSBub25jZQ==";
    const std::string good =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    CHECK(accept_value(key) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    std::string stream = good + "\x82\x05SSH-2";
    for (std::size_t n = 0; n < good.size(); ++n)
        REQUIRE(parse_answer(as_bytes(std::string_view(stream).substr(0, n)), key).what ==
                client_answer::kind::need_more);
    client_answer a = parse_answer(as_bytes(stream), key);
    CHECK(a.what == client_answer::kind::tunnel);
    CHECK(a.consumed == good.size());
    CHECK_FALSE(a.peer_is_burin);

    auto with = [&](std::string_view from, std::string_view to) {
        std::string changed = good;
        changed.replace(changed.find(from), from.size(), to);
        return changed;
    };
    for (const std::string& bad :
         {with("101 Switching Protocols", "200 OK"), with("101", "404"), with("websocket", "h2c"),
          with("Connection: Upgrade", "Connection: close"), with("xOo=", "xOp="),
          with("Upgrade: websocket\r\n", ""), std::string("SSH-2.0-OpenSSH\r\n\r\n"),
          std::string("garbage\n"), std::string(max_head_bytes, 'a')}) {
        CAPTURE(bad.substr(0, 60));
        client_answer refused = parse_answer(as_bytes(bad), key);
        CHECK(refused.what == client_answer::kind::refused);
        CHECK(refused.error.starts_with("websocket: bad handshake"));
    }
    CHECK(parse_answer(as_bytes(with("websocket", "foo, WebSocket")), key).what ==
          client_answer::kind::tunnel);
    CHECK(parse_answer(as_bytes(with("Upgrade: websocket",
                                     "Upgrade: websocket\r\n"
                                     "Sec-WebSocket-Protocol: chisel-v3")),
                       key)
              .what == client_answer::kind::tunnel);
}
