// The processes of a run: each in a namespace, on its processors, its output in a file. They die
// with the object that started them, and with this process, whatever ends it.
#pragma once

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "bench/scaling_space.hh"

namespace scaling {

// Set by SIGINT and SIGTERM; whatever waits looks at it.
inline volatile std::sig_atomic_t interrupted = 0;

inline void pause_ms(int ms) {
    if (interrupted != 0) throw trouble("interrupted");
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    if (interrupted != 0) throw trouble("interrupted");
}

inline std::string text_of(const std::string& path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

using words = std::vector<std::string>;

// Where programs are found: a folder, and, when it was packed, the loader that starts them with the
// libraries that they were built with, whatever this machine has.
struct programs {
    std::string folder, loader, libraries;

    words command(const std::string& name, const words& arguments = {}) const {
        words all;
        if (!loader.empty()) all = {loader, "--library-path", libraries};
        all.push_back(folder + "/" + name);
        all.insert(all.end(), arguments.begin(), arguments.end());
        return all;
    }
};

class child {
  public:
    // `where`: a network namespace, or -1; `on`: no processors mean any.
    child(const words& command, int where, const processors& on, std::string log)
        : _name(command.front()), _log(std::move(log)) {
        std::vector<char*> arguments;
        for (const std::string& word : command)
            arguments.push_back(const_cast<char*>(word.c_str()));
        arguments.push_back(nullptr);
        const burin::tun::descriptor out(
            ::open(_log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644));
        if (!out) fail("cannot write " + _log);
        const burin::tun::descriptor in(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        const pid_t parent = ::getpid();
        _pid = ::fork();
        if (_pid < 0) fail("fork");
        if (_pid > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (::getppid() != parent) std::_Exit(126);
        ::dup2(in.number(), 0);
        ::dup2(out.number(), 1);
        ::dup2(out.number(), 2);
        if (where >= 0 && ::setns(where, CLONE_NEWNET) != 0) std::_Exit(126);
        if (!on.empty() && burin::engine::run_on(on) != 0) std::_Exit(126);
        // A configuration of this machine may name modules that the packed library cannot load.
        ::setenv("OPENSSL_CONF", "/dev/null", 1);
        ::execv(arguments.front(), arguments.data());
        const std::string why = "cannot start " + command.front() + ": " + std::strerror(errno);
        if (::write(2, why.data(), why.size()) < 0) std::_Exit(127);
        std::_Exit(127);
    }
    ~child() { end(); }
    child(child&& other) noexcept
        : _pid(std::exchange(other._pid, 0)),
          _status(other._status),
          _name(std::move(other._name)),
          _log(std::move(other._log)) {}
    child& operator=(child&&) = delete;

    pid_t pid() const noexcept { return _pid; }
    const std::string& log() const noexcept { return _log; }
    void signal(int number) const noexcept {
        if (_pid > 0) ::kill(_pid, number);
    }
    bool alive() noexcept {
        if (_pid > 0 && ::waitpid(_pid, &_status, WNOHANG) == _pid) _pid = 0;
        return _pid > 0;
    }
    // Of an ended one.
    bool well() const noexcept { return WIFEXITED(_status) && WEXITSTATUS(_status) == 0; }

    void end() noexcept {
        if (!alive()) return;
        ::kill(_pid, SIGTERM);
        for (int i = 0; i < 300 && alive(); ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        if (!alive()) return;
        ::kill(_pid, SIGKILL);
        ::waitpid(_pid, &_status, 0);
        _pid = 0;
    }

    // Polls; the end of the process or of the patience is a trouble that quotes its output.
    void wait_until(const std::function<bool()>& done, const std::string& what,
                    double seconds = 15) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
        while (!done()) {
            if (!alive() && done()) return;
            if (!alive() || std::chrono::steady_clock::now() > end)
                throw trouble("not " + what + ": " + last_words());
            pause_ms(5);
        }
    }
    void wait_for(const std::string& line, std::size_t count = 1) {
        wait_until([&] { return count_of(text_of(_log), line) >= count; }, "'" + line + "' said");
    }
    std::string last_words() const {
        const std::string text = text_of(_log);
        const std::string end = text.size() > 600 ? text.substr(text.size() - 600) : text;
        return _log + " says: " + (end.empty() ? "nothing" : end);
    }

    static std::size_t count_of(const std::string& text, const std::string& piece) {
        std::size_t count = 0;
        for (std::size_t at = text.find(piece); at != text.npos; at = text.find(piece, at + 1))
            ++count;
        return count;
    }

    // User and system time of all its threads, with kernel work on their behalf (proc(5)).
    double cpu_seconds() const {
        const std::string stat = first_line("/proc/" + std::to_string(_pid) + "/stat");
        const std::size_t behind_name = stat.rfind(')');
        if (_pid <= 0 || behind_name == stat.npos) return 0;
        std::istringstream fields(stat.substr(behind_name + 1));
        std::string skipped;
        for (int i = 0; i < 11; ++i) fields >> skipped;
        double user = 0, system = 0;
        fields >> user >> system;
        return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    }

  private:
    pid_t _pid = 0;
    int _status = 0;
    std::string _name, _log;
};

}  // namespace scaling
