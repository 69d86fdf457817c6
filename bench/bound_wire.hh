// What the two ends of bench_bound say to each other, and the sizes that they share with the tunnel
// (core/engine/worker.cc, core/engine/link.cc, core/relay/tun_queue.cc: whoever changes them there
// changes them here, or the bound is another program's).
//
// A packet is one of the tunnel's (RFC 4253 section 6 under AES-128-GCM, RFC 5647), and its payload
// has the shape of CHANNEL_DATA: a kind in one byte, the number of a stream and a count in four
// each, then the bytes.
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "crypto/packet_cipher.hh"
#include "crypto/wire.hh"
#include "ring/buffer_group.hh"

namespace bound {

using namespace burin;

[[noreturn, gnu::format(printf, 1, 2)]] inline void die(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::fputs("bench_bound: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputc('\n', stderr);
    va_end(arguments);
    std::exit(2);
}

enum class kind : std::uint8_t {
    open,   // the count is a port, the bytes are an IPv4 address: connect there
    data,   // the count is that of the bytes
    eof,    // no more of them
    reset,  // the stream is gone, whole or not
};
inline constexpr std::size_t head_bytes = 9;

// ---- sizes ----
inline constexpr std::uint32_t packet_bytes = 32768;       // payload of one packet at most
inline constexpr std::size_t arena_bytes = 512 * 1024;     // mapped for one send
inline constexpr std::size_t seal_bytes = 480 * 1024;      // of it, sealed packets
inline constexpr std::uint32_t turn_bytes = 512 * 1024;    // that sockets may bring in one turn
inline constexpr std::uint32_t least_receive = 16 * 1024;  // of one socket
inline constexpr ring::buffer_group::shape socket_shape{
    .id = 1, .bytes = 256 * 1024, .headroom = 0, .count = 128, .offered = 4, .chunk = 8};
inline constexpr ring::buffer_group::shape line_shape{
    .id = 2, .bytes = 256 * 1024, .headroom = 272 * 1024, .count = 128, .offered = 2, .chunk = 3};
inline constexpr ring::buffer_group::shape frame_shape{
    .id = 3, .bytes = 68 * 1024, .headroom = 0, .count = 128, .offered = 16, .chunk = 16};
// The simple bound that stands for windows: what may wait at an end for sockets and hosts to take
// it. The tunnel's windows leave one stream as much.
inline constexpr std::uint64_t most_waiting = 4u << 20;
// A host's window, and what all hosts together may have under way.
inline constexpr std::uint32_t most_share = 1u << 20, least_share = 16 * 1024;
inline constexpr std::uint64_t most_under_way = 8u << 20;
// Windows are not raised while more than two sends wait to be sealed.
inline constexpr std::uint64_t most_queued = 1u << 20;

// First in, first out, in memory that grows to the largest there ever was.
template <class T>
class fifo {
  public:
    bool empty() const noexcept { return _count == 0; }
    std::size_t size() const noexcept { return _count; }
    T& front() noexcept { return _items[_first]; }
    T& operator[](std::size_t at) noexcept { return _items[(_first + at) & (_items.size() - 1)]; }
    void push(T item) {
        if (_count == _items.size()) grow();
        _items[(_first + _count++) & (_items.size() - 1)] = std::move(item);
    }
    void pop() noexcept {
        _items[_first] = T{};
        _first = (_first + 1) & (_items.size() - 1);
        --_count;
    }

  private:
    void grow() {
        std::vector<T> larger(_items.size() * 2);
        for (std::size_t at = 0; at < _count; ++at) larger[at] = std::move((*this)[at]);
        _items = std::move(larger);
        _first = 0;
    }
    std::vector<T> _items = std::vector<T>(64);
    std::size_t _first = 0, _count = 0;
};

inline sockaddr_in address_of(const char* host, const char* port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    char* end = nullptr;
    const unsigned long number = std::strtoul(port, &end, 10);
    if (*port == '\0' || *end != '\0' || number == 0 || number > 65535)
        die("'%s' is not a port", port);
    address.sin_port = htons(static_cast<std::uint16_t>(number));
    if (::inet_pton(AF_INET, host, &address.sin_addr) != 1)
        die("'%s' is not an IPv4 address", host);
    return address;
}

inline const sockaddr* as_sockaddr(const sockaddr_in& address) {
    return reinterpret_cast<const sockaddr*>(&address);
}

// Blocking, as the tunnel's are: the ring waits, not the thread.
inline int new_socket() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket: %s", std::strerror(errno));
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    return fd;
}

inline int listen_on(const sockaddr_in& address) {
    const int fd = new_socket();
    if (::bind(fd, as_sockaddr(address), sizeof address) != 0 || ::listen(fd, 1024) != 0)
        die("port %u: %s", ntohs(address.sin_port), std::strerror(errno));
    return fd;
}

}  // namespace bound
