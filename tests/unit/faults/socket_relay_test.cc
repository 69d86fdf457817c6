// Relays whose ring fails: each flow ends, whole or with a reset, and nothing of it stays.
#include "core/relay/socket_relay.hh"

#include <random>
#include <string>

#include "tests/catch.hh"
#include "tests/faults/control.hh"
#include "tests/unit/relay/tunnel.hh"

namespace burin::relay {
namespace {

struct in_force {
    explicit in_force(std::string_view plan) { faults::set_plan(plan); }
    ~in_force() { faults::set_plan(""); }
};

TEST_CASE("a FIN that the kernel has no memory for becomes a reset", "[faults][socket_relay]") {
    tunnel t;
    auto [near, far] = t.flow();
    t.until([&] {
        near->write_to(1000);
        far->read_from(0);
        return far->received() == 1000;
    });
    in_force plan("shutdown=ENOMEM:1/1");
    near->shut_down();
    t.until([&] {
        far->read_from(0);
        return far->eof() || far->error() != 0;
    });
    CHECK(far->error() == ECONNRESET);
    t.check_empty();
}

TEST_CASE("a cancel that fails is asked for again", "[faults][socket_relay]") {
    tunnel t;
    auto [near, far] = t.flow();
    SECTION("when a flow ends") {
        t.until_quiet([&] {});
        in_force plan("seed=3 cancel=ENOMEM:3/4");
        far->reset();
        t.until([&] {
            near->read_from(1);
            return near->error() != 0;
        });
        CHECK(near->error() == ECONNRESET);
        t.check_empty();
    }
    SECTION("when credit comes to a flow that was watched") {
        t.until_quiet([&] { near->write_to(1u << 30); });
        const std::uint64_t stalled_at = near->sent();
        t.relays.on_sweep(0);
        t.turn();
        in_force plan("seed=4 cancel=ENOMEM:3/4");
        t.until([&] {
            near->write_to(stalled_at + 1'000'000);
            far->read_from(0);
            return far->received() == stalled_at + 1'000'000;
        });
    }
}

// Every operation of a relay with each kind of fault, beside flows that are not met by chance.
TEST_CASE("flows end whole or with a reset whatever fails", "[faults][socket_relay]") {
    const unsigned seed = std::random_device{}();
    CAPTURE(seed);
    const std::string operation =
        GENERATE("receive", "send_message", "shutdown", "cancel", "poll", "close", "enter");
    const std::string fault = GENERATE("ENOBUFS:1/20", "ENOMEM:1/20", "ECANCELED:1/20", "EINTR:1/5",
                                       "EAGAIN:1/5", "cut:1/2", "late:1/5");
    // What io_uring_enter says of a kernel that is short of something.
    if (operation == "enter" &&
        !(fault.starts_with("ENOMEM") || fault.starts_with("EINTR") || fault.starts_with("EAGAIN")))
        return;
    // An interrupted close has closed.
    if (operation == "close" && fault.starts_with("EINTR")) return;
    // The session of this test is none that survives an error of its own.
    if (operation == "receive" && fault[0] == 'E' && fault[3] != 'B') return;
    CAPTURE(operation, fault);
    tunnel t;
    {
        in_force plan("seed=" + std::to_string(seed) + " " + operation + "=" + fault);
        for (int round = 0; round < 3; ++round) {
            auto [near, far] = t.flow();
            constexpr std::uint64_t total = 400'000;
            const bool near_first = round % 2 == 0;
            program& first = near_first ? *near : *far;
            program& second = near_first ? *far : *near;
            const std::uint32_t of_first = near_first ? 0 : 1, of_second = 1 - of_first;
            bool shut = false;
            t.until([&] {
                first.write_to(total);
                second.write_to(total / 2);
                first.read_from(of_second);
                second.read_from(of_first);
                if (!shut && first.sent() == total) {
                    first.shut_down();
                    shut = true;
                }
                if (second.eof() && second.sent() == total / 2 && !second.gone()) second.leave();
                const bool over = first.error() != 0 || second.error() != 0;
                return over || (second.gone() && first.eof());
            });
            // An end that looks whole is whole.
            if (second.eof()) CHECK(second.received() == total);
            if (first.eof()) CHECK(first.received() == total / 2);
        }
    }
    t.check_empty();
    // Without faults all is well again.
    auto [near, far] = t.flow();
    t.until([&] {
        near->write_to(300'000);
        far->read_from(0);
        return far->received() == 300'000;
    });
}

}  // namespace
}  // namespace burin::relay
