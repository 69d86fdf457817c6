// The program: `burin server`, `burin client`, `burin doctor`, `burin bench`. Reads the command
// line, prints what is wrong with it, and calls the engine.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "core/engine/client.hh"
#include "core/engine/log.hh"
#include "core/engine/server.hh"
#include "crypto/host_key.hh"
#include "tools/bench/bench.hh"
#include "tools/command_line.hh"
#include "tools/doctor.hh"

using namespace burin;

namespace {

bool write_all(int descriptor, std::string_view text) {
    while (!text.empty()) {
        ssize_t n = ::write(descriptor, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

void print(std::string_view text) {
    write_all(STDOUT_FILENO, text);
}

// Each line with the time, as chisel's log.Fatal does.
int complain(std::string_view text, int status) {
    while (!text.empty()) {
        std::size_t end = text.find('\n');
        write_all(STDERR_FILENO, engine::log_line(text.substr(0, end)));
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + 1);
    }
    return status;
}

// docs/wire.md section 6.1: the ck- form without a newline, for its owner alone.
int write_key(const std::string& path, std::string_view seed) {
    crypto::host_key key =
        seed.empty() ? crypto::host_key::generate() : crypto::host_key::from_seed(seed);
    std::string text = key.to_ck();
    bool written = false;
    if (path == "-") {
        written = write_all(STDOUT_FILENO, text);
    } else {
        int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        // A file that was there before keeps its mode otherwise.
        written = file >= 0 && ::fchmod(file, 0600) == 0 && write_all(file, text);
        if (file >= 0 && ::close(file) != 0) written = false;
    }
    int error = errno;
    crypto::wipe(text.data(), text.size());
    if (written) return 0;
    return complain(fmt::format("cannot write the key to {}: {}", path, std::strerror(error)), 1);
}

template <class Command>
bool stops(const Command& c, int& status) {
    if (!c.help.empty()) {
        print(c.help);
        status = 0;
        return true;
    }
    if (!c.error.empty()) {
        status = complain(c.error, c.status);
        return true;
    }
    for (const std::string& note : c.notes) complain(note, 0);
    return false;
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::string> arguments(argv + std::min(argc, 2), argv + argc);
    std::string name = argc > 1 ? argv[1] : "help";
    tools::environment env = tools::process_environment();
    tools::hide_secrets({argv, static_cast<std::size_t>(argc)}, environ);
    int status = 0;
    if (name == "server") {
        auto c = tools::parse_server(arguments, env);
        tools::wipe(arguments, env);
        if (stops(c, status)) return status;
        if (!c.settings.keygen.empty()) return write_key(c.settings.keygen, c.settings.key.view());
        return engine::run_server(c.settings);
    }
    if (name == "client") {
        auto c = tools::parse_client(arguments, env);
        tools::wipe(arguments, env);
        return stops(c, status) ? status : engine::run_client(c.settings);
    }
    if (name == "doctor") return tools::run_doctor(arguments);
    if (name == "bench") return tools::bench::run(arguments);
    if (name == "version" || name == "--version" || name == "-version" || name == "-v" ||
        name == "--v") {
        print(BURIN_VERSION "\n");
        return 0;
    }
    if (name == "help" || name == "--help" || name == "-help" || name == "-h") {
        print(tools::program_help());
        return 0;
    }
    complain(fmt::format("unknown command '{}'", engine::escape(name)), 0);
    write_all(STDERR_FILENO, tools::program_help());
    return 2;
}
