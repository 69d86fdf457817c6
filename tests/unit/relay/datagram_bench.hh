// UDP over the session of tunnel.hh: an exit side that serves UDP channels, and a clock that the
// test may set forward.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/relay/datagram_entry.hh"
#include "core/relay/datagram_exit.hh"
#include "tests/unit/relay/tunnel.hh"

namespace burin::relay {

// A UDP program of the test on loopback.
class udp_program {
  public:
    udp_program() : _fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
        sockaddr_in at = loopback(0);
        socklen_t size = sizeof at;
        const int room = 4 << 20;
        setsockopt(_fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
        REQUIRE(bind(_fd, reinterpret_cast<sockaddr*>(&at), size) == 0);
        REQUIRE(getsockname(_fd, reinterpret_cast<sockaddr*>(&at), &size) == 0);
        port = ntohs(at.sin_port);
    }
    ~udp_program() { ::close(_fd); }
    udp_program(const udp_program&) = delete;
    udp_program& operator=(const udp_program&) = delete;

    static sockaddr_in loopback(std::uint16_t port) {
        sockaddr_in at{};
        at.sin_family = AF_INET;
        at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        at.sin_port = htons(port);
        return at;
    }
    void send(std::uint16_t to, std::string_view text) {
        const sockaddr_in at = loopback(to);
        REQUIRE(sendto(_fd, text.data(), text.size(), 0, reinterpret_cast<const sockaddr*>(&at),
                       sizeof at) == static_cast<ssize_t>(text.size()));
    }
    // Many by one call, of `size` bytes each but a shorter last one.
    void send_run(std::uint16_t to, std::string_view texts, std::size_t size) {
        const int part = static_cast<int>(size), none = 0;
        REQUIRE(setsockopt(_fd, SOL_UDP, UDP_SEGMENT, &part, sizeof part) == 0);
        send(to, texts);
        REQUIRE(setsockopt(_fd, SOL_UDP, UDP_SEGMENT, &none, sizeof none) == 0);
    }
    // A datagram that has come, and from which port.
    std::optional<std::string> receive() {
        static thread_local char space[70'000];
        sockaddr_in from{};
        socklen_t size = sizeof from;
        const ssize_t got =
            recvfrom(_fd, space, sizeof space, 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (got < 0) return std::nullopt;
        last_from = ntohs(from.sin_port);
        return std::string(space, static_cast<std::size_t>(got));
    }

    std::uint16_t port = 0, last_from = 0;

  private:
    int _fd;
};

// A port where datagrams are refused, and that nobody else gets meanwhile: its socket hears one
// other alone.
struct dead_port {
    dead_port() {
        sockaddr_in at = udp_program::loopback(0);
        socklen_t size = sizeof at;
        REQUIRE(bind(descriptor, reinterpret_cast<sockaddr*>(&at), size) == 0);
        REQUIRE(getsockname(descriptor, reinterpret_cast<sockaddr*>(&at), &size) == 0);
        number = ntohs(at.sin_port);
        const sockaddr_in other = udp_program::loopback(1);
        REQUIRE(connect(descriptor, reinterpret_cast<const sockaddr*>(&other), sizeof other) == 0);
    }
    ~dead_port() { close(descriptor); }
    dead_port(const dead_port&) = delete;
    dead_port& operator=(const dead_port&) = delete;

    const int descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    std::uint16_t number = 0;
};

// The entry side of a UDP channel, played by hand.
struct hand_entry {
    hand_entry(ssh::connection& l, std::uint16_t port) : layer(l) {
        record.layer = &l;
        record.at =
            l.open(record, "chisel", as_bytes("127.0.0.1:" + std::to_string(port) + "/udp"));
        REQUIRE(record.at != nullptr);
        say(gob_definition());
    }
    ~hand_entry() {
        if (record.at != nullptr) layer.abort(*record.at);
    }
    hand_entry(const hand_entry&) = delete;
    hand_entry& operator=(const hand_entry&) = delete;

    void say(bytes_view bytes) {
        kept.emplace_back(bytes.begin(), bytes.end());
        layer.send(*record.at, {}, kept.back());
    }
    void say(std::string_view source, std::string_view payload) {
        byte_vector room(gob_most_header_bytes + payload.size() + gob_trailer_bytes);
        std::byte* at = room.data() + gob_most_header_bytes;
        std::copy(as_bytes(payload).begin(), as_bytes(payload).end(), at);
        const std::byte* begin = write_gob_around(at, payload.size(), source);
        say({begin, static_cast<const std::byte*>(room.data() + room.size())});
    }
    // "source payload" of each record that has come so far.
    std::vector<std::string> heard() {
        gob_reader reader;
        bytes_view left = record.data;
        datagram d;
        std::vector<std::string> all;
        while (reader.next(left, d) == gob_reader::outcome::record)
            all.push_back(std::string(d.source) + " " + std::string(as_text(d.payload)));
        CHECK(reader.error() == nullptr);
        return all;
    }

    ssh::connection& layer;
    ssh::flow_record record;
    std::deque<byte_vector> kept;
};

struct datagram_bench : tunnel, datagram_observer, datagram_uplink {
    explicit datagram_bench(const datagram_settings& settings = {},
                            const ssh::connection_limits& limits = {})
        : tunnel(limits),
          buffers(main.ring, datagram_context::buffer_shape(7)),
          datagrams(main.ring, main.timers, buffers, pieces, settings),
          names(main.ring, main.timers) {
        relays.datagrams = &datagrams;
        set_clock();
        also = [this] {
            set_clock();
            datagrams.settle();
            datagrams.flush();
            buffers.offer();
        };
        exit->take = [this](ssh::channel& c, const ssh::channel_open& open) {
            const auto t = parse_target(as_text(open.rest));
            if (!t || t->what != target::kind::udp) return false;
            ++asked;
            if (refusing) {
                exit->layer->refuse(c, ssh::open_failure_reason::prohibited, "no UDP here");
                return true;
            }
            datagram_exit::start(datagrams, names, *exit->layer, *this, c, *t, ++exit->numbers);
            return true;
        };
    }
    ~datagram_bench() override {
        for (datagram_entry* e : entries) e->stop();
        entry->layer->lose();
        exit->layer->lose();
        datagrams.end_all();
        until([&] { return datagrams.alive() == 0; });
        turn();
        CHECK(datagrams.held_bytes == 0);
        CHECK(datagrams.sockets == 0);
        CHECK(buffers.held() == 0);
        also = nullptr;
        exit->take = nullptr;
    }
    void set_clock() { datagrams.now = relays.now = main.now(); }
    // Lets time pass, and what is due happen.
    void pass(ring::microseconds_t time) {
        main.skipped += time;
        set_clock();
        for (int i = 0; i < 5; ++i) turn(0);
    }
    void go_quiet() {
        for (int i = 0; i < 20; ++i) turn(ring::millisecond);
    }
    std::string wait_for(udp_program& p) {
        std::optional<std::string> got;
        until([&] { return (got = p.receive()).has_value(); });
        return *got;
    }

    // ---- datagram_observer ----
    void on_datagrams_over(const datagram_exit&, std::string_view why) noexcept override {
        over.emplace_back(why);
    }
    void on_datagrams_unresolved(const datagram_exit&, std::string_view) noexcept override {}
    // ---- datagram_uplink ----
    ssh::connection* session() noexcept override { return live ? entry->layer.get() : nullptr; }
    void on_entry_open(const datagram_entry&) noexcept override { ++entries_open; }
    void on_entry_failed(const datagram_entry&, std::string_view why) noexcept override {
        failures.emplace_back(why);
    }
    void on_entry_closed(const datagram_entry&) noexcept override { ++entries_lost; }
    void on_entry_stopped(const datagram_entry&) noexcept override {}

    ring::buffer_group buffers;
    datagram_context datagrams;
    resolver names;
    std::vector<datagram_entry*> entries;  // to be stopped
    std::vector<std::string> over, failures;
    unsigned asked = 0, entries_open = 0, entries_lost = 0;
    bool live = true, refusing = false;
};

// A bound socket, as the engine gives it to an entry.
inline int bound_socket(std::uint16_t& port) {
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_in at = udp_program::loopback(0);
    socklen_t size = sizeof at;
    REQUIRE(bind(fd, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size) == 0);
    port = ntohs(at.sin_port);
    return fd;
}

}  // namespace burin::relay
