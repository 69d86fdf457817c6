// authorized_keys files (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"): the keys that may log in.
//
// A line is taken whole or not at all: an option restricts, so a line with an option that is not
// implemented here (none is) is refused, with a note, rather than taken without its restriction.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "crypto/wire.hh"

namespace burin::ssh {

struct authorized_key {
    byte_vector blob;
    // What followed the key; not escaped.
    std::string comment;
};

struct authorized_keys_reading {
    std::vector<authorized_key> keys;
    // One for each line that was refused, with its number, fit for a log.
    std::vector<std::string> notes;
};

// The text of a file. Never fails as a whole; what was not understood is in the notes.
authorized_keys_reading parse_authorized_keys(std::string_view text);

}  // namespace burin::ssh
