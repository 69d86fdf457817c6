#include "tun/device.hh"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <time.h>

#include <linux/if_tun.h>

#include <cerrno>
#include <cstring>
#include <string_view>

namespace burin::tun {
namespace {

constexpr const char* clone_device = "/dev/net/tun";
constexpr unsigned max_queues = 256;  // MAX_TAP_QUEUES of the kernel's driver

// A ring that held a queue lets go of it up to 55 ms after the close (measured); a second covers a
// loaded machine, and is short enough to wait for when the name is really taken.
constexpr int busy_tries = 50;
constexpr long busy_pause_ns = 20'000'000;

// From Linux 6.2's if_tun.h; the headers of Debian 12 are older.
constexpr unsigned offload_uso4 = 0x20;
constexpr unsigned offload_uso6 = 0x40;
constexpr unsigned offload_tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;

std::string reason(int error) {
    return std::strerror(error);
}

// What the kernel's dev_valid_name() and its name templates accept.
failure check(const device_settings& settings) {
    const std::string& name = settings.name;
    auto bad = [&](std::string why) {
        return failure{EINVAL, "cannot name a TUN device '" + name + "': " + why};
    };
    if (name.empty() || name.size() >= IFNAMSIZ)
        return bad("a name has 1 to " + std::to_string(IFNAMSIZ - 1) + " characters");
    if (name == "." || name == "..") return bad("the kernel reserves it");
    for (char c : name) {
        if (c <= ' ' || c > '~' || c == '/' || c == ':')
            return bad("letters, digits, '-', '_' and '.' are allowed");
    }
    std::size_t percent = name.find('%');
    if (percent != name.npos &&
        (name.compare(percent, 2, "%d") != 0 || name.find('%', percent + 1) != name.npos))
        return bad("'%' may stand only in one %d, which becomes a free number");
    if (settings.queues == 0 || settings.queues > max_queues)
        return {EINVAL, "a TUN device has 1 to " + std::to_string(max_queues) + " queues, not " +
                            std::to_string(settings.queues)};
    return {};
}

failure explain_open(int error) {
    std::string what = std::string("cannot open ") + clone_device + ": " + reason(error);
    switch (error) {
        case ENOENT:
        case ENODEV:
        case ENXIO:
            what +=
                "; load the driver (modprobe tun), or give the container the device "
                "(--device /dev/net/tun)";
            break;
        case EACCES:
        case EPERM: what += "; run as root, or give this user and container access to it"; break;
        default: break;
    }
    return {error, what};
}

failure explain_attach(int error, const std::string& name) {
    std::string what = "cannot create TUN device " + name + ": " + reason(error);
    switch (error) {
        case EPERM:
        case EACCES:
            what +=
                "; creating a network device needs CAP_NET_ADMIN: run as root, or with "
                "setcap cap_net_admin+ep, or --cap-add NET_ADMIN in a container";
            break;
        case EBUSY:
            what +=
                "; a device of that name exists: choose another name, stop its owner, or "
                "remove it (ip link delete " +
                name + ")";
            break;
        case ENFILE:
        case EEXIST: what += "; no free number is left for the name"; break;
        case EINVAL:
            what += "; the kernel's TUN driver lacks IFF_VNET_HDR or several queues";
            break;
        default: break;
    }
    return {error, what};
}

// Attaches a queue; `name` in: wanted, out: what it became. Returns 0 or an errno.
int attach(int fd, std::string& name, unsigned flags) {
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_flags = static_cast<short>(flags);
    for (int attempt = 1; ioctl(fd, TUNSETIFF, &request) != 0; ++attempt) {
        bool once_more = errno == EINTR || (errno == EBUSY && attempt < busy_tries);
        if (!once_more) return errno;
        timespec pause{0, busy_pause_ns};
        if (errno == EBUSY) nanosleep(&pause, nullptr);
    }
    name = request.ifr_name;
    return 0;
}

}  // namespace

outcome<device> device::open(const device_settings& settings) {
    if (failure bad = check(settings)) return bad;
    device opened;
    opened._name = settings.name;
    unsigned flags = IFF_TUN | IFF_NO_PI | IFF_VNET_HDR;
    if (settings.queues > 1) flags |= IFF_MULTI_QUEUE;
    for (unsigned number = 0; number < settings.queues; ++number) {
        descriptor queue(::open(clone_device, O_RDWR | O_CLOEXEC));
        if (!queue) return explain_open(errno);
        // Exclusive for the first queue: a persistent device that somebody else made is not ours.
        unsigned exclusive = number == 0 ? unsigned{IFF_TUN_EXCL} : 0U;
        if (int error = attach(queue.number(), opened._name, flags | exclusive); error != 0)
            return explain_attach(error, opened._name);
        int header = vnet_header_bytes;
        if (ioctl(queue.number(), TUNSETVNETHDRSZ, &header) != 0)
            return failure{errno, "cannot set the packet header size of " + opened._name + ": " +
                                      reason(errno)};
        opened._queues.push_back(std::move(queue));
    }
    int first = opened.queue(0);
    // The driver takes USO for both IP versions or not at all.
    opened._udp = settings.udp == udp_segmentation::wanted &&
                  ioctl(first, TUNSETOFFLOAD, offload_tcp | offload_uso4 | offload_uso6) == 0;
    if (!opened._udp && ioctl(first, TUNSETOFFLOAD, offload_tcp) != 0)
        return failure{
            errno, "cannot turn on TCP segmentation for " + opened._name + ": " + reason(errno)};
    opened._index = static_cast<int>(if_nametoindex(opened._name.c_str()));
    if (opened._index == 0)
        return failure{errno, "cannot look up TUN device " + opened._name + ": " + reason(errno)};
    return opened;
}

failure device::set_carrier(carrier wanted) {
    int on = wanted == carrier::on ? 1 : 0;
    for (const descriptor& queue : _queues) {
        if (!queue) continue;
        if (ioctl(queue.number(), TUNSETCARRIER, &on) == 0) return {};
        return {errno, "cannot set the carrier of " + _name + ": " + reason(errno)};
    }
    return {EBADF, "cannot set the carrier of " + _name + ": its queues were handed over"};
}

}  // namespace burin::tun
