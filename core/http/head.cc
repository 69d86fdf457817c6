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

// RFC 9112 section 6: which heads announce a body, and which announce it twice.
head_error check_framing(head& h) noexcept {
    std::size_t lengths = h.count("Content-Length"), encodings = h.count("Transfer-Encoding");
    if (lengths > 1 || encodings > 1 || (lengths > 0 && encodings > 0))
        return head_error::malformed;
    if (lengths == 1) {
        std::string_view length = h.first("Content-Length");
        if (!is_number(length) || length.size() > 18) return head_error::malformed;
        h.has_body = length.find_first_not_of('0') != std::string_view::npos;
    }
    if (encodings == 1) {
        if (!equal_without_case(h.first("Transfer-Encoding"), "chunked"))
            return head_error::unsupported_encoding;
        h.has_body = true;
    }
    return head_error::none;
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
        if (text[at] == '\0' || at == 0 || text[at - 1] != '\r') return {state::malformed};
        if (at >= 3 && text[at - 2] == '\n') return {state::found, at + 1};
        if (at + 1 < text.size() && (text[at + 1] == ' ' || text[at + 1] == '\t'))
            return {state::malformed};  // a folded line (RFC 9112 section 5.2)
        ++at;
    }
    scanned = text.size();
    if (bytes.size() >= max_head_bytes) return {state::too_large};
    return {state::need_more};
}

head parse_head(bytes_view bytes, head_kind kind) {
    head h;
    std::string_view text = as_text(bytes);
    if (foreign_version(text, kind)) {
        h.error = head_error::unsupported_version;
        return h;
    }
    // A CR is the first half of a line end and nothing else; a NUL has no place anywhere.
    for (std::size_t at = 0; (at = text.find('\r', at)) != std::string_view::npos; ++at)
        if (at + 1 >= text.size() || text[at + 1] != '\n') h.error = head_error::malformed;
    if (text.find('\0') != std::string_view::npos) h.error = head_error::malformed;
    if (text.find("\r\n ") != std::string_view::npos ||
        text.find("\r\n\t") != std::string_view::npos)
        h.error = head_error::malformed;
    if (h.error != head_error::none) return h;
    bool parsed = kind == head_kind::request ? parse_by_beast<true>(bytes, h)
                                             : parse_by_beast<false>(bytes, h);
    if (!parsed)
        h.error = head_error::malformed;
    else if (kind == head_kind::request)
        h.error = check_framing(h);
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
