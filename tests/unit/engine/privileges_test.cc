// Privileges are given up for good, so each case tries it in a process of its own.
#include "core/engine/privileges.hh"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/capability.h>

#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "tests/catch.hh"

using namespace burin;
using engine::privilege_stage;

namespace {

// A field of this thread's /proc status, as text.
std::string status(const std::string& name) {
    std::ifstream file("/proc/thread-self/status");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with(name + ":")) return line.substr(line.find('\t') + 1);
    return "absent";
}

std::uint64_t set(const std::string& name) {
    return std::stoull(status(name), nullptr, 16);
}

// The number of the first check that did not hold in a child, 0 for none.
int in_child(const std::function<int()>& body) {
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) _exit(body());
    int state = 0;
    REQUIRE(waitpid(child, &state, 0) == child);
    REQUIRE(WIFEXITED(state));
    return WEXITSTATUS(state);
}

constexpr std::uint64_t network = std::uint64_t{1} << CAP_NET_ADMIN;

}  // namespace

TEST_CASE("nothing is left, for this thread and those it starts") {
    CHECK(in_child([] {
              const bool bounded = (set("CapEff") >> CAP_SETPCAP & 1) != 0;
              if (!engine::drop_privileges({}, privilege_stage::final).empty()) return 1;
              if (set("CapEff") != 0 || set("CapPrm") != 0 || set("CapInh") != 0) return 2;
              if (set("CapAmb") != 0 || (bounded && set("CapBnd") != 0)) return 3;
              if (status("NoNewPrivs") != "1") return 4;
              int other = 0;
              std::thread([&] {
                  if (set("CapEff") != 0 || set("CapPrm") != 0) other = 5;
                  if (status("NoNewPrivs") != "1") other = 6;
              }).join();
              if (other != 0) return other;
              return engine::drop_privileges({}, privilege_stage::final).empty() ? 0 : 7;
          }) == 0);
}

TEST_CASE("what is kept is kept where there is any, and can go later") {
    CHECK(in_child([] {
              const std::uint64_t had = set("CapPrm") & network;
              if (!engine::drop_privileges({CAP_NET_ADMIN}, privilege_stage::final).empty())
                  return 1;
              if (set("CapEff") != had || set("CapPrm") != had) return 2;
              if (!engine::drop_privileges({}, privilege_stage::final).empty()) return 3;
              if (set("CapEff") != 0 || set("CapPrm") != 0) return 4;
              // What is gone does not come back by asking for it.
              if (!engine::drop_privileges({CAP_NET_ADMIN}, privilege_stage::final).empty())
                  return 5;
              return set("CapEff") == 0 ? 0 : 6;
          }) == 0);
}

TEST_CASE("where locked memory stays limited, what spares rings the limit goes after them") {
    CHECK(in_child([] {
              constexpr std::uint64_t lock = std::uint64_t{1} << CAP_IPC_LOCK;
              const rlimit limited{8 << 20, 8 << 20};
              if (setrlimit(RLIMIT_MEMLOCK, &limited) != 0) return 1;
              const std::uint64_t had = set("CapPrm") & lock;
              // Nobody is left who could raise it.
              if (!engine::drop_privileges({CAP_IPC_LOCK, CAP_SETPCAP}, privilege_stage::final)
                       .empty())
                  return 2;
              if (!engine::drop_privileges({}, privilege_stage::before_rings).empty()) return 3;
              if ((set("CapEff") & lock) != had) return 4;
              if (!engine::drop_privileges({}, privilege_stage::final).empty()) return 5;
              return set("CapEff") == 0 && set("CapPrm") == 0 ? 0 : 6;
          }) == 0);
}

TEST_CASE("the memory of the process is closed") {
    CHECK(in_child([] {
              engine::close_memory();
              return prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
          }) == 0);
}
