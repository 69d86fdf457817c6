// Name-lists are walked in place: ours are short and a peer's is bounded by its packet, so that a
// search through both costs nothing worth remembering.
#include "core/ssh/names.hh"

namespace burin::ssh {
namespace {

// Takes the first name off the list.
std::string_view next_name(std::string_view& list) {
    const std::size_t comma = list.find(',');
    const std::string_view name = list.substr(0, comma);
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
    return name;
}

}  // namespace

std::string_view first_name(std::string_view list) {
    return list.substr(0, list.find(','));
}

bool contains_name(std::string_view list, std::string_view name) {
    while (!list.empty()) {
        if (next_name(list) == name) return true;
    }
    return false;
}

std::string_view first_common_name(std::string_view client, std::string_view server) {
    while (!client.empty()) {
        const std::string_view name = next_name(client);
        if (!name.empty() && contains_name(server, name)) return name;
    }
    return {};
}

std::string printable(std::string_view text, std::size_t limit) {
    constexpr char digits[] = "0123456789abcdef";
    std::string out;
    for (const char letter : text.substr(0, limit)) {
        const auto value = static_cast<unsigned char>(letter);
        if (value >= 0x20 && value < 0x7f && letter != '\\') {
            out += letter;
        } else {
            out += "\\x";
            out += digits[value >> 4];
            out += digits[value & 15];
        }
    }
    if (text.size() > limit) out += "...";
    return out;
}

}  // namespace burin::ssh
