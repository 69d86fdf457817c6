#include "tools/bench/progress.hh"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace burin::tools::bench {

namespace {

constexpr auto frame = std::chrono::milliseconds(250);
constexpr std::size_t bar_width = 24;

std::size_t columns() {
    winsize size{};
    return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

void write_text(std::string_view text) {
    while (!text.empty()) {
        const ssize_t put = ::write(STDERR_FILENO, text.data(), text.size());
        if (put <= 0) return;
        text.remove_prefix(static_cast<std::size_t>(put));
    }
}

// So many characters, counted as those of UTF-8.
std::string cut(std::string_view text, std::size_t width) {
    std::size_t shown = 0, at = 0;
    for (; at < text.size(); ++at) {
        if ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) continue;
        if (shown++ == width) break;
    }
    return std::string(text.substr(0, at));
}

}  // namespace

std::string counter_text(std::size_t done, std::size_t of) {
    const std::string total = std::to_string(of);
    return fmt::format("[{:>{}}/{}] ", done, total.size(), total);
}

std::string clock_text(double seconds) {
    const long whole = std::lround(std::max(0.0, seconds));
    return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string bar_text(double share, std::size_t width) {
    const auto full = static_cast<std::size_t>(
        std::lround(std::clamp(share, 0.0, 1.0) * static_cast<double>(width)));
    return std::string(full, '#') + std::string(width - full, '.');
}

progress::kind progress::of_stderr() noexcept {
    const char* term = std::getenv("TERM");
    const bool dumb = term == nullptr || std::strcmp(term, "dumb") == 0;
    return ::isatty(STDERR_FILENO) != 0 && !dumb ? kind::terminal : kind::lines;
}

progress::progress(kind shown, std::size_t samples, double total_seconds)
    : _kind(shown), _samples(samples), _seconds_left(total_seconds) {
    if (_kind != kind::terminal) return;
    _painter = std::jthread([this](const std::stop_token& ended) {
        std::mutex nobody;
        std::unique_lock lock(nobody);
        std::condition_variable_any wait;
        while (!wait.wait_for(lock, ended, frame, [] { return false; }) &&
               !ended.stop_requested()) {
            const std::lock_guard mine(_guard);
            draw();
        }
    });
}

progress::~progress() {
    _painter = {};
    erase();
}

void progress::begin(std::string_view what, double seconds) {
    const std::lock_guard lock(_guard);
    _what = what;
    _current = seconds;
    _since = std::chrono::steady_clock::now();
    draw();
}

void progress::done(std::string_view result) {
    const std::lock_guard lock(_guard);
    erase();
    ++_done;
    _seconds_left -= _current;
    write_text(fmt::format("{}{}  {}\n", counter_text(_done, _samples), _what, result));
    _current = 0;
}

void progress::draw() {
    if (_kind != kind::terminal || _samples == 0) return;
    const double passed = std::min(
        _current, std::chrono::duration<double>(std::chrono::steady_clock::now() - _since).count());
    const double share = (static_cast<double>(_done) + (_current > 0 ? passed / _current : 0)) /
                         static_cast<double>(_samples);
    const std::string line = fmt::format("[{}] {} left  {}", bar_text(share, bar_width),
                                         clock_text(_seconds_left - passed), _what);
    write_text("\r\x1b[K" + cut(line, columns() - 1));
    _drawn = true;
}

void progress::erase() {
    if (_drawn) write_text("\r\x1b[K");
    _drawn = false;
}

}  // namespace burin::tools::bench
