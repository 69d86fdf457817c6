// The TUN device: a network interface whose packets this program reads and writes, one queue a
// worker. It is never persistent: the kernel removes it, with its addresses and routes, when the
// last queue is closed, whichever way the process ends.
//
// Every frame on a queue starts with a virtio header of vnet_header_bytes, in the machine's byte
// order. Superframes are on: a read gives up to 64 KiB of one TCP flow with NEEDS_CSUM, a write may
// do the same. The descriptors block (the ring reads a non-blocking TUN wrongly) and are
// close-on-exec. The device owns them until take_queue() hands one over; the interface lives as
// long as one of them does. After io_uring held a queue, its name stays busy for some 50 ms after
// the close: open() waits for that.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tun/descriptor.hh"
#include "tun/outcome.hh"

namespace burin::tun {

inline constexpr std::size_t vnet_header_bytes = 10;

// UDP superframes (USO), from Linux 6.2; an older kernel says no and the device works without.
enum class udp_segmentation { off, wanted };
enum class carrier { off, on };

struct device_settings {
    // 1 to 15 characters; a single "%d" stands for the first number that is free.
    std::string name = "burin%d";
    unsigned queues = 1;  // 1 to 256
    udp_segmentation udp = udp_segmentation::off;
};

class device {
  public:
    // Creates the interface, down and without addresses (see routes.hh). Needs CAP_NET_ADMIN in the
    // network namespace of the calling thread. Errors: ENOENT and the like (no /dev/net/tun),
    // EPERM, EBUSY (the name is taken, after one second of trying), EINVAL (a bad name or count).
    static outcome<device> open(const device_settings&);

    const std::string& name() const noexcept { return _name; }
    int index() const noexcept { return _index; }  // the interface's, as in netlink
    std::size_t queues() const noexcept { return _queues.size(); }
    // What open() got, not what was asked for.
    bool udp_segmentation_on() const noexcept { return _udp; }

    // The descriptor of a queue; still owned here. -1 once taken.
    int queue(std::size_t number) const noexcept { return _queues[number].number(); }
    // Hands a queue to its worker.
    descriptor take_queue(std::size_t number) noexcept { return std::move(_queues[number]); }

    // Tells the kernel's routing and whoever watches the link; routes stay, unless the
    // administrator set ignore_routes_with_linkdown. The device opens with its carrier on. Needs a
    // queue held here.
    failure set_carrier(carrier);

  private:
    device() = default;

    std::string _name;
    int _index = 0;
    bool _udp = false;
    std::vector<descriptor> _queues;
};

}  // namespace burin::tun
