// Two sessions back to back on one ring, each with its connection layer, and the relays of both
// ends: what the engine does around them, as little of it as there can be.
#pragma once

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/relay/socket_relay.hh"
#include "core/ssh/authentication_policy.hh"
#include "crypto/host_key.hh"
#include "ring/budget.hh"
#include "tests/catch.hh"
#include "tests/unit/relay/loop.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::relay {

// Two ends of a TCP connection on loopback.
inline std::pair<int, int> tcp_pair() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    auto* address = reinterpret_cast<sockaddr*>(&at);
    REQUIRE(bind(listener, address, size) == 0);
    REQUIRE(listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, address, &size) == 0);
    const int one = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    // Small buffers, so that a reader that is slow is noticed soon.
    const int bytes = 64 * 1024, on = 1;
    setsockopt(one, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(one, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    REQUIRE(connect(one, address, size) == 0);
    const int other = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(other >= 0);
    setsockopt(other, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    for (int fd : {one, other}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const linger hard{1, 0};  // as a listener of ours has it
    setsockopt(other, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(listener);
    return {one, other};
}

// A program at one end of a flow: reads and writes without waiting.
class program {
  public:
    program(int descriptor, std::uint32_t stream) : _descriptor(descriptor), _stream(stream) {
        fcntl(descriptor, F_SETFL, O_NONBLOCK);
    }
    ~program() {
        if (_descriptor >= 0) ::close(_descriptor);
    }
    program(const program&) = delete;
    program& operator=(const program&) = delete;

    // As much of the stream as the socket takes, up to `total` in all and `most` now.
    void write_to(std::uint64_t total, std::size_t most = 100'000) {
        while (_sent < total && most > 0 && _error == 0 && _descriptor >= 0) {
            const std::size_t want = std::min<std::uint64_t>(most, total - _sent);
            const bytes_view bytes = ssh::pattern_bytes().at(_stream, _sent, want);
            const ssize_t got = send(_descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            // The kernel tells of a reset once, here or when reading.
            if (got < 0 && errno != EAGAIN) _error = errno;
            if (got <= 0) return;
            _sent += static_cast<std::uint64_t>(got);
            most -= static_cast<std::size_t>(got);
        }
    }
    // What has come; it must be the stream of `other`, in order.
    void read_from(std::uint32_t other) {
        while (!_eof && _error == 0 && _descriptor >= 0) {
            std::byte space[30'000];
            const ssize_t got = recv(_descriptor, space, sizeof space, 0);
            if (got < 0 && errno == EAGAIN) return;
            if (got < 0) _error = errno;
            if (got == 0) _eof = true;
            if (got <= 0) return;
            const auto size = static_cast<std::size_t>(got);
            const bytes_view want = ssh::pattern_bytes().at(other, _received, size);
            REQUIRE(std::equal(want.begin(), want.end(), space));
            _received += size;
        }
    }
    // Past the faults of tests/unit/faults, which are the program's.
    void shut_down() { ::syscall(SYS_shutdown, _descriptor, SHUT_WR); }
    void leave() { ::close(std::exchange(_descriptor, -1)); }
    void reset() {
        const linger hard{1, 0};
        setsockopt(_descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        leave();
    }

    bool gone() const { return _descriptor < 0; }
    bool eof() const { return _eof; }
    int error() const { return _error; }
    std::uint64_t sent() const { return _sent; }
    std::uint64_t received() const { return _received; }

  private:
    int _descriptor;
    std::uint32_t _stream;
    std::uint64_t _sent = 0, _received = 0;
    bool _eof = false;
    int _error = 0;
};

// One end of the session.
class side final : public ssh::transport_events,
                   public ssh::connection_events,
                   public flow_observer {
  public:
    side(loop& l, context& c, ring::buffer_group& sessions, int descriptor, ssh::role role,
         const ssh::settings& settings, const ssh::connection_limits& limits)
        : budget(64u << 20, 2000),
          _loop(l),
          _relays(c),
          _sessions(sessions),
          _descriptor(descriptor),
          _transport(settings, role, ssh::dialect::chisel, *this) {
        growth_at_start = budget.growth_left();
        layer = std::make_unique<ssh::connection>(_transport, *this, budget, c.pieces, limits);
    }

    void flush() {
        if (!_send.in_flight && !_held_back) {
            _out.used = 0;
            layer->flush_adjusts();
            seal_control();
            if (!_transport.control_pending()) layer->flush_data(_out);
            seal_control();
            if (_out.used > 0)
                _loop.ring.send(_send, _descriptor, bytes_view(_out.memory).first(_out.used),
                                MSG_WAITALL);
        }
        layer->tell_sendable();
        if (_relays.buffers.held() > _relays.buffers.count() / 2) layer->own_queued();
        if (!_receive.in_flight && !_over)
            _loop.ring.receive_select(_receive, _descriptor, _sessions.id(), _sessions.bytes());
    }
    // The session's connection is stuck, or goes on.
    void hold_back(bool yes) { _held_back = yes; }
    void stop() {
        _over = true;
        shutdown(_descriptor, SHUT_RDWR);
    }
    bool ready() const { return _transport.authenticated(); }

    // ---- events ----
    void on_authenticated(std::string_view) override {}
    void on_message(bytes_span payload) override { layer->receive(payload, _block); }
    void on_failure(std::string_view why) override {
        failure = why;
        layer->lose();
    }
    void on_open(ssh::channel& c, const ssh::channel_open& open) noexcept override {
        if (take && take(c, open)) return;
        const int descriptor = std::exchange(next_descriptor, -1);
        if (descriptor < 0)
            return layer->refuse(c, ssh::open_failure_reason::connect_failed, "nobody there");
        last = socket_relay::dialled(_relays, *layer, *this, descriptor, c, ++numbers);
    }
    void on_global_request(const ssh::global_request& request) noexcept override {
        if (request.name == ssh::cancel_open_name) layer->take_back(request.rest);
    }
    void on_request_reply(bool, bytes_view) noexcept override {}
    void on_pending() noexcept override {}
    void on_violation(std::string_view rule) noexcept override { failure = rule; }
    void on_flow_open(const socket_relay&) noexcept override { ++opened; }
    void on_flow_closed(const socket_relay& r) noexcept override {
        ++closed;
        if (last == &r) last = nullptr;
    }
    void on_flow_refused(const socket_relay&, std::string_view why) noexcept override {
        refused.emplace_back(why);
    }
    bool close_means_eof() const noexcept override { return close_is_eof; }

    ring::budget budget;
    std::uint64_t growth_at_start = 0;
    std::unique_ptr<ssh::connection> layer;
    int next_descriptor = -1;  // what the next dial gives
    // Takes a channel that the peer opens; false: it is dialled.
    std::function<bool(ssh::channel&, const ssh::channel_open&)> take;
    socket_relay* last = nullptr;
    std::uint32_t numbers = 0;
    unsigned opened = 0, closed = 0;
    std::vector<std::string> refused;
    bool close_is_eof = false;
    std::string failure;

  private:
    void seal_control() {
        while (_transport.control_pending()) {
            const std::size_t size =
                _transport.seal_control(bytes_span(_out.memory).subspan(_out.used));
            if (size == 0) return;
            _out.used += size;
        }
    }
    void on_received(ring::completion c) noexcept {
        if (c.has_buffer()) _block = _sessions.take(c);
        if (c.result > 0) {
            // The cut packet goes in front of the new bytes, as the session does it.
            std::byte* begin = _block.data() - _rest.size();
            std::copy(_rest.begin(), _rest.end(), begin);
            const bytes_span run(begin, _rest.size() + static_cast<std::size_t>(c.result));
            const std::size_t taken = _transport.receive(run);
            _rest.assign(run.begin() + static_cast<std::ptrdiff_t>(taken), run.end());
        } else if (c.result == -ENOBUFS) {
            _sessions.ran_out();
        } else {
            _over = true;
        }
        _block.reset();
    }
    void on_sent(ring::completion) noexcept {}

    loop& _loop;
    context& _relays;
    ring::buffer_group& _sessions;
    const int _descriptor;
    ssh::transport _transport;
    ring::member_op<&side::on_received> _receive{this};
    ring::member_op<&side::on_sent> _send{this};
    ring::buffer _block;
    byte_vector _rest;
    ssh::send_room _out{512 * 1024};
    bool _over = false, _held_back = false;
};

struct tunnel {
    explicit tunnel(const ssh::connection_limits& limits = {}) {
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, _session) == 0);
        server_settings.host_key = &host_key;
        server_settings.logins = &logins;
        entry = std::make_unique<side>(main, relays, sessions, _session[0], ssh::role::client,
                                       client_settings, limits);
        exit = std::make_unique<side>(main, relays, sessions, _session[1], ssh::role::server,
                                      server_settings, limits);
        until([&] { return entry->ready() && exit->ready(); });
    }
    ~tunnel() {
        relays.end_all();
        until([&] { return relays.alive() == 0; });
        entry->stop();
        exit->stop();
        until([&] { return main.ring.in_flight() == 0; });
        turn();
        for (int fd : _session) close(fd);
    }

    void turn(ring::microseconds_t longest = 2 * ring::millisecond) {
        main.turn(longest);
        relays.flush_sends();
        entry->flush();
        exit->flush();
        relays.flush_receives();
        relays.bury();
        if (also) also();
        sockets.offer();
        sessions.offer();
    }
    // Turns until then, and fails after twenty seconds.
    template <class Condition>
    void until(Condition&& met) {
        const auto limit = ring::monotonic_now() + 20 * ring::second;
        while (!met()) {
            if (ring::monotonic_now() > limit) FAIL("what was waited for did not come");
            turn();
        }
    }
    // Turns with `step` until nothing is moved between sockets and channels any more.
    template <class Step>
    void until_quiet(Step&& step) {
        for (int quiet = 0; quiet < 30; ++quiet) {
            const std::uint64_t before =
                relays.counters.sent_bytes + relays.counters.received_bytes;
            step();
            turn();
            if (relays.counters.sent_bytes + relays.counters.received_bytes != before) quiet = 0;
        }
    }
    // A flow whose two programs are given back: at the entry and at the exit.
    using programs = std::pair<std::unique_ptr<program>, std::unique_ptr<program>>;
    programs flow(std::uint32_t stream = 0) {
        const auto [near, accepted] = tcp_pair();
        const auto [far, dialled] = tcp_pair();
        exit->next_descriptor = dialled;
        socket_relay::start(relays, *entry->layer, *entry, accepted, "chisel",
                            as_bytes("example:1"), ++entry->numbers);
        until([&] { return exit->next_descriptor < 0; });
        return {std::make_unique<program>(near, stream),
                std::make_unique<program>(far, stream + 1)};
    }
    // A channel of the test's own instead of the entry's program.
    std::unique_ptr<program> raw(ssh::flow_record& end) {
        const auto [far, dialled] = tcp_pair();
        exit->next_descriptor = dialled;
        end.layer = entry->layer.get();
        end.at = end.layer->open(end, "chisel", {});
        REQUIRE(end.at != nullptr);
        until([&] { return end.confirmed == 1; });
        return std::make_unique<program>(far, 1);
    }
    // The flows are over: nothing is left of them.
    void check_empty() {
        until([&] {
            return relays.alive() == 0 && entry->layer->open_channels() == 0 &&
                   exit->layer->open_channels() == 0;
        });
        CHECK(pieces.in_use() == 0);
        CHECK(pieces.owned_bytes() == 0);
        CHECK(sockets.held() == 0);
        CHECK(sessions.held() == 0);
        CHECK(relays.counters.flows == entry->closed + exit->closed);  // each was told once
        for (side* s : {entry.get(), exit.get()}) {
            CHECK(s->failure == "");
            CHECK(s->layer->queued_bytes() == 0);
            CHECK(s->budget.open_channels() == 0);
            CHECK(s->budget.growth_left() == s->growth_at_start);
        }
    }

    crypto::host_key host_key = crypto::host_key::from_seed("tunnel");
    ssh::login_policy logins;
    ssh::settings client_settings, server_settings;
    loop main;
    ring::buffer_group sockets{
        main.ring, {.id = 1, .bytes = 64 * 1024, .headroom = 0, .count = 32, .offered = 4}};
    ring::buffer_group sessions{
        main.ring,
        {.id = 2, .bytes = 64 * 1024, .headroom = 272 * 1024, .count = 32, .offered = 4}};
    ssh::piece_pool pieces;
    context relays{main.ring, main.timers, sockets, pieces};
    std::unique_ptr<side> entry, exit;
    std::function<void()> also;  // in every turn's flush

  private:
    int _session[2];
};

}  // namespace burin::relay
