// UDP of hosts behind the TUN, over a real session: a queue whose device the test plays, and a far
// end played by hand.
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <deque>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/relay/tun_queue.hh"
#include "tests/unit/relay/datagram_bench.hh"
#include "tests/unit/tun/packets.hh"

namespace burin::relay {

// A datagram that came out of the device.
struct seen {
    tun::parsed_frame frame;  // its views are of `bytes`
    byte_vector bytes;
    std::string text() const { return std::string(as_text(frame.payload)); }
};

// The far end is played by hand: its channels are kept, what they say is read as records.
struct far_channel final : ssh::channel_end {
    far_channel(ssh::connection& l, ssh::channel& c, std::string t)
        : layer(l), at(&c), target(std::move(t)) {}
    void on_confirmed() noexcept override {}
    void on_refused(ssh::open_failure_reason, std::string_view) noexcept override {}
    void on_data(bytes_span payload, const ring::buffer&) noexcept override {
        if (takes) layer.consumed(*at, static_cast<std::uint32_t>(payload.size()));
        bytes_view left = payload;
        datagram d;
        while (reader.next(left, d) == gob_reader::outcome::record)
            records.emplace_back(std::string(d.source), std::string(as_text(d.payload)));
        CHECK(reader.error() == nullptr);
    }
    void on_eof() noexcept override {}
    void on_closed(ssh::close_cause) noexcept override { at = nullptr; }
    void on_sendable() noexcept override {}
    void say(std::string_view source, std::string_view payload) {
        byte_vector room(gob_most_header_bytes + payload.size() + gob_trailer_bytes);
        std::byte* to = room.data() + gob_most_header_bytes;
        std::copy(as_bytes(payload).begin(), as_bytes(payload).end(), to);
        const std::byte* begin = write_gob_around(to, payload.size(), source);
        if (!defined) layer.send(*at, {}, gob_definition());
        defined = true;
        kept.push_back(std::move(room));
        layer.send(*at, {}, {begin, kept.back().data() + kept.back().size()});
    }

    ssh::connection& layer;
    ssh::channel* at;
    std::string target;
    gob_reader reader;
    std::vector<std::pair<std::string, std::string>> records;
    std::deque<byte_vector> kept;
    bool defined = false, takes = true;
};

struct tun_udp_bench : datagram_bench, tun_uplink {
    explicit tun_udp_bench(const tun_queue_settings& settings = {},
                           const datagram_settings& datagram = {},
                           const ssh::connection_limits& limits = {})
        : datagram_bench(datagram, limits) {
        REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, _pair) == 0);
        const int bytes = 4 << 20;
        for (int fd : _pair) setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof bytes);
        queue = std::make_unique<tun_queue>(relays, entry->budget, *this, tun::descriptor(_pair[0]),
                                            settings);
        also = [this] {
            set_clock();
            if (queue) queue->flush();
            datagrams.settle();
            datagrams.flush();
            buffers.offer();
        };
        exit->take = [this](ssh::channel& c, const ssh::channel_open& open) {
            ++asked;
            if (refusing) {
                exit->layer->refuse(c, ssh::open_failure_reason::prohibited, "no UDP here");
                return true;
            }
            far.push_back(
                std::make_unique<far_channel>(*exit->layer, c, std::string(as_text(open.rest))));
            exit->layer->accept(c, *far.back());
            return true;
        };
    }
    ~tun_udp_bench() override {
        queue->stop();
        until([&] { return stopped > 0; });
        queue.reset();
        ::close(_pair[1]);
        for (auto& f : far)
            if (f->at != nullptr) f->layer.abort(*f->at);
    }
    void put(const byte_vector& frame) {
        REQUIRE(::send(_pair[1], frame.data(), frame.size(), MSG_DONTWAIT) ==
                static_cast<ssize_t>(frame.size()));
    }
    void ask(unsigned from, unsigned to, const std::string& text,
             const hand::ends& e = hand::lan4) {
        put(hand::frame(hand::ip(e, 17, hand::udp(e, from, to, hand::text(text)))));
    }
    // Everything that the device was given.
    std::vector<std::unique_ptr<seen>> listen() {
        std::vector<std::unique_ptr<seen>> all;
        byte_vector space(tun::max_frame_bytes);
        for (;;) {
            const ssize_t got = ::recv(_pair[1], space.data(), space.size(), MSG_DONTWAIT);
            if (got <= 0) return all;
            auto one = std::make_unique<seen>();
            one->bytes.assign(space.begin(), space.begin() + got);
            const tun::frame_kind kind = tun::parse_frame(one->bytes, one->frame);
            if (kind == tun::frame_kind::icmp) {
                errors.push_back(std::move(one));
                continue;
            }
            CHECK((kind == tun::frame_kind::udp || kind == tun::frame_kind::fragment));
            all.push_back(std::move(one));
        }
    }
    // What a host is told next; exactly one frame.
    std::unique_ptr<seen> hear() {
        std::vector<std::unique_ptr<seen>> all;
        until([&] { return !(all = listen()).empty(); });
        REQUIRE(all.size() == 1);
        return std::move(all[0]);
    }
    far_channel& channel(std::size_t number, std::size_t records) {
        until([&] { return far.size() > number && far[number]->records.size() >= records; });
        return *far[number];
    }
    std::uint64_t counter(const std::string& name) const {
        std::string text;
        queue->report(text, "tun");
        const std::size_t at = text.find(" " + name + "=", text.find("tun: udp: "));
        REQUIRE(at != text.npos);
        return std::stoull(text.substr(at + name.size() + 2));
    }

    // ---- tun_uplink ----
    ssh::connection* session() noexcept override { return datagram_bench::session(); }
    bool close_means_eof() const noexcept override { return false; }
    std::uint32_t next_number() noexcept override { return 1; }
    void on_flow_open(const tun_flow&) noexcept override {}
    void on_flow_closed(const tun_flow&) noexcept override {}
    void on_flow_refused(const tun_flow&, std::string_view) noexcept override {}
    void on_datagrams_refused(std::string_view, std::string_view why) noexcept override {
        refused.emplace_back(why);
    }
    void on_stray_error(const tun::icmp_report&) noexcept override {}
    void on_device_lost(int) noexcept override {}
    void on_stopped() noexcept override { ++stopped; }
    // Other workers, which only take notes: every flow's home is `home_is`, this worker is 0.
    unsigned home(const tun::flow_key&) const noexcept override { return home_is; }
    bool comes_in_here(const tun::flow_key&) const noexcept override { return comes_in; }
    bool has_session(unsigned worker) const noexcept override { return worker == live_worker; }
    unsigned hand_over(bytes_view frame, unsigned to) noexcept override {
        if (to == tun_strays::anybody) to = live_worker;
        if (to != tun_strays::nobody)
            passed.emplace_back(to, byte_vector(frame.begin(), frame.end()));
        return to;
    }
    void on_adopted(const tun::flow_key& key, unsigned to) noexcept override {
        told.push_back("began " + std::to_string(key.source_port) + " " + std::to_string(to));
    }
    void on_adopted_closed(const tun::flow_key& key, unsigned to) noexcept override {
        told.push_back("over " + std::to_string(key.source_port) + " " + std::to_string(to));
    }

    unsigned home_is = tun_strays::nobody, live_worker = tun_strays::nobody;
    bool comes_in = true;
    std::vector<std::pair<unsigned, byte_vector>> passed;
    std::vector<std::string> told;
    std::unique_ptr<tun_queue> queue;
    std::vector<std::unique_ptr<far_channel>> far;
    std::vector<std::unique_ptr<seen>> errors;  // ICMP that listen() met
    std::vector<std::string> refused;
    unsigned stopped = 0;

  private:
    int _pair[2];
};

}  // namespace burin::relay
