// The version line: refused as early as its first wrong byte, so that a peer that speaks something
// else is told apart at once.
#include "core/ssh/version_line.hh"

#include <algorithm>

namespace burin::ssh {
namespace {

bool starts_like(std::string_view text, std::string_view prefix) {
    const std::size_t size = std::min(text.size(), prefix.size());
    return text.substr(0, size) == prefix.substr(0, size);
}

}  // namespace

std::string_view own_version(role side, dialect speaks) {
    if (speaks == dialect::native) return "SSH-2.0-burin_" BURIN_VERSION;
    return side == role::client ? "SSH-chisel-v3-client" : "SSH-chisel-v3-server";
}

version_reading read_version(bytes_view in, dialect speaks) {
    using status = version_reading::status;
    const std::string_view text = as_text(in.first(std::min(in.size(), max_version_line_bytes)));
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);

    const bool right = speaks == dialect::chisel
                           ? starts_like(line, "SSH-")
                           : starts_like(line, "SSH-2.0-") || starts_like(line, "SSH-1.99-");
    if (!right) return {status::broken, 0, line, "not an SSH version line"};
    if (end == std::string_view::npos) {
        if (text.size() < max_version_line_bytes) return {};
        return {status::broken, 0, line, "version line too long"};
    }
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    const std::size_t least = speaks == dialect::chisel ? 4 : 8;
    if (line.size() < least) return {status::broken, 0, line, "not an SSH version line"};
    return {status::complete, end + 1, line, nullptr};
}

}  // namespace burin::ssh
