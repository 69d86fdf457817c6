#include "core/relay/refusal.hh"

#include <cerrno>

namespace burin::relay {

namespace {

struct ending {
    std::string_view words;
    refusal means;
};
// Go's words and glibc's, which differ in their first letter (see errno_words()).
constexpr ending endings[] = {
    {"connection refused", refusal::refused},
    {"no route to host", refusal::host_unreachable},
    {"host is down", refusal::host_unreachable},
    {"network is unreachable", refusal::network_unreachable},
    {"network is down", refusal::network_unreachable},
    {"permission denied", refusal::prohibited},
    {"operation not permitted", refusal::prohibited},
    {"i/o timeout", refusal::silent},
    {"connection timed out", refusal::silent},
    {"invalid argument", refusal::silent},  // a route that drops
    // What the far end ran out of, and may have again at the host's next try.
    {"too many open files", refusal::silent},
    {"too many open files in system", refusal::silent},
    {"cannot assign requested address", refusal::silent},
    {"no buffer space available", refusal::silent},
    {"cannot allocate memory", refusal::silent},
    {"resource temporarily unavailable", refusal::silent},
};

}  // namespace

refusal refusal_of(ssh::open_failure_reason reason, std::string_view text) noexcept {
    switch (reason) {
        case ssh::open_failure_reason::shortage: return refusal::silent;
        case ssh::open_failure_reason::prohibited: return refusal::prohibited;
        default: break;
    }
    for (const ending& e : endings)
        if (text.ends_with(e.words)) return e.means;
    return refusal::refused;
}

refusal refusal_of(int error) noexcept {
    switch (error) {
        case ECONNREFUSED: return refusal::refused;
        case EHOSTUNREACH:
        case EHOSTDOWN: return refusal::host_unreachable;
        case ENETUNREACH:
        case ENETDOWN: return refusal::network_unreachable;
        case EACCES:
        case EPERM: return refusal::prohibited;
        default: return refusal::silent;
    }
}

tun::icmp_error icmp_error_of(refusal why) noexcept {
    switch (why) {
        case refusal::host_unreachable: return tun::icmp_error::host_unreachable;
        case refusal::network_unreachable: return tun::icmp_error::network_unreachable;
        case refusal::prohibited: return tun::icmp_error::prohibited;
        default: return tun::icmp_error::port_unreachable;
    }
}

}  // namespace burin::relay
