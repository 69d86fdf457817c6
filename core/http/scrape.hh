// What a scraper asks for: GET /metrics, and nothing else (docs/observability.md). One request a
// connection, answered with Connection: close. A machine without I/O, as the upgrade is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::http {

class scrape_request {
  public:
    enum class state : std::uint8_t {
        need_more,
        metrics,  // asked for
        refused   // with answer()
    };

    // All bytes of the connection so far. Not called again once it said something else than
    // need_more.
    state feed(bytes_view bytes);
    // The whole response of what was refused.
    const std::string& answer() const noexcept { return _answer; }

  private:
    state refuse(std::string_view status, std::string_view fields = {}, bool with_body = true);

    std::size_t _scanned = 0;
    std::string _answer;
};

// The response to state::metrics. `body` is in text format 0.0.4.
std::string metrics_response(std::string_view body);
// The same where the numbers are not to be had; `why` is static text.
std::string unavailable_response(std::string_view why);

}  // namespace burin::http
