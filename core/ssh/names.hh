// Names as SSH writes them: the comma-joined name-lists of KEXINIT and USERAUTH_FAILURE (RFC 4251
// section 5), and peers' bytes made fit for a log line. Everything here is a plain function on
// text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace burin::ssh {

// The first name of a list; empty when the list is.
std::string_view first_name(std::string_view list);

bool contains_name(std::string_view list, std::string_view name);

// The rule of RFC 4253 section 7.1: the first name of the client's list that the server's list has
// too; empty when there is none. A view into `client`.
std::string_view first_common_name(std::string_view client, std::string_view server);

// At most `limit` bytes of a peer's text, with everything that is not printable ASCII, and the
// backslash, as \xNN; "..." tells that something was cut.
std::string printable(std::string_view text, std::size_t limit = 128);

}  // namespace burin::ssh
