// A TUN queue over the session of tunnel.hh: the device is one end of a socketpair that keeps
// frames apart, the hosts behind it are played by hand at the other end.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/relay/tun_queue.hh"
#include "tests/unit/relay/tunnel.hh"

namespace burin::relay {

// A frame that came out of the queue.
struct seen_frame {
    std::uint8_t flags = 0;
    std::uint32_t seq = 0, ack = 0;
    std::uint32_t window = 0;  // as on the wire
    std::uint16_t gso_size = 0;
    tun::tcp_options options;
    byte_vector data;
    bool is(std::uint8_t wanted) const { return (flags & ~tun::tcp_psh) == wanted; }
};

// A host's end of one TCP connection, as far as a test plays it: it keeps the numbers, the test
// decides what is said.
class tun_host {
  public:
    static constexpr std::uint16_t mss = 1460;

    tun_host(int device, std::uint16_t port, std::uint16_t to = 80, bool v6 = false)
        : _device(device) {
        key.source = tun::flow_address::v4(0x0a050002);       // 10.5.0.2
        key.destination = tun::flow_address::v4(0x0a4d0001);  // 10.77.0.1
        if (v6) {
            key.source.bytes = {0xfd, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2};
            key.destination.bytes = {0xfd, 0, 0, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
        }
        key.source_port = port;
        key.destination_port = to;
    }

    void say(std::uint8_t flags, bytes_view payload = {}) {
        tun::flow_key swapped = key;  // headers are written towards the source of a flow
        std::swap(swapped.source, swapped.destination);
        std::swap(swapped.source_port, swapped.destination_port);
        tun::tcp_fields fields;
        fields.seq = tun::sequence(seq);
        fields.flags = flags;
        fields.window = window;
        if (flags & tun::tcp_ack) fields.ack = tun::sequence(said_ack = ack);
        if (flags & tun::tcp_syn) {
            fields.mss = mss;
            fields.window_shift = 7;
        }
        tun::header_buffer header;
        tun::write_tcp_header(header, swapped, fields, static_cast<std::uint32_t>(payload.size()),
                              mss);
        byte_vector frame(header.bytes().begin(), header.bytes().end());
        frame.insert(frame.end(), payload.begin(), payload.end());
        REQUIRE(::send(_device, frame.data(), frame.size(), MSG_DONTWAIT) ==
                static_cast<ssize_t>(frame.size()));
        seq += static_cast<std::uint32_t>(payload.size());
        if (flags & (tun::tcp_syn | tun::tcp_fin)) ++seq;
    }
    // The kernel gives what it says to another queue from now on.
    void move(int device) { _device = device; }
    void syn() { say(tun::tcp_syn); }
    void acknowledge() { say(tun::tcp_ack); }
    void acknowledge_news() {
        if (ack != said_ack) acknowledge();
    }
    void data(bytes_view payload) { say(tun::tcp_ack | tun::tcp_psh, payload); }
    void fin() { say(tun::tcp_ack | tun::tcp_fin); }
    void rst() { say(tun::tcp_rst); }

    // Looks at what the queue said to this host; in-order data moves `ack` and is kept.
    void hear(seen_frame frame) {
        if (frame.flags & tun::tcp_syn) {
            ack = frame.seq + 1;
            shift = frame.options.window_shift;
            shown = frame.window;  // never scaled here
            acked = frame.ack;
        } else if (!(frame.flags & tun::tcp_rst)) {
            if (frame.seq == ack) {
                ack += static_cast<std::uint32_t>(frame.data.size());
                received.insert(received.end(), frame.data.begin(), frame.data.end());
                if (frame.flags & tun::tcp_fin) {
                    ++ack;
                    fin_heard = true;
                }
            }
            shown = frame.window << std::max(0, shift);
            acked = frame.ack;
        }
        if (frame.flags & tun::tcp_rst) reset = true;
        if (frame.is(tun::tcp_syn | tun::tcp_ack)) answered = true;
        frames.push_back(std::move(frame));
    }

    tun::flow_key key;
    std::uint32_t seq = 1000, ack = 0, said_ack = 0, acked = 0, shown = 0;
    std::uint16_t window = 65535;
    int shift = -1;
    bool answered = false, reset = false, fin_heard = false;
    byte_vector received;
    std::deque<seen_frame> frames;

  private:
    int _device;
};

struct tun_bench : tunnel, tun_uplink {
    explicit tun_bench(const tun_queue_settings& settings = {},
                       const ssh::connection_limits& limits = {})
        : tunnel(limits) {
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, _pair) == 0);
        const int bytes = 4 << 20;
        for (int fd : _pair) setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
        relays.now = main.now();
        queue = std::make_unique<tun_queue>(relays, entry->budget, *this, tun::descriptor(_pair[0]),
                                            settings);
    }
    ~tun_bench() override {
        queue->stop();
        go_until([&] { return stopped > 0; });
        queue.reset();
        ::close(_pair[1]);
    }

    tun_host& host(std::uint16_t port, std::uint16_t to = 80, bool v6 = false) {
        hosts.push_back(std::make_unique<tun_host>(_pair[1], port, to, v6));
        return *hosts.back();
    }
    // A host with an open connection; the program at the exit is what it reached.
    std::pair<tun_host*, std::unique_ptr<program>> open(std::uint16_t port,
                                                        std::uint32_t stream = 1, bool v6 = false) {
        const auto [far, dialled] = tcp_pair();
        exit->next_descriptor = dialled;
        tun_host& h = host(port, 80, v6);
        h.syn();
        go_until([&] { return h.answered; });
        h.acknowledge();
        go();
        return {&h, std::make_unique<program>(far, stream)};
    }
    // Where hosts send to.
    int device() const { return _pair[1]; }
    void raw_frame(bytes_view frame) {
        REQUIRE(::send(_pair[1], frame.data(), frame.size(), MSG_DONTWAIT) ==
                static_cast<ssize_t>(frame.size()));
    }
    // A turn as the worker has it, and what hosts hear of it.
    void go() {
        relays.now = main.now();
        turn(ring::millisecond);
        relays.now = main.now();
        queue->flush();
        main.turn(0);  // the writes
        listen();
    }
    template <class Condition>
    void go_until(Condition&& met) {
        const auto limit = ring::monotonic_now() + 20 * ring::second;
        while (!met()) {
            if (ring::monotonic_now() > limit) FAIL("what was waited for did not come");
            go();
        }
    }
    void go_quiet() {
        for (int i = 0; i < 20; ++i) go();
    }
    // Lets time pass at once, and what is due happen.
    void pass(ring::microseconds_t time) {
        main.skipped += time;
        for (int i = 0; i < 5; ++i) go();
    }
    // Channels, credit, pieces and blocks: as if no flow had ever been.
    void check_nothing_left() {
        go_until([&] {
            return queue->flows() == 0 && entry->layer->open_channels() == 0 &&
                   exit->layer->open_channels() == 0 && relays.alive() == 0;
        });
        go();
        CHECK(pieces.in_use() == 0);
        CHECK(sessions.held() == 0);
        CHECK(entry->budget.growth_left() == entry->growth_at_start);
        CHECK(entry->failure == "");
        CHECK(exit->failure == "");
        CHECK(tun::copied_payload_bytes() == 0);
    }

    // ---- tun_uplink ----
    ssh::connection* session() noexcept override { return live ? entry->layer.get() : nullptr; }
    bool close_means_eof() const noexcept override { return close_is_eof; }
    std::uint32_t next_number() noexcept override { return ++numbers; }
    void on_flow_open(const tun_flow& f) noexcept override { opened.push_back(f.target()); }
    void on_flow_closed(const tun_flow&) noexcept override { ++closed; }
    void on_flow_refused(const tun_flow&, std::string_view why) noexcept override {
        refused.emplace_back(why);
    }
    void on_crowd() noexcept override { ++crowds; }
    void on_stray_error(const tun::icmp_report& report) noexcept override {
        strays.push_back(report);
    }
    void on_device_lost(int error) noexcept override { lost = error; }
    void on_stopped() noexcept override { ++stopped; }

    std::unique_ptr<tun_queue> queue;
    std::vector<std::unique_ptr<tun_host>> hosts;
    std::vector<std::string> opened, refused;
    std::vector<tun::icmp_report> strays;
    std::vector<byte_vector> messages;  // ICMP packets and fragments that came out
    unsigned numbers = 0, closed = 0, stopped = 0, crowds = 0;
    int lost = 0;
    bool live = true, close_is_eof = false;

  private:
    void listen() {
        static thread_local byte_vector space(tun::max_frame_bytes);
        for (;;) {
            const ssize_t got = ::recv(_pair[1], space.data(), space.size(), MSG_DONTWAIT);
            if (got <= 0) return;
            tun::parsed_frame frame;
            const auto whole = bytes_view(space).first(static_cast<std::size_t>(got));
            const tun::frame_kind kind = tun::parse_frame(whole, frame);
            if (kind == tun::frame_kind::icmp || kind == tun::frame_kind::fragment) {
                messages.emplace_back(frame.packet.begin(), frame.packet.end());
                continue;
            }
            REQUIRE(kind == tun::frame_kind::tcp);
            seen_frame seen;
            seen.flags = frame.flags;
            seen.seq = frame.seq.value();
            seen.ack = frame.ack.value();
            seen.window = frame.window;
            seen.gso_size = frame.gso_size;
            seen.options = frame.options;
            seen.data.assign(frame.payload.begin(), frame.payload.end());
            for (auto& h : hosts)
                if (h->key.source_port == frame.key.destination_port &&
                    h->key.source == frame.key.destination)
                    h->hear(seen);
        }
    }
    int _pair[2];
};

}  // namespace burin::relay
