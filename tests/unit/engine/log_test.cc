// The logger: lines whole and in order, never waiting for a reader, never outliving the program by
// much.
#include "core/engine/log.hh"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.hh"

using namespace burin::engine;

namespace {

struct pipe_ends {
    int read_end = -1, write_end = -1;
    pipe_ends() {
        int both[2];
        REQUIRE(::pipe2(both, O_CLOEXEC) == 0);
        read_end = both[0];
        write_end = both[1];
    }
    ~pipe_ends() {
        close_write();
        if (read_end >= 0) ::close(read_end);
    }
    void close_write() {
        if (write_end >= 0) ::close(write_end);
        write_end = -1;
    }
    std::string rest() {
        close_write();
        std::string all;
        char some[65536];
        for (ssize_t n; (n = ::read(read_end, some, sizeof some)) > 0;)
            all.append(some, static_cast<std::size_t>(n));
        return all;
    }
};

// Reads all there is, in a thread of its own. A logger that ends waits for a slow reader only so
// long: who wants to see every line waits for them here, first.
class reader {
  public:
    explicit reader(pipe_ends& pipe) : _pipe(pipe) {
        _thread = std::thread([this] {
            char some[65536];
            for (ssize_t n; (n = ::read(_pipe.read_end, some, sizeof some)) > 0;) {
                std::lock_guard hold(_lock);
                _all.append(some, static_cast<std::size_t>(n));
                _more.notify_all();
            }
        });
    }
    ~reader() { rest(); }
    // False when it does not hold within 20 s.
    bool until(const std::function<bool(const std::string&)>& enough) {
        std::unique_lock hold(_lock);
        return _more.wait_for(hold, std::chrono::seconds(20), [&] { return enough(_all); });
    }
    // Nobody writes any more.
    const std::string& rest() {
        _pipe.close_write();
        if (_thread.joinable()) _thread.join();
        return _all;
    }

  private:
    pipe_ends& _pipe;
    std::mutex _lock;
    std::condition_variable _more;
    std::string _all;
    std::thread _thread;
};

std::vector<std::string> lines_of(const std::string& all) {
    std::vector<std::string> lines;
    for (std::size_t at = 0; at < all.size();) {
        std::size_t end = all.find('\n', at);
        REQUIRE(end != std::string::npos);
        lines.push_back(all.substr(at, end - at));
        at = end + 1;
    }
    return lines;
}

}  // namespace

TEST_CASE("lines come out whole, in order and with the time", "[tsan]") {
    pipe_ends pipe;
    reader reads(pipe);
    {
        logger log(pipe.write_end);
        log.line("server: Listening on http://0.0.0.0:8080");
        log.block("one\ntwo\n");
        CHECK(reads.until(
            [](const std::string& all) { return std::count(all.begin(), all.end(), '\n') == 3; }));
    }
    const auto lines = lines_of(reads.rest());
    REQUIRE(lines.size() == 3);
    CHECK(lines[0].substr(20) == "server: Listening on http://0.0.0.0:8080");
    CHECK(lines[1].substr(20) == "one");
    CHECK(lines[2].substr(20) == "two");
    for (std::size_t i : {4u, 7u}) CHECK(lines[0][i] == '/');
    for (std::size_t i : {13u, 16u}) CHECK(lines[0][i] == ':');
    CHECK(lines[0][10] == ' ');
}

TEST_CASE("many threads share one logger", "[tsan]") {
    pipe_ends pipe;
    reader reads(pipe);
    {
        logger log(pipe.write_end);
        std::vector<std::thread> writers;
        for (int w = 0; w < 4; ++w)
            writers.emplace_back([&log, w] {
                for (int i = 0; i < 500; ++i) log.line(fmt::format("{} {}", w, i));
            });
        for (auto& w : writers) w.join();
        CHECK(reads.until([](const std::string& all) {
            return std::count(all.begin(), all.end(), '\n') == 4 * 500;
        }));
    }
    int next[4] = {};
    for (const std::string& line : lines_of(reads.rest())) {
        std::string_view text = std::string_view(line).substr(20);
        int w = text[0] - '0';
        REQUIRE(text == fmt::format("{} {}", w, next[w]++));
    }
    for (int n : next) CHECK(n == 500);
}

TEST_CASE("a reader that sleeps blocks nobody; what was dropped is told when it wakes") {
    pipe_ends pipe;
    auto log = std::make_unique<logger>(pipe.write_end);
    const std::string text(1000, 'x');
    // Far more than pipe and queue hold: this loop ends only because nothing waits.
    int written = 0;
    while (log->dropped() < 100) {
        log->line(text);
        ++written;
        REQUIRE(written < 100'000);
    }
    const std::uint64_t dropped = log->dropped();
    // Told in one line or, when the writer woke in between, in several.
    std::uint64_t told = 0, tellings = 0;
    std::size_t lines = 0;
    const auto count = [&](const std::string& all) {
        told = tellings = lines = 0;
        for (const std::string& line : lines_of(all.substr(0, all.rfind('\n') + 1))) {
            ++lines;
            if (line.find("log lines were dropped: nobody read them") == line.npos) continue;
            told += std::stoull(line.substr(20));
            ++tellings;
        }
        return lines == static_cast<std::size_t>(written) - dropped + tellings && told == dropped;
    };
    reader reads(pipe);
    CHECK(reads.until(count));
    log.reset();
    count(reads.rest());
    CHECK(told == dropped);
    CHECK(tellings >= 1);
    CHECK(lines == static_cast<std::size_t>(written) - dropped + tellings);
}

TEST_CASE("the end waits for what was said last") {
    pipe_ends pipe;
    auto log = std::make_unique<logger>(pipe.write_end);
    // More than a pipe holds, less than the queue.
    for (int i = 0; i < 900; ++i) log->line(std::string(1000, 'x'));
    REQUIRE(log->dropped() == 0);
    reader reads(pipe);
    const auto begun = std::chrono::steady_clock::now();
    log.reset();
    const auto took = std::chrono::steady_clock::now() - begun;
    const std::string& all = reads.rest();
    // Not for ever: where the machine stood still for all of its 200 ms, nothing is promised.
    if (took < std::chrono::milliseconds(200))
        CHECK(std::count(all.begin(), all.end(), '\n') == 900);
    else
        WARN("not judged: the end took its whole time");
}

TEST_CASE("the end does not wait for a reader that sleeps") {
    pipe_ends pipe;
    auto log = std::make_unique<logger>(pipe.write_end);
    while (log->dropped() == 0) log->line(std::string(1000, 'x'));
    pollfd first{pipe.read_end, POLLIN, 0};
    CHECK(poll(&first, 1, 20'000) == 1);
    log.reset();  // the test's own time limit is the assertion
    CHECK(lines_of(pipe.rest().substr(0, 1021)).size() == 1);
}

TEST_CASE("a closed reader is no error") {
    pipe_ends pipe;
    ::close(pipe.read_end);
    pipe.read_end = -1;
    logger log(pipe.write_end);
    for (int i = 0; i < 100; ++i) log.line("into the void");
}

TEST_CASE("peer bytes are escaped and prefixes nest") {
    CHECK(escape("plain text") == "plain text");
    CHECK(escape("a\nb\x1b[31m\xff\\").find_first_of("\n\x1b\xff") == std::string::npos);
    CHECK(escape(std::string(5000, 'a')).size() < 300);
    log_prefix server("server");
    CHECK(server.text("x") == "server: x");
    log_prefix session = server.numbered("session", 1);
    CHECK(session.text("Open") == "server: session#1: Open");
    log_prefix flow = session.with("tun").numbered("conn", 7);
    CHECK(flow.text("Open [1/1]") == "server: session#1: tun: conn#7: Open [1/1]");
    CHECK(
        log_prefix("client").with("tun").with("proxy#3000=>80").numbered("conn", 2).text("Open") ==
        "client: tun: proxy#3000=>80: conn#2: Open");
}
