// The JSON of the `config` request (docs/wire.md section 7).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine/remote.hh"

namespace burin::engine {

struct config_request {
    std::string version;
    std::vector<remote> remotes;
};

// Byte-equal to what Go's encoder writes; no remotes are written as null.
std::string write_config(const config_request&);

// Nothing when it is not what Go's decoder takes: names without regard to case, unknown ones
// ignored, missing ones empty, null as nothing; a value of a wrong type fails. Not more remotes
// than Go's peers ever send: above 10000 it fails too.
std::optional<config_request> parse_config(std::string_view json);

// The info line about two versions that differ, escaped; empty when they are equal (but for a
// leading v), or when one is missing or comes from a source build, as Go 1.12 does.
std::string version_difference(std::string_view client, std::string_view server);

// Go's chisel ends a stream by EOF since 1.12, by CLOSE alone before (docs/wire.md section 8.6). A
// version that does not tell counts as an old one until its first EOF: taking its CLOSE for an
// abort would break every transfer.
bool ends_streams_by_eof(std::string_view go_version) noexcept;

}  // namespace burin::engine
