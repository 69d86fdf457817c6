// A DNS server for tests (RFC 1035): a thread, UDP and TCP on one free port of 127.0.0.1, answers
// by name. Written apart from the code under test.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

namespace burin::relay {

struct zone_entry {
    std::vector<std::string> v4 = {}, v6 = {};
    int rcode = 0;           // 2 SERVFAIL, 3 NXDOMAIN, 5 REFUSED
    bool silent = false;     // no answer at all
    bool truncated = false;  // UDP says: ask again by TCP
    bool garbage = false;    // an answer that is none
};

class name_server {
  public:
    explicit name_server(std::map<std::string, zone_entry> zone) : _zone(std::move(zone)) {
        // The same port for both: the kernel picks UDP's, TCP may have to try again.
        for (int attempt = 0; attempt < 100; ++attempt) {
            sockaddr_in at{};
            at.sin_family = AF_INET;
            at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            _udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
            _tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            int room = 4 << 20;
            setsockopt(_udp, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
            socklen_t size = sizeof at;
            if (bind(_udp, reinterpret_cast<sockaddr*>(&at), size) == 0 &&
                getsockname(_udp, reinterpret_cast<sockaddr*>(&at), &size) == 0 &&
                bind(_tcp, reinterpret_cast<sockaddr*>(&at), size) == 0 && listen(_tcp, 8) == 0) {
                _port = ntohs(at.sin_port);
                if (pipe(_stop) != 0) std::abort();
                _thread = std::thread([this] { serve(); });
                return;
            }
            close(_udp);
            close(_tcp);
        }
        std::abort();
    }
    ~name_server() {
        close(_stop[1]);
        _thread.join();
        for (int fd : {_udp, _tcp, _stop[0]}) close(fd);
    }
    name_server(const name_server&) = delete;
    name_server& operator=(const name_server&) = delete;

    std::string servers() const { return "127.0.0.1:" + std::to_string(_port); }
    unsigned questions() const { return _questions; }
    unsigned by_tcp() const { return _by_tcp; }

  private:
    void serve() {
        for (;;) {
            pollfd ready[3] = {{_udp, POLLIN, 0}, {_tcp, POLLIN, 0}, {_stop[0], POLLIN, 0}};
            if (poll(ready, 3, -1) < 0) continue;
            if (ready[2].revents != 0) return;
            if (ready[0].revents != 0) serve_udp();
            if (ready[1].revents != 0) serve_tcp();
        }
    }
    void serve_udp() {
        char in[1500];
        sockaddr_in from{};
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(_udp, in, sizeof in, 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 12) return;
        std::string out = reply(std::string(in, static_cast<std::size_t>(got)), false);
        if (!out.empty())
            sendto(_udp, out.data(), out.size(), 0, reinterpret_cast<sockaddr*>(&from), size);
    }
    void serve_tcp() {
        int peer = accept(_tcp, nullptr, nullptr);
        unsigned char head[2];
        while (recv(peer, head, 2, MSG_WAITALL) == 2) {
            std::string in(static_cast<std::size_t>(head[0]) << 8 | head[1], '\0');
            if (recv(peer, in.data(), in.size(), MSG_WAITALL) != static_cast<ssize_t>(in.size()))
                break;
            ++_by_tcp;
            std::string out = reply(in, true);
            std::string framed = u16(out.size()) + out;
            if (send(peer, framed.data(), framed.size(), MSG_NOSIGNAL) < 0) break;
        }
        close(peer);
    }
    static std::string u16(std::size_t value) {
        return {static_cast<char>(value >> 8), static_cast<char>(value)};
    }
    std::string reply(const std::string& in, bool tcp) {
        ++_questions;
        std::string name;
        std::size_t at = 12;
        while (at < in.size() && in[at] != 0) {
            std::size_t label = static_cast<unsigned char>(in[at]);
            if (!name.empty()) name += '.';
            name += in.substr(at + 1, label);
            at += label + 1;
        }
        std::size_t end = at + 5;
        if (end > in.size()) return {};
        unsigned type = static_cast<unsigned char>(in[at + 2]);
        auto known = _zone.find(name);
        zone_entry entry = known != _zone.end() ? known->second : zone_entry{.rcode = 3};
        if (entry.silent) return {};
        if (entry.garbage) return in.substr(0, 2) + std::string(7, '\xff');
        std::string records;
        std::size_t count = 0;
        auto add = [&](int family, const std::vector<std::string>& texts) {
            for (const std::string& text : texts) {
                char raw[16];
                inet_pton(family, text.c_str(), raw);
                std::size_t bytes = family == AF_INET ? 4 : 16;
                // A pointer to the question's name, class IN, a minute to live.
                records += u16(0xc00c) + u16(type) + u16(1) + u16(0) + u16(60) + u16(bytes);
                records.append(raw, bytes);
                ++count;
            }
        };
        if (type == 1) add(AF_INET, entry.v4);
        if (type == 28) add(AF_INET6, entry.v6);
        bool cut = entry.truncated && !tcp;
        if (cut) records.clear();
        std::size_t flags = 0x8180u | (cut ? 0x0200u : 0u) | static_cast<unsigned>(entry.rcode);
        return in.substr(0, 2) + u16(flags) + u16(1) + u16(cut ? 0 : count) + u16(0) + u16(0) +
               in.substr(12, end - 12) + records;
    }

    std::map<std::string, zone_entry> _zone;
    int _udp = -1, _tcp = -1, _stop[2] = {-1, -1};
    std::uint16_t _port = 0;
    std::atomic<unsigned> _questions{0}, _by_tcp{0};
    std::thread _thread;
};

}  // namespace burin::relay
