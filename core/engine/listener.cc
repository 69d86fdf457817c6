#include "core/engine/listener.hh"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/engine/path_congestion.hh"
#include "core/relay/datagram_socket.hh"

namespace burin::engine {

namespace {
// Long enough that a worker without descriptors is idle, short enough that nobody waits noticeably
// for a freed one.
constexpr ring::microseconds_t pause = 100 * ring::millisecond;
constexpr int backlog = 4096;
// A process that was killed holds its port until the kernel has taken its rings down, some 50 ms,
// and over a second where there are not processors enough: whoever starts it again at once would
// find the port busy.
constexpr int busy_tries = 100;
constexpr unsigned busy_wait_us = 20'000;
}  // namespace

namespace {

// One address to bind to; nullptr and a sentence when there is none.
addrinfo* own_address(const std::string& host, std::uint16_t port, int type,
                      const std::string& what, std::string& error) {
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = type;
    hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
    int e = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
    if (e == 0) return found;
    error = fmt::format("listen {}: {}", what, gai_strerror(e));
    return nullptr;
}

std::string host_and_port(const std::string& host, std::uint16_t port) {
    return fmt::format("{}:{}", host.find(':') == host.npos ? host : "[" + host + "]", port);
}

}  // namespace

int bind_datagrams(const std::string& host, std::uint16_t port, std::string& error) {
    const std::string what = "udp " + host_and_port(host, port);
    addrinfo* found = own_address(host, port, SOCK_DGRAM, what, error);
    if (found == nullptr) return -1;
    int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0;
    int e = errno;
    freeaddrinfo(found);
    if (good) {
        relay::widen_receive_buffer(fd);
        return fd;
    }
    if (fd >= 0) ::close(fd);
    error = fmt::format("listen {}: bind: {}", what, relay::errno_words(e));
    return -1;
}

int listen_on(const std::string& host, std::uint16_t port, std::string& error,
              const std::string& congestion) {
    const std::string where = host_and_port(host, port);
    addrinfo* found = own_address(host, port, SOCK_STREAM, "tcp " + where, error);
    if (found == nullptr) return -1;
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    // Inherited by every accepted socket.
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0 &&
                setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0 &&
                (congestion.empty() || set_congestion_control(fd, congestion));
    int idle = 15;
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &idle, sizeof idle);
    int e = errno;
    for (int tries = 0; good && ::bind(fd, found->ai_addr, found->ai_addrlen) != 0; ++tries) {
        e = errno;
        good = e == EADDRINUSE && tries < busy_tries;
        if (good) usleep(busy_wait_us);
    }
    if (good && ::listen(fd, backlog) != 0) {
        e = errno;
        good = false;
    }
    freeaddrinfo(found);
    if (good) return fd;
    if (fd >= 0) ::close(fd);
    error = fmt::format("listen tcp {}: bind: {}", where, relay::errno_words(e));
    return -1;
}

relay::endpoint peer_of(int descriptor) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (getpeername(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
    return relay::endpoint::from(reinterpret_cast<sockaddr*>(&address), size)
        .value_or(relay::endpoint{});
}

listener::listener(worker& w, int descriptor, void* owner, function accepted,
                   short_function ran_out)
    : _worker(w), _descriptor(descriptor), _owner(owner), _accepted(accepted), _ran_out(ran_out) {
    _worker.ring().accept(_accept, _descriptor);
}

listener::~listener() {
    ::close(_descriptor);
}

bool listener::stop() noexcept {
    _stopping = true;
    _resume.disarm();
    if (_accept.in_flight && !_cancel.in_flight) _worker.ring().cancel(_cancel, _descriptor);
    return !_accept.in_flight && !_cancel.in_flight;
}

void listener::on_accepted(ring::completion c) noexcept {
    if (c.result >= 0) {
        if (_stopping)
            ::close(c.result);
        else
            _accepted(_owner, c.result);
    }
    if (c.more() || _stopping) return;
    // A connection that was gone before it was taken is no reason to wait, nor is a full queue of
    // completions; whatever else keeps us from taking any does so for a while.
    if (c.result < 0 && c.result != -ECONNABORTED && c.result != -EINTR && c.result != -EAGAIN) {
        ++_pauses;
        if (_ran_out != nullptr) _ran_out(_owner);
        _worker.timers().arm(_resume, _worker.now() + pause);
        return;
    }
    _worker.ring().accept(_accept, _descriptor);
}

void listener::on_resume(ring::microseconds_t) noexcept {
    if (!_stopping && !_accept.in_flight) _worker.ring().accept(_accept, _descriptor);
}

}  // namespace burin::engine
