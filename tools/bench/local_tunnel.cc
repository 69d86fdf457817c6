#include "tools/bench/local_tunnel.hh"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <span>
#include <stdexcept>

#include "crypto/base64.hh"
#include "crypto/random.hh"
#include "crypto/secret.hh"

namespace burin::tools::bench {

namespace {

constexpr double ready_seconds = 20;
// Between our look at a port and the child's bind another may take it.
constexpr int attempts = 5;

std::string free_port() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    auto* address = reinterpret_cast<sockaddr*>(&where);
    const bool found =
        fd >= 0 && ::bind(fd, address, size) == 0 && ::getsockname(fd, address, &size) == 0;
    const int error = errno;
    if (fd >= 0) ::close(fd);
    if (!found)
        throw std::runtime_error(std::string("no free port on 127.0.0.1: ") + std::strerror(error));
    return std::to_string(ntohs(where.sin_port));
}

std::vector<std::string> joined(std::vector<std::string> words,
                                const std::vector<std::string>& more,
                                const std::vector<std::string>& last) {
    words.insert(words.end(), more.begin(), more.end());
    words.insert(words.end(), last.begin(), last.end());
    return words;
}

// Starts on a free port, and on another if that was taken meanwhile.
template <class Start>
std::string on_free_port(const Start& start) {
    for (int attempt = 1;; ++attempt) {
        const std::string port = free_port();
        try {
            start(port);
            return port;
        } catch (const std::runtime_error& e) {
            const bool taken = std::string_view(e.what()).find("in use") != std::string_view::npos;
            if (!taken || attempt == attempts) throw;
        }
    }
}

}  // namespace

local_tunnel::local_tunnel(const std::vector<std::string>& server_flags,
                           const std::vector<std::string>& client_flags) {
    destination = std::make_unique<child>(
        "the far end of the load", std::vector<std::string>{"bench", "serve", "127.0.0.1:0"});
    direct_port =
        destination->wait_for(std::regex("isten[a-z]* on 127\\.0\\.0\\.1:(\\d+)"), ready_seconds);

    std::array<std::byte, 18> secret;
    crypto::fill_random(secret);
    std::string password = crypto::base64(secret);
    crypto::wipe(secret);
    std::string text;
    text.reserve(64);
    text.append("bench:").append(password);
    crypto::wipe(password.data(), password.size());
    const crypto::secret_string login = crypto::secret_string::take(text);
    std::string fingerprint;
    const std::string server_port = on_free_port([&](const std::string& port) {
        server = std::make_unique<child>(
            "burin server",
            joined({"server", "--host", "127.0.0.1", "--port", port}, server_flags, {}),
            std::initializer_list<child::variable>{{"AUTH", login.view()}});
        fingerprint = server->wait_for(std::regex("Fingerprint (\\S+)"), ready_seconds);
        server->wait_for(std::regex("Listening on "), ready_seconds);
    });
    tunnel_port = on_free_port([&](const std::string& port) {
        client = std::make_unique<child>(
            "burin client",
            joined({"client", "--fingerprint", fingerprint, "--max-retry-count", "0"}, client_flags,
                   {"http://127.0.0.1:" + server_port,
                    "127.0.0.1:" + port + ":127.0.0.1:" + direct_port}),
            std::initializer_list<child::variable>{{"AUTH", login.view()}});
        client->wait_for(std::regex("Connected"), ready_seconds);
    });
}

std::string local_tunnel::gone() {
    for (const auto& one : {&client, &server, &destination})
        if (std::string words = (*one)->gone(); !words.empty()) return words;
    return {};
}

}  // namespace burin::tools::bench
