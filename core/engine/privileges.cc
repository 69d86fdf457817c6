#include "core/engine/privileges.hh"

#include <cap-ng.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>
#include <fstream>

namespace burin::engine {

namespace {

// Linux 6.6's sysctl: 1 lets only CAP_SYS_ADMIN make rings.
bool rings_are_for_administrators() {
    std::ifstream file("/proc/sys/kernel/io_uring_disabled");
    int value = 0;
    return file >> value && value == 1;
}

}  // namespace

std::string drop_privileges(const std::vector<unsigned>& kept, privilege_stage stage) {
    capng_clear(CAPNG_SELECT_ALL);
    if (capng_get_caps_process() != 0)
        return fmt::format("cannot read the capabilities of this process: {}",
                           std::strerror(errno));
    const auto have = [](unsigned capability) {
        return capng_have_capability(CAPNG_PERMITTED, capability) != 0;
    };
    std::vector<unsigned> left;
    for (unsigned capability : kept)
        if (have(capability)) left.push_back(capability);
    // Rings are charged to the user who makes them without CAP_IPC_LOCK, all of that user's
    // together; nothing else of ours locks memory.
    const rlimit unlimited{RLIM_INFINITY, RLIM_INFINITY};
    const bool limited = setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0;
    if (stage == privilege_stage::before_rings) {
        const std::size_t before = left.size();
        if (have(CAP_SYS_ADMIN) && rings_are_for_administrators()) left.push_back(CAP_SYS_ADMIN);
        if (have(CAP_IPC_LOCK) && limited) left.push_back(CAP_IPC_LOCK);
        // To cut the bounding set again.
        if (left.size() > before && have(CAP_SETPCAP)) left.push_back(CAP_SETPCAP);
    }
    const bool bounding = capng_have_capability(CAPNG_EFFECTIVE, CAP_SETPCAP) != 0;
    capng_clear(CAPNG_SELECT_ALL);
    for (unsigned capability : left)
        for (capng_type_t set : {CAPNG_EFFECTIVE, CAPNG_PERMITTED, CAPNG_BOUNDING_SET})
            capng_update(CAPNG_ADD, set, capability);
    if (capng_apply(bounding ? CAPNG_SELECT_BOTH : CAPNG_SELECT_CAPS) != 0 ||
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return fmt::format("cannot give up privileges: {}", std::strerror(errno));
    return {};
}

void close_memory() noexcept {
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

}  // namespace burin::engine
