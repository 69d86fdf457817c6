// One line: [options] type base64 [comment]. Options may hold blanks inside double quotes, with \"
// for a quote.
#include "core/ssh/authorized_keys.hh"

#include "core/ssh/names.hh"
#include "crypto/base64.hh"
#include "crypto/public_key.hh"

namespace burin::ssh {
namespace {

bool is_blank(char letter) {
    return letter == ' ' || letter == '\t';
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && (is_blank(text.back()) || text.back() == '\r')) text.remove_suffix(1);
    return text;
}

// Takes a word off the front, and the blanks behind it. Quoted blanks belong to the word.
std::string_view take_word(std::string_view& text) {
    std::size_t at = 0;
    bool quoted = false;
    for (; at < text.size() && (quoted || !is_blank(text[at])); ++at) {
        if (text[at] == '\\' && at + 1 < text.size() && text[at + 1] == '"') {
            ++at;
        } else if (text[at] == '"') {
            quoted = !quoted;
        }
    }
    const std::string_view word = text.substr(0, at);
    text = trimmed(text.substr(at));
    return word;
}

// Any name that sshd takes for a key type; an option never looks like one.
bool is_key_type(std::string_view word) {
    return word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-") || word.starts_with("sk-");
}

// Enough to know that the blob is a key of its type: verifying parses the rest.
bool well_formed(std::string_view type, bytes_view blob) {
    if (crypto::algorithm_of(blob) != type) return false;
    wire::reader read(blob);
    read.string();
    if (type == "ssh-ed25519") return read.string().size() == 32 && read.done();
    if (type == "ssh-rsa")
        return read.string().size() > 0 && read.string().size() > 0 && read.done();
    const std::string_view curve = read.text();
    const bytes_view point = read.string();
    return read.done() && type == "ecdsa-sha2-" + std::string(curve) && !point.empty() &&
           point[0] == std::byte{4};
}

// Empty when the line gave a key.
std::string read_line(std::string_view line, authorized_key& into) {
    const std::string_view first = take_word(line);
    if (!is_key_type(first)) {
        const std::string_view after = take_word(line);
        if (!is_key_type(after)) return "neither a key type nor options followed by one";
        return "option '" + printable(first.substr(0, first.find_first_of("=,"))) +
               "' is not implemented";
    }
    if (!crypto::known_key_type(first))
        return "key type " + printable(first) + " is not implemented";
    const auto blob = crypto::from_base64(take_word(line));
    if (!blob || !well_formed(first, *blob)) return "the key is damaged";
    if (const char* problem = crypto::problem_of(*blob)) return problem;
    into = {*blob, std::string(line)};
    return {};
}

}  // namespace

authorized_keys_reading parse_authorized_keys(std::string_view text) {
    authorized_keys_reading out;
    for (unsigned number = 1; !text.empty(); ++number) {
        const std::size_t end = text.find('\n');
        const std::string_view line = trimmed(text.substr(0, end));
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
        if (line.empty() || line.front() == '#') continue;
        authorized_key key;
        const std::string why = read_line(line, key);
        if (why.empty()) {
            out.keys.push_back(std::move(key));
        } else {
            out.notes.push_back("line " + std::to_string(number) + " ignored: " + why);
        }
    }
    return out;
}

}  // namespace burin::ssh
