// What a person sees while it runs, on stderr: on a terminal a bar with the time that is left and a
// line for each sample above it, else the lines alone.
#pragma once

#include <chrono>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace burin::tools::bench {

class progress {
  public:
    enum class kind { terminal, lines };

    // `total_seconds`: what all samples should take. kind: what stderr is.
    progress(kind, std::size_t samples, double total_seconds);
    // Leaves the cursor at the start of a free line.
    ~progress();
    progress(const progress&) = delete;
    progress& operator=(const progress&) = delete;

    // A sample begins that should take so long.
    void begin(std::string_view what, double seconds);
    // It is over: "12.3 Gbit/s".
    void done(std::string_view result);

    static kind of_stderr() noexcept;

  private:
    void draw();
    void erase();

    const kind _kind;
    const std::size_t _samples;
    double _seconds_left;
    std::mutex _guard;  // of all below
    std::size_t _done = 0;
    std::string _what;
    double _current = 0;
    std::chrono::steady_clock::time_point _since;
    bool _drawn = false;
    std::jthread _painter;
};

// "[12/112] " with the number as wide as the total; "1:05" of 65 s.
std::string counter_text(std::size_t done, std::size_t of);
std::string clock_text(double seconds);
// So many characters of '#' and '.'.
std::string bar_text(double share, std::size_t width);

}  // namespace burin::tools::bench
