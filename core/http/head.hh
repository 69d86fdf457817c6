// A request or response head (RFC 9112): found in a byte stream, held to rules stricter than the
// parser's, then taken apart by Boost.Beast. Names compare without case.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "crypto/wire.hh"

namespace burin::http {

enum class head_error : std::uint8_t {
    none,
    malformed,            // not HTTP, or a shape that two parsers could read differently
    too_many_fields,      // more than max_head_fields
    unsupported_version,  // neither 1.0 nor 1.1
    unsupported_encoding  // a Transfer-Encoding other than chunked
};

// Proxies on the way add a few; each costs memory while the head is taken apart.
inline constexpr std::size_t max_head_fields = 128;

struct head {
    head_error error = head_error::none;
    std::string_view rule;  // what is wrong, for a log: static text, empty without an error
    std::string method;     // of a request
    std::string target;     // of a request
    unsigned status = 0;    // of a response
    unsigned version = 0;   // 10 or 11
    std::vector<std::pair<std::string, std::string>> fields;
    bool has_body = false;

    // The first field of that name, empty when there is none.
    std::string_view first(std::string_view name) const noexcept;
    std::size_t count(std::string_view name) const noexcept;
    // Whether a comma-separated list, over all fields of the name, holds the token; no case.
    bool has_token(std::string_view name, std::string_view token) const noexcept;
};

enum class head_kind : std::uint8_t { request, response };

struct head_end {
    enum class state : std::uint8_t { need_more, found, too_large, malformed } what;
    std::size_t bytes = 0;       // of the head with its empty line, when found
    std::string_view rule = {};  // malformed, too_large: what is wrong, static text
};
// `scanned` starts at 0 and is kept between calls with ever more bytes of the same head.
head_end find_head(bytes_view bytes, std::size_t& scanned) noexcept;

// Exactly the bytes that find_head() found.
head parse_head(bytes_view bytes, head_kind);

bool equal_without_case(std::string_view a, std::string_view b) noexcept;
std::string_view trimmed(std::string_view text) noexcept;
// A token of RFC 9110 section 5.6.2: what a field name may be.
bool is_token(std::string_view text) noexcept;
// Peer bytes fit for one log line: other than printable ASCII as \xNN, cut at 200.
std::string loggable(std::string_view text);

}  // namespace burin::http
