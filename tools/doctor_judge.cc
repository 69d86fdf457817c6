#include "tools/doctor_judge.hh"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/engine/byte_count.hh"
#include "core/engine/log.hh"

namespace burin::tools {

namespace {

constexpr std::string_view measured = "docs/performance.md";
// What a UDP socket of ours asks for (core/relay/datagram_socket.cc).
constexpr std::uint64_t datagram_buffer_bytes = 4u << 20;
// A TCP flow takes a descriptor, and there are 10 000 channels a session unless told otherwise.
constexpr std::uint64_t good_files = 16'384;
// What the distributions give everybody, and what a server and a client were tested with.
constexpr std::uint64_t good_memlock = 8u << 20;
constexpr std::uint32_t least_ip6_mtu = 1280, usual_mtu = 1500;

std::string size(std::uint64_t bytes) {
    return bytes == no_limit ? "no limit" : engine::byte_count(bytes);
}

std::string joined(const std::vector<std::string>& words) {
    return words.empty() ? "none" : fmt::format("{}", fmt::join(words, " "));
}

bool among(const std::vector<std::string>& words, std::string_view word) {
    return std::find(words.begin(), words.end(), word) != words.end();
}

class findings {
  public:
    explicit findings(const machine& m) : _m(m) {}

    std::vector<finding> all() {
        kernel();
        locked_memory();
        descriptors();
        huge_pages();
        processor();
        cores();
        congestion();
        tcp_buffers("tcp receive buffer", "net.ipv4.tcp_rmem", _m.tcp_rmem, receive_factor);
        tcp_buffers("tcp send buffer", "net.ipv4.tcp_wmem", _m.tcp_wmem, 1);
        core_buffers();
        tun();
        udp_superframes();
        steering();
        forwarding();
        reverse_paths();
        pings();
        route();
        return std::move(_all);
    }

  private:
    // Of a receive buffer, about half is window (tcp_adv_win_scale is 1); the rest is overhead.
    static constexpr std::uint64_t receive_factor = 2;

    void say(finding f) { _all.push_back(std::move(f)); }
    void unseen(std::string subject, std::string what) {
        say({std::move(subject), verdict::note, std::move(what) + " could not be seen"});
    }

    void kernel() {
        if (!_m.ring.worked)
            return say({"io_uring", verdict::warning,
                        fmt::format("kernel {}: {}", _m.kernel, _m.ring.why), way_to_ring(),
                        "the tunnel runs", true});
        std::string seen = fmt::format("kernel {}, a ring of a worker's kind was made", _m.kernel);
        if (_m.io_uring_disabled)
            seen += fmt::format(", kernel.io_uring_disabled = {}", *_m.io_uring_disabled);
        if (_m.io_uring_disabled.value_or(0) != 0)
            return say({"io_uring", verdict::note, seen, "sysctl -w kernel.io_uring_disabled=0",
                        "whoever has no CAP_SYS_ADMIN may run the tunnel, too"});
        if (!_m.read_multishot)
            return say({"io_uring", verdict::note, seen + ", without multishot reads",
                        "use a kernel from Linux 6.7 on",
                        "a read of the TUN is armed once and not for each frame"});
        say({"io_uring", verdict::ok, seen + ", with multishot reads"});
    }

    std::string way_to_ring() const {
        const int disabled = _m.io_uring_disabled.value_or(0);
        if (disabled != 0) return "sysctl -w kernel.io_uring_disabled=0";
        if (_m.memlock_bytes.value_or(no_limit) < good_memlock)
            return "ulimit -l 8192 (systemd: LimitMEMLOCK=8M)";
        return "use Linux 6.1 or newer; in a container, allow io_uring_setup, io_uring_enter and "
               "io_uring_register in its seccomp profile";
    }

    void locked_memory() {
        if (!_m.memlock_bytes) return unseen("locked memory", "RLIMIT_MEMLOCK");
        const std::string seen = fmt::format("RLIMIT_MEMLOCK: {}", size(*_m.memlock_bytes));
        if (*_m.memlock_bytes >= good_memlock) return say({"locked memory", verdict::ok, seen});
        if (_m.root) return say({"locked memory", verdict::ok, seen + ", which root raises"});
        say({"locked memory", verdict::warning, seen, "ulimit -l 8192 (systemd: LimitMEMLOCK=8M)",
             "rings of several workers: they are charged to it without CAP_IPC_LOCK"});
    }

    void descriptors() {
        if (!_m.files) return unseen("descriptors", "RLIMIT_NOFILE");
        const std::string seen = fmt::format(
            "RLIMIT_NOFILE: {} may be had",
            *_m.files == no_limit ? std::string("any number") : fmt::format("{}", *_m.files));
        if (*_m.files >= good_files) return say({"descriptors", verdict::ok, seen});
        say({"descriptors", verdict::warning, seen, "ulimit -Hn 65536 (systemd: LimitNOFILE=65536)",
             "10 000 channels a session: each TCP connection takes a descriptor"});
    }

    void huge_pages() {
        if (_m.huge_pages.empty()) return unseen("huge pages", "transparent_hugepage/enabled");
        const std::string seen = fmt::format("transparent huge pages: {}", _m.huge_pages);
        if (_m.huge_pages != "never") return say({"huge pages", verdict::ok, seen});
        say({"huge pages", verdict::note, seen,
             "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
             "buffers of bulk lie on huge pages (not measured)"});
    }

    void processor() {
        std::string seen = fmt::format("{}: AES {}", _m.processor.empty() ? "?" : _m.processor,
                                       _m.aes ? "yes" : "no");
        if (_m.x86)
            seen += fmt::format(", VAES {}, AVX-512 {}", _m.vaes ? "yes" : "no",
                                _m.avx512 ? "yes" : "no");
        seen += fmt::format("; AES-GCM by {}", _m.aes_library);
        if (!_m.aes)
            return say({"processor", verdict::warning, seen,
                        "use a processor with AES instructions (of a virtual machine: pass the "
                        "host's through)",
                        "AES-GCM, what the fast path is made for, by instructions"});
        if (_m.x86 && _m.aes_library != "ipsec-mb")
            return say(
                {"processor", verdict::warning, seen,
                 "build with libipsec-mb (tools/setup installs it)",
                 fmt::format("with AVX-512 and VAES 9 to 12 GB/s instead of near 3 ({}, Processors "
                             "differ)",
                             measured)});
        if (_m.x86 && !(_m.vaes && _m.avx512))
            return say({"processor",
                        verdict::note,
                        seen,
                        {},
                        fmt::format("libipsec-mb seals AES-128-GCM at 9 to 12 GB/s with AVX-512 "
                                    "and VAES, and 1.3 (Debian 12) near 3 with VAES alone ({}, "
                                    "Processors differ)",
                                    measured)});
        say({"processor", verdict::ok, seen});
    }

    void cores() {
        const std::string seen = fmt::format("{} to run on", _m.cores);
        if (_m.cores <= 2) return say({"cores", verdict::ok, seen + "; one worker an end"});
        say({"cores", verdict::note, seen,
             fmt::format("--workers N at both ends, up to {}", _m.cores),
             "sessions, and flows with them, on several cores; each worker has a session of its "
             "own"});
    }

    void congestion() {
        if (_m.congestion.empty()) return unseen("congestion control", "tcp_congestion_control");
        const std::string seen =
            fmt::format("{}; available: {}; allowed to all: {}", _m.congestion,
                        joined(_m.congestion_available), joined(_m.congestion_allowed));
        if (_m.congestion == "bbr")
            return say({"congestion control", verdict::note, seen,
                        "--congestion cubic at both ends",
                        fmt::format("on paths that lose nothing, loopback above all: BBR's pacing "
                                    "halves what one flow reaches there ({}, Conditions)",
                                    measured)});
        const std::string bbr = "--congestion bbr at both ends";
        say({"congestion control", verdict::note, seen,
             among(_m.congestion_available, "bbr") ? bbr : "modprobe tcp_bbr, and then " + bbr,
             fmt::format("on paths that lose without being full: over 20 ms with 1 % loss the "
                         "kernel's BBR reached 178 Mbit/s where its cubic reached 8.5 ({}, A LAN "
                         "in a box)",
                         measured)});
    }

    void tcp_buffers(std::string subject, std::string_view name,
                     const std::optional<machine::triple>& now, std::uint64_t factor) {
        if (!now) return unseen(std::move(subject), std::string(name));
        const std::uint64_t wanted = path_bytes * factor, most = (*now)[2];
        std::string seen =
            fmt::format("{} = {} {} {}: at most {}", name, (*now)[0], (*now)[1], most, size(most));
        if (most >= wanted) return say({std::move(subject), verdict::ok, seen});
        // What a listening socket has, every stranger would have (core/engine/session_buffers.hh).
        if (_m.net_admin) seen += "; with CAP_NET_ADMIN a client raises its own past that";
        say({std::move(subject), verdict::note, seen,
             fmt::format("sysctl -w {}=\"{} {} {}\"", name, (*now)[0], (*now)[1], wanted),
             fmt::format("one flow may fill 1 Gbit/s over {} ms, which has {} under way{}{}",
                         path_milliseconds, size(path_bytes),
                         factor > 1 ? "; of a receive buffer about half is window" : "",
                         _m.net_admin ? "; a server needs it" : "")});
    }

    void core_buffers() {
        if (!_m.rmem_max || !_m.wmem_max)
            return unseen("socket buffers", "net.core.rmem_max and wmem_max");
        const std::string seen = fmt::format("net.core.rmem_max = {}, net.core.wmem_max = {}",
                                             *_m.rmem_max, *_m.wmem_max);
        if (*_m.rmem_max >= datagram_buffer_bytes)
            return say({"socket buffers", verdict::ok, seen});
        say({"socket buffers", verdict::warning, seen,
             fmt::format("sysctl -w net.core.rmem_max={}", datagram_buffer_bytes),
             fmt::format("UDP at tens of thousands of datagrams a second: a socket asks for 4 MiB, "
                         "and Debian's 208 KiB are 180 datagrams ({}, What a datagram costs)",
                         measured)});
    }

    void tun() {
        if (!_m.tun_not_to_be_seen.empty())
            return say({"TUN", verdict::note, "not tried: " + _m.tun_not_to_be_seen,
                        "sudo burin doctor", "says whether a TUN device can be had here"});
        if (!_m.tun.worked)
            return say({"TUN", verdict::warning, _m.tun.why, "modprobe tun",
                        "burin client --tun; forwarded ports need none"});
        if (!_m.net_admin)
            return say({"TUN", verdict::note,
                        "a device can be made, but not by this user: no CAP_NET_ADMIN",
                        "run as root, or systemd: AmbientCapabilities=CAP_NET_ADMIN",
                        "burin client --tun; forwarded ports need none"});
        say({"TUN", verdict::ok, "a device can be made, with TCP superframes"});
    }

    void udp_superframes() {
        if (!_m.tun.worked) return;
        if (_m.uso) return say({"UDP superframes", verdict::ok, "the TUN takes them (USO)"});
        say({"UDP superframes", verdict::note, "the TUN takes none",
             "use a kernel from Linux 6.2 on",
             "datagrams of one flow come from and go to hosts as one frame"});
    }

    void steering() {
        if (!_m.steering.tried) return;
        if (_m.steering.worked)
            return say({"steering", verdict::ok, "the kernel takes the BPF program"});
        say({"steering", verdict::note, _m.steering.why,
             "run with CAP_BPF beside CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN "
             "CAP_BPF)",
             "with several workers each flow comes in on its own; without, some frames are copied: "
             "nothing in bulk that was measured (docs/performance.md, Steering)"});
    }

    void forwarding() {
        if (!_m.ip_forward) return unseen("forwarding", "net.ipv4.ip_forward");
        std::string seen = fmt::format("net.ipv4.ip_forward = {}", *_m.ip_forward);
        if (_m.ip6_forward)
            seen += fmt::format(", net.ipv6.conf.all.forwarding = {}", *_m.ip6_forward);
        if (*_m.ip_forward != 0) return say({"forwarding", verdict::ok, seen});
        say({"forwarding", verdict::note, seen, "sysctl -w net.ipv4.ip_forward=1",
             "hosts behind this gateway may use its TUN; its own programs may anyhow"});
    }

    void reverse_paths() {
        if (!_m.rp_filter) return unseen("reverse paths", "rp_filter");
        const std::string seen = fmt::format("rp_filter = {} at most", *_m.rp_filter);
        if (*_m.rp_filter != 1) return say({"reverse paths", verdict::ok, seen});
        say({"reverse paths", verdict::note, seen,
             "sysctl -w net.ipv4.conf.all.rp_filter=2 (and the interface's)",
             "a client with a TUN gives up CAP_NET_ADMIN; checked strictly it has to keep it"});
    }

    void pings() {
        if (!_m.ping_groups) return unseen("pings", "net.ipv4.ping_group_range");
        const auto [least, most] = *_m.ping_groups;
        const std::string seen = fmt::format("net.ipv4.ping_group_range = {} {}", least, most);
        if ((_m.group >= least && _m.group <= most) || _m.net_raw)
            return say({"pings", verdict::ok, seen + ": a server may ping for its clients"});
        say({"pings", verdict::note, seen, "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"",
             "ping through the TUN is answered as the destination answers the server"});
    }

    void route() {
        if (!_m.way) return;
        const server_way& w = *_m.way;
        if (!w.error.empty())
            return say({"way to the server", verdict::warning, w.error,
                        "check the name and the routes (ip route get ADDRESS)",
                        "the client connects"});
        std::string seen =
            fmt::format("{} by {}", w.address, w.interface.empty() ? "?" : w.interface);
        if (w.mtu_bytes == 0)
            return say({"way to the server", verdict::note, seen + ", MTU not seen"});
        seen += fmt::format(", MTU {}", w.mtu_bytes);
        if (w.mtu_bytes < least_ip6_mtu)
            return say(
                {"way to the server", verdict::warning, seen,
                 fmt::format("ip link set dev {} mtu 1500 (if the link takes it)", w.interface),
                 "fewer packets; IPv6 needs 1280"});
        if (w.mtu_bytes < usual_mtu)
            return say({"way to the server", verdict::note, seen,
                        "sysctl -w net.ipv4.tcp_mtu_probing=1",
                        "a router that hides what is too large for it stops nothing"});
        say({"way to the server", verdict::ok, seen});
    }

    const machine& _m;
    std::vector<finding> _all;
};

std::string_view word(verdict v) {
    switch (v) {
        case verdict::ok: return "ok";
        case verdict::note: return "note";
        case verdict::warning: return "warning";
    }
    return {};
}

}  // namespace

std::vector<finding> judge(const machine& m) {
    return findings(m).all();
}

bool can_run(const std::vector<finding>& all) {
    return std::none_of(all.begin(), all.end(), [](const finding& f) { return f.prevents; });
}

std::string as_text(const std::vector<finding>& all) {
    std::string out;
    std::size_t warnings = 0;
    for (const finding& f : all) {
        out += fmt::format("{:<8} {}: {}\n", word(f.value), f.subject, engine::escape(f.seen));
        if (!f.change.empty()) out += fmt::format("           change: {}\n", f.change);
        if (!f.gain.empty()) out += fmt::format("           gain:   {}\n", f.gain);
        warnings += f.value == verdict::warning ? 1 : 0;
    }
    out += can_run(all) ? fmt::format("A tunnel can run here; {} warning{}.\n", warnings,
                                      warnings == 1 ? "" : "s")
                        : "A tunnel cannot run here.\n";
    return out;
}

std::string as_json(const std::vector<finding>& all) {
    nlohmann::ordered_json out = {{"version", BURIN_VERSION}, {"can_run", can_run(all)}};
    out["findings"] = nlohmann::ordered_json::array();
    for (const finding& f : all)
        out["findings"].push_back({{"subject", f.subject},
                                   {"verdict", word(f.value)},
                                   {"seen", f.seen},
                                   {"change", f.change},
                                   {"gain", f.gain},
                                   {"prevents", f.prevents}});
    return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace burin::tools
