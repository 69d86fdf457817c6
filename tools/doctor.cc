#include "tools/doctor.hh"

#include <fmt/format.h>

#include <cstdio>

#include "core/engine/log.hh"
#include "tools/doctor_judge.hh"

namespace burin::tools {

namespace {
constexpr std::string_view help =
    "burin doctor [--json] [server]: looks at this machine, and says what to change for which "
    "gain.\n\n"
    "  --json      the same for a program\n"
    "  server      URL of a server, or host[:port]: looks at the way to it as well\n\n"
    "Changes nothing, and needs no root, but says what only root can see. Exit status: 0 if a "
    "tunnel can run here, 1 if it cannot.\n";
constexpr int usage_status = 2;
}  // namespace

int run_doctor(const std::vector<std::string>& arguments) {
    bool json = false, flags = true;
    std::string server;
    for (const std::string& a : arguments) {
        if (flags && (a == "-h" || a == "-help" || a == "--help")) {
            std::fwrite(help.data(), 1, help.size(), stdout);
            return 0;
        }
        if (flags && a == "--") {
            flags = false;
        } else if (flags && (a == "--json" || a == "-json")) {
            json = true;
        } else if ((flags && a.starts_with('-')) || !server.empty() || a.empty()) {
            const std::string error = engine::log_line(fmt::format(
                "burin doctor does not know '{}'; see burin doctor --help", engine::escape(a)));
            std::fwrite(error.data(), 1, error.size(), stderr);
            return usage_status;
        } else {
            server = a;
        }
    }
    const std::vector<finding> all = judge(look_at_machine(server));
    const std::string text = json ? as_json(all) : as_text(all);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return can_run(all) ? 0 : 1;
}

}  // namespace burin::tools
