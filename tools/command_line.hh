// The flags of `burin server` and `burin client` with chisel's names, defaults and environment
// fallbacks (docs/wire.md sections 10 to 10.3). Pure: arguments and environment in, settings or a
// text for a person out.
//
// Flags are written as Go's are: -x or --x, a value behind it or after "=", booleans with =false.
// They may stand before and after the other arguments; "--" ends them.
//
// Passwords, seeds and keys go from the arguments into settings and nowhere else, so that they are
// gone from memory once hide_secrets() and wipe() have taken them from where they came.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine/settings.hh"

namespace burin::tools {

using environment = std::map<std::string, std::string, std::less<>>;
// Of this process.
environment process_environment();

// Overwrites what is secret in the strings that the kernel shows to others (`ps`, /proc/PID/cmdline
// and environ): passwords, seeds, keys given in place of a file's name, and headers.
void hide_secrets(std::span<char* const> arguments, char** variables) noexcept;
// Overwrites the copies.
void wipe(std::vector<std::string>& arguments, environment&) noexcept;

template <class Settings>
struct command {
    Settings settings;
    // Not empty: --help was asked for; print it and exit 0.
    std::string help;
    // Not empty: what is wrong, one or more lines; exit with `status`.
    std::string error;
    int status = 0;
    // Log lines to begin with.
    std::vector<std::string> notes;
};

// `arguments` are those behind the command's name.
command<engine::server_settings> parse_server(const std::vector<std::string>& arguments,
                                              const environment&);
command<engine::client_settings> parse_client(const std::vector<std::string>& arguments,
                                              const environment&);

// What `burin help` prints.
std::string program_help();

}  // namespace burin::tools
