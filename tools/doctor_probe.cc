// How `burin doctor` looks at the machine it runs on: files of /proc and /sys, the capabilities of
// this process, and three attempts (a ring, a BPF program, a TUN device) that leave nothing behind.
// The TUN device is made in a network namespace of a child's own, so that nobody on this machine
// sees it come and go.
#include <fmt/format.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cap-ng.h>
#include <linux/capability.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/engine/log.hh"
#include "core/http/upgrade.hh"
#include "core/relay/dialer.hh"
#include "core/relay/endpoint.hh"
#include "crypto/packet_cipher.hh"
#include "ring/ring.hh"
#include "tools/doctor_facts.hh"
#include "tun/descriptor.hh"
#include "tun/device.hh"
#include "tun/steering.hh"

namespace burin::tools {

namespace {

std::string line_of(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::vector<std::string> words_of(const std::string& path) {
    std::istringstream line(line_of(path));
    std::vector<std::string> words;
    for (std::string word; line >> word;) words.push_back(word);
    return words;
}

std::optional<std::uint64_t> number_of(const std::string& path) {
    std::ifstream file(path);
    std::uint64_t number = 0;
    if (file >> number) return number;
    return std::nullopt;
}

std::optional<int> small_number_of(const std::string& path) {
    const auto number = number_of(path);
    return number ? std::optional<int>(static_cast<int>(*number)) : std::nullopt;
}

template <std::size_t Count>
std::optional<std::array<std::uint64_t, Count>> numbers_of(const std::string& path) {
    std::ifstream file(path);
    std::array<std::uint64_t, Count> numbers{};
    for (std::uint64_t& n : numbers) file >> n;
    if (file) return numbers;
    return std::nullopt;
}

std::optional<std::uint64_t> hard_limit(int which) {
    rlimit limit{};
    if (getrlimit(static_cast<__rlimit_resource>(which), &limit) != 0) return std::nullopt;
    return limit.rlim_max == RLIM_INFINITY ? no_limit : std::uint64_t{limit.rlim_max};
}

void look_at_kernel(machine& m) {
    utsname kernel{};
    uname(&kernel);
    m.kernel = kernel.release;
    m.io_uring_disabled = small_number_of("/proc/sys/kernel/io_uring_disabled");
    m.ring.tried = true;
    try {
        const ring::ring made;
        m.ring.worked = true;
        m.read_multishot = made.has().read_multishot;
    } catch (const ring::unavailable& e) {
        m.ring.why = e.what();
    }
}

void look_at_processor(machine& m) {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line) && !line.empty();) {
        const std::size_t colon = line.find(':');
        if (colon == line.npos) continue;
        const std::string value = line.substr(std::min(colon + 2, line.size()));
        if (line.starts_with("model name")) m.processor = value;
        // x86, and ARM.
        if (!line.starts_with("flags") && !line.starts_with("Features")) continue;
        m.x86 = line.starts_with("flags");
        std::istringstream flags(value);
        for (std::string flag; flags >> flag;) {
            m.aes = m.aes || flag == "aes";
            m.vaes = m.vaes || flag == "vaes";
            m.avx512 = m.avx512 || flag == "avx512f";
        }
    }
    m.aes_library = crypto::name_of(crypto::chosen_provider());
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        m.cores = static_cast<unsigned>(CPU_COUNT(&set));
}

void look_at_memory(machine& m) {
    m.memlock_bytes = hard_limit(RLIMIT_MEMLOCK);
    m.files = hard_limit(RLIMIT_NOFILE);
    // The one that is set stands in brackets.
    const std::string pages = line_of("/sys/kernel/mm/transparent_hugepage/enabled");
    const std::size_t open = pages.find('['), close = pages.find(']');
    if (open < close && close != pages.npos)
        m.huge_pages = pages.substr(open + 1, close - open - 1);
}

void look_at_network(machine& m) {
    const std::string ip4 = "/proc/sys/net/ipv4/";
    m.congestion = line_of(ip4 + "tcp_congestion_control");
    m.congestion_available = words_of(ip4 + "tcp_available_congestion_control");
    m.congestion_allowed = words_of(ip4 + "tcp_allowed_congestion_control");
    m.tcp_rmem = numbers_of<3>(ip4 + "tcp_rmem");
    m.tcp_wmem = numbers_of<3>(ip4 + "tcp_wmem");
    m.rmem_max = number_of("/proc/sys/net/core/rmem_max");
    m.wmem_max = number_of("/proc/sys/net/core/wmem_max");
    m.ip_forward = small_number_of(ip4 + "ip_forward");
    m.ip6_forward = small_number_of("/proc/sys/net/ipv6/conf/all/forwarding");
    m.ping_groups = numbers_of<2>(ip4 + "ping_group_range");
    // An interface is checked by the larger of its own number and that of all; 1 is strict, 2
    // loose.
    const auto all = small_number_of(ip4 + "conf/all/rp_filter");
    std::error_code error;
    for (const auto& each : std::filesystem::directory_iterator(ip4 + "conf", error)) {
        const std::string name = each.path().filename();
        if (name == "all" || name == "default" || name == "lo") continue;
        const auto own = small_number_of(each.path() / "rp_filter");
        if (!own || !all) continue;
        const int counts = std::max(*own, *all);
        if (!m.rp_filter || counts == 1 || (*m.rp_filter != 1 && counts > *m.rp_filter))
            m.rp_filter = counts;
    }
    if (!m.rp_filter) m.rp_filter = all;
}

void look_at_rights(machine& m) {
    m.root = geteuid() == 0;
    m.group = getegid();
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_get_caps_process() != 0) return;
    const auto have = [](unsigned capability) {
        return capng_have_capability(CAPNG_EFFECTIVE, capability) != 0;
    };
    m.net_admin = have(CAP_NET_ADMIN);
    m.net_raw = have(CAP_NET_RAW);
    m.bpf = have(CAP_BPF) || have(CAP_SYS_ADMIN);
    m.steering.tried = true;
    if (auto loaded = tun::steering::load({}, 2); loaded.ok())
        m.steering.worked = true;
    else
        m.steering.why = loaded.error().what;
}

// The child's answer: its first letter says what became of it.
std::string try_tun_in_a_namespace() {
    if (unshare(CLONE_NEWNET) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0)
        return fmt::format("namespace: no network namespace of its own ({})",
                           relay::errno_words(errno));
    auto opened = tun::device::open({.name = "burin%d", .udp = tun::udp_segmentation::wanted});
    if (!opened.ok()) return "failed: " + opened.error().what;
    return opened.value().udp_segmentation_on() ? "uso" : "plain";
}

void look_at_tun(machine& m) {
    int ends[2];
    if (pipe(ends) != 0) {
        m.tun_not_to_be_seen = "no pipe";
        return;
    }
    tun::descriptor read_end(ends[0]), write_end(ends[1]);
    const pid_t child = fork();
    if (child == 0) {
        const std::string answer = try_tun_in_a_namespace();
        [[maybe_unused]] ssize_t n = ::write(write_end.number(), answer.data(), answer.size());
        _exit(0);
    }
    write_end.close();
    std::string answer;
    char block[512];
    for (ssize_t n; (n = ::read(read_end.number(), block, sizeof block)) > 0;)
        answer.append(block, static_cast<std::size_t>(n));
    if (child > 0) waitpid(child, nullptr, 0);
    const auto behind = [&answer] { return answer.substr(answer.find(": ") + 2); };
    if (answer == "uso" || answer == "plain") {
        m.tun = {.tried = true, .worked = true, .why = {}};
        m.uso = answer == "uso";
    } else if (answer.starts_with("failed: ")) {
        m.tun = {.tried = true, .worked = false, .why = behind()};
        // Who may not open the device's file learns nothing of the driver.
        if (!m.root && m.tun.why.find("Permission denied") != answer.npos)
            m.tun_not_to_be_seen = m.tun.why;
    } else {
        m.tun_not_to_be_seen = answer.starts_with("namespace: ") ? behind() : "no process for it";
    }
}

std::string interface_of(const sockaddr* local) {
    ifaddrs* all = nullptr;
    if (getifaddrs(&all) != 0) return {};
    std::string name;
    for (const ifaddrs* each = all; each != nullptr; each = each->ifa_next) {
        if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != local->sa_family) continue;
        const socklen_t bytes =
            local->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
        const auto one = relay::endpoint::from(each->ifa_addr, bytes);
        auto other = relay::endpoint::from(local, bytes);
        if (!one || !other) continue;
        other->set_port(one->port());
        if (*one == *other) name = each->ifa_name;
    }
    freeifaddrs(all);
    return name;
}

// Asks the kernel's routes; nothing is sent.
server_way way_to(const std::string& server) {
    server_way way;
    const http::server_url url = http::parse_url(server);
    if (!url.error.empty()) {
        way.error = url.error;
        return way;
    }
    addrinfo hints{}, *found = nullptr;
    hints.ai_socktype = SOCK_DGRAM;
    const int e = getaddrinfo(url.host.c_str(), std::to_string(url.port).c_str(), &hints, &found);
    if (e != 0) {
        way.error = fmt::format("{}: {}", engine::escape(url.host), gai_strerror(e));
        return way;
    }
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        const tun::descriptor s(socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        const auto to = relay::endpoint::from(at->ai_addr, at->ai_addrlen);
        if (!s || !to) continue;
        if (connect(s.number(), at->ai_addr, at->ai_addrlen) != 0) {
            way.error = fmt::format("no way to {}: {}", to->text(), relay::errno_words(errno));
            continue;
        }
        way.error.clear();
        way.address = to->text();
        int mtu = 0;
        socklen_t size = sizeof mtu;
        const bool v6 = at->ai_family == AF_INET6;
        if (getsockopt(s.number(), v6 ? IPPROTO_IPV6 : IPPROTO_IP, v6 ? IPV6_MTU : IP_MTU, &mtu,
                       &size) == 0)
            way.mtu_bytes = static_cast<std::uint32_t>(mtu);
        sockaddr_storage local{};
        size = sizeof local;
        if (getsockname(s.number(), reinterpret_cast<sockaddr*>(&local), &size) == 0)
            way.interface = interface_of(reinterpret_cast<sockaddr*>(&local));
        break;
    }
    freeaddrinfo(found);
    return way;
}

}  // namespace

machine look_at_machine(const std::string& server) {
    machine m;
    look_at_kernel(m);
    look_at_memory(m);
    look_at_processor(m);
    look_at_network(m);
    look_at_rights(m);
    look_at_tun(m);
    if (!server.empty()) m.way = way_to(server);
    return m;
}

}  // namespace burin::tools
