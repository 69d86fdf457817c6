#include "core/http/head.hh"

#include <algorithm>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>

#include "core/http/upgrade.hh"

namespace burin::http {

namespace {

char lower(char c) noexcept {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

std::string text_of(boost::beast::string_view view) {
    return {view.data(), view.size()};
}

// Beast skips the body's framing here: only the head is wanted, the rules on lengths are below.
template <bool request>
bool parse_by_beast(bytes_view bytes, head& into) {
    namespace beast = boost::beast;
    beast::http::parser<request, beast::http::empty_body> parser;
    parser.header_limit(max_head_bytes + 1);
    parser.body_limit(~std::uint64_t{0});
    parser.skip(true);
    boost::system::error_code error;
    parser.put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
    if (error && error != beast::http::error::need_more) return false;
    if (!parser.is_header_done()) return false;
    const auto& message = parser.get();
    into.version = message.version();
    if constexpr (request) {
        into.method = text_of(message.method_string());
        into.target = text_of(message.target());
    } else {
        into.status = message.result_int();
    }
    for (const auto& field : message)
        into.fields.emplace_back(text_of(field.name_string()), text_of(field.value()));
    return true;
}

bool is_number(std::string_view text) noexcept {
    return !text.empty() &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// What the lines of a head say about its body (RFC 9112 section 6).
struct framing {
    std::size_t fields = 0, lengths = 0, encodings = 0;
    std::string_view length, encoding;  // the last of each
};

// The rule that a field's line breaks, empty when none does (RFC 9112 section 5). Beast knows most
// of them as well, but tells neither which, nor the same in every version.
std::string_view check_fields(std::string_view text, framing& body) noexcept {
    std::size_t at = text.find("\r\n") + 2;
    while (at < text.size()) {
        const std::size_t end = text.find("\r\n", at);
        const std::string_view line = text.substr(at, end - at);
        if (line.empty()) break;
        at = end + 2;
        const std::size_t colon = line.find(':');
        if (colon == std::string_view::npos) return "a field without a colon";
        const std::string_view name = line.substr(0, colon);
        if (name.ends_with(' ') || name.ends_with('\t')) return "a blank before a field's colon";
        if (!is_token(name)) return "a field name that is no token";
        const std::string_view value = trimmed(line.substr(colon + 1));
        if (std::any_of(value.begin(), value.end(), [](char c) {
                return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
            }))
            return "a control character in a field";
        ++body.fields;
        if (equal_without_case(name, "Content-Length")) {
            ++body.lengths;
            body.length = value;
        } else if (equal_without_case(name, "Transfer-Encoding")) {
            ++body.encodings;
            body.encoding = value;
        }
    }
    return {};
}

// Which heads announce a body, and which announce it twice: a proxy in front may have taken the
// other for true (RFC 9112 section 6.3).
void check_framing(const framing& body, head& h) noexcept {
    auto malformed = [&h](std::string_view rule) {
        h.error = head_error::malformed;
        h.rule = rule;
    };
    if (body.lengths > 1) return malformed("more than one Content-Length");
    if (body.encodings > 1) return malformed("more than one Transfer-Encoding");
    if (body.lengths > 0 && body.encodings > 0)
        return malformed("Content-Length beside Transfer-Encoding");
    if (body.lengths == 1) {
        if (!is_number(body.length) || body.length.size() > 18)
            return malformed("a Content-Length that is none");
        h.has_body = body.length.find_first_not_of('0') != std::string_view::npos;
    }
    if (body.encodings == 1) {
        h.has_body = true;
        if (equal_without_case(body.encoding, "chunked")) return;
        h.error = head_error::unsupported_encoding;
        h.rule = "a Transfer-Encoding other than chunked";
    }
}

// "HTTP/1.0" and "HTTP/1.1" are known; another well-formed version gets an answer of its own.
bool foreign_version(std::string_view text, head_kind kind) noexcept {
    std::string_view line = text.substr(0, text.find("\r\n"));
    std::size_t at = kind == head_kind::request ? line.rfind(' ') + 1 : 0;
    std::string_view version = line.substr(at, 8);
    return version.size() == 8 && version.starts_with("HTTP/") && is_number(version.substr(5, 1)) &&
           version[6] == '.' && is_number(version.substr(7)) && version != "HTTP/1.0" &&
           version != "HTTP/1.1";
}

}  // namespace

head_end find_head(bytes_view bytes, std::size_t& scanned) noexcept {
    using state = head_end::state;
    std::string_view text = as_text(bytes.first(std::min(bytes.size(), max_head_bytes)));
    // Starts two back: the two bytes before a newline tell what it is.
    std::size_t at = scanned > 2 ? scanned - 2 : 0;
    while ((at = text.find_first_of(std::string_view("\n\0", 2), at)) != std::string_view::npos) {
        if (text[at] == '\0') return {state::malformed, 0, "a NUL"};
        if (at == 0 || text[at - 1] != '\r')
            return {state::malformed, 0, "a line that ends in LF alone"};
        if (at >= 3 && text[at - 2] == '\n') return {state::found, at + 1};
        if (at + 1 < text.size() && (text[at + 1] == ' ' || text[at + 1] == '\t'))
            return {state::malformed, 0, "a folded line"};  // RFC 9112 section 5.2
        ++at;
    }
    scanned = text.size();
    if (bytes.size() >= max_head_bytes) return {state::too_large, 0, "a head above 16 KiB"};
    return {state::need_more};
}

head parse_head(bytes_view bytes, head_kind kind) {
    head h;
    auto refused = [&h](head_error error, std::string_view rule) {
        h.error = error;
        h.rule = rule;
        return h;
    };
    std::string_view text = as_text(bytes);
    if (foreign_version(text, kind))
        return refused(head_error::unsupported_version, "neither HTTP/1.0 nor HTTP/1.1");
    // A CR is the first half of a line end and nothing else; a NUL has no place anywhere.
    for (std::size_t at = 0; (at = text.find('\r', at)) != std::string_view::npos; ++at)
        if (at + 1 >= text.size() || text[at + 1] != '\n')
            return refused(head_error::malformed, "a CR that ends no line");
    if (text.find('\0') != std::string_view::npos) return refused(head_error::malformed, "a NUL");
    if (text.find("\r\n ") != std::string_view::npos ||
        text.find("\r\n\t") != std::string_view::npos)
        return refused(head_error::malformed, "a folded line");
    framing body;
    if (const std::string_view rule = check_fields(text, body); !rule.empty())
        return refused(head_error::malformed, rule);
    if (body.fields > max_head_fields)
        return refused(head_error::too_many_fields, "more than 128 fields");
    check_framing(body, h);
    // A response that is no 101 is refused whatever its body.
    if (kind == head_kind::response && h.error == head_error::unsupported_encoding)
        h.error = head_error::none;
    if (h.error != head_error::none) return h;
    bool parsed = kind == head_kind::request ? parse_by_beast<true>(bytes, h)
                                             : parse_by_beast<false>(bytes, h);
    if (!parsed)
        return refused(head_error::malformed, kind == head_kind::request
                                                  ? "a request line that is none"
                                                  : "a status line that is none");
    return h;
}

std::string_view head::first(std::string_view name) const noexcept {
    for (const auto& [key, value] : fields)
        if (equal_without_case(key, name)) return value;
    return {};
}

std::size_t head::count(std::string_view name) const noexcept {
    return static_cast<std::size_t>(
        std::count_if(fields.begin(), fields.end(),
                      [name](const auto& field) { return equal_without_case(field.first, name); }));
}

bool head::has_token(std::string_view name, std::string_view token) const noexcept {
    for (const auto& [key, value] : fields) {
        if (!equal_without_case(key, name)) continue;
        std::string_view left = value;
        for (;;) {
            std::size_t comma = left.find(',');
            if (equal_without_case(trimmed(left.substr(0, comma)), token)) return true;
            if (comma == std::string_view::npos) break;
            left.remove_prefix(comma + 1);
        }
    }
    return false;
}

bool equal_without_case(std::string_view a, std::string_view b) noexcept {
    return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(),
                                              [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view trimmed(std::string_view text) noexcept {
    constexpr std::string_view blank = " \t";
    std::size_t begin = text.find_first_not_of(blank);
    if (begin == std::string_view::npos) return {};
    return text.substr(begin, text.find_last_not_of(blank) - begin + 1);
}

bool is_token(std::string_view text) noexcept {
    constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
    return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
        return (c >= '0' && c <= '9') || (lower(c) >= 'a' && lower(c) <= 'z') ||
               marks.find(c) != std::string_view::npos;
    });
}

std::string loggable(std::string_view text) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (char c : text.substr(0, 200)) {
        auto octet = static_cast<unsigned char>(c);
        if (octet >= 0x20 && octet < 0x7f && c != '\\') {
            out += c;
        } else {
            out += c == '\\' ? "\\" : "\\x";
            if (c == '\\') {
                out += '\\';
            } else {
                out += digits[octet >> 4];
                out += digits[octet & 15];
            }
        }
    }
    if (text.size() > 200) out += "...";
    return out;
}

}  // namespace burin::http
