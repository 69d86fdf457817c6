// The server's end of an echo channel, in a network namespace whose only way out is a TUN device:
// the test is the network behind it. Needs root and /dev/net/tun; says so and skips elsewhere.
#include "core/relay/echo_exit.hh"

#include <poll.h>
#include <unistd.h>

#include <cstdlib>
#include <deque>
#include <fstream>
#include <memory>
#include <optional>

#include "tests/unit/relay/tunnel.hh"
#include "tests/unit/tun/namespace.hh"
#include "tests/unit/tun/packets.hh"
#include "tun/device.hh"
#include "tun/fragments.hh"
#include "tun/frame.hh"
#include "tun/icmp.hh"
#include "tun/routes.hh"

using namespace burin;
using namespace burin::relay;
using namespace burin::hand;
using kind = echo_message::kind;

namespace {

enum class how { datagram, raw };

tun::cidr network(const char* text) {
    auto parsed = tun::parse_network(text);
    REQUIRE(parsed.ok());
    return parsed.value();
}

tun::flow_address address(const octets& from) {
    if (from.size() == 4)
        return tun::flow_address::v4(load_u32(std::as_bytes(std::span(from)).data()));
    tun::flow_address a;
    std::copy(from.begin(), from.end(), a.bytes.begin());
    return a;
}

struct ping_bench : tunnel, echo_pinger_owner {
    explicit ping_bench(how h, const echo_exit_settings& s = {}) {
        std::ofstream("/proc/sys/net/ipv4/ping_group_range") << (h == how::raw ? "1 0" : "0 0");
        auto opened = tun::device::open({"ping%d", 1});
        REQUIRE(opened.ok());
        device.emplace(std::move(opened).value());
        auto made = tun::routes::open(device->index(), device->name());
        REQUIRE(made.ok());
        routes.emplace(std::move(made).value());
        tun::network_settings settings;
        for (const char* a : {"10.5.0.2/32", "fd00:5::2/128"})
            settings.addresses.push_back(network(a));
        for (const char* r : {"10.77.0.0/16", "fd00:77::/64"})
            settings.routes.push_back(network(r));
        const tun::failure bad = routes->apply(settings);
        INFO(bad.what);
        REQUIRE_FALSE(bad);
        echo_descriptors at = echo_descriptors::open();
        REQUIRE(at.error == 0);
        REQUIRE(at.v4.raw == (h == how::raw));
        REQUIRE(at.v6.raw == (h == how::raw));
        pinger = std::make_unique<echo_pinger>(relays, *this, std::move(at));
        also = [this] { relays.now = main.now(); };
        also();
        exit->take = [this, s](ssh::channel& c, const ssh::channel_open&) {
            served = std::make_unique<echo_exit>(relays, *pinger, *exit->layer, c, s);
            return true;
        };
        open();
    }
    ~ping_bench() override {
        entry->layer->lose();
        exit->layer->lose();
        CHECK(pinger->waiting().size() == 0);
        pinger->stop();
        until([&] { return stopped == 1; });
        served.reset();
        pinger.reset();
        CHECK(pieces.in_use() == 0);
        CHECK(sessions.held() == 0);
        CHECK(tun::copied_payload_bytes() == 0);
        also = nullptr;
        exit->take = nullptr;
    }
    void on_pinger_stopped() noexcept override { ++stopped; }

    void open() {
        client.layer = entry->layer.get();
        client.at = client.layer->open(client, echo_channel_type, {});
        REQUIRE(client.at != nullptr);
        client.confirmed = 0;
        client.data.clear();
        until([&] { return client.confirmed == 1; });
    }
    void ask(std::uint32_t number, const octets& to, const octets& data = filler(56)) {
        const bytes_view view = std::as_bytes(std::span(data));
        const echo_message m{kind::request, number, address(to), view};
        kept.emplace_back(echo_message_bytes(m));
        write_echo(kept.back().data(), m);
        client.layer->send(*client.at, {}, kept.back());
    }
    // A request that came out into the network: the whole packet.
    std::optional<octets> sent() {
        for (;;) {
            pollfd ready{device->queue(0), POLLIN, 0};
            if (::poll(&ready, 1, 0) != 1) return {};
            byte_vector space(tun::max_frame_bytes);
            const ssize_t got = ::read(device->queue(0), space.data(), space.size());
            REQUIRE(got > 0);
            tun::parsed_frame f;
            space.resize(static_cast<std::size_t>(got));
            const tun::frame_kind what = tun::parse_frame(space, f);
            // Neighbours and listeners are looked for as well. What is larger than the device
            // comes in parts.
            if (what == tun::frame_kind::fragment) {
                if (!parts.add(f, 1)) continue;
                space.resize(tun::max_frame_bytes);
                const bytes_view whole = parts.take(space);
                REQUIRE(tun::parse_frame(whole, f) == tun::frame_kind::icmp);
            } else if (what != tun::frame_kind::icmp) {
                continue;
            }
            if (tun::is_echo_request(f)) return to_octets(f.packet);
        }
    }
    octets wait_for_request() {
        std::optional<octets> packet;
        until([&] { return (packet = sent()).has_value(); });
        return *packet;
    }
    void arrive(const octets& packet) {
        const byte_vector f = frame(packet);
        REQUIRE(::write(device->queue(0), f.data(), f.size()) == static_cast<ssize_t>(f.size()));
    }
    std::vector<echo_message> told() {
        std::vector<echo_message> all;
        bytes_view left = client.data;
        echo_reader reader;
        for (echo_message m; reader.next(left, m);) all.push_back(m);
        return all;
    }
    echo_message wait_for_word(std::size_t count = 1) {
        until([&] { return told().size() >= count; });
        return told().back();
    }
    void pass(ring::microseconds_t time) {
        main.skipped += time;
        also();
        go_quiet();
    }
    void go_quiet() {
        for (int i = 0; i < 20; ++i) turn(ring::millisecond);
    }
    const echo_pinger_counters& counters() const { return pinger->counters(); }

    std::optional<tun::device> device;
    std::optional<tun::routes> routes;
    tun::fragment_store parts;
    std::unique_ptr<echo_pinger> pinger;
    std::unique_ptr<echo_exit> served;
    ssh::flow_record client;
    std::deque<byte_vector> kept;
    unsigned stopped = 0;
};

octets source_of(const octets& packet) {
    return packet[0] >> 4 == 6 ? octets(packet.begin() + 8, packet.begin() + 24)
                               : octets(packet.begin() + 12, packet.begin() + 16);
}
octets destination_of(const octets& packet) {
    return packet[0] >> 4 == 6 ? octets(packet.begin() + 24, packet.begin() + 40)
                               : octets(packet.begin() + 16, packet.begin() + 20);
}
octets message_of(const octets& packet) {
    return {packet.begin() + (packet[0] >> 4 == 6 ? 40 : 20), packet.end()};
}
// As the destination would answer, from the RFCs: identifier, number and data of the request.
octets answer_to(const octets& packet) {
    const ends back{destination_of(packet), source_of(packet)};
    const octets m = message_of(packet);
    const std::uint32_t rest =
        std::uint32_t{m[4]} << 24 | std::uint32_t{m[5]} << 16 | std::uint32_t{m[6]} << 8 | m[7];
    return ip(back, icmp_protocol(back),
              icmp(back, back.v6() ? 129 : 0, 0, rest, octets(m.begin() + 8, m.end())));
}
// A router's error about it.
octets error_about(const octets& packet, unsigned type, unsigned code) {
    ends back{destination_of(packet), source_of(packet)};
    back.from.back() = 254;
    const octets quoted(packet.begin(),
                        packet.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(
                                             packet.size(), back.v6() ? 1200 : 28)));
    return ip(back, icmp_protocol(back), icmp(back, type, code, 0, quoted));
}

const how both_ways[] = {how::datagram, how::raw};

}  // namespace

TEST_CASE("echo exit: the destination's answer goes back, whatever its size") {
    NEEDS_NAMESPACE(inside);
    const how h = GENERATE(how::datagram, how::raw);
    ping_bench b(h);
    std::uint32_t number = 700;
    std::size_t count = 0;
    for (const ends& e : {lan4, lan6}) {
        for (const std::size_t size :
             {std::size_t{0}, std::size_t{1}, std::size_t{56}, most_echo_bytes}) {
            b.ask(++number, e.to, filler(size));
            const octets packet = b.wait_for_request();
            CHECK(destination_of(packet) == e.to);
            const octets m = message_of(packet);
            CHECK(octets(m.begin() + 8, m.end()) == filler(size));
            CHECK(sum(m, e.v6() ? pseudo({source_of(packet), e.to}, 58, m.size()) : 0) == 0xffff);
            b.go_quiet();
            REQUIRE(b.told().size() == count);  // not before
            b.arrive(answer_to(packet));
            const echo_message got = b.wait_for_word(++count);
            CHECK(got.what == kind::answered);
            CHECK(got.number == number);
            CHECK(to_octets(got.data) == filler(size));
        }
    }
    CHECK(b.counters().answered == count);
    CHECK(b.pinger->waiting().size() == 0);
}

TEST_CASE("echo exit: an answer counts once, from there, and to this request") {
    NEEDS_NAMESPACE(inside);
    for (const how h : both_ways) {
        for (const ends& e : {lan4, lan6}) {
            ping_bench b(h);
            b.ask(1, e.to);
            const octets packet = b.wait_for_request();
            octets other = packet;  // as if it had gone elsewhere
            other[e.v6() ? 39 : 19] = 99;
            b.arrive(answer_to(other));
            octets later = packet;  // another number
            later[later.size() - 56 - 1] ^= 1;
            b.arrive(answer_to(later));
            b.until([&] { return b.counters().late == 2; });
            CHECK(b.told().empty());
            b.arrive(answer_to(packet));
            b.arrive(answer_to(packet));
            b.until([&] { return b.counters().late == 3; });
            b.wait_for_word();
            b.go_quiet();
            CHECK(b.told().size() == 1);
        }
    }
}

TEST_CASE("echo exit: what routers say is told") {
    NEEDS_NAMESPACE(inside);
    struct said {
        unsigned type, code;
        kind what;  // unknown: nothing is told
    };
    const said v4[] = {{3, 0, kind::unreachable},    {3, 1, kind::unreachable},
                       {3, 13, kind::prohibited},    {3, 9, kind::prohibited},
                       {11, 0, kind::hops_exceeded}, {11, 1, kind::unknown},
                       {3, 4, kind::unknown},        {12, 0, kind::unknown}};
    const said v6[] = {{1, 0, kind::unreachable},   {1, 3, kind::unreachable},
                       {1, 1, kind::prohibited},    {1, 5, kind::prohibited},
                       {3, 0, kind::hops_exceeded}, {3, 1, kind::unknown},
                       {4, 0, kind::unknown}};
    for (const how h : both_ways) {
        ping_bench b(h);
        std::uint32_t number = 0;
        std::size_t count = 0;
        const auto check = [&](const ends& e, const said& s) {
            INFO((e.v6() ? "IPv6 " : "IPv4 ") << s.type << " " << s.code);
            b.ask(++number, e.to);
            const octets packet = b.wait_for_request();
            b.arrive(error_about(packet, s.type, s.code));
            if (s.what != kind::unknown) {
                const echo_message got = b.wait_for_word(++count);
                CHECK(got.what == s.what);
                CHECK(got.number == number);
                return;
            }
            b.go_quiet();
            REQUIRE(b.told().size() == count);
            b.arrive(answer_to(packet));  // and it still counts
            CHECK(b.wait_for_word(++count).what == kind::answered);
        };
        for (const said& s : v4) check(lan4, s);
        for (const said& s : v6) check(lan6, s);
    }
}

TEST_CASE("echo exit: what the routes say is told, and of the right request") {
    NEEDS_NAMESPACE(inside);
    for (const how h : both_ways) {
        ping_bench b(h);
        for (const char* command :
             {"ip route replace unreachable 10.78.0.0/16", "ip route replace prohibit 10.79.0.0/16",
              "ip route replace blackhole 10.80.0.0/16",
              "ip -6 route replace unreachable fd00:78::/64",
              "ip -6 route replace prohibit fd00:79::/64",
              "ip -6 route replace blackhole fd00:7a::/64"})
            REQUIRE(std::system(command) == 0);
        const auto at = [](const ends& e, unsigned place) {
            octets to = e.to;
            to[e.v6() ? 3 : 1] = static_cast<std::uint8_t>(place);
            return to;
        };
        for (const ends& e : {lan4, lan6}) {
            const unsigned first = e.v6() ? 0x78 : 78;
            const std::size_t before = b.told().size();
            b.ask(1, at(e, first));
            b.ask(2, at(e, first + 1));
            b.ask(3, at(e, first + 2));
            INFO("IPv6 " << e.v6() << " raw " << (h == how::raw));
            b.until([&] { return b.told().size() == before + 2; });
            b.go_quiet();
            const auto told = b.told();
            REQUIRE(told.size() == before + 2);
            for (std::size_t i = before; i < told.size(); ++i)
                CHECK(told[i].what == (told[i].number == 1 ? kind::unreachable : kind::prohibited));
            CHECK(b.pinger->waiting().size() == 1);  // the third: nobody says anything
            b.pass(8100 * ring::millisecond);
            CHECK(b.pinger->waiting().size() == 0);
        }
        CHECK(b.counters().timed_out == 2);
        CHECK(b.main.timers.armed() == 0);
        // An address of a route that is not there at all.
        b.ask(4, {192, 0, 2, 1});
        CHECK(b.wait_for_word(5).what == kind::unreachable);
    }
}

TEST_CASE("echo exit: an error about one request is not taken for another's") {
    NEEDS_NAMESPACE(inside);
    for (const how h : both_ways) {
        for (const ends& e : {lan4, lan6}) {
            ping_bench b(h);
            ends other = e;
            other.to.back() = 77;
            b.ask(0, e.to);
            octets last = b.wait_for_request();
            // An error about the last request comes when the next two are as good as sent: the
            // kernel gives it to the first of them.
            for (std::uint32_t i = 1; i <= 50; ++i) {
                b.ask(2 * i, other.to);
                b.ask(2 * i + 1, e.to);
                b.until([&] { return b.counters().requests == 2 * i + 1; });
                b.arrive(error_about(last, e.v6() ? 1 : 3, 1));
                octets one = b.wait_for_request();
                last = b.wait_for_request();
                if (destination_of(one) == e.to) std::swap(one, last);  // sent again, and so later
                REQUIRE(destination_of(one) == other.to);
                REQUIRE(destination_of(last) == e.to);
                b.arrive(answer_to(one));
                b.until([&] { return b.told().size() == 2 * i; });
                for (const echo_message& m : b.told())
                    REQUIRE((m.what == kind::answered) == (m.number % 2 == 0 && m.number > 0));
            }
            // A raw socket's send does not look at it.
            if (h == how::datagram)
                CHECK(b.pinger->socket_for(address(e.to))->counters().again > 0);
            CHECK(b.counters().refused == 50);
            CHECK(b.counters().answered == 50);
        }
    }
}

TEST_CASE("echo exit: a session has its bounds") {
    NEEDS_NAMESPACE(inside);
    SECTION("a second") {
        ping_bench b(how::raw, {.per_second = 1, .burst = 5});
        for (std::uint32_t i = 0; i < 20; ++i) b.ask(i, lan4.to, filler(4));
        b.until([&] { return b.counters().requests == 20; });
        CHECK(b.counters().limited > 0);
        CHECK(b.pinger->waiting().size() == 20 - b.counters().limited);
    }
    SECTION("waiting: its own oldest makes room") {
        ping_bench b(how::raw, {.most_waiting = 8});
        for (std::uint32_t i = 0; i < 20; ++i) b.ask(i, lan4.to, filler(4));
        std::vector<octets> packets;
        while (packets.size() < 20) packets.push_back(b.wait_for_request());
        CHECK(b.pinger->waiting().size() == 8);
        CHECK(b.counters().evicted == 12);
        for (const octets& p : packets) b.arrive(answer_to(p));
        b.until([&] { return b.told().size() == 8; });
        b.until([&] { return b.counters().late == 12; });
        CHECK(b.told().front().number == 12);
    }
    SECTION("to hosts alone") {
        ping_bench b(how::raw);
        const octets many6 = octets{0xff, 2} + octets(13) + octets{1};
        const octets link6 = octets{0xfe, 0x80} + octets(13) + octets{1};
        for (const octets& to :
             {octets{224, 0, 0, 1}, octets{255, 255, 255, 255}, octets{0, 0, 0, 0},
              octets{240, 0, 0, 1}, many6, link6, octets(16)})
            b.ask(1, to);
        b.until([&] { return b.counters().not_allowed == 7; });
        CHECK_FALSE(b.sent());
        CHECK(b.told().empty());
    }
}

TEST_CASE("echo exit: a client that breaks the rules loses its channel, and may have another") {
    NEEDS_NAMESPACE(inside);
    ping_bench b(how::raw);
    b.ask(1, lan4.to);
    const octets packet = b.wait_for_request();
    b.kept.emplace_back(4);
    b.client.layer->send(*b.client.at, {}, b.kept.back());
    b.until([&] { return b.client.closes == 1; });
    CHECK(b.served->over());
    CHECK(b.pinger->waiting().size() == 0);
    CHECK(b.exit->failure == "");
    b.arrive(answer_to(packet));
    b.until([&] { return b.counters().late == 1; });
    b.open();
    b.ask(2, lan4.to);
    b.arrive(answer_to(b.wait_for_request()));
    CHECK(b.wait_for_word().number == 2);
    std::string report;
    b.pinger->report(report, "echo");
    INFO(report);
    CHECK(report.find("echo: requests=2 sent=2 answered=1 refused=0 timed-out=0 waiting=0 ") !=
          report.npos);
}
