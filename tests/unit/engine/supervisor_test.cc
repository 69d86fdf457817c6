// The supervisor and its workers: real threads, each with a ring. Runs under ThreadSanitizer too.
#include "core/engine/supervisor.hh"

#include <unistd.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "tests/catch.hh"

using namespace burin;

namespace {

// Counts what was told to it on its worker, and that it was told to leave.
struct lodger final : engine::resident {
    explicit lodger(engine::worker& w) : home(w) { home.add(*this); }
    void leave() noexcept override {
        left = true;
        home.remove(*this);
    }
    void report(std::string& into) const override { into += "lodger\n"; }
    engine::worker& home;
    bool left = false;
};

}  // namespace

TEST_CASE("workers do what is posted to them, in order, and end when told", "[tsan]") {
    engine::block_signals();
    engine::logger log;
    engine::supervisor boss(log);
    engine::worker_options small;
    small.memory_bytes = 4u << 20;
    boss.start_workers(3, small);
    constexpr int each = 2000;
    std::vector<int> counts(3, 0);  // each written by its own worker only
    std::vector<bool> ordered(3, true);
    std::atomic<int> done{0};
    for (int i = 0; i < each; ++i)
        for (auto& w : boss.workers())
            w->post([&, i](engine::worker& self) {
                if (counts[self.index()] != i) ordered[self.index()] = false;
                ++counts[self.index()];
                ++done;
            });
    std::thread waits([&] {
        while (done < 3 * each) std::this_thread::yield();
        boss.finish(7);
    });
    REQUIRE(boss.run() == 7);
    waits.join();
    for (int i = 0; i < 3; ++i) REQUIRE(counts[static_cast<std::size_t>(i)] == each);
    REQUIRE(ordered == std::vector<bool>(3, true));
}

TEST_CASE("a message may be passed on from worker to worker", "[tsan]") {
    engine::block_signals();
    engine::logger log;
    engine::supervisor boss(log);
    engine::worker_options small;
    small.memory_bytes = 4u << 20;
    boss.start_workers(2, small);
    int hops = 0;  // handed over with the message
    std::function<void(engine::worker&)> hop = [&](engine::worker& self) {
        if (++hops == 500) return boss.finish(0);
        boss.workers()[1 - self.index()]->post(hop);
    };
    boss.workers()[0]->post(hop);
    REQUIRE(boss.run() == 0);
    REQUIRE(hops == 500);
}

TEST_CASE("residents are told to leave when the worker stops", "[tsan]") {
    engine::block_signals();
    engine::logger log;
    engine::supervisor boss(log);
    engine::worker_options small;
    small.memory_bytes = 4u << 20;
    boss.start_workers(1, small);
    std::unique_ptr<lodger> guest;
    boss.workers()[0]->post([&](engine::worker& self) {
        guest = std::make_unique<lodger>(self);
        boss.finish(0);
    });
    REQUIRE(boss.run() == 0);
    REQUIRE(guest->left);
}

TEST_CASE("a watched descriptor is told of while the supervisor waits", "[tsan]") {
    engine::block_signals();
    engine::logger log;
    engine::supervisor boss(log);
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    int told = 0;
    boss.watched = ends[0];
    boss.watch_pause = ring::millisecond;
    boss.on_watched = [&] {
        char byte = 0;
        REQUIRE(read(ends[0], &byte, 1) == 1);
        REQUIRE(byte == static_cast<char>('a' + told));
        if (++told == 3) boss.finish(5);
    };
    std::thread writes([&] {
        for (char byte : {'a', 'b', 'c'})
            if (write(ends[1], &byte, 1) != 1) boss.finish(1);
    });
    REQUIRE(boss.run() == 5);
    writes.join();
    CHECK(told == 3);
    close(ends[0]);
    close(ends[1]);
}
