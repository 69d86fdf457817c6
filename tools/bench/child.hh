// A process of this program, `burin server` say, whose output is kept, that dies with this one
// however it ends: the kernel kills it when the thread that started it has gone (unless the file of
// the program gives it capabilities, prctl(2)), and end_all() does where one has the time.
#pragma once

#include <sys/types.h>

#include <initializer_list>
#include <regex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace burin::tools::bench {

class child {
  public:
    // `variables` are added to the environment, in which nothing that flags of chisel's fall back
    // to is left; they may be secrets, no copy stays. Throws std::runtime_error.
    using variable = std::pair<std::string_view, std::string_view>;
    child(std::string name, const std::vector<std::string>& arguments,
          std::initializer_list<variable> variables = {});
    // Ends it: a moment's grace, then by force.
    ~child();
    child(const child&) = delete;
    child& operator=(const child&) = delete;

    // Waits until its output has what the pattern matches and returns group 1. Throws
    // std::runtime_error with its last words when it ended before, or after `seconds`.
    std::string wait_for(const std::regex& pattern, double seconds);

    // Empty while it runs; then what it was and its last words.
    std::string gone();
    const std::string& name() const noexcept { return _name; }
    pid_t pid() const noexcept { return _pid; }

    // Kills all there are. For the end of the process: any thread, once.
    static void end_all() noexcept;

  private:
    std::string output() const;
    std::string last_words() const;
    bool running() noexcept;

    std::string _name;
    pid_t _pid = -1;
    int _output = -1;  // a file in memory
    bool _ended = false;
};

// User and system time that a process, all its threads and what it has waited for took so far.
// Throws std::runtime_error when there is none, or it may not be looked at.
double cpu_seconds_of(pid_t);

}  // namespace burin::tools::bench
