#include <algorithm>
#include <string_view>

#include "core/http/upgrade.hh"

namespace burin::http {

namespace {

struct known_feature {
    std::string_view name;
    feature which;
};
constexpr known_feature known_features[] = {{"batch", feature::batch},
                                            {"cancel-open", feature::cancel},
                                            {"echo", feature::echo},
                                            {"unreachable", feature::unreachable},
                                            {"early-data", feature::early_data}};

bool starts_like(std::string_view bytes, std::string_view mark) noexcept {
    std::size_t n = std::min(bytes.size(), mark.size());
    return bytes.substr(0, n) == mark.substr(0, n);
}

}  // namespace

protocol detect(bytes_view first) noexcept {
    constexpr std::string_view ssh = "SSH-", tls = "\x16\x03";
    std::string_view text = as_text(first);
    if (text.empty()) return protocol::need_more;
    if (starts_like(text, ssh))
        return text.size() < ssh.size() ? protocol::need_more : protocol::ssh;
    if (starts_like(text, tls))
        return text.size() < tls.size() ? protocol::need_more : protocol::tls;
    char c = text[0];
    bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
    return letter ? protocol::http : protocol::unknown;
}

feature_set feature_set::parse(std::string_view list) noexcept {
    feature_set out;
    while (!list.empty()) {
        std::size_t comma = list.find(',');
        std::string_view name = list.substr(0, comma);
        while (!name.empty() && (name.front() == ' ' || name.front() == '\t'))
            name.remove_prefix(1);
        while (!name.empty() && (name.back() == ' ' || name.back() == '\t')) name.remove_suffix(1);
        for (const known_feature& known : known_features)
            if (known.name == name) out._bits |= 1u << unsigned(known.which);
        if (comma == std::string_view::npos) break;
        list.remove_prefix(comma + 1);
    }
    return out;
}

std::string feature_set::text() const {
    std::string out;
    for (const known_feature& known : known_features)
        if (has(known.which)) out += (out.empty() ? "" : ", ") + std::string(known.name);
    return out;
}

}  // namespace burin::http
