// How a connection becomes a WebSocket (RFC 6455 section 4; docs/wire.md section 2), without I/O:
// what a peer's first bytes are, the server's answer to HTTP requests, the client's request and
// what it accepts. Expected failures are values; a text in them fits one log line.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/wire.hh"

namespace burin::http {

// A request or response head above this is refused.
inline constexpr std::size_t max_head_bytes = 16 * 1024;

// ---- what is spoken ----

// The peer's first bytes (docs/wire.md section 4.1). `unknown` is answered like bad HTTP.
enum class protocol : std::uint8_t { need_more, ssh, tls, http, unknown };
protocol detect(bytes_view first) noexcept;

// ---- features ----

// What ends of ours may do with each other beyond what Go does. The names travel in one header
// of the GET and of the 101; unknown names are ignored, and a feature is used when both ends name
// it.
enum class feature : std::uint8_t {
    batch,   // "batch": takes messages that hold many packets (docs/wire.md section 3.3)
    cancel,  // "cancel-open": takes an open back (docs/wire.md section 8.9)
    echo,    // "echo": a server that pings destinations for its client (docs/wire.md section 13.2)
    unreachable,  // "unreachable": what became of datagrams (docs/wire.md section 13.3)
    early_data,   // "early-data": payload behind an open not yet answered (docs/wire.md
                  // section 13.4)
};

class feature_set {
  public:
    constexpr feature_set() = default;
    // Everything this program knows.
    static constexpr feature_set all() noexcept { return feature_set(31u); }
    constexpr feature_set without(feature f) const noexcept {
        return feature_set(_bits & ~(1u << unsigned(f)));
    }
    // A comma-separated list.
    static feature_set parse(std::string_view list) noexcept;

    constexpr bool has(feature f) const noexcept { return (_bits >> unsigned(f) & 1u) != 0; }
    constexpr feature_set operator&(feature_set other) const noexcept {
        return feature_set(_bits & other._bits);
    }
    // The list as it travels, in a fixed order.
    std::string text() const;
    friend constexpr bool operator==(feature_set, feature_set) = default;

  private:
    explicit constexpr feature_set(std::uint32_t bits) : _bits(bits) {}
    std::uint32_t _bits = 0;
};

// Also tells a peer of ours from Go's, whatever list it carries.
inline constexpr std::string_view features_header = "Burin-Features";

// ---- server ----

struct server_decision {
    enum class kind : std::uint8_t { need_more, respond, tunnel } what = kind::need_more;
    std::string response;  // bytes to send, for respond and tunnel
    std::string log;       // an info line, or empty; peer bytes in it are escaped
    // For a log of requests, escaped; set for respond, unless the head was malformed.
    std::string request;         // "GET /health"
    std::string forwarded_for;   // whom a proxy in front names as the client
    std::string_view status;     // "200"
    std::size_t body_bytes = 0;  // of the response
    std::size_t consumed = 0;    // bytes of the input that belong to this request
    bool close = false;          // close after the response
    feature_set peer_features;
    bool peer_is_burin = false;
};

// Reads requests one after another and decides as docs/wire.md section 2.2 says. What could be
// taken apart differently by a proxy in front (bare LF, folded lines, two lengths, length and
// encoding together) is refused with 400; a request with a body is answered and closed. Whatever is
// refused is named in `log` (docs/violations.md).
class upgrade_server {
  public:
    // `version` is the body of /version.
    explicit upgrade_server(std::string_view version = BURIN_VERSION,
                            feature_set ours = feature_set::all())
        : _version(version), _ours(ours) {}

    // `bytes` is all that came since the last request's end; `now` stands in the Date header.
    server_decision feed(bytes_view bytes, std::time_t now = std::time(nullptr));

  private:
    std::string_view _version;
    feature_set _ours;
    std::size_t _scanned = 0;
};

// ---- client ----

// Where to connect, by the rules of docs/wire.md section 2.1.
struct server_url {
    bool tls = false;
    std::string host;  // without brackets
    std::uint16_t port = 0;
    std::string authority;  // host:port as written, the default port added: the Host header
    std::string target;     // path and query, at least "/"
    std::string error;      // not empty: the URL is no good, nothing else counts

    // For the log: ws://host:port/path?query, without the "/" that nobody wrote.
    std::string text;
};
server_url parse_url(std::string_view url);

// --header values by canonical name; the last one of a name wins.
class header_list {
  public:
    // "Name: value". Returns an error text, or empty.
    [[nodiscard]] std::string add(std::string_view line);
    // The value of a canonical name, nullptr when there is none.
    const std::string* find(std::string_view name) const noexcept;
    void set(std::string_view name, std::string_view value);
    struct entry {
        std::string name, value;
    };
    const std::vector<entry>& entries() const noexcept { return _entries; }

  private:
    std::vector<entry> _entries;
};

struct upgrade_request {
    std::string bytes;  // the GET
    std::string key;    // its Sec-WebSocket-Key, which parse_answer() wants
    std::string error;  // not empty: a header that must not be given
};
// The GET of docs/wire.md section 2.1, byte for byte, and our feature header. `nonce` is random.
// Of the headers, Host replaces the Host header and User-Agent Go's name (none when empty).
upgrade_request build_request(const server_url&, const header_list&, bytes_view nonce_of_16,
                              feature_set ours = feature_set::all());

struct client_answer {
    enum class kind : std::uint8_t { need_more, refused, tunnel } what = kind::need_more;
    std::string error;         // for refused
    std::size_t consumed = 0;  // bytes of the heads; what follows is WebSocket already
    feature_set peer_features;
    bool peer_is_burin = false;
};
// `bytes` is all that came so far; other 1xx responses in front are passed over.
client_answer parse_answer(bytes_view bytes, std::string_view key);

// Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2).
std::string accept_value(std::string_view key);

}  // namespace burin::http
