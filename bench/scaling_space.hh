// Two network namespaces without a name, joined by a veth pair, in which everything is measured:
//
//   gate 10.98.0.1 ---- wire (veth) ---- 10.98.0.2 cloud, 10.98.1.1 (the destination)
//
// They are held by descriptors of this process and by the processes in them, so they go with the
// last of these, however the run ends. From the gate the destination is reached through a tunnel
// only. Made by netlink alone; without root, in a user namespace where the kernel grants one.
//
// Congestion control: a fresh namespace begins with what the machine has set and refuses any
// algorithm that net.ipv4.tcp_allowed_congestion_control of the first one does not name
// (docs/performance.md). What is not named is added there, and a process of its own puts the list
// back when this one is gone, whatever ended it.
#pragma once

#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <string>

#include "bench/scaling_machine.hh"
#include "tun/descriptor.hh"
#include "tun/netlink.hh"

namespace scaling {

inline constexpr const char* gate_address = "10.98.0.1";
inline constexpr const char* cloud_address = "10.98.0.2";
inline constexpr const char* destination = "10.98.1.1";
inline constexpr const char* wire = "wire";

[[noreturn]] inline void fail(const std::string& what) {
    throw trouble(what + ": " + std::strerror(errno));
}

inline bool write_text(const std::string& path, const std::string& text) {
    const burin::tun::descriptor file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    return file &&
           ::write(file.number(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

// Makes `name` available to fresh namespaces while it lives.
class allowed_congestion {
  public:
    explicit allowed_congestion(const std::string& name) {
        static constexpr const char* path = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
        const std::string before = first_line(path);
        if ((" " + before + " ").find(" " + name + " ") != std::string::npos) return;
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) fail("pipe");
        _end = burin::tun::descriptor(ends[1]);
        const burin::tun::descriptor told(ends[0]);
        _keeper = ::fork();
        if (_keeper < 0) fail("fork");
        if (_keeper == 0) {
            // Outlives whatever ends the others, and does one thing when they are gone.
            ::setsid();
            for (int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(s, SIG_IGN);
            _end.close();
            char none;
            while (::read(told.number(), &none, 1) < 0 && errno == EINTR) {
            }
            std::_Exit(write_text(path, before) ? 0 : 1);
        }
        if (!write_text(path, before + " " + name)) _refused = std::strerror(errno);
    }
    ~allowed_congestion() {
        if (_keeper <= 0) return;
        _end.close();
        ::waitpid(_keeper, nullptr, 0);
    }
    allowed_congestion(const allowed_congestion&) = delete;
    allowed_congestion& operator=(const allowed_congestion&) = delete;
    // Why the list could not be changed; empty: it could, or there was no need to.
    const std::string& refused() const noexcept { return _refused; }

  private:
    burin::tun::descriptor _end;
    pid_t _keeper = 0;
    std::string _refused;
};

class space {
  public:
    explicit space(const std::string& congestion) : _allowed(congestion) {
        fresh("the first network namespace");
        _gate = current();
        if (::unshare(CLONE_NEWNET) != 0) fail("cannot make the second network namespace");
        _cloud = current();
        settle(congestion);
        link_up("lo");
        address("lo", destination, 32);
        enter(_gate);
        settle(congestion);
        link_up("lo");
        make_pair();
        address(wire, gate_address, 30);
        link_up(wire);
        enter(_cloud);
        address(wire, cloud_address, 30);
        link_up(wire);
        enter(_gate);
        auto route = netlink().route_to(*burin::tun::ip_address::parse(destination));
        if (route)
            throw trouble(std::string(destination) +
                          " is reached without a tunnel: nothing would be measured");
    }

    int gate() const noexcept { return _gate.number(); }
    int cloud() const noexcept { return _cloud.number(); }
    // Made without root.
    bool in_user_namespace() const noexcept { return _user_namespace; }
    // What the namespaces use, and why it is not what was wanted.
    const std::string& congestion() const noexcept { return _congestion; }
    const std::string& complaint() const noexcept { return _complaint; }

  private:
    static burin::tun::descriptor current() {
        burin::tun::descriptor own(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
        if (!own) fail("cannot open /proc/self/ns/net (is /proc mounted?)");
        return own;
    }
    static void enter(const burin::tun::descriptor& where) {
        if (::setns(where.number(), CLONE_NEWNET) != 0) fail("setns");
    }
    static burin::tun::netlink netlink() {
        auto opened = burin::tun::netlink::open();
        if (!opened) throw trouble(opened.error().what);
        return std::move(opened).value();
    }

    void fresh(const char* what) {
        if (::unshare(CLONE_NEWNET) == 0) return;
        const int refused = errno;
        const unsigned user = ::geteuid(), group = ::getegid();
        if (refused == EPERM && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0) {
            write_text("/proc/self/setgroups", "deny");
            if (write_text("/proc/self/uid_map", "0 " + std::to_string(user) + " 1") &&
                write_text("/proc/self/gid_map", "0 " + std::to_string(group) + " 1")) {
                _user_namespace = true;
                return;
            }
        }
        errno = refused;
        fail(std::string("cannot make ") + what +
             " (root can; so can others where user namespaces are allowed)");
    }

    // What holds for all sockets of the namespace that this thread is in.
    void settle(const std::string& congestion) {
        static constexpr const char* path = "/proc/sys/net/ipv4/tcp_congestion_control";
        if (!write_text(path, congestion))
            _complaint = congestion + " is refused (" + std::strerror(errno) + ")" +
                         (_allowed.refused().empty() ? "" : ", and so is allowing it");
        _congestion = first_line(path);
        // A path's memory of the last connection would meet the next one.
        write_text("/proc/sys/net/ipv4/tcp_no_metrics_save", "1");
        // Its addresses come and go by themselves, and routes that change are news to every worker.
        for (const char* which : {"all", "default"})
            write_text(std::string("/proc/sys/net/ipv6/conf/") + which + "/disable_ipv6", "1");
    }

    static void link_up(const char* name) {
        auto kernel = netlink();
        auto found = kernel.find_link(name);
        if (!found) throw trouble(found.error().what);
        if (auto bad = kernel.change_link(found->index, {.up = true}))
            throw trouble(std::string("cannot set ") + name + " up: " + bad.what);
    }

    static void address(const char* name, const char* text, unsigned prefix) {
        auto kernel = netlink();
        auto found = kernel.find_link(name);
        if (!found) throw trouble(found.error().what);
        const auto parsed = burin::tun::ip_address::parse(text);
        if (auto bad = kernel.add_address(found->index, {*parsed, prefix}))
            throw trouble(std::string("cannot give ") + name + " the address " + text + ": " +
                          bad.what);
    }

    // From the gate: one end here, the other in the cloud (rtnetlink(7), linux/veth.h).
    void make_pair() {
        struct closer {
            void operator()(mnl_socket* s) const noexcept { ::mnl_socket_close(s); }
        };
        const std::unique_ptr<mnl_socket, closer> socket(::mnl_socket_open(NETLINK_ROUTE));
        if (socket == nullptr || ::mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) != 0)
            fail("cannot open route netlink");
        alignas(8) char buffer[4096] = {};
        nlmsghdr* message = ::mnl_nlmsg_put_header(buffer);
        message->nlmsg_type = RTM_NEWLINK;
        message->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        message->nlmsg_seq = 1;
        ::mnl_nlmsg_put_extra_header(message, sizeof(ifinfomsg));
        ::mnl_attr_put_strz(message, IFLA_IFNAME, wire);
        nlattr* info = ::mnl_attr_nest_start(message, IFLA_LINKINFO);
        ::mnl_attr_put_strz(message, IFLA_INFO_KIND, "veth");
        nlattr* data = ::mnl_attr_nest_start(message, IFLA_INFO_DATA);
        nlattr* peer = ::mnl_attr_nest_start(message, VETH_INFO_PEER);
        ::mnl_nlmsg_put_extra_header(message, sizeof(ifinfomsg));
        ::mnl_attr_put_strz(message, IFLA_IFNAME, wire);
        ::mnl_attr_put_u32(message, IFLA_NET_NS_FD, static_cast<std::uint32_t>(cloud()));
        ::mnl_attr_nest_end(message, peer);
        ::mnl_attr_nest_end(message, data);
        ::mnl_attr_nest_end(message, info);
        ssize_t size = ::mnl_socket_sendto(socket.get(), message, message->nlmsg_len);
        if (size > 0) size = ::mnl_socket_recvfrom(socket.get(), buffer, sizeof buffer);
        if (size < 0 || ::mnl_cb_run(buffer, static_cast<std::size_t>(size), 1,
                                     ::mnl_socket_get_portid(socket.get()), nullptr, nullptr) < 0)
            fail("cannot make a veth pair");
    }

    allowed_congestion _allowed;
    burin::tun::descriptor _gate, _cloud;
    bool _user_namespace = false;
    std::string _congestion, _complaint;
};

}  // namespace scaling
