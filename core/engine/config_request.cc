#include "core/engine/config_request.hh"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "core/engine/log.hh"

namespace burin::engine {

namespace {

using json = nlohmann::json;

constexpr std::size_t most_remotes = 10'000;

struct text_field {
    const char* name;
    std::string remote::* member;
};
constexpr text_field text_fields[] = {
    {"LocalHost", &remote::local_host},   {"LocalPort", &remote::local_port},
    {"LocalProto", &remote::local_proto}, {"RemoteHost", &remote::remote_host},
    {"RemotePort", &remote::remote_port}, {"RemoteProto", &remote::remote_proto},
};
struct flag_field {
    const char* name;
    bool remote::* member;
};
constexpr flag_field flag_fields[] = {
    {"Socks", &remote::socks}, {"Reverse", &remote::reverse}, {"Stdio", &remote::stdio}};

// How many bytes the UTF-8 sequence at the start has; 0 when it is not one.
std::size_t utf8_length(std::string_view text) noexcept {
    auto at = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    unsigned c = at(0);
    if (c < 0x80) return 1;
    std::size_t n = c >= 0xc2 && c < 0xe0   ? 2
                    : (c & 0xf0) == 0xe0    ? 3
                    : c >= 0xf0 && c < 0xf5 ? 4
                                            : 0;
    if (n == 0 || text.size() < n) return 0;
    for (std::size_t i = 1; i < n; ++i)
        if ((at(i) & 0xc0) != 0x80) return 0;
    if ((c == 0xe0 && at(1) < 0xa0) || (c == 0xed && at(1) > 0x9f) || (c == 0xf0 && at(1) < 0x90) ||
        (c == 0xf4 && at(1) > 0x8f))
        return 0;
    return n;
}

// A string as Go's encoding/json writes it, safe inside HTML.
void append_string(std::string& out, std::string_view text) {
    out += '"';
    while (!text.empty()) {
        std::size_t n = utf8_length(text);
        std::string_view one = text.substr(0, n == 0 ? 1 : n);
        char c = one[0];
        if (n == 0)
            out += "\\ufffd";
        else if (c == '"' || c == '\\')
            (out += '\\') += c;
        else if (c == '\n')
            out += "\\n";
        else if (c == '\r')
            out += "\\r";
        else if (c == '\t')
            out += "\\t";
        else if (n == 1 && (c < 0x20 || c == '<' || c == '>' || c == '&'))
            out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
        else if (one == "\u2028" || one == "\u2029")
            out += one == "\u2028" ? "\\u2028" : "\\u2029";
        else
            out += one;
        text.remove_prefix(one.size());
    }
    out += '"';
}

bool same_name(std::string_view a, std::string_view b) noexcept {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    if (a.size() != b.size()) return false;
    for (std::size_t i = 0; i < a.size(); ++i)
        if (lower(a[i]) != lower(b[i])) return false;
    return true;
}

bool read_text(const json& value, std::string& into) {
    if (value.is_null()) return true;
    if (!value.is_string()) return false;
    into = value.get_ref<const std::string&>();
    return true;
}

bool read_remote(const json& value, remote& into) {
    if (value.is_null()) return true;
    if (!value.is_object()) return false;
    for (const auto& [name, member] : value.items()) {
        for (const text_field& f : text_fields)
            if (same_name(name, f.name) && !read_text(member, into.*f.member)) return false;
        for (const flag_field& f : flag_fields) {
            if (!same_name(name, f.name) || member.is_null()) continue;
            if (!member.is_boolean()) return false;
            into.*f.member = member.get<bool>();
        }
    }
    return true;
}

// "1.11.5" or "v1.11.5": the first two numbers.
std::optional<std::pair<unsigned, unsigned>> major_minor(std::string_view version) noexcept {
    if (version.starts_with('v')) version.remove_prefix(1);
    unsigned numbers[2] = {};
    for (unsigned& number : numbers) {
        std::size_t digits = 0;
        while (digits < version.size() && digits < 6 && version[digits] >= '0' &&
               version[digits] <= '9')
            number = number * 10 + static_cast<unsigned>(version[digits++] - '0');
        if (digits == 0) return std::nullopt;
        version.remove_prefix(digits);
        if (&number == &numbers[0]) {
            if (!version.starts_with('.')) return std::nullopt;
            version.remove_prefix(1);
        }
    }
    return std::pair{numbers[0], numbers[1]};
}

}  // namespace

std::string write_config(const config_request& config) {
    std::string out = "{\"Version\":";
    append_string(out, config.version);
    out += ",\"Remotes\":";
    if (config.remotes.empty()) return out + "null}";
    char before = '[';
    for (const remote& r : config.remotes) {
        out += before;
        before = ',';
        char inner = '{';
        for (const text_field& f : text_fields) {
            out += fmt::format("{}\"{}\":", inner, f.name);
            append_string(out, r.*f.member);
            inner = ',';
        }
        for (const flag_field& f : flag_fields)
            out += fmt::format(",\"{}\":{}", f.name, r.*f.member);
        out += '}';
    }
    return out + "]}";
}

std::optional<config_request> parse_config(std::string_view text) {
    json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
    config_request out;
    if (document.is_null()) return out;
    if (!document.is_object()) return std::nullopt;  // is_discarded() included
    for (const auto& [name, member] : document.items()) {
        if (same_name(name, "Version") && !read_text(member, out.version)) return std::nullopt;
        if (!same_name(name, "Remotes") || member.is_null()) continue;
        if (!member.is_array() || member.size() > most_remotes) return std::nullopt;
        out.remotes.assign(member.size(), {});
        for (std::size_t i = 0; i < member.size(); ++i)
            if (!read_remote(member[i], out.remotes[i])) return std::nullopt;
    }
    return out;
}

std::string version_difference(std::string_view client, std::string_view server) {
    auto bare = [](std::string_view v) { return v.starts_with('v') ? v.substr(1) : v; };
    if (client.empty() || server.empty() || bare(client) == bare(server) ||
        bare(client).starts_with("0.0.0") || bare(server).starts_with("0.0.0"))
        return {};
    return fmt::format("Client version ({}) differs from server version ({})", escape(client),
                       escape(server));
}

bool ends_streams_by_eof(std::string_view go_version) noexcept {
    auto version = major_minor(go_version);
    return version && *version >= std::pair{1u, 12u};
}

}  // namespace burin::engine
