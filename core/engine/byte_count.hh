// Byte counts as chisel logs them (docs/wire.md section 10.8): base 1000, three significant digits.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace burin::engine {

// "0B", "999B", "1.23KB", "123KB", "1.23GB".
std::string byte_count(std::uint64_t bytes);

// A size that a person wrote: a number and K, M, G or T for powers of 1024 ("256M", "1GiB"), or KB,
// MB, GB, TB for powers of 1000; a bare number counts bytes. Nothing when it is not one.
std::optional<std::uint64_t> parse_byte_count(std::string_view text);

}  // namespace burin::engine
