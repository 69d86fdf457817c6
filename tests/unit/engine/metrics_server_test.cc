// The server of metrics over real sockets, with real workers. Runs under ThreadSanitizer too.
#include "core/engine/metrics_server.hh"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "core/engine/supervisor.hh"
#include "tests/catch.hh"

using namespace burin;
using namespace burin::engine;

namespace {

struct lodger final : resident {
    explicit lodger(worker& w) : home(w) { home.add(*this); }
    void leave() noexcept override { home.remove(*this); }
    void report(std::string&) const override {}
    void count(tally& t) const override { t.add(metric::connections_waiting, home.index() + 40); }
    worker& home;
};

// A port that is free now. (The server is told a port, and finds out itself whether it is taken.)
std::uint16_t free_port() {
    tun::descriptor s(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    REQUIRE(bind(s.number(), reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(getsockname(s.number(), reinterpret_cast<sockaddr*>(&at), &size) == 0);
    return ntohs(at.sin_port);
}

tun::descriptor connect_to(std::uint16_t port) {
    tun::descriptor s(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    at.sin_port = htons(port);
    REQUIRE(connect(s.number(), reinterpret_cast<sockaddr*>(&at), sizeof at) == 0);
    return s;
}

std::string ask(std::uint16_t port, std::string_view request) {
    tun::descriptor s = connect_to(port);
    REQUIRE(send(s.number(), request.data(), request.size(), MSG_NOSIGNAL) ==
            static_cast<ssize_t>(request.size()));
    std::string all;
    char block[4096];
    for (ssize_t n; (n = recv(s.number(), block, sizeof block, 0)) > 0;)
        all.append(block, static_cast<std::size_t>(n));
    return all;
}

constexpr std::string_view get = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

bool has(const std::string& text, std::string_view line) {
    return text.find("\n" + std::string(line) + "\n") != text.npos;
}

}  // namespace

TEST_CASE("each worker is asked, while others stall, and the port is free afterwards", "[tsan]") {
    block_signals();
    logger log;
    supervisor boss(log);
    worker_options small;
    small.memory_bytes = 4u << 20;
    boss.start_workers(2, small);
    std::vector<std::unique_ptr<lodger>> guests(2);
    for (auto& w : boss.workers())
        w->post([&](worker& self) { guests[self.index()] = std::make_unique<lodger>(self); });
    const std::uint16_t port = free_port();
    metrics_server metrics({"127.0.0.1", port});
    REQUIRE(metrics.open().empty());
    metrics_server second({"127.0.0.1", port});
    CHECK(second.open() == "--metrics: listen tcp 127.0.0.1:" + std::to_string(port) +
                               ": bind: address already in use");
    metrics.start("client", boss.workers(), log,
                  [](tally& t) { t.add(metric::login_failures, 9); });
    std::vector<tun::descriptor> stalled;
    for (int i = 0; i < 5; ++i) stalled.push_back(connect_to(port));
    send(stalled[0].number(), get.data(), get.size(), MSG_NOSIGNAL);  // and never reads
    send(stalled[1].number(), get.data(), 5, MSG_NOSIGNAL);
    std::thread asks([&] {
        const std::string answer = ask(port, get);
        CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(has(answer, "burin_connections_waiting{worker=\"0\"} 40"));
        CHECK(has(answer, "burin_connections_waiting{worker=\"1\"} 41"));
        CHECK(has(answer, "burin_login_failures_total 9"));
        CHECK(has(answer, "burin_sessions{worker=\"1\"} 0"));
        CHECK(answer.find("\nburin_build_info{version=\"" BURIN_VERSION "\",role=\"client\"") !=
              answer.npos);
        CHECK(ask(port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 404 "));
        CHECK(has(ask(port, get), "burin_scrapes_total{outcome=\"refused\"} 1"));
        boss.finish(0);
    });
    REQUIRE(boss.run() == 0);
    asks.join();
    metrics.stop();
    metrics.stop();
    guests.clear();
}

TEST_CASE("a worker that does not come to its mail costs a scrape, not the server", "[tsan]") {
    block_signals();
    logger log;
    supervisor boss(log);
    worker_options small;
    small.memory_bytes = 4u << 20;
    boss.start_workers(1, small);
    const std::uint16_t port = free_port();
    metrics_server metrics({"127.0.0.1", port});
    REQUIRE(metrics.open().empty());
    metrics.start("client", boss.workers(), log);
    std::promise<void> let_go;
    boss.workers()[0]->post([held = let_go.get_future().share()](worker&) { held.wait(); });
    std::thread asks([&] {
        CHECK(ask(port, get).starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        // The question is still out: told at once.
        CHECK(ask(port, get).ends_with("\r\n\r\na worker does not answer\n"));
        let_go.set_value();
        std::string answer;
        do answer = ask(port, get);
        while (!answer.starts_with("HTTP/1.1 200 OK\r\n"));
        CHECK(answer.find("burin_scrapes_total{outcome=\"without_numbers\"} ") != answer.npos);
        boss.finish(0);
    });
    REQUIRE(boss.run() == 0);
    asks.join();
}
