// Log lines to stderr in chisel's shape (docs/wire.md section 10.8), written by a thread of their
// own: a worker never waits for whoever reads them. The queue is bounded; when it is full, lines
// are dropped, counted, and told in a line of their own as soon as there is room again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

namespace burin::engine {

class logger {
  public:
    // `descriptor` stays the caller's and is not made non-blocking: it is often shared with the
    // shell.
    explicit logger(int descriptor = 2);
    // Writes what is queued, for 200 ms at most; what nobody reads by then is lost.
    ~logger();
    logger(const logger&) = delete;
    logger& operator=(const logger&) = delete;

    // Any thread; never waits for the reader. One line, "2006/01/02 15:04:05 " in front of it; peer
    // bytes in it are the caller's to escape.
    void line(std::string_view text) noexcept;
    // The same for a line that is complete, its newline included.
    void raw(std::string_view line) noexcept;
    // Several lines, each with the time.
    void block(std::string_view text) noexcept;
    // Lines dropped since the start.
    std::uint64_t dropped() const noexcept;

  private:
    // Shared with the thread, which outlives this object when a write to the descriptor never
    // returns.
    struct state;
    std::shared_ptr<state> _state;
    std::thread _thread;
};

// "2006/01/02 15:04:05 text" and a newline, local time: for what is said before there is a logger.
std::string log_line(std::string_view text);

// Peer bytes fit for one line: other than printable ASCII, and the backslash, as \xNN; cut at 256
// bytes.
std::string escape(std::string_view);

// Prefixes nest: "server: session#1: tun: conn#1: ". A value of two words and a shared text; giving
// a flow its number allocates nothing.
class log_prefix {
  public:
    explicit log_prefix(std::string_view name);
    // "name: " behind this one.
    log_prefix with(std::string_view name) const;
    // "kind#number: " behind this one, which must have no number itself; `kind` is a literal.
    log_prefix numbered(const char* kind, std::uint32_t number) const;
    // The line.
    std::string text(std::string_view line) const;

  private:
    std::shared_ptr<const std::string> _text;
    const char* _kind = nullptr;
    std::uint32_t _number = 0;
};

}  // namespace burin::engine
