// authorized_keys: every line is a key, or a note says why not.
#include <string>

#include "core/ssh/authorized_keys.hh"
#include "crypto/base64.hh"
#include "crypto/public_key.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin;
using fuzz::check;

bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\r';
}

void run(bytes_view input) {
    const std::string_view text = as_text(input);
    const ssh::authorized_keys_reading got = ssh::parse_authorized_keys(text);
    std::size_t lines = 0;
    for (std::size_t at = 0; at < text.size();) {
        std::size_t end = text.find('\n', at);
        if (end == std::string_view::npos) end = text.size();
        std::string_view line = text.substr(at, end - at);
        while (!line.empty() && is_space(line.back())) line.remove_suffix(1);
        while (!line.empty() && (line[0] == ' ' || line[0] == '\t')) line.remove_prefix(1);
        lines += line.empty() || line[0] == '#' ? 0 : 1;
        at = end + 1;
    }
    check(got.keys.size() + got.notes.size() == lines, "no line goes lost");
    for (const std::string& note : got.notes) {
        check(std::all_of(note.begin(), note.end(), [](char c) { return c >= 0x20 && c < 0x7f; }),
              "a note fits a line");
        check(note.starts_with("line "), "a note tells its line");
    }
    for (const ssh::authorized_key& key : got.keys) {
        const std::string_view type = crypto::algorithm_of(key.blob);
        check(crypto::verifiable(type), "only keys that can be used are taken");
        // Written as ssh-keygen would, it is the same key.
        const std::string line = std::string(type) + " " + crypto::base64(key.blob);
        const ssh::authorized_keys_reading again = ssh::parse_authorized_keys(line);
        check(again.keys.size() == 1 && fuzz::equal(again.keys[0].blob, key.blob),
              "a key can be written");
        check(key.comment.find('\n') == std::string::npos, "a comment is one line");
        check(!crypto::verify(key.blob, as_bytes("none"), key.blob), "and nothing signs for it");
    }
}

const fuzz::target registered("authorized_keys", run,
                              "core/ssh/authorized_keys.cc crypto/base64.cc");

}  // namespace
