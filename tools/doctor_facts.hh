// What `burin doctor` knows of a machine. Plain values, so that a test can make a machine up; what
// the person who runs it may not see is not there. doctor_probe.cc looks, doctor_judge.cc judges.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace burin::tools {

inline constexpr std::uint64_t no_limit = ~std::uint64_t{0};

// What an attempt ended with: it worked, it did not and why, or nobody tried.
struct attempt {
    bool tried = false, worked = false;
    std::string why;
};

// Towards the server that was named.
struct server_way {
    std::string address;    // resolved; empty: see `error`
    std::string interface;  // that it leaves by
    std::uint32_t mtu_bytes = 0;
    std::string error;
};

struct machine {
    std::string kernel;                    // release, as 6.1.0-25-amd64
    attempt ring;                          // of the kind that a worker has
    bool read_multishot = false;           // with it
    std::optional<int> io_uring_disabled;  // the sysctl; older kernels have none

    std::optional<std::uint64_t> memlock_bytes, files;  // hard limits; no_limit: none
    std::string huge_pages;  // transparent ones: always, madvise or never; empty: not seen
    std::uint64_t memory_bytes = 0;

    std::string processor;  // its name
    bool x86 = false;
    bool aes = false, vaes = false, avx512 = false;
    std::string aes_library;  // that seals AES-GCM: ipsec-mb, openssl, wolfcrypt
    unsigned cores = 1;       // that this process may run on

    std::string congestion;  // the default of new connections; empty: not seen
    std::vector<std::string> congestion_available, congestion_allowed;
    using triple = std::array<std::uint64_t, 3>;  // least, first, most
    std::optional<triple> tcp_rmem, tcp_wmem;
    std::optional<std::uint64_t> rmem_max, wmem_max;

    bool root = false, net_admin = false, bpf = false, net_raw = false;
    attempt tun;                     // a device, in a network namespace of its own
    bool uso = false;                // with it, UDP superframes
    std::string tun_not_to_be_seen;  // why that was not tried
    attempt steering;                // the BPF program
    std::optional<int> ip_forward, ip6_forward, rp_filter;  // the strictest that is set
    std::optional<std::array<std::uint64_t, 2>> ping_groups;
    std::uint64_t group = 0;

    std::optional<server_way> way;  // a server was named
};

// Of this machine, as the calling process sees it. `server`: a URL or host[:port], or empty.
// Changes nothing that lasts.
machine look_at_machine(const std::string& server);

}  // namespace burin::tools
