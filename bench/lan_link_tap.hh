// One end of an emulated link: a TAP device in a network namespace, whose frames this program reads
// and writes. Offloads stay off (nobody calls TUNSETOFFLOAD), so the kernel cuts superframes and
// fills in checksums before a frame comes out here: one frame is one packet of the MTU, and one
// loss one packet. The device goes with its descriptor.
#pragma once

#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/if_tun.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

namespace lan {

class owned_descriptor {
  public:
    explicit owned_descriptor(int number = -1) noexcept : _number(number) {}
    owned_descriptor(owned_descriptor&& other) noexcept
        : _number(std::exchange(other._number, -1)) {}
    owned_descriptor& operator=(owned_descriptor&& other) noexcept {
        std::swap(_number, other._number);
        return *this;
    }
    ~owned_descriptor() {
        if (_number >= 0) ::close(_number);
    }
    int number() const noexcept { return _number; }

  private:
    int _number;
};

// "NAMESPACE:DEVICE", or "DEVICE" in the namespace of this process. A namespace is a name of
// `ip netns` or the path of a file, as /proc/PID/ns/net.
struct place {
    std::string network;
    std::string device;

    static place parse(const std::string& text) {
        const std::size_t colon = text.rfind(':');
        if (colon == text.npos) return {{}, text};
        std::string network = text.substr(0, colon);
        if (!network.empty() && network.find('/') == network.npos)
            network = "/run/netns/" + network;
        return {network, text.substr(colon + 1)};
    }
};

class tap {
  public:
    // Up, with this MTU and room for `queue_frames` that were not read yet. Throws
    // std::runtime_error with a sentence. The calling thread is in its namespace again afterwards.
    tap(const place& where, unsigned mtu, unsigned queue_frames)
        : _name(where.device), _largest(mtu + header_bytes) {
        owned_descriptor home =
            must(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), "open this namespace");
        if (!where.network.empty()) {
            owned_descriptor there =
                must(::open(where.network.c_str(), O_RDONLY | O_CLOEXEC), "open " + where.network);
            if (::setns(there.number(), CLONE_NEWNET) != 0)
                throw std::runtime_error("cannot enter " + where.network + ": " +
                                         std::strerror(errno));
        }
        try {
            create(mtu, queue_frames);
        } catch (...) {
            if (::setns(home.number(), CLONE_NEWNET) != 0) std::abort();
            throw;
        }
        if (::setns(home.number(), CLONE_NEWNET) != 0) std::abort();
    }

    const std::string& name() const noexcept { return _name; }
    int number() const noexcept { return _queue.number(); }
    // 0: none is waiting. Ethernet's header is part of a frame.
    std::size_t read(std::span<std::uint8_t> into) noexcept {
        const ssize_t size = ::read(number(), into.data(), into.size());
        if (size > static_cast<ssize_t>(_largest)) ++_oversize;
        return size > 0 ? static_cast<std::size_t>(size) : 0;
    }
    void write(std::span<const std::uint8_t> frame) noexcept {
        if (::write(number(), frame.data(), frame.size()) < 0) ++_refused;
    }
    // Frames larger than the MTU, which would be superframes; that the kernel refused.
    std::uint64_t oversize() const noexcept { return _oversize; }
    std::uint64_t refused() const noexcept { return _refused; }
    // Frames that the kernel dropped because they were not read in time.
    std::uint64_t missed() const noexcept {
        char text[8192];
        const ssize_t size = ::pread(_statistics.number(), text, sizeof text - 1, 0);
        text[size > 0 ? size : 0] = 0;
        const char* line = std::strstr(text, (" " + _name + ":").c_str());
        unsigned long long value[12] = {};
        if (line == nullptr) return 0;
        line = std::strchr(line, ':') + 1;
        for (unsigned long long& one : value) {
            int length = 0;
            if (std::sscanf(line, "%llu%n", &one, &length) != 1) return 0;
            line += length;
        }
        return value[11];  // TX: dropped
    }

  private:
    static constexpr unsigned header_bytes = 14 + 4;  // a VLAN tag may stand in it

    owned_descriptor must(int number, const std::string& what) const {
        if (number < 0)
            throw std::runtime_error("cannot " + what + " for " + _name + ": " +
                                     std::strerror(errno));
        return owned_descriptor(number);
    }
    void create(unsigned mtu, unsigned queue_frames) {
        if (_name.empty() || _name.size() >= IFNAMSIZ)
            throw std::runtime_error("'" + _name + "' is no name for a device");
        _queue = must(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), "open /dev/net/tun");
        ifreq request{};
        _name.copy(request.ifr_name, IFNAMSIZ - 1);
        const auto order = [&](int descriptor, unsigned long what, const char* words) {
            if (::ioctl(descriptor, what, &request) != 0)
                throw std::runtime_error("cannot " + std::string(words) + " " + _name + ": " +
                                         std::strerror(errno));
        };
        request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | IFF_TUN_EXCL);
        order(number(), TUNSETIFF, "create");
        owned_descriptor control =
            must(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "open a socket");
        request.ifr_mtu = static_cast<int>(mtu);
        order(control.number(), SIOCSIFMTU, "set the MTU of");
        request.ifr_qlen = static_cast<int>(queue_frames);
        order(control.number(), SIOCSIFTXQLEN, "set the queue of");
        order(control.number(), SIOCGIFFLAGS, "look at");
        request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
        order(control.number(), SIOCSIFFLAGS, "set up");
        _statistics =
            must(::open("/proc/thread-self/net/dev", O_RDONLY | O_CLOEXEC), "read statistics");
    }

    std::string _name;
    std::size_t _largest;
    owned_descriptor _queue;
    owned_descriptor _statistics;
    std::uint64_t _oversize = 0, _refused = 0;
};

}  // namespace lan
