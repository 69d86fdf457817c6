#include "core/engine/path_congestion.hh"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <vector>

#include "core/relay/dialer.hh"

namespace burin::engine {

namespace {

constexpr std::size_t longest_name = 15;  // TCP_CA_NAME_MAX with its end

// Words of a sysctl below net.ipv4.
std::vector<std::string> words_of(const std::string& name) {
    std::ifstream file("/proc/sys/net/ipv4/" + name);
    return {std::istream_iterator<std::string>(file), {}};
}

std::string joined(const std::vector<std::string>& words) {
    return fmt::format("{}", fmt::join(words, " "));
}

}  // namespace

bool sound_congestion_name(std::string_view name) noexcept {
    return !name.empty() && name.size() <= longest_name && std::ranges::all_of(name, [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
    });
}

bool set_congestion_control(int descriptor, const std::string& name) noexcept {
    return setsockopt(descriptor, IPPROTO_TCP, TCP_CONGESTION, name.data(),
                      static_cast<socklen_t>(name.size())) == 0;
}

bool allowed_to_all(std::string_view name) {
    return std::ranges::count(words_of("tcp_allowed_congestion_control"), name) != 0;
}

std::string why_no_congestion_control(const std::string& name) {
    const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool good = probe >= 0 && set_congestion_control(probe, name);
    const int e = errno;
    if (probe >= 0) ::close(probe);
    if (good) return {};
    if (e == ENOENT)
        return fmt::format(
            "--congestion {}: the kernel has none of that name; it has: {} (modprobe tcp_{} may "
            "bring it)",
            name, joined(words_of("tcp_available_congestion_control")), name);
    if (e == EPERM) {
        std::vector<std::string> allowed = words_of("tcp_allowed_congestion_control");
        const std::string now = joined(allowed);
        allowed.push_back(name);
        return fmt::format(
            "--congestion {}: this user may choose among: {}; sysctl -w "
            "net.ipv4.tcp_allowed_congestion_control='{}' allows it, or CAP_NET_ADMIN",
            name, now, joined(allowed));
    }
    return fmt::format("--congestion {}: {}", name, relay::errno_words(e));
}

}  // namespace burin::engine
