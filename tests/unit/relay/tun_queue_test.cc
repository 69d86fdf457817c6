// Flows of a TUN queue from the host's first SYN to the last word, over a real session.
#include "core/relay/tun_queue.hh"

#include <random>

#include "tests/unit/relay/tun_bench.hh"

using namespace burin;
using namespace burin::relay;

namespace {

byte_vector text(std::size_t size, std::uint32_t stream, std::uint64_t from = 0) {
    byte_vector out;
    while (out.size() < size) {
        const std::size_t part = std::min(ssh::pattern::longest, size - out.size());
        const bytes_view bytes = ssh::pattern_bytes().at(stream, from + out.size(), part);
        out.insert(out.end(), bytes.begin(), bytes.end());
    }
    return out;
}

}  // namespace

TEST_CASE("a SYN is answered when the channel is confirmed, and not before") {
    tun_bench b;
    tun_host& h = b.host(4000, 443);
    // Until the exit dials, nothing is known about the destination.
    ssh::channel* asked = nullptr;
    const auto [far, dialled] = tcp_pair();
    program destination(far, 1);
    h.syn();
    for (int i = 0; i < 3; ++i) {
        b.relays.now = ring::monotonic_now();
        b.main.turn(ring::millisecond);
        b.queue->flush();
    }
    CHECK(b.queue->flows() == 1);
    CHECK(h.frames.empty());
    (void)asked;
    b.exit->next_descriptor = dialled;
    b.go_until([&] { return h.answered; });
    REQUIRE(h.frames.size() == 1);
    CHECK(h.frames[0].ack == h.seq);
    CHECK(h.frames[0].options.mss == 1460);
    CHECK(h.frames[0].window > 0);
    REQUIRE(b.opened.size() == 1);
    CHECK(b.opened[0] == "10.77.0.1:443");
    h.acknowledge();
    b.go_quiet();
    h.rst();
    b.check_nothing_left();
    CHECK(b.closed == 1);
}

TEST_CASE("a refused channel resets the host's attempt") {
    tun_bench b;
    tun_host& h = b.host(4000);
    h.syn();
    b.go_until([&] { return h.reset; });
    CHECK(h.frames.back().ack == h.seq);
    CHECK_FALSE(h.answered);
    REQUIRE(b.refused.size() == 1);
    CHECK(b.refused[0] == "ssh: rejected: connect failed (nobody there)");
    CHECK(b.opened.empty());
    b.check_nothing_left();
    CHECK(b.closed == 0);
}

TEST_CASE("a refusal is told as the network would have told it") {
    using reason = ssh::open_failure_reason;
    struct refusal {
        reason why;
        const char* text;
        int v4, v6;  // ICMP's code; -1: a reset, -2: nothing
    };
    constexpr int reset = -1, silence = -2;
    const refusal refusals[] = {
        {reason::connect_failed, "dial tcp 10.77.0.1:80: connect: connection refused", reset,
         reset},
        {reason::connect_failed, "dial tcp 10.77.0.1:80: connect: no route to host", 1, 3},
        {reason::connect_failed, "dial tcp [::1]:80: connect: network is unreachable", 0, 0},
        {reason::connect_failed, "dial tcp 10.77.0.1:80: connect: permission denied", 13, 1},
        {reason::connect_failed, "dial tcp 10.77.0.1:80: i/o timeout", silence, silence},
        {reason::connect_failed, "dial tcp 1.2.3.4:80: socket: too many open files", silence,
         silence},
        {reason::connect_failed, "i/o timeout is what nobody said", reset, reset},
        {reason::prohibited, "access denied", 13, 1},
        {reason::shortage, "connection refused", silence, silence},
    };
    for (const bool v6 : {false, true}) {
        for (const refusal& r : refusals) {
            CAPTURE(v6, r.text);
            tun_bench b;
            b.exit->take = [&](ssh::channel& c, const ssh::channel_open&) {
                b.exit->layer->refuse(c, r.why, r.text);
                return true;
            };
            tun_host& h = b.host(4000, 80, v6);
            h.syn();
            b.go_until([&] { return b.refused.size() == 1; });
            b.go_quiet();
            const int code = v6 ? r.v6 : r.v4;
            CHECK(h.reset == (code == reset));
            CHECK_FALSE(h.answered);
            REQUIRE(b.messages.size() == (code >= 0 ? 1 : 0));
            if (code >= 0) {
                // Behind its own headers, those of the SYN as the host sent it.
                const std::size_t ip = v6 ? 40 : 20;
                const bytes_view icmp = bytes_view(b.messages[0]).subspan(ip);
                CHECK(tun::load_u8(icmp.data()) == (v6 ? 1 : 3));
                CHECK(tun::load_u8(icmp.data() + 1) == code);
                const bytes_view quote = icmp.subspan(8);
                REQUIRE(quote.size() == ip + 20);
                const std::size_t source = v6 ? 8 : 12, length = v6 ? 16 : 4;
                CHECK(std::equal(quote.begin() + source, quote.begin() + source + length,
                                 b.messages[0].begin() + source + length));
                CHECK(std::equal(quote.begin() + source + length,
                                 quote.begin() + source + 2 * length,
                                 b.messages[0].begin() + source));
                CHECK(tun::load_u8(quote.data() + (v6 ? 6 : 9)) == 6);
                const bytes_view tcp = quote.subspan(ip);
                CHECK(tun::load_u16(tcp.data()) == 4000);
                CHECK(tun::load_u16(tcp.data() + 2) == 80);
                CHECK(load_u32(tcp.data() + 4) == h.seq - 1);
                CHECK(tun::load_u8(tcp.data() + 13) == tun::tcp_syn);
            }
            b.exit->take = nullptr;
            b.check_nothing_left();
            CHECK(b.closed == 0);
        }
    }
}

TEST_CASE("without a session a SYN is held, and refused when its time is up") {
    tun_bench b({.hold_time = 35 * ring::second});
    b.live = false;
    tun_host& kept = b.host(4000);
    kept.syn();
    b.go_quiet();
    kept.say(tun::tcp_ack);  // nobody's handshake
    CHECK(b.queue->flows() == 1);
    SECTION("a session comes in time") {
        const auto [far, dialled] = tcp_pair();
        program destination(far, 1);
        b.exit->next_descriptor = dialled;
        b.live = true;
        b.queue->session_ready();
        b.go_until([&] { return kept.answered; });
        kept.acknowledge();
        b.go_quiet();
        kept.rst();
    }
    SECTION("none comes") {
        CHECK_FALSE(kept.reset);
        b.pass(36 * ring::second);
        b.go_until([&] { return kept.reset; });
        REQUIRE(b.refused.size() == 1);
        CHECK(b.refused[0] == "no session in time");
    }
    SECTION("the host gives up") {
        kept.rst();
        b.go_until([&] { return b.queue->flows() == 0; });
        b.live = true;
        b.queue->session_ready();  // asks for nobody's channel
        b.go_quiet();
        CHECK(b.opened.empty());
    }
    b.check_nothing_left();
}

TEST_CASE("bytes of a host arrive, and its window is what the peer grants") {
    ssh::connection_limits limits;
    limits.window_max = 64 * 1024;
    tun_bench b({}, limits);
    auto [h, destination] = b.open(4000);
    const byte_vector all = text(600'000, 0);
    std::size_t sent = 0;
    std::uint32_t first = h->seq;
    b.go_until([&] {
        // As a host does: up to the edge it was shown, in superframes.
        const std::uint32_t under_way = h->seq - std::max(h->acked, first);
        const std::size_t room = h->shown > under_way ? h->shown - under_way : 0;
        const std::size_t part =
            std::min({room, all.size() - sent, std::size_t{44} * tun_host::mss});
        CHECK(h->shown <= 64 * 1024);
        if (part > 0) h->data(bytes_view(all).subspan(sent, part));
        sent += part;
        destination->read_from(0);
        return destination->received() == all.size();
    });
    h->fin();
    b.go_until([&] {
        destination->read_from(0);
        return destination->eof();
    });
    CHECK(h->acked == h->seq);
    destination->leave();
    b.go_until([&] { return h->fin_heard; });
    h->acknowledge();
    b.check_nothing_left();
    CHECK(b.closed == 1);
}

TEST_CASE("a destination that does not read closes the host's window") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    const byte_vector all = text(16u << 20, 0);
    std::size_t sent = 0;
    const std::uint32_t first = h->seq;
    for (int quiet = 0; quiet < 50; ++quiet) {
        const std::uint32_t under_way = h->seq - std::max(h->acked, first);
        const std::size_t room = h->shown > under_way ? h->shown - under_way : 0;
        const std::size_t part =
            std::min({room, all.size() - sent, std::size_t{44} * tun_host::mss});
        if (part > 0) {
            h->data(bytes_view(all).subspan(sent, part));
            quiet = 0;
        }
        sent += part;
        b.go();
    }
    CHECK(sent < all.size());
    CHECK(h->acked == h->seq);  // everything was taken, nothing more is wanted
    CHECK(h->shown == 0);
    // No slot waits with it, whatever is queued.
    CHECK(b.entry->layer->queued_bytes() <= 1u << 20);
    // It reads on: the window opens again.
    b.go_until([&] {
        destination->read_from(0);
        return h->shown > 0;
    });
    h->rst();
    b.check_nothing_left();
}

TEST_CASE("bytes for a host come in superframes and give credit back with its ACK") {
    ssh::connection_limits limits;
    limits.window_max = 256 * 1024;
    tun_bench b({}, limits);
    auto [h, destination] = b.open(4000);
    constexpr std::uint64_t total = 3'000'000;
    SECTION("a host that acknowledges") {
        bool super = false;
        b.go_until([&] {
            destination->write_to(total);
            h->acknowledge_news();
            for (const seen_frame& f : h->frames) super = super || f.data.size() > 8 * 1460;
            h->frames.clear();
            return h->received.size() == total;
        });
        CHECK(super);
        CHECK(ssh::is_prefix(h->received, 1));
        destination->shut_down();
        b.go_until([&] { return h->fin_heard; });
        h->acknowledge();
        h->fin();
        b.go_until([&] {
            destination->read_from(0);
            return destination->eof();
        });
    }
    SECTION("a host that does not") {
        for (int i = 0; i < 100; ++i) {
            destination->write_to(total);
            b.go();
        }
        // What the far end could send is bounded by the first window: nothing was consumed.
        CHECK(destination->sent() < total);
        CHECK(h->received.size() <= 65535);
        // What waits longer than 50 ms lies in memory of exact size, not in session blocks.
        b.go_until([&] { return b.sessions.held() == 0; });
        CHECK(tun::copied_payload_bytes() > 0);
        CHECK(tun::copied_payload_bytes() <= 256 * 1024);
        h->rst();
        b.go_until([&] {
            destination->read_from(0);
            return destination->error() != 0;
        });
    }
    b.check_nothing_left();
}

TEST_CASE("ends that are not EOF become resets") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    h->data(text(5000, 0));
    b.go_until([&] {
        destination->read_from(0);
        return destination->received() == 5000;
    });
    SECTION("the destination resets") {
        destination->reset();
        b.go_until([&] { return h->reset; });
    }
    SECTION("the destination resets, and this peer has no other way to end") {
        b.close_is_eof = true;
        destination->reset();
        b.go_until([&] { return h->fin_heard; });
        CHECK_FALSE(h->reset);
        h->acknowledge();
        h->data(text(100, 0));  // there is nobody any more
        b.go_until([&] { return h->reset; });
    }
    SECTION("the session is lost") {
        b.live = false;
        b.entry->layer->lose();
        b.go_until([&] { return h->reset; });
        CHECK(b.queue->flows() == 0);
        b.exit->layer->lose();
        b.go_until([&] {
            destination->read_from(0);
            return destination->error() != 0;
        });
    }
    SECTION("the host resets") {
        h->rst();
        b.go_until([&] {
            destination->read_from(0);
            return destination->error() != 0;
        });
    }
    SECTION("the host ends its half, then resets") {
        h->fin();
        b.go_until([&] {
            destination->read_from(0);
            return destination->eof();
        });
        h->rst();
        b.go_until([&] {
            destination->write_to(~0ull);
            return destination->error() != 0;
        });
    }
    SECTION("the queue stops") {
        b.queue->stop();
        b.go_until([&] { return h->reset && b.stopped == 1; });
        b.go_until([&] {
            destination->read_from(0);
            return destination->error() != 0;
        });
        CHECK(b.closed == 1);
        return;
    }
    b.check_nothing_left();
    CHECK(b.closed == 1);
}

TEST_CASE("segments of nobody are answered with a reset, resets with nothing") {
    tun_bench b;
    tun_host& h = b.host(4000);
    h.data(text(100, 0));
    b.go_until([&] { return h.reset; });
    h.frames.clear();
    h.rst();
    h.say(tun::tcp_syn | tun::tcp_ack);
    b.go_until([&] { return !h.frames.empty(); });
    CHECK(h.frames.size() == 1);
    CHECK(b.queue->counters().unknown_flow == 3);
    CHECK(b.queue->flows() == 0);
}

TEST_CASE("a queue has no more flows than it may") {
    tun_bench b({.most_flows = 2});
    b.live = false;
    for (std::uint16_t port = 1; port <= 5; ++port) b.host(port).syn();
    b.go_until([&] { return b.queue->counters().too_many_flows == 3; });
    CHECK(b.queue->flows() == 2);
    CHECK(b.queue->counters().held == 2);
    b.hosts[0]->rst();
    b.go_until([&] { return b.queue->flows() == 1; });
    b.hosts[4]->seq = 1000;
    b.hosts[4]->syn();
    b.go_until([&] { return b.queue->flows() == 2; });
    for (auto& h : b.hosts) h->rst();
    b.check_nothing_left();
}

TEST_CASE("bytes that waited for a gap are carried on like any others") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    const byte_vector all = text(20'000, 0);
    const std::uint32_t start = h->seq;
    // The second part first, twice, then the first.
    h->seq = start + 8'000;
    h->data(bytes_view(all).subspan(8'000));
    h->seq = start + 8'000;
    h->data(bytes_view(all).subspan(8'000));
    b.go_quiet();
    CHECK(destination->received() == 0);
    h->seq = start;
    h->data(bytes_view(all).first(8'000));
    h->seq = start + 20'000;
    b.go_until([&] {
        destination->read_from(0);
        return destination->received() == all.size();
    });
    CHECK(h->acked == h->seq);
    h->rst();
    b.check_nothing_left();
}

TEST_CASE("a SYN may take the place of a connection in TIME_WAIT") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    // This side ends first, so that it is the one that waits.
    destination->shut_down();
    b.go_until([&] { return h->fin_heard; });
    h->acknowledge();
    h->fin();
    b.go_until([&] {
        destination->read_from(0);
        return destination->eof() && b.entry->layer->open_channels() == 0;
    });
    CHECK(b.queue->flows() == 1);
    CHECK(b.closed == 1);  // for whoever counts it is over
    const auto [far, dialled] = tcp_pair();
    program again(far, 1);
    b.exit->next_descriptor = dialled;
    h->answered = false;
    h->seq += 100'000;
    h->syn();
    b.go_until([&] { return h->answered; });
    CHECK(b.queue->flows() == 1);
    CHECK(b.opened.size() == 2);
    h->acknowledge();
    h->data(text(1000, 0));
    b.go_until([&] {
        again.read_from(0);
        return again.received() == 1000;
    });
    h->rst();
    b.check_nothing_left();
}

TEST_CASE("many flows at once, each with its own bytes") {
    tun_bench b;
    constexpr unsigned count = 40;
    std::vector<std::pair<tun_host*, std::unique_ptr<program>>> all;
    for (unsigned i = 0; i < count; ++i)
        all.push_back(b.open(static_cast<std::uint16_t>(5000 + i), 2 * i + 1));
    for (unsigned i = 0; i < count; ++i) all[i].first->data(text(10'000, 2 * i));
    b.go_until([&] {
        bool done = true;
        for (unsigned i = 0; i < count; ++i) {
            auto& [h, destination] = all[i];
            destination->read_from(2 * i);
            destination->write_to(40'000);
            h->acknowledge_news();
            done = done && destination->received() == 10'000 && h->received.size() == 40'000;
        }
        return done;
    });
    for (unsigned i = 0; i < count; ++i) {
        CHECK(ssh::is_prefix(all[i].first->received, 2 * i + 1));
        all[i].first->rst();
    }
    b.check_nothing_left();
    CHECK(b.closed == count);
}

TEST_CASE("frames of any shape do no harm") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    tun::flow_key swapped = h->key;
    std::swap(swapped.source, swapped.destination);
    std::swap(swapped.source_port, swapped.destination_port);
    for (int round = 0; round < 300; ++round) {
        tun::header_buffer header;
        tun::tcp_fields fields;
        fields.seq = tun::sequence(h->seq + random() % 70'000);
        fields.ack = tun::sequence(h->ack + random() % 3);
        fields.flags = static_cast<std::uint8_t>(random()) & ~tun::tcp_rst & 0xff;
        fields.window = static_cast<std::uint16_t>(random());
        const std::uint32_t size = random() % 3000;
        tun::write_tcp_header(header, swapped, fields, size, 1460);
        byte_vector frame(header.bytes().begin(), header.bytes().end());
        frame.insert(frame.end(), size, std::byte{});
        if (random() % 2 == 0)
            for (int i = 0; i < 3; ++i)
                frame[random() % frame.size()] = static_cast<std::byte>(random());
        if (random() % 4 == 0)
            frame.erase(frame.begin() + 1 + random() % (frame.size() - 1), frame.end());
        b.raw_frame(frame);
        if (round % 8 == 0) b.go();
    }
    b.go_quiet();
    CHECK(b.lost == 0);
    CHECK(b.entry->failure == "");
    b.queue->stop();
    b.go_until([&] { return b.stopped == 1; });
}

TEST_CASE("the report names what was carried and why frames were dropped") {
    tun_bench b;
    auto [h, destination] = b.open(4000);
    h->data(text(3000, 0));
    byte_vector cut(40);
    cut[10] = std::byte{0x60};  // less than an IPv6 header
    b.raw_frame(cut);
    b.go_until([&] {
        destination->read_from(0);
        return destination->received() == 3000;
    });
    std::string report;
    b.queue->report(report, "worker 0: tun");
    INFO(report);
    CHECK(report.find("worker 0: tun: read: frames=") != report.npos);
    CHECK(report.find("10.5.0.2:4000 -> 10.77.0.1:80 sent=3000") != report.npos);
    CHECK(report.find("truncated=1") != report.npos);
    h->rst();
    b.check_nothing_left();
}
