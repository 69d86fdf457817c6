// Messages between threads; runs under ThreadSanitizer too.
#include "ring/mailbox.hh"

#include <poll.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "tests/catch.hh"

using namespace burin::ring;

namespace {

struct received {
    std::array<int, 4> last{-1, -1, -1, -1};
    long count = 0;
    bool ordered = true;
};

struct number : message {
    number(int s, int v) : sender(s), value(v) {}
    void deliver(void* context) override {
        auto& r = *static_cast<received*>(context);
        auto from = static_cast<std::size_t>(sender);
        r.ordered = r.ordered && value == r.last[from] + 1;
        r.last[from] = value;
        ++r.count;
    }
    int sender, value;
};

struct counted : message {
    explicit counted(std::atomic<int>& a) : alive(a) { ++alive; }
    ~counted() override { --alive; }
    void deliver(void*) override {}
    std::atomic<int>& alive;
};

}  // namespace

TEST_CASE("every message arrives once and in its sender's order", "[mailbox][tsan]") {
    constexpr int each = 20000;
    mailbox box;
    std::vector<std::thread> senders;
    for (int s = 0; s < 4; ++s)
        senders.emplace_back([&box, s] {
            for (int i = 0; i < each; ++i) box.post(std::make_unique<number>(s, i));
        });
    received r;
    while (r.count < 4L * each) {
        pollfd p{box.descriptor(), POLLIN, 0};
        REQUIRE(poll(&p, 1, 30'000) == 1);  // a lost wake-up ends here
        std::uint64_t posted;
        REQUIRE(::read(box.descriptor(), &posted, sizeof posted) == sizeof posted);
        box.drain(&r);
    }
    for (auto& t : senders) t.join();
    REQUIRE(r.ordered);
    REQUIRE(box.drain(&r) == 0);
    REQUIRE(r.count == 4L * each);
    REQUIRE(box.taken() == 4u * each);
}

TEST_CASE("what was not delivered is freed with the mailbox", "[mailbox][tsan]") {
    std::atomic<int> alive{0};
    {
        mailbox box;
        for (int i = 0; i < 10; ++i) box.post(std::make_unique<counted>(alive));
        REQUIRE(alive == 10);
    }
    REQUIRE(alive == 0);
}
