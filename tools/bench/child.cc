#include "tools/bench/child.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <thread>

#include "crypto/secret.hh"
#include "tools/bench/numbers.hh"

namespace burin::tools::bench {

namespace {

constexpr std::size_t most_children = 8;
constexpr std::size_t most_output = 1 << 20;  // of which more is not looked at
constexpr auto poll_pause = std::chrono::milliseconds(5);
constexpr auto grace = std::chrono::seconds(2);

std::atomic<pid_t> alive[most_children];

void note(pid_t old, pid_t fresh) noexcept {
    for (std::atomic<pid_t>& place : alive) {
        pid_t expected = old;
        if (place.compare_exchange_strong(expected, fresh)) return;
    }
}

// Flags and variables of a person's own tunnel are not ours.
bool falls_back(std::string_view variable) {
    const std::string_view name = variable.substr(0, variable.find('='));
    return name == "AUTH" || name == "HOST" || name == "PORT" || name.starts_with("CHISEL_");
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
    std::vector<char*> out;
    for (std::string& text : texts) out.push_back(text.data());
    out.push_back(nullptr);
    return out;
}

}  // namespace

child::child(std::string name, const std::vector<std::string>& arguments,
             std::initializer_list<variable> variables)
    : _name(std::move(name)) {
    std::vector<std::string> words = {"burin"}, set;
    words.insert(words.end(), arguments.begin(), arguments.end());
    for (char** entry = environ; *entry != nullptr; ++entry)
        if (!falls_back(*entry)) set.emplace_back(*entry);
    for (const auto& [key, value] : variables) {
        std::string& text = set.emplace_back();
        text.reserve(key.size() + value.size() + 1);
        text.append(key).append("=").append(value);
    }
    const std::vector<char*> argv = pointers(words), envp = pointers(set);
    const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    _output = ::memfd_create("output", MFD_CLOEXEC);
    const pid_t parent = ::getpid();
    _pid = nothing < 0 || _output < 0 ? -1 : ::fork();
    if (_pid == 0) {
        // Between fork and exec of a process with threads: system calls only.
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigset_t none;
        sigemptyset(&none);
        ::sigprocmask(SIG_SETMASK, &none, nullptr);
        // A group of its own: what a terminal tells this program is not the child's to hear.
        ::setpgid(0, 0);
        if (::getppid() != parent) ::_exit(127);
        ::dup2(nothing, 0);
        ::dup2(_output, 1);
        ::dup2(_output, 2);
        ::execve("/proc/self/exe", argv.data(), envp.data());
        ::_exit(127);
    }
    const int error = errno;
    for (std::string& text : set) crypto::wipe(text.data(), text.size());
    if (nothing >= 0) ::close(nothing);
    if (_pid < 0) {
        if (_output >= 0) ::close(_output);
        throw std::runtime_error(fmt::format("cannot start {}: {}", _name, std::strerror(error)));
    }
    note(0, _pid);
}

child::~child() {
    if (running()) ::kill(_pid, SIGTERM);
    const auto end = std::chrono::steady_clock::now() + grace;
    while (running()) {
        if (std::chrono::steady_clock::now() > end) {
            ::kill(_pid, SIGKILL);
            ::waitpid(_pid, nullptr, 0);
            break;
        }
        std::this_thread::sleep_for(poll_pause);
    }
    note(_pid, 0);
    ::close(_output);
}

bool child::running() noexcept {
    if (!_ended && ::waitpid(_pid, nullptr, WNOHANG) == _pid) {
        _ended = true;
        note(_pid, 0);  // the number may become another's
    }
    return !_ended;
}

std::string child::output() const {
    std::string text(most_output, '\0');
    const ssize_t got = ::pread(_output, text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
}

std::string child::last_words() const {
    std::string text = output();
    while (!text.empty() && text.back() == '\n') text.pop_back();
    const std::size_t start = text.rfind('\n');
    if (start != text.npos) text.erase(0, start + 1);
    return text.empty() ? "it said nothing" : "it said: " + clean(text);
}

std::string child::gone() {
    return running() ? "" : fmt::format("{} has ended; {}", _name, last_words());
}

std::string child::wait_for(const std::regex& pattern, double seconds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
    for (;;) {
        // In this order: what it said before it ended counts.
        const bool runs = running();
        const std::string text = output();
        std::smatch found;
        if (std::regex_search(text, found, pattern)) return found.size() > 1 ? found.str(1) : "";
        if (!runs) throw std::runtime_error(gone());
        if (std::chrono::steady_clock::now() > end)
            throw std::runtime_error(
                fmt::format("{} is not ready after {} s; {}", _name, seconds, last_words()));
        std::this_thread::sleep_for(poll_pause);
    }
}

void child::end_all() noexcept {
    for (std::atomic<pid_t>& place : alive)
        if (const pid_t pid = place.exchange(0); pid > 0) ::kill(pid, SIGKILL);
}

double cpu_seconds_of(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    const std::string text(std::istreambuf_iterator<char>(file), {});
    // Fields 14 and 15, counted behind the name, which may hold anything (proc(5)).
    const std::size_t name = text.rfind(')');
    unsigned long user = 0, system = 0;
    if (name == text.npos ||
        std::sscanf(text.c_str() + name + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                    &user, &system) != 2)
        throw std::runtime_error(fmt::format("process {} has ended, or is hidden", pid));
    return static_cast<double>(user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace burin::tools::bench
