// The TUN device and the kernel's view of it, each case in a network namespace of its own. Needs
// root and /dev/net/tun; says so and skips where there is neither.
#include "tun/device.hh"

#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>

#include "tests/catch.hh"
#include "tests/unit/tun/namespace.hh"
#include "tun/netlink.hh"
#include "tun/routes.hh"

using namespace burin::tun;

namespace {

// Whether the interface has a feature, asked by the old ethtool commands that name just one.
bool feature(const std::string& name, unsigned command) {
    descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ethtool_value value{};
    value.cmd = command;
    ifreq request{};
    name.copy(request.ifr_name, IFNAMSIZ - 1);
    request.ifr_data = reinterpret_cast<char*>(&value);
    REQUIRE(ioctl(socket.number(), SIOCETHTOOL, &request) == 0);
    return value.data != 0;
}

bool exists(const std::string& name) {
    return if_nametoindex(name.c_str()) != 0;
}

// The kernel takes a device away after the close returned or the process was reaped, at its own
// time.
bool goes_away(const std::string& name) {
    auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (exists(name) && std::chrono::steady_clock::now() < until) usleep(5000);
    return !exists(name);
}

}  // namespace

TEST_CASE("a device opens with its queues, offloads and flags", "[device]") {
    NEEDS_NAMESPACE(inside);
    unsigned queues = GENERATE(1U, 2U, 4U);
    auto opened = device::open({"burin%d", queues});
    INFO((opened ? std::string() : opened.error().what));
    REQUIRE(opened.ok());
    device& tun = opened.value();
    CHECK(tun.name() == "burin0");
    CHECK(tun.index() == static_cast<int>(if_nametoindex("burin0")));
    REQUIRE(tun.queues() == queues);
    for (unsigned i = 0; i < queues; ++i) {
        int flags = fcntl(tun.queue(i), F_GETFL);
        CHECK((flags & O_NONBLOCK) == 0);
        CHECK((fcntl(tun.queue(i), F_GETFD) & FD_CLOEXEC) != 0);
        int header = 0;
        CHECK(ioctl(tun.queue(i), TUNGETVNETHDRSZ, &header) == 0);
        CHECK(header == static_cast<int>(vnet_header_bytes));
        ifreq request{};
        REQUIRE(ioctl(tun.queue(i), TUNGETIFF, &request) == 0);
        unsigned got = static_cast<unsigned short>(request.ifr_flags);
        CHECK((got & IFF_TUN) != 0);
        CHECK((got & IFF_NO_PI) != 0);
        CHECK((got & IFF_VNET_HDR) != 0);
        CHECK((got & IFF_PERSIST) == 0);
        CHECK(((got & IFF_MULTI_QUEUE) != 0) == (queues > 1));
    }
    CHECK(feature(tun.name(), ETHTOOL_GTXCSUM));
    CHECK(feature(tun.name(), ETHTOOL_GTSO));
    CHECK_FALSE(tun.udp_segmentation_on());
}

TEST_CASE("UDP segmentation is taken where the kernel has it", "[device]") {
    NEEDS_NAMESPACE(inside);
    auto opened = device::open({"burin%d", 1, udp_segmentation::wanted});
    REQUIRE(opened.ok());
    // An older kernel must still leave TCP's on.
    CHECK(feature(opened->name(), ETHTOOL_GTSO));
}

TEST_CASE("a device and what was set on it go with its descriptors", "[device]") {
    NEEDS_NAMESPACE(inside);
    unsigned queues = GENERATE(1U, 3U);
    std::string name = "gone" + std::to_string(queues);
    {
        auto opened = device::open({name, queues});
        REQUIRE(opened.ok());
        device& tun = opened.value();
        // A worker's queue outlives the object and keeps the device.
        descriptor taken = tun.take_queue(0);
        CHECK(tun.queue(0) == -1);
        {
            device dying = std::move(tun);
        }
        CHECK(exists(name));
    }
    CHECK(goes_away(name));
    // And the name can be had again at once.
    auto again = device::open({name, queues});
    INFO((again ? std::string() : again.error().what));
    CHECK(again.ok());
}

TEST_CASE("numbers of a name template count up", "[device]") {
    NEEDS_NAMESPACE(inside);
    auto first = device::open({});
    auto second = device::open({});
    REQUIRE(first.ok());
    REQUIRE(second.ok());
    CHECK(first->name() == "burin0");
    CHECK(second->name() == "burin1");
}

TEST_CASE("a taken name is refused and says what to do", "[device]") {
    NEEDS_NAMESPACE(inside);
    auto first = device::open({"taken", 2});
    REQUIRE(first.ok());
    auto second = device::open({"taken", 2});
    REQUIRE_FALSE(second.ok());
    CHECK(second.error().code == EBUSY);
    CHECK(second.error().what ==
          "cannot create TUN device taken: Device or resource busy; a device of that name exists: "
          "choose another name, stop its owner, or remove it (ip link delete taken)");
    // The loopback device is no TUN at all: the same answer.
    auto loopback = device::open({"lo"});
    REQUIRE_FALSE(loopback.ok());
    CHECK(loopback.error().code == EBUSY);
}

TEST_CASE("a name that frees itself within a second is waited for", "[device]") {
    NEEDS_NAMESPACE(inside);
    auto first = device::open({"soon"});
    REQUIRE(first.ok());
    // A child holds the queue as an io_uring in teardown does, and lets go while the parent tries.
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        usleep(100'000);
        _exit(0);
    }
    first->take_queue(0).close();
    auto second = device::open({"soon"});
    INFO((second ? std::string() : second.error().what));
    CHECK(second.ok());
    int status = 0;
    waitpid(child, &status, 0);
}

TEST_CASE("bad names and counts are refused before the kernel sees them", "[device]") {
    auto message = [](device_settings settings) {
        auto opened = device::open(settings);
        REQUIRE_FALSE(opened.ok());
        CHECK(opened.error().code == EINVAL);
        return opened.error().what;
    };
    CHECK(message({""}) == "cannot name a TUN device '': a name has 1 to 15 characters");
    CHECK(message({"sixteen-letters-"}) ==
          "cannot name a TUN device 'sixteen-letters-': a name has 1 to 15 characters");
    CHECK(message({"a/b"}).find("letters, digits") != std::string::npos);
    CHECK(message({"a b"}).find("letters, digits") != std::string::npos);
    CHECK(message({".."}).find("reserves") != std::string::npos);
    CHECK(message({"a%s"}).find("%d") != std::string::npos);
    CHECK(message({"a%d%d"}).find("%d") != std::string::npos);
    CHECK(message({"ok", 0}) == "a TUN device has 1 to 256 queues, not 0");
    CHECK(message({"ok", 257}) == "a TUN device has 1 to 256 queues, not 257");
}

TEST_CASE("without CAP_NET_ADMIN the refusal names it", "[device]") {
    NEEDS_NAMESPACE(inside);
    int pipe_ends[2];
    REQUIRE(pipe(pipe_ends) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        // nobody; /dev/net/tun itself may refuse first, which is as clear an answer.
        if (setgid(65534) != 0 || setuid(65534) != 0) _exit(2);
        auto opened = device::open({"denied"});
        std::string text = opened ? "opened" : opened.error().what;
        ssize_t written = write(pipe_ends[1], text.data(), text.size());
        _exit(written == static_cast<ssize_t>(text.size()) ? 0 : 3);
    }
    close(pipe_ends[1]);
    char text[512] = {};
    ssize_t size = read(pipe_ends[0], text, sizeof text - 1);
    close(pipe_ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    REQUIRE(status == 0);
    REQUIRE(size > 0);
    std::string said(text);
    INFO(said);
    bool by_device = said.find("cannot open /dev/net/tun: Permission denied; run as root") == 0;
    bool by_capability = said.find("CAP_NET_ADMIN") != std::string::npos;
    CHECK((by_device || by_capability));
}

TEST_CASE("the carrier can be taken and given back", "[device]") {
    NEEDS_NAMESPACE(inside);
    auto opened = device::open({"wire"});
    REQUIRE(opened.ok());
    auto kernel = netlink::open();
    REQUIRE(kernel.ok());
    REQUIRE_FALSE(kernel->change_link(opened->index(), {{}, {}, true}));
    CHECK(kernel->find_link("wire")->running);
    CHECK_FALSE(opened->set_carrier(carrier::off));
    CHECK_FALSE(kernel->find_link("wire")->running);
    CHECK_FALSE(opened->set_carrier(carrier::on));
    CHECK(kernel->find_link("wire")->running);
    descriptor taken = opened->take_queue(0);
    CHECK(opened->set_carrier(carrier::on).code == EBADF);
}

TEST_CASE("packets pass both ways with their header", "[device]") {
    NEEDS_NAMESPACE(inside);
    auto opened = device::open({"carry"});
    REQUIRE(opened.ok());
    auto net = routes::open(opened->index(), opened->name());
    REQUIRE(net.ok());
    REQUIRE_FALSE(net->apply({{parse_interface("10.77.0.1/24").value()}, {}, {}}));
    descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage to{};
    socklen_t size = ip_address::parse("10.77.0.9")->socket_address(7, to);
    std::string text = "across";
    REQUIRE(sendto(socket.number(), text.data(), text.size(), 0, reinterpret_cast<sockaddr*>(&to),
                   size) == static_cast<ssize_t>(text.size()));
    // Router solicitations of the kernel's own may come before it.
    std::string frame(70'000, '\0');
    for (;;) {
        pollfd waiting{opened->queue(0), POLLIN, 0};
        REQUIRE(poll(&waiting, 1, 10'000) == 1);
        ssize_t got = read(opened->queue(0), frame.data(), frame.size());
        REQUIRE(got > static_cast<ssize_t>(vnet_header_bytes));
        if ((frame[vnet_header_bytes] & 0xf0) != 0x40) continue;
        CHECK(got == static_cast<ssize_t>(vnet_header_bytes + 20 + 8 + text.size()));
        CHECK(frame.substr(vnet_header_bytes + 28, text.size()) == text);
        break;
    }
}
