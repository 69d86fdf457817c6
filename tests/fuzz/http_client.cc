// The client's half of the upgrade: URLs and headers that a person gives, the GET that is made of
// them and how our own server reads it, and what any server may answer.
#include <string>

#include "core/http/head.hh"
#include "core/http/upgrade.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin::http;
using burin::as_bytes;
using burin::as_text;
using fuzz::check;

constexpr std::byte nonce[16] = {std::byte{1}, std::byte{2}, std::byte{3}};

bool fits_a_line(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

// One line of the script up to its newline.
std::string_view line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    const std::string_view out = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    return out;
}

void ask(std::string_view text) {
    const server_url url = parse_url(line(text));
    if (!url.error.empty()) {
        check(fits_a_line(url.error), "why a URL is no good fits a line");
        return;
    }
    check(
        !url.host.empty() && url.port != 0 && url.target.starts_with('/') == (url.target[0] == '/'),
        "a URL has a host, a port and a target");
    check(url.authority.find_first_of("\r\n /?#@") == std::string::npos,
          "the Host header is clean");
    check(url.target.find_first_of("\r\n ") == std::string::npos, "the target is one word");
    header_list headers;
    while (!text.empty()) {
        const std::string error = headers.add(line(text));
        check(error.empty() || fits_a_line(error), "why a header is no good fits a line");
    }
    for (const header_list::entry& h : headers.entries()) {
        check(is_token(h.name), "a header's name is a token");
        check(h.value.find_first_of(std::string_view("\r\n\0", 3)) == std::string::npos,
              "a header's value is one line");
        check(headers.find(h.name) == &h.value, "a name has one value");
    }
    const upgrade_request request = build_request(url, headers, nonce);
    if (!request.error.empty()) return;
    upgrade_server server;
    const server_decision d = server.feed(as_bytes(request.bytes), 0);
    if (request.bytes.size() > max_head_bytes) return;
    // A Host of the user's own may be none.
    if (headers.find("Host") != nullptr) return;
    check(d.what == server_decision::kind::tunnel, "our server takes our client's request");
    check(d.consumed == request.bytes.size() && d.peer_is_burin, "all of it");
    const client_answer answer = parse_answer(as_bytes(d.response), request.key);
    check(answer.what == client_answer::kind::tunnel && answer.consumed == d.response.size(),
          "our client takes our server's answer");
    check(answer.peer_features == feature_set::all(), "each knows what the other can");
}

void hear(fuzz::bytes_view answer) {
    const std::string key = "AQIDAAAAAAAAAAAAAAAAAA==";
    const client_answer whole = parse_answer(answer, key);
    check(whole.consumed <= answer.size(), "no more is consumed than there is");
    check(fits_a_line(whole.error), "an error fits a line");
    if (whole.what == client_answer::kind::tunnel) {
        const std::string_view head = as_text(answer.first(whole.consumed));
        check(head.find(accept_value(key)) != std::string_view::npos,
              "only who knows the key is answered for");
        check(head.find(" 101") != std::string_view::npos, "with a 101");
    } else {
        check((whole.what == client_answer::kind::refused) == !whole.error.empty(),
              "a refusal has a reason");
    }
    // What fewer bytes decide, more do not change.
    for (std::size_t size = 0; size < answer.size(); size += 1 + size / 8) {
        const client_answer early = parse_answer(fuzz::exact(answer.first(size)), key);
        if (early.what == client_answer::kind::need_more) continue;
        check(early.what == whole.what && early.consumed == whole.consumed &&
                  early.error == whole.error,
              "an answer does not change its meaning");
    }
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    if (in.pick(2) == 0)
        ask(as_text(in.rest()));
    else
        hear(in.rest());
}

const fuzz::target registered("http_client", run,
                              "core/http/url.cc core/http/upgrade_client.cc core/http/detect.cc");

}  // namespace
