#include "tools/bench/conditions.hh"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/utsname.h>

#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>

#include "tools/bench/numbers.hh"

namespace burin::tools::bench {

namespace {

std::string first_line(const char* path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return clean(line);
}

std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    std::string model;
    for (std::string line; model.empty() && std::getline(file, line);)
        // x86-64; ARM tells no model, only numbers of it.
        if (line.starts_with("model name") || line.starts_with("Model"))
            if (const std::size_t colon = line.find(": "); colon != line.npos)
                model = clean(line.substr(colon + 2));
    utsname name{};
    if (model.empty() && ::uname(&name) == 0) model = name.machine;
    return fmt::format("{} x {}", std::thread::hardware_concurrency(), model);
}

std::string joined(const std::vector<std::string>& words) {
    return clean(fmt::format("{}", fmt::join(words, " ")));
}

}  // namespace

std::string duration_text(double seconds) {
    if (seconds < 100) return fmt::format("{:.0f} s", std::max(1.0, seconds));
    return fmt::format("{:.0f} minutes", std::ceil(seconds / 60));
}

double load_before() {
    double load = 0;
    return ::getloadavg(&load, 1) == 1 ? load : 0;
}

std::vector<std::pair<std::string, std::string>> conditions_here(const settings& s) {
    std::vector<std::pair<std::string, std::string>> told;
    told.emplace_back("date",
                      fmt::format("{:%Y-%m-%d %H:%M} UTC", fmt::gmtime(std::time(nullptr))));
    if (s.what == settings::mode::alone) {
        told.emplace_back("tunnel",
                          "a forwarded port on one machine, whose cores carry the load, both ends "
                          "and the destination");
        if (!s.server_flags.empty()) told.emplace_back("server's flags", joined(s.server_flags));
        if (!s.client_flags.empty()) told.emplace_back("client's flags", joined(s.client_flags));
    } else {
        told.emplace_back("tunnel", "between two ends; what follows is of the near one");
    }
    told.emplace_back("processor", processor());
    utsname name{};
    if (::uname(&name) == 0)
        told.emplace_back("kernel", clean(fmt::format("{} {}", name.sysname, name.release)));
    if (std::string law = first_line("/proc/sys/net/ipv4/tcp_congestion_control"); !law.empty())
        told.emplace_back("congestion control", law);
    told.emplace_back("load before", fmt::format("{:.2f} (last minute)", load_before()));
    told.emplace_back("burin", BURIN_VERSION);
    told.emplace_back("libraries", clean(OpenSSL_version(OPENSSL_VERSION)));
    return told;
}

}  // namespace burin::tools::bench
