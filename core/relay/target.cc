#include "core/relay/target.hh"

#include <algorithm>
#include <charconv>

namespace burin::relay {

namespace {

std::string lower(std::string_view text) {
    std::string out(text);
    std::transform(out.begin(), out.end(), out.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    return out;
}

}  // namespace

std::string target::text() const {
    if (what == kind::socks) return "socks";
    std::string name = host.find(':') == std::string::npos ? host : "[" + host + "]";
    return name + ":" + std::to_string(port);
}

std::optional<target> parse_target(std::string_view text) {
    target t;
    if (text.size() > 512) return std::nullopt;
    if (text == "socks") {
        t.what = target::kind::socks;
        return t;
    }
    bool lowered = false;
    if (text.size() > 4 && text[text.size() - 4] == '/') {
        std::string suffix = lower(text.substr(text.size() - 3));
        if (suffix != "tcp" && suffix != "udp") return std::nullopt;
        t.what = suffix == "udp" ? target::kind::udp : target::kind::tcp;
        text.remove_suffix(4);
        lowered = true;
    }
    std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) return std::nullopt;
    std::string_view host = text.substr(0, colon), port = text.substr(colon + 1);
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']')
        host = host.substr(1, host.size() - 2);
    else if (host.find(':') != std::string_view::npos)
        return std::nullopt;
    unsigned number = 0;
    auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
    if (error != std::errc{} || end != port.data() + port.size() || number < 1 || number > 65535)
        return std::nullopt;
    bool plain = std::all_of(host.begin(), host.end(), [](char c) {
        return c > ' ' && c < 127 && c != '/' && c != '\\' && c != '[' && c != ']';
    });
    if (!plain) return std::nullopt;
    t.host = lowered ? lower(host) : std::string(host);
    if (t.host.empty()) t.host = "127.0.0.1";  // as Go's dialer takes ":80"
    t.port = static_cast<std::uint16_t>(number);
    return t;
}

}  // namespace burin::relay
