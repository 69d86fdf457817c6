#include "tun/netlink.hh"

#include <libmnl/libmnl.h>
#include <net/if.h>
#include <sys/socket.h>

#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace burin::tun {
namespace {

// Dumps come in buffers of up to 32 KiB (the kernel's limit for a receiver that asks for them).
constexpr std::size_t buffer_bytes = 32 * 1024;
constexpr int dump_tries = 3;

// Attributes of one message by number; those above the highest number asked for here are skipped.
struct attributes {
    static constexpr std::size_t count = RTA_TABLE + 1;
    static_assert(count > IFLA_TXQLEN && count > IFA_LOCAL && count > NLMSGERR_ATTR_MAX);
    std::array<const nlattr*, count> at{};

    attributes(const nlmsghdr& message, std::size_t header_bytes) {
        mnl_attr_parse(&message, static_cast<unsigned>(header_bytes), keep, this);
    }
    const nlattr* operator[](std::size_t type) const { return at[type]; }
    std::uint32_t u32(std::size_t type, std::uint32_t otherwise = 0) const {
        return at[type] != nullptr && mnl_attr_get_payload_len(at[type]) >= 4
                   ? mnl_attr_get_u32(at[type])
                   : otherwise;
    }
    std::optional<ip_address> address(std::size_t type) const { return address_of(at[type]); }

    static std::optional<ip_address> address_of(const nlattr* from) {
        if (from == nullptr) return {};
        if (mnl_attr_get_payload_len(from) == sizeof(in_addr)) {
            in_addr v4;
            std::memcpy(&v4, mnl_attr_get_payload(from), sizeof v4);
            return ip_address(v4);
        }
        if (mnl_attr_get_payload_len(from) == sizeof(in6_addr)) {
            in6_addr v6;
            std::memcpy(&v6, mnl_attr_get_payload(from), sizeof v6);
            return ip_address(v6);
        }
        return {};
    }

    static int keep(const nlattr* attribute, void* self) {
        std::size_t type = mnl_attr_get_type(attribute);
        if (type < count) static_cast<attributes*>(self)->at[type] = attribute;
        return MNL_CB_OK;
    }
};

// The fixed header behind nlmsghdr, copied out: payloads are aligned to four bytes only.
template <class T>
T payload(const nlmsghdr& message) {
    T header{};
    std::memcpy(&header, mnl_nlmsg_get_payload(&message),
                std::min(sizeof header, mnl_nlmsg_get_payload_len(&message)));
    return header;
}

void put_address(nlmsghdr& message, std::uint16_t type, const ip_address& address) {
    auto bytes = address.bytes();
    mnl_attr_put(&message, type, bytes.size(), bytes.data());
}

// Room for one request: no order of ours comes near the half of it.
struct alignas(8) request_buffer {
    std::array<char, 512> bytes{};

    nlmsghdr& start(std::uint16_t type, std::uint16_t flags) {
        nlmsghdr* message = mnl_nlmsg_put_header(bytes.data());
        message->nlmsg_type = type;
        message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
        return *message;
    }
};

template <class T>
T& extra(nlmsghdr& message) {
    return *static_cast<T*>(mnl_nlmsg_put_extra_header(&message, sizeof(T)));
}

std::string kernel_words(const nlmsghdr& message) {
    if ((message.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return {};
    std::size_t skip = sizeof(nlmsgerr);
    auto error = payload<nlmsgerr>(message);
    if ((message.nlmsg_flags & NLM_F_CAPPED) == 0)
        skip += error.msg.nlmsg_len - static_cast<std::size_t>(MNL_NLMSG_HDRLEN);
    attributes tags(message, skip);
    const nlattr* words = tags[NLMSGERR_ATTR_MSG];
    if (words == nullptr || mnl_attr_validate(words, MNL_TYPE_NUL_STRING) != 0) return {};
    return mnl_attr_get_str(words);
}

failure kernel_failure(int error, const std::string& words) {
    std::string what = std::strerror(error);
    if (!words.empty()) what += " (" + words + ")";
    return {error, what};
}

link read_link(const nlmsghdr& message) {
    auto header = payload<ifinfomsg>(message);
    attributes tags(message, sizeof(ifinfomsg));
    link found;
    found.index = header.ifi_index;
    found.up = (header.ifi_flags & IFF_UP) != 0;
    found.running = (header.ifi_flags & IFF_RUNNING) != 0;
    if (tags[IFLA_IFNAME] != nullptr) found.name = mnl_attr_get_str(tags[IFLA_IFNAME]);
    found.mtu_bytes = tags.u32(IFLA_MTU);
    found.queue_frames = tags.u32(IFLA_TXQLEN);
    return found;
}

// RTA_MULTIPATH: rtnexthop structures, each with attributes of its own (rtnetlink(7)).
void read_hops(const nlattr* list, std::vector<hop>& out) {
    const char* at = static_cast<const char*>(mnl_attr_get_payload(list));
    std::size_t left = mnl_attr_get_payload_len(list);
    while (left >= sizeof(rtnexthop)) {
        rtnexthop next;
        std::memcpy(&next, at, sizeof next);
        std::size_t size = next.rtnh_len;
        if (size < sizeof next || size > left) return;
        hop one{next.rtnh_ifindex, {}};
        auto keep = [](const nlattr* attribute, void* to) {
            if (mnl_attr_get_type(attribute) == RTA_GATEWAY)
                static_cast<hop*>(to)->gateway = attributes::address_of(attribute);
            return MNL_CB_OK;
        };
        mnl_attr_parse_payload(at + sizeof next, size - sizeof next, keep, &one);
        if ((next.rtnh_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) == 0) out.push_back(one);
        std::size_t step = std::min(left, static_cast<std::size_t>(MNL_ALIGN(size)));
        at += step;
        left -= step;
    }
}

std::optional<route> read_route(const nlmsghdr& message) {
    auto header = payload<rtmsg>(message);
    if (header.rtm_family != AF_INET && header.rtm_family != AF_INET6) return {};
    attributes tags(message, sizeof(rtmsg));
    route found;
    ip_address any = header.rtm_family == AF_INET ? ip_address(in_addr{}) : ip_address(in6_addr{});
    found.destination = {tags.address(RTA_DST).value_or(any), header.rtm_dst_len};
    found.metric = tags.u32(RTA_PRIORITY);
    found.table = tags.u32(RTA_TABLE, header.rtm_table);
    found.kind = header.rtm_type;
    if (tags[RTA_MULTIPATH] != nullptr) {
        read_hops(tags[RTA_MULTIPATH], found.hops);
    } else if (tags[RTA_OIF] != nullptr &&
               (header.rtm_flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN)) == 0) {
        found.hops.push_back({static_cast<int>(tags.u32(RTA_OIF)), tags.address(RTA_GATEWAY)});
    }
    return found;
}

}  // namespace

void netlink::closer::operator()(mnl_socket* socket) const noexcept {
    mnl_socket_close(socket);
}

netlink::netlink(mnl_socket* socket) : _socket(socket), _buffer(buffer_bytes) {}
netlink::netlink(netlink&&) noexcept = default;
netlink& netlink::operator=(netlink&&) noexcept = default;
netlink::~netlink() = default;

outcome<netlink> netlink::open() {
    mnl_socket* socket = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
    if (socket == nullptr)
        return failure{errno, std::string("cannot open route netlink: ") + std::strerror(errno)};
    netlink opened(socket);
    if (mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) != 0)
        return failure{errno, std::string("cannot bind route netlink: ") + std::strerror(errno)};
    // Each only makes answers better; an old kernel does without.
    int on = 1;
    mnl_socket_setsockopt(socket, NETLINK_EXT_ACK, &on, sizeof on);
    mnl_socket_setsockopt(socket, NETLINK_CAP_ACK, &on, sizeof on);
    mnl_socket_setsockopt(socket, NETLINK_GET_STRICT_CHK, &on, sizeof on);
    return opened;
}

failure netlink::talk(nlmsghdr& request, const visitor& visit) {
    request.nlmsg_seq = ++_sequence;
    if (mnl_socket_sendto(_socket.get(), &request, request.nlmsg_len) < 0)
        return kernel_failure(errno, "sending to the kernel");
    bool dump = (request.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
    bool interrupted = false;
    for (;;) {
        ssize_t size = mnl_socket_recvfrom(_socket.get(), _buffer.data(), _buffer.size());
        if (size < 0) {
            if (errno == EINTR) continue;
            return kernel_failure(errno, "reading the kernel's answer");
        }
        int left = static_cast<int>(size);
        const auto* at = reinterpret_cast<const nlmsghdr*>(_buffer.data());
        for (; mnl_nlmsg_ok(at, left); at = mnl_nlmsg_next(at, &left)) {
            if (at->nlmsg_seq != _sequence) continue;  // the rest of an answer given up earlier
            interrupted = interrupted || (at->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
            if (at->nlmsg_type == NLMSG_ERROR) {
                int error = -payload<nlmsgerr>(*at).error;
                return error == 0 ? failure{} : kernel_failure(error, kernel_words(*at));
            }
            if (at->nlmsg_type == NLMSG_DONE) {
                int error = -payload<int>(*at);
                if (error > 0) return kernel_failure(error, {});
                return interrupted ? kernel_failure(EAGAIN, "changed while it was read")
                                   : failure{};
            }
            if (visit) visit(*at);
            if (!dump && (request.nlmsg_flags & NLM_F_ACK) == 0) return {};
        }
    }
}

outcome<link> netlink::ask_link(int index, const std::string& name) {
    request_buffer buffer;
    nlmsghdr& message = buffer.start(RTM_GETLINK, 0);
    auto& header = extra<ifinfomsg>(message);
    header.ifi_index = index;
    if (index == 0) mnl_attr_put_strz(&message, IFLA_IFNAME, name.c_str());
    link found;
    if (failure bad = talk(message, [&](const nlmsghdr& answer) { found = read_link(answer); }))
        return failure{bad.code, "cannot look up interface " +
                                     (index == 0 ? name : std::to_string(index)) + ": " + bad.what};
    return found;
}

outcome<link> netlink::find_link(const std::string& name) {
    if (name.empty() || name.size() >= IFNAMSIZ)
        return failure{ENODEV, "cannot look up interface '" + name + "': not a name for one"};
    return ask_link(0, name);
}

outcome<link> netlink::find_link(int index) {
    if (index <= 0) return failure{ENODEV, "cannot look up interface 0: there is none"};
    return ask_link(index, {});
}

failure netlink::change_link(int index, const link_change& change) {
    request_buffer buffer;
    nlmsghdr& message = buffer.start(RTM_NEWLINK, NLM_F_ACK);
    auto& header = extra<ifinfomsg>(message);
    header.ifi_index = index;
    if (change.up) {
        header.ifi_change = IFF_UP;
        header.ifi_flags = *change.up ? unsigned{IFF_UP} : 0U;
    }
    if (change.mtu_bytes) mnl_attr_put_u32(&message, IFLA_MTU, *change.mtu_bytes);
    if (change.queue_frames) mnl_attr_put_u32(&message, IFLA_TXQLEN, *change.queue_frames);
    return talk(message);
}

failure netlink::add_address(int index, const cidr& address) {
    request_buffer buffer;
    nlmsghdr& message = buffer.start(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL);
    auto& header = extra<ifaddrmsg>(message);
    header.ifa_family = static_cast<std::uint8_t>(address.address.family());
    header.ifa_prefixlen = static_cast<std::uint8_t>(address.prefix);
    header.ifa_index = static_cast<unsigned>(index);
    header.ifa_flags = address.address.family() == AF_INET6 ? IFA_F_NODAD : 0;
    header.ifa_scope = RT_SCOPE_UNIVERSE;
    put_address(message, IFA_LOCAL, address.address);
    put_address(message, IFA_ADDRESS, address.address);
    return talk(message);
}

outcome<std::vector<cidr>> netlink::addresses(int index) {
    for (int attempt = 1;; ++attempt) {
        request_buffer buffer;
        nlmsghdr& message = buffer.start(RTM_GETADDR, NLM_F_DUMP);
        extra<ifaddrmsg>(message).ifa_index = static_cast<unsigned>(index);
        std::vector<cidr> found;
        failure bad = talk(message, [&](const nlmsghdr& answer) {
            auto header = payload<ifaddrmsg>(answer);
            if (header.ifa_index != static_cast<unsigned>(index)) return;
            attributes tags(answer, sizeof(ifaddrmsg));
            auto local = tags.address(IFA_LOCAL);
            if (!local) local = tags.address(IFA_ADDRESS);
            if (local) found.push_back({*local, header.ifa_prefixlen});
        });
        if (!bad) return found;
        if (bad.code != EAGAIN || attempt == dump_tries) return bad;
    }
}

failure netlink::change_route(const route& change, std::uint16_t type, std::uint16_t flags) {
    request_buffer buffer;
    nlmsghdr& message = buffer.start(type, static_cast<std::uint16_t>(NLM_F_ACK | flags));
    auto& header = extra<rtmsg>(message);
    const hop next = change.hops.empty() ? hop{} : change.hops.front();
    header.rtm_family = static_cast<std::uint8_t>(change.destination.address.family());
    header.rtm_dst_len = static_cast<std::uint8_t>(change.destination.prefix);
    header.rtm_table = RT_TABLE_UNSPEC;  // RTA_TABLE says it: the byte here ends at 255
    header.rtm_protocol = type == RTM_NEWROUTE ? RTPROT_STATIC : RTPROT_UNSPEC;
    header.rtm_scope = next.gateway || change.hops.empty() ? RT_SCOPE_UNIVERSE : RT_SCOPE_LINK;
    if (type == RTM_DELROUTE) header.rtm_scope = RT_SCOPE_NOWHERE;
    header.rtm_type = change.kind;
    put_address(message, RTA_DST, change.destination.address);
    mnl_attr_put_u32(&message, RTA_TABLE, change.table);
    if (change.metric != 0) mnl_attr_put_u32(&message, RTA_PRIORITY, change.metric);
    if (next.link_index != 0)
        mnl_attr_put_u32(&message, RTA_OIF, static_cast<std::uint32_t>(next.link_index));
    if (next.gateway) put_address(message, RTA_GATEWAY, *next.gateway);
    return talk(message);
}

failure netlink::add_route(const route& added) {
    return change_route(added, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
}

failure netlink::delete_route(const route& gone) {
    return change_route(gone, RTM_DELROUTE, 0);
}

failure netlink::each_route(int family, std::uint32_t table,
                            const std::function<void(const route&)>& visit) {
    // Collected first: a dump that the kernel had to break off is read again from its start.
    for (int attempt = 1;; ++attempt) {
        request_buffer buffer;
        nlmsghdr& message = buffer.start(RTM_GETROUTE, NLM_F_DUMP);
        extra<rtmsg>(message).rtm_family = static_cast<std::uint8_t>(family);
        mnl_attr_put_u32(&message, RTA_TABLE, table);  // the kernel filters, where it can
        std::vector<route> found;
        failure bad = talk(message, [&](const nlmsghdr& answer) {
            if ((payload<rtmsg>(answer).rtm_flags & RTM_F_CLONED) != 0) return;
            auto one = read_route(answer);
            if (one && one->table == table) found.push_back(std::move(*one));
        });
        if (bad && (bad.code != EAGAIN || attempt == dump_tries)) {
            if (bad.code == ENOENT) return {};  // the table does not exist: it is empty
            return bad;
        }
        if (bad) continue;
        for (const route& one : found) visit(one);
        return {};
    }
}

outcome<route> netlink::route_to(const ip_address& to) {
    request_buffer buffer;
    nlmsghdr& message = buffer.start(RTM_GETROUTE, 0);
    auto& header = extra<rtmsg>(message);
    header.rtm_family = static_cast<std::uint8_t>(to.family());
    header.rtm_dst_len = static_cast<std::uint8_t>(to.bits());
    put_address(message, RTA_DST, to);
    std::optional<route> found;
    failure bad = talk(message, [&](const nlmsghdr& answer) { found = read_route(answer); });
    if (!bad && found && found->kind != route::local && found->kind != route::unicast)
        bad = kernel_failure(ENETUNREACH, {});
    if (bad || !found)
        return failure{bad ? bad.code : EPROTO, "no route to " + to.text() + ": " + bad.what};
    return *found;
}

failure netlink::change_rule(const rule& change, std::uint16_t type, std::uint16_t flags) {
    request_buffer buffer;
    nlmsghdr& message = buffer.start(type, static_cast<std::uint16_t>(NLM_F_ACK | flags));
    auto& header = extra<fib_rule_hdr>(message);
    header.family = static_cast<std::uint8_t>(change.family);
    header.table = RT_TABLE_UNSPEC;
    header.action = FR_ACT_TO_TBL;
    mnl_attr_put_u32(&message, FRA_PRIORITY, change.priority);
    mnl_attr_put_u32(&message, FRA_FWMARK, change.mark);
    mnl_attr_put_u32(&message, FRA_FWMASK, change.mask);
    mnl_attr_put_u32(&message, FRA_TABLE, change.table);
    return talk(message);
}

failure netlink::add_rule(const rule& added) {
    return change_rule(added, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
}

failure netlink::delete_rule(const rule& gone) {
    return change_rule(gone, RTM_DELRULE, 0);
}

}  // namespace burin::tun
