// Which processors the workers run on (--cpu-affinity): worker i on the i-th of a list, and nowhere
// else. What a processor may be used for the machine's owner has said by the process's affinity
// (taskset, a container's cpuset): nothing outside of that is asked for.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace burin::engine {

// Linux has no more (NR_CPUS of every architecture's largest configuration).
inline constexpr unsigned most_processors = 8192;

// "0-3,8": numbers in the order of the text, each once. nullopt for anything else.
std::optional<std::vector<unsigned>> parse_processors(std::string_view text);
// The same numbers as a short text.
std::string processors_text(std::span<const unsigned> sorted);

// What this process may use, ascending.
std::vector<unsigned> allowed_processors();
// A sentence for a person about those of `wanted` that are not allowed; empty when all are.
std::string why_not_allowed(std::span<const unsigned> wanted, std::span<const unsigned> allowed);

// The calling thread runs on these alone from now on. 0, or errno.
int run_on(std::span<const unsigned>) noexcept;

}  // namespace burin::engine
