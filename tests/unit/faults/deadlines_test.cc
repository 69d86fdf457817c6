// Waits of a flow that end by themselves, by a clock of the test's own (docs/deadlines.md).
#include "core/relay/socket_relay.hh"
#include "tests/catch.hh"
#include "tests/unit/relay/tunnel.hh"

namespace burin::relay {
namespace {

TEST_CASE("an open that the peer never answers is given up", "[faults][deadlines]") {
    tunnel t;
    t.exit->take = [](ssh::channel&, const ssh::channel_open&) { return true; };
    const auto [near, accepted] = tcp_pair();
    program waits(near, 0);
    socket_relay::start(t.relays, *t.entry->layer, *t.entry, accepted, "chisel", as_bytes("a:1"),
                        ++t.entry->numbers);
    t.until([&] { return t.exit->layer->open_channels() == 1; });
    const std::uint64_t now = ring::monotonic_now();
    // One a second; some more come by themselves where this takes long.
    for (int i = 0; i < 100; ++i) t.relays.on_sweep(now);
    t.until_quiet([] {});
    CHECK(t.relays.alive() == 1);
    CHECK(t.entry->refused.empty());
    for (int i = 0; i < 30; ++i) t.relays.on_sweep(now);
    t.until([&] {
        waits.read_from(1);
        return waits.error() != 0 || waits.eof();
    });
    CHECK(waits.error() == ECONNRESET);
    CHECK(t.entry->refused.size() == 1);
    CHECK(t.relays.alive() == 0);
    // One that was answered in time has all the time there is.
    t.exit->take = {};
    auto [one, other] = t.flow();
    t.until([&] { return t.entry->opened == 1; });
    for (int i = 0; i < 300; ++i) t.relays.on_sweep(now);
    t.until_quiet([] {});
    CHECK(t.relays.alive() == 2);
}

}  // namespace
}  // namespace burin::relay
