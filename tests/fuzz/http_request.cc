// The server's half of the upgrade: requests one after another, whole and in chunks.
#include <string>
#include <vector>

#include "core/http/head.hh"
#include "core/http/upgrade.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin::http;
using burin::as_text;
using fuzz::check;
using decision = server_decision;

constexpr std::time_t now = 1'700'000'000;
constexpr std::string_view version = "9.8.7";

bool fits_a_line(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

// What is promised of every decision.
void inspect(const decision& d, fuzz::bytes_view bytes) {
    check(d.consumed <= bytes.size(), "no more is consumed than there is");
    check(fits_a_line(d.log) && fits_a_line(d.request) && fits_a_line(d.forwarded_for),
          "what goes into the log is escaped");
    if (d.what == decision::kind::need_more) {
        check(bytes.size() < max_head_bytes, "a head has an end");
        check(d.response.empty() && d.consumed == 0,
              "nothing is answered before the head is whole");
        return;
    }
    check(d.consumed > 0, "a decision takes bytes");
    const std::size_t end = d.response.find("\r\n\r\n");
    check(d.response.starts_with("HTTP/1.") && end != std::string::npos, "the answer is HTTP");
    for (std::size_t at = 0; at < end; ++at) {
        const char c = d.response[at];
        check(c == '\r' || c == '\n' || fits_a_line({&c, 1}), "the answer's head is clean");
    }
    check(d.response.size() < 512, "the answer does not grow with what was asked");
    if (d.what == decision::kind::tunnel) {
        check(!d.close && end + 4 == d.response.size(), "a 101 has no body");
        const std::string_view head = as_text(bytes.first(d.consumed));
        check(head.starts_with("GET ") && head.ends_with("\r\n\r\n"), "a tunnel begins with a GET");
        check(head.find("chisel-v3") != std::string_view::npos, "and with chisel's protocol");
        check(head.find('\0') == std::string_view::npos, "and no NUL is in it");
    } else {
        check(d.response.size() == end + 4 + d.body_bytes || d.status.empty(),
              "the body has the length that was told");
    }
}

std::vector<decision> answers(fuzz::bytes_view stream, fuzz::cutter cut) {
    upgrade_server server(version);
    std::vector<decision> out;
    std::size_t begin = 0, end = 0;
    while (end < stream.size()) {
        end += cut.next(stream.size() - end);
        for (;;) {
            // What came since the last request's end, and not a byte more.
            const burin::byte_vector bytes = fuzz::exact(stream.subspan(begin, end - begin));
            decision d = server.feed(bytes, now);
            inspect(d, bytes);
            if (d.what == decision::kind::need_more) break;
            begin += d.consumed;
            const bool last = d.close || d.what == decision::kind::tunnel;
            out.push_back(std::move(d));
            if (last) return out;
            if (begin == end) break;
        }
    }
    return out;
}

// `a` of bytes that came at once, `b` of the same in pieces.
bool same(const decision& a, const decision& b) {
    // What comes with an upgrade came before the 101; what comes later may be frames.
    if (b.what == decision::kind::tunnel && a.close &&
        a.log.ends_with("with bytes behind it, before the 101"))
        return true;
    // Who refuses takes what there is.
    const bool consumed = a.consumed == b.consumed || a.close;
    return a.what == b.what && a.response == b.response && a.log == b.log &&
           a.request == b.request && a.forwarded_for == b.forwarded_for && a.status == b.status &&
           a.close == b.close && a.peer_features == b.peer_features &&
           a.peer_is_burin == b.peer_is_burin && consumed;
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    const std::uint32_t cuts = in.byte();
    const fuzz::bytes_view stream = in.rest();
    const protocol first = detect(stream);
    for (std::size_t size = 1; size < std::min<std::size_t>(stream.size(), 8); ++size) {
        const protocol early = detect(stream.first(size));
        check(early == first || early == protocol::need_more, "what is spoken does not change");
    }
    const std::vector<decision> whole = answers(stream, fuzz::cutter(0));
    const std::vector<decision> cut = answers(stream, fuzz::cutter(cuts));
    check(std::equal(whole.begin(), whole.end(), cut.begin(), cut.end(), same),
          "requests are answered the same in chunks of any size");
}

const fuzz::target registered("http_request", run,
                              "core/http/head.cc core/http/detect.cc core/http/upgrade_server.cc");

}  // namespace
