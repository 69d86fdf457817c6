// First data of a flow that travels with its open (docs/wire.md section 13.4), between two programs
// over a real ring.
#include "tests/catch.hh"
#include "tests/unit/relay/tunnel.hh"

namespace burin::relay {
namespace {

// What the engine does while it dials.
struct waiting_dial final : ssh::channel_end {
    waiting_dial(ssh::channel& c, ssh::piece_pool& pool) : at(&c), early(pool) { c.end = this; }
    void on_confirmed() noexcept override {}
    void on_refused(ssh::open_failure_reason, std::string_view) noexcept override {}
    void on_data(bytes_span payload, const ring::buffer& holder) noexcept override {
        early.add(payload, holder);
    }
    void on_eof() noexcept override { early.ended = true; }
    void on_sendable() noexcept override {}
    void on_closed(ssh::close_cause) noexcept override { at = nullptr; }

    ssh::channel* at;
    early_payload early;
};

struct dialling_tunnel : tunnel {
    dialling_tunnel() {
        entry->layer->set_takes_early_data();
        exit->layer->set_takes_early_data();
        entry->layer->set_takes_opens_back();
        exit->layer->set_takes_opens_back();
        exit->take = [this](ssh::channel& c, const ssh::channel_open&) {
            dial = std::make_unique<waiting_dial>(c, pieces);
            return true;
        };
    }
    // A program whose open waits for its dial; it has written `first` bytes before it was accepted.
    std::unique_ptr<program> connect(std::uint64_t first = 0) {
        const auto [near, accepted] = tcp_pair();
        auto made = std::make_unique<program>(near, 0);
        made->write_to(first);
        socket_relay::start(relays, *entry->layer, *entry, accepted, "chisel",
                            as_bytes("example:1"), ++entry->numbers);
        return made;
    }
    std::unique_ptr<program> finish_dial() {
        const auto [far, dialled] = tcp_pair();
        ssh::channel* c = std::exchange(dial->at, nullptr);
        c->end = nullptr;
        socket_relay::dialled(relays, *exit->layer, *exit, dialled, *c, ++exit->numbers,
                              &dial->early);
        dial.reset();
        return std::make_unique<program>(far, 1);
    }
    std::uint64_t waits() const { return dial == nullptr ? 0 : dial->early.pieces.bytes(); }

    std::unique_ptr<waiting_dial> dial;
};

TEST_CASE("what a program writes at once waits where it is dialled", "[socket_relay]") {
    dialling_tunnel t;
    // Byte by byte, in pieces, or more than may go early.
    using sizes = std::pair<std::uint64_t, std::size_t>;
    const sizes of = GENERATE(sizes{1, 1}, sizes{300, 1}, sizes{5000, 700},
                              sizes{ssh::early_bytes, 100'000}, sizes{500'000, 100'000});
    const std::uint64_t total = of.first;
    const auto early = std::min<std::uint64_t>(total, ssh::early_bytes);
    auto near = t.connect();
    t.until([&] {
        near->write_to(total, of.second);
        return t.waits() == early;
    });
    t.until_quiet([] {});
    CHECK(t.waits() == early);
    CHECK(t.sockets.held() == 0);
    CHECK(t.sessions.held() == 0);
    // Small ones share their memory.
    CHECK(t.pieces.in_use() <= 64);
    auto far = t.finish_dial();
    t.until([&] {
        near->write_to(total);
        far->read_from(0);
        far->write_to(total);
        near->read_from(1);
        return far->received() == total && near->received() == total;
    });
    near->shut_down();
    far->shut_down();
    t.until([&] {
        far->read_from(0);
        near->read_from(1);
        return near->eof() && far->eof();
    });
    t.check_empty();
    CHECK(t.relays.counters.resets == 0);
}

TEST_CASE("what is in the socket already leaves in one with the open", "[socket_relay]") {
    dialling_tunnel t;
    const std::uint64_t total = GENERATE(1u, 5000u);
    auto near = t.connect(total);
    t.until([&] { return t.dial != nullptr; });
    CHECK(t.waits() == total);
    auto far = t.finish_dial();
    t.until([&] {
        far->read_from(0);
        return far->received() == total;
    });
    near->leave();
    far->leave();
    t.check_empty();
}

TEST_CASE("a program that says nothing is opened for all the same", "[socket_relay]") {
    dialling_tunnel t;
    auto near = t.connect();
    t.until([&] { return t.dial != nullptr; });
    CHECK(t.waits() == 0);
    auto far = t.finish_dial();
    t.until([&] {
        far->write_to(3000);
        near->read_from(1);
        return near->received() == 3000;
    });
    far->leave();
    near->leave();
    t.check_empty();
}

TEST_CASE("a session that ends between connection and open resets the program", "[socket_relay]") {
    dialling_tunnel t;
    auto near = t.connect(100);
    t.entry->layer->lose();
    t.until([&] {
        near->read_from(1);
        return near->error() != 0 || near->eof();
    });
    CHECK(near->error() == ECONNRESET);
    CHECK(t.entry->refused.empty());
    CHECK(t.dial == nullptr);
    t.until([&] { return t.relays.alive() == 0; });
    CHECK(t.pieces.in_use() == 0);
    CHECK(t.sockets.held() == 0);
}

TEST_CASE("a program that resets or ends at once leaves nothing", "[socket_relay]") {
    dialling_tunnel t;
    const bool resets = GENERATE(true, false);
    auto near = t.connect(100);
    if (resets)
        near->reset();
    else
        near->shut_down();
    if (!resets) {
        t.until([&] { return t.dial != nullptr && t.dial->early.ended; });
        CHECK(t.waits() == 100);
        auto far = t.finish_dial();
        t.until([&] {
            far->read_from(0);
            return far->eof();
        });
        CHECK(far->received() == 100);
        far->leave();
    } else {
        // Whether its open was still sent or not, nothing of it stays.
        t.until_quiet([] {});
        t.until([&] { return t.dial == nullptr || t.dial->at == nullptr; });
        t.dial.reset();
    }
    t.check_empty();
}

TEST_CASE("a request that is whole before the dial ends as one", "[socket_relay]") {
    dialling_tunnel t;
    const std::uint64_t total = GENERATE(0u, 1u, 3000u);
    auto near = t.connect();
    near->write_to(total);
    near->shut_down();
    t.until([&] { return t.dial != nullptr && t.dial->early.ended; });
    CHECK(t.waits() == total);
    auto far = t.finish_dial();
    t.until([&] {
        far->read_from(0);
        return far->eof();
    });
    CHECK(far->received() == total);
    far->write_to(9000);
    far->shut_down();
    t.until([&] {
        near->read_from(1);
        return near->eof();
    });
    CHECK(near->received() == 9000);
    CHECK(near->error() == 0);
    t.check_empty();
}

TEST_CASE("a refused dial drops what waits and resets the program", "[socket_relay]") {
    dialling_tunnel t;
    auto near = t.connect();
    t.until([&] {
        near->write_to(5000);
        return t.waits() == 5000;
    });
    t.exit->layer->refuse(*std::exchange(t.dial->at, nullptr),
                          ssh::open_failure_reason::connect_failed, "connection refused");
    t.dial.reset();
    t.until([&] {
        near->read_from(1);
        return near->error() != 0;
    });
    CHECK(near->error() == ECONNRESET);
    CHECK(near->received() == 0);
    CHECK(t.entry->refused.size() == 1);
    t.check_empty();
}

TEST_CASE("a program that resets before the answer ends the dial", "[socket_relay]") {
    dialling_tunnel t;
    auto near = t.connect();
    t.until([&] {
        near->write_to(5000);
        return t.waits() == 5000;
    });
    near->reset();
    t.until([&] { return t.dial->at == nullptr; });
    t.dial.reset();
    t.check_empty();
}

}  // namespace
}  // namespace burin::relay
