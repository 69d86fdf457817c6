// What a peer may not say in HTTP, in either role (docs/violations.md): bytes in, what is answered
// and the words for the log. The rules are those of RFC 9110, RFC 9112 and RFC 6455 section 4, and
// where they leave a choice, docs/wire.md section 2.
#include <fmt/format.h>

#include <string>

#include "core/http/head.hh"
#include "core/http/upgrade.hh"
#include "tests/catch.hh"
#include "tests/unit/http/upgrade_lines.hh"

using namespace burin;
using namespace burin::http;

namespace {

constexpr std::string_view key = "dGhlIHNhbXBsZSBub25jZQ==";

// The decision about bytes that come as they are cut here.
server_decision decide(std::string_view stream, std::size_t piece) {
    upgrade_server server("1.11.5");
    for (std::size_t come = 0; come < stream.size();) {
        come = std::min(stream.size(), come + piece);
        server_decision d = server.feed(as_bytes(stream.substr(0, come)));
        if (d.what != server_decision::kind::need_more) return d;
    }
    return {};
}

std::string get(std::string_view fields) {
    return fmt::format("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", fields);
}
std::string upgrade(std::string_view fields) {
    return fmt::format("GET / HTTP/1.1\r\nHost: x\r\n{}{}\r\n", upgrade_lines, fields);
}
std::string changed(std::string text, std::string_view from, std::string_view to) {
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}
std::string fields(unsigned count) {
    std::string out;
    for (unsigned i = 0; i < count; ++i) out += fmt::format("X-{}: y\r\n", i);
    return out;
}

}  // namespace

TEST_CASE("a server names what is wrong with a request, and closes") {
    struct row {
        std::string request;
        std::string_view status, rule;
    };
    const std::string_view lf = "a line that ends in LF alone", folded = "a folded line",
                           cr = "a CR that ends no line", blank = "a blank before a field's colon",
                           control = "a control character in a field",
                           line = "a request line that is none", target = "a target that is none",
                           length = "a Content-Length that is none", large = "a head above 16 KiB";
    const row rows[] = {
        // Lines.
        {"GET / HTTP/1.1\nHost: x\n\n", "400", lf},
        {"GET / HTTP/1.1\r\nHost: x\n\r\n", "400", lf},
        {"GET / HTTP/1.1\r\nHost: x\r\n\n", "400", lf},
        {get("A: b\nContent-Length: 3"), "400", lf},
        {get("A: b\rc"), "400", cr},
        {get("A: b\r\r"), "400", cr},
        {"GET / HTTP/1.1\rHost: x\r\n\r\n", "400", cr},
        {get("A: b\r\n c"), "400", folded},
        {get("A: b\r\n\tc: d"), "400", folded},
        {"GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400", folded},
        {std::string("GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 32), "400", "a NUL"},
        // Fields.
        {get("A : b"), "400", blank},
        {get("Content-Length : 3"), "400", blank},
        {get("Transfer-Encoding\t: chunked"), "400", blank},
        {get("A"), "400", "a field without a colon"},
        {get(": b"), "400", "a field name that is no token"},
        {get("A b: c"), "400", "a field name that is no token"},
        {get("Content-Length\x0b: 3"), "400", "a field name that is no token"},
        {get("\xc3\xa4: b"), "400", "a field name that is no token"},
        {get("A: b\x01"), "400", control},
        {get("A: \x1b[31m"), "400", control},
        {get("A: b\x7f"), "400", control},
        {get(fields(127) + "Z: z"), "431", "more than 128 fields"},
        {get("X: " + std::string(20'000, 'a')), "431", large},
        {"GET /" + std::string(20'000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n", "431", large},
        {std::string(20'000, 'A'), "431", large},
        // Two ways to say where the request ends.
        {get("Content-Length: 3\r\nTransfer-Encoding: chunked"), "400",
         "Content-Length beside Transfer-Encoding"},
        {get("transfer-encoding: chunked\r\nCONTENT-LENGTH: 0"), "400",
         "Content-Length beside Transfer-Encoding"},
        {get("Content-Length: 3\r\nContent-Length: 3"), "400", "more than one Content-Length"},
        {get("Content-Length: 3\r\nA: b\r\ncontent-length: 4"), "400",
         "more than one Content-Length"},
        {get("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"), "400",
         "more than one Transfer-Encoding"},
        {get("Content-Length: 3, 3"), "400", length},
        {get("Content-Length: +3"), "400", length},
        {get("Content-Length: 0x3"), "400", length},
        {get("Content-Length:"), "400", length},
        {get("Content-Length: 99999999999999999999"), "400", length},
        {get("Transfer-Encoding: gzip"), "501", "a Transfer-Encoding other than chunked"},
        {get("Transfer-Encoding: chunked, identity"), "501",
         "a Transfer-Encoding other than chunked"},
        {get("Transfer-Encoding: xchunked"), "501", "a Transfer-Encoding other than chunked"},
        // The request line and its target.
        {"GET  / HTTP/1.1\r\nHost: x\r\n\r\n", "400", line},
        {"GET / HTTP/1.1 \r\nHost: x\r\n\r\n", "400", line},
        {"GET /\r\nHost: x\r\n\r\n", "400", line},
        {"GET / http/1.1\r\nHost: x\r\n\r\n", "400", line},
        {"G\x01T / HTTP/1.1\r\nHost: x\r\n\r\n", "400", line},
        {"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", "400", line},
        {"GET / HTTP/1.11\r\nHost: x\r\n\r\n", "400", line},
        {"GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505", "neither HTTP/1.0 nor HTTP/1.1"},
        {"PRI * HTTP/2.0\r\n\r\n", "505", "neither HTTP/1.0 nor HTTP/1.1"},
        {"GET health HTTP/1.1\r\nHost: x\r\n\r\n", "400", target},
        {"CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", "400", target},
        {"GET ://x/ HTTP/1.1\r\nHost: x\r\n\r\n", "400", target},
        {"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", "400", target},
        {"GET /% HTTP/1.1\r\nHost: x\r\n\r\n", "400", target},
        {"GET / HTTP/1.1\r\n\r\n", "400", "no Host"},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400", "more than one Host"},
        {"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400", "a Host that is none"},
        {"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400", "a Host that is none"},
        // No HTTP.
        {"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "400", "neither HTTP nor SSH"},
        {"\xff\xfe", "400", "neither HTTP nor SSH"},
    };
    for (const row& r : rows) {
        CAPTURE(r.request.substr(0, 100));
        for (const std::size_t piece : {r.request.size(), std::size_t{1}}) {
            const server_decision d = decide(r.request, piece);
            CHECK(d.what == server_decision::kind::respond);
            CHECK(d.response.starts_with(fmt::format("HTTP/1.1 {} ", r.status)));
            CHECK(d.response.find("\r\nConnection: close\r\n") != std::string::npos);
            CHECK(d.log == fmt::format("refused an HTTP request ({}): {}", r.status, r.rule));
            CHECK(d.close);
        }
        // And nothing of it is left to be read as another.
        CHECK(decide(r.request, r.request.size()).consumed == r.request.size());
    }
}

TEST_CASE("a server takes what RFC 9112 allows") {
    for (const std::string& request :
         {get("A:b"), get("A:\t b \t"), get("A:"), get("A: \xc3\xa4\xff"),
          get(fields(126) + "Z: z"), get("Content-Length: 0"), get("Content-Length: 000"),
          std::string("GET http://x/health HTTP/1.1\r\nHost: y\r\n\r\n"),
          std::string("GET http://x HTTP/1.1\r\nHost: y\r\n\r\n"),
          std::string("OPTIONS * HTTP/1.1\r\nHost: y\r\n\r\n"),
          std::string("GET / HTTP/1.1\r\nHost:\r\n\r\n"),
          std::string("GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]:80\r\n\r\n"),
          std::string("M-SEARCH / HTTP/1.1\r\nHost: x\r\n\r\n"),
          std::string("GET / HTTP/1.0\r\n\r\n")}) {
        CAPTURE(request);
        for (const std::size_t piece : {request.size(), std::size_t{1}}) {
            const server_decision d = decide(request, piece);
            CHECK(d.what == server_decision::kind::respond);
            CHECK(d.consumed == request.size());
            CHECK(d.log.empty());
        }
    }
}

TEST_CASE("a server names what is wrong with an upgrade") {
    struct row {
        std::string request;
        std::string_view status, rule;
    };
    const std::string good = upgrade("");
    const std::string_view key_rule = "Sec-WebSocket-Key is not base64 of 16 bytes",
                           one_key = "not one Sec-WebSocket-Key",
                           version = "Sec-WebSocket-Version is not 13", body = "with a body",
                           connection = "no 'upgrade' in Connection";
    const row rows[] = {
        {changed(good, "Connection: Upgrade", "Connection: close"), "400", connection},
        {changed(good, "Connection: Upgrade", "Connection: keep-alive"), "400", connection},
        {changed(good, "Connection: Upgrade", "Connection: xupgrade"), "400", connection},
        {changed(good, "Connection: Upgrade\r\n", ""), "400", connection},
        {changed(good, "GET", "POST"), "405", "not by GET"},
        {changed(good, "GET", "get"), "405", "not by GET"},
        {changed(good, "HTTP/1.1", "HTTP/1.0"), "400", "by HTTP/1.0"},
        {changed(good, "Version: 13", "Version: 8"), "400", version},
        {changed(good, "Version: 13", "Version: 013"), "400", version},
        {changed(good, "Sec-WebSocket-Version: 13\r\n", ""), "400", version},
        {changed(good, key, "c2hvcnQ="), "400", key_rule},
        {changed(good, key, "dGhlIHNhbXBsZSBub25jZQ"), "400", key_rule},
        {changed(good, key, "dGhlIHNhbXBsZSBub25jZTE="), "400", key_rule},
        {changed(good, key, ""), "400", key_rule},
        {changed(good, fmt::format("Sec-WebSocket-Key: {}\r\n", key), ""), "400", one_key},
        {upgrade(fmt::format("Sec-WebSocket-Key: {}\r\n", key)), "400", one_key},
        {upgrade("Content-Length: 5\r\n"), "400", body},
        {upgrade("Transfer-Encoding: chunked\r\n"), "400", body},
    };
    for (const row& r : rows) {
        CAPTURE(r.request);
        for (const std::size_t piece : {r.request.size(), std::size_t{1}}) {
            const server_decision d = decide(r.request, piece);
            CHECK(d.what == server_decision::kind::respond);
            CHECK(d.response.find(fmt::format(" {} ", r.status)) == 8);
            CHECK(d.log == fmt::format("refused an upgrade ({}): {}", r.status, r.rule));
            CHECK(d.close);
            if (d.response.starts_with("HTTP/1.1"))
                CHECK(d.response.find("\r\nConnection: close\r\n") != std::string::npos);
            CHECK(d.consumed == r.request.size());
        }
    }
    CHECK(decide(upgrade("Content-Length: 0\r\n"), 1000).what == server_decision::kind::tunnel);
}

TEST_CASE("bytes behind an upgrade, before its 101, become no frames") {
    const std::string good = upgrade("");
    for (const std::string& behind : {std::string("\x82\x80\0\0\0\0", 6), std::string("x"),
                                      std::string("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")}) {
        CAPTURE(behind);
        const server_decision d = decide(good + behind, good.size() + behind.size());
        CHECK(d.what == server_decision::kind::respond);
        CHECK(d.response.starts_with("HTTP/1.1 400 "));
        CHECK(d.response.find("\r\nConnection: close\r\n") != std::string::npos);
        CHECK(d.log == "refused an upgrade (400): with bytes behind it, before the 101");
        CHECK(d.close);
    }
    // Nor is what stands behind a wrong upgrade a request, whether it comes with it or later.
    const std::string wrong = changed(good, "Version: 13", "Version: 8");
    for (const std::size_t piece : {wrong.size() + 10, wrong.size(), std::size_t{1}}) {
        const server_decision d = decide(wrong + get("A: b"), piece);
        CHECK(d.log == "refused an upgrade (400): Sec-WebSocket-Version is not 13");
        CHECK(d.close);
    }
}

TEST_CASE("a peer's bytes stay within their log line") {
    const server_decision d =
        decide(changed(upgrade(""), "chisel-v3", "a\tb\xe2\x80\xae\\"), 10'000);
    CHECK(d.log ==
          "ignored client connection using protocol 'a\\x09b\\xe2\\x80\\xae\\\\', expected "
          "'chisel-v3'");
    CHECK(parse_answer(as_bytes("HTTP/1.1 302 Found\r\nLocation: \x1b\r\n\r\n"), key).error ==
          "websocket: bad handshake (malformed HTTP response: a control character in a field)");
    CHECK(
        parse_answer(as_bytes("HTTP/1.1 302 Found\r\nLocation: \xe2\x80\xae\r\n\r\n"), key).error ==
        "websocket: bad handshake (status 302, which sends us to \\xe2\\x80\\xae: not followed)");
}

TEST_CASE("a client names what is wrong with an answer") {
    const std::string good =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    auto with = [&](std::string_view fields) {
        return changed(good, "Upgrade: websocket\r\n",
                       fmt::format("Upgrade: websocket\r\n{}\r\n", fields));
    };
    struct row {
        std::string answer, rule;
    };
    const std::string malformed = "malformed HTTP response: ",
                      accept = "wrong Sec-WebSocket-Accept", large = "response head above 16 KiB",
                      body = "a 101 with a body";
    const row rows[] = {
        {changed(good, "101 Switching Protocols", "200 OK"), "status 200"},
        {"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot found", "status 404"},
        {"HTTP/1.1 502 Bad Gateway\r\nTransfer-Encoding: gzip\r\n\r\n", "status 502"},
        {"HTTP/1.1 301 Moved\r\nLocation: https://elsewhere/\r\n\r\n",
         "status 301, which sends us to https://elsewhere/: not followed"},
        {"HTTP/1.1 304 Not Modified\r\n\r\n", "status 304"},
        {changed(good, "Upgrade: websocket", "Upgrade: h2c"), "no 'websocket' in Upgrade"},
        {changed(good, "Upgrade: websocket\r\n", ""), "no 'websocket' in Upgrade"},
        {changed(good, "Connection: Upgrade", "Connection: close"), "no 'upgrade' in Connection"},
        {changed(good, "xOo=", "xOp="), accept},
        {changed(good, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "S3PPLMBITXAQ9KYGZZHZRBK+XOO="), accept},
        {changed(good, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ""), accept},
        {changed(good, "Sec-WebSocket-Accept", "X"), accept},
        {with("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), accept},
        {with("Sec-WebSocket-Extensions: permessage-deflate"),
         "an extension that was not asked for: permessage-deflate"},
        {with("Sec-WebSocket-Protocol: chisel-v2"), "protocol 'chisel-v2' instead of 'chisel-v3'"},
        {with("Sec-WebSocket-Protocol: chisel-v3, x"),
         "protocol 'chisel-v3, x' instead of 'chisel-v3'"},
        {with("Content-Length: 5"), body},
        {with("Transfer-Encoding: chunked"), body},
        {with("Transfer-Encoding: gzip"), body},
        {with("Content-Length: 5\r\nTransfer-Encoding: chunked"),
         malformed + "Content-Length beside Transfer-Encoding"},
        {with("Content-Length: 5\r\nContent-Length: 5"),
         malformed + "more than one Content-Length"},
        {with("A: b\nC: d"), malformed + "a line that ends in LF alone"},
        {with("A: b\rC: d"), malformed + "a CR that ends no line"},
        {with("A: b\r\n folded"), malformed + "a folded line"},
        {with("A : b"), malformed + "a blank before a field's colon"},
        {with("A: \x01"), malformed + "a control character in a field"},
        {with("A"), malformed + "a field without a colon"},
        {with(fields(130) + "Z: z"), malformed + "more than 128 fields"},
        {with("A: " + std::string(max_head_bytes, 'a')), large},
        {std::string(max_head_bytes, 'a'), large},
        {changed(good, "HTTP/1.1 101", "HTTP/2.0 101"),
         malformed + "neither HTTP/1.0 nor HTTP/1.1"},
        {"HTTP/1.1 1x1 Switching\r\n\r\n", malformed + "a status line that is none"},
        {"HTTP/1.1\r\n\r\n", malformed + "a status line that is none"},
        {"SSH-2.0-OpenSSH_9.2p1\r\n\r\n", malformed + "a status line that is none"},
        {"SSH-chisel-v3-server\n", malformed + "a line that ends in LF alone"},
        // Other 1xx change nothing of it.
        {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 Forbidden\r\n\r\n", "status 403"},
        {"HTTP/1.1 103 Early Hints\r\nA\r\n\r\n" + good, malformed + "a field without a colon"},
    };
    for (const row& r : rows) {
        CAPTURE(r.answer.substr(0, 200));
        const client_answer a = parse_answer(as_bytes(r.answer), key);
        CHECK(a.what == client_answer::kind::refused);
        CHECK(a.error == fmt::format("websocket: bad handshake ({})", r.rule));
        // However it is cut, the same or nothing yet, and never the tunnel.
        for (std::size_t n = 0; n < std::min<std::size_t>(r.answer.size(), 400); ++n)
            REQUIRE(parse_answer(as_bytes(std::string_view(r.answer).substr(0, n)), key).what !=
                    client_answer::kind::tunnel);
    }
}

TEST_CASE("a client passes over other 1xx, and keeps what is behind the 101") {
    const std::string good =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nContent-Length: 0\r\n\r\n";
    const std::string heads =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + good;
    const std::string stream = heads + "\x82\x05SSH-2";
    for (std::size_t n = 0; n < heads.size(); ++n)
        REQUIRE(parse_answer(as_bytes(std::string_view(stream).substr(0, n)), key).what ==
                client_answer::kind::need_more);
    const client_answer a = parse_answer(as_bytes(stream), key);
    CHECK(a.what == client_answer::kind::tunnel);
    CHECK(a.consumed == heads.size());
    // But not for ever.
    std::string endless;
    while (endless.size() < max_head_bytes) endless += "HTTP/1.1 100 Continue\r\n\r\n";
    const client_answer refused = parse_answer(as_bytes(endless + good), key);
    CHECK(refused.error == "websocket: bad handshake (response head above 16 KiB)");
}
