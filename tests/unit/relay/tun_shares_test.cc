// Shares of the worker's budget that flows of the TUN earn, and give back.
#include <string>

#include "tests/unit/relay/tun_bench.hh"

using namespace burin;
using namespace burin::relay;

namespace {

constexpr std::uint32_t first_share = 64 * 1024;  // what a flow begins with

// Of the flow from this port, as the report tells it.
std::uint32_t share_of(const tun_bench& b, std::uint16_t port) {
    std::string text;
    b.queue->report(text, "tun");
    const std::size_t flow = text.find(":" + std::to_string(port) + " -> ");
    REQUIRE(flow != text.npos);
    const std::string_view name = " share=";
    return static_cast<std::uint32_t>(std::stoul(text.substr(text.find(name, flow) + name.size())));
}

// What a host sends of a stream as far as it was shown a window.
class sender {
  public:
    sender(tun_host& h, std::uint32_t stream) : _host(h), _first(h.seq), _stream(stream) {}
    // False: there is no room.
    bool push() {
        const std::uint32_t under_way = _host.seq - std::max(_host.acked, _first);
        const std::size_t room = _host.shown > under_way ? _host.shown - under_way : 0;
        const std::size_t part = std::min(room, std::size_t{44} * tun_host::mss);
        if (part > 0) _host.data(ssh::pattern_bytes().at(_stream, sent, part));
        sent += part;
        return part > 0;
    }
    std::uint64_t sent = 0;

  private:
    tun_host& _host;
    std::uint32_t _first, _stream;
};

}  // namespace

TEST_CASE("a flow that stands still leaves its share to those that move") {
    tun_bench b;
    auto [stuck, deaf] = b.open(4000, 1);
    sender first(*stuck, 1);
    for (int quiet = 0; quiet < 50; ++quiet) {
        if (first.push()) quiet = 0;
        b.go();
    }
    CHECK(stuck->shown == 0);
    const std::uint32_t earned = share_of(b, 4000);
    REQUIRE(earned > 2 * first_share);
    // Others have taken the rest.
    std::uint64_t taken = 0;
    while (const std::uint32_t more = b.entry->budget.grow(1u << 20)) taken += more;
    b.pass(200 * ring::millisecond);
    CHECK(share_of(b, 4000) == earned);  // nobody needs it

    auto [h, destination] = b.open(4001, 3);
    sender second(*h, 3);
    b.go_until([&] {
        second.push();
        destination->read_from(3);
        return share_of(b, 4001) > first_share;
    });
    CHECK(share_of(b, 4000) == first_share);
    // What was shown to a host is never taken back, and the one that stood still goes on.
    b.go_until([&] {
        first.push();
        deaf->read_from(1);
        return deaf->received() > (4u << 20);
    });
    CHECK(deaf->received() <= first.sent);
    b.entry->budget.shrink(static_cast<std::uint32_t>(taken));
    stuck->rst();
    h->rst();
    b.check_nothing_left();
}
