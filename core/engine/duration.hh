// Durations in Go's syntax (docs/wire.md section 10): "25s", "1h30m", "100ms".
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

namespace burin::engine {

// What Go's time.ParseDuration accepts: signed sums of decimal numbers with the units ns, us (or
// µs), ms, s, m, h; "0" alone; nothing else. Nothing, too, beyond about 292 years.
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);

// As Go prints it: "100ms", "1m30s", "850.3µs", "0s".
std::string duration_text(std::chrono::nanoseconds);

}  // namespace burin::engine
