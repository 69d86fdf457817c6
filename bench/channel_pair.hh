// Two ends of an SSH connection in one thread, without sockets: what each flushes lies in an arena,
// which the other opens in place. Logged in by a handshake of their own, with the cipher that two
// ends of ours agree on.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/ssh/authentication_policy.hh"
#include "core/ssh/connection.hh"
#include "core/ssh/transport.hh"
#include "crypto/host_key.hh"
#include "ring/budget.hh"

namespace bench {

using namespace burin;

inline constexpr std::size_t arena_bytes = 512 * 1024;  // one send

// The arena of one end: sealed packets side by side.
struct arena : ssh::packet_sink {
    std::byte* room(std::size_t bytes) noexcept override {
        return used + bytes <= memory.size() ? memory.data() + used : nullptr;
    }
    void commit(std::size_t bytes) noexcept override { used += bytes; }
    byte_vector memory = byte_vector(arena_bytes);
    std::size_t used = 0;
};

// Takes what a channel brings, at once.
struct receiver : ssh::channel_end {
    receiver(ssh::connection& from, ssh::channel& carried) : connection(from), channel(carried) {}
    void on_confirmed() noexcept override {}
    void on_refused(ssh::open_failure_reason, std::string_view) noexcept override {}
    void on_data(bytes_span payload, const ring::buffer&) noexcept override {
        connection.consumed(channel, static_cast<std::uint32_t>(payload.size()));
    }
    void on_eof() noexcept override { connection.close(channel); }
    void on_closed(ssh::close_cause) noexcept override {}
    void on_sendable() noexcept override {}

    ssh::connection& connection;
    ssh::channel& channel;
};

// One end: transport, connection, and one channel_end for all the channels that it opens.
struct end : ssh::transport_events, ssh::connection_events, ssh::channel_end {
    end(const ssh::settings& set, ssh::role side, const ssh::connection_limits& limits)
        : transport(set, side, ssh::dialect::chisel, *this),
          connection(transport, *this, budget, pieces, limits) {}

    void on_authenticated(std::string_view) override {}
    void on_message(bytes_span payload) override {
        const auto number = static_cast<unsigned>(payload[0]);
        if (number >= 80 && number <= 100) connection.receive(payload, {});
    }
    void on_failure(std::string_view) override { failed = true; }

    void on_open(ssh::channel& asked, const ssh::channel_open&) noexcept override {
        receivers.push_back(std::make_unique<receiver>(connection, asked));
        connection.accept(asked, *receivers.back());
    }
    void on_global_request(const ssh::global_request&) noexcept override {}
    void on_request_reply(bool, bytes_view) noexcept override {}
    void on_pending() noexcept override {}
    void on_violation(std::string_view) noexcept override { failed = true; }

    void on_confirmed() noexcept override { ++confirmed; }
    void on_refused(ssh::open_failure_reason, std::string_view) noexcept override { failed = true; }
    void on_data(bytes_span, const ring::buffer&) noexcept override {}
    void on_eof() noexcept override {}
    void on_closed(ssh::close_cause) noexcept override { ++closed; }
    void on_sendable() noexcept override {}

    // Everything that is ready leaves for the other end, which opens it in place.
    void flush_to(end& other) {
        flush();
        other.take(*this);
    }
    void flush() {
        out.used = 0;
        connection.flush_adjusts();
        while (transport.control_pending()) {
            const std::size_t size =
                transport.seal_control(bytes_span(out.memory).subspan(out.used));
            if (size == 0) break;
            out.used += size;
        }
        connection.flush_data(out);
    }
    void take(end& other) {
        const auto flushed = bytes_span(other.out.memory).first(other.out.used);
        if (transport.receive(flushed) != flushed.size()) failed = true;
    }

    ring::budget budget{std::uint64_t{1} << 30, 12'000};
    ssh::piece_pool pieces;
    std::vector<std::unique_ptr<receiver>> receivers;  // told by the connection when it dies
    ssh::transport transport;
    ssh::connection connection;
    arena out;
    unsigned confirmed = 0, closed = 0;
    bool failed = false;
};

struct session {
    explicit session(const ssh::connection_limits& limits = {}) {
        server_settings.host_key = &host_key;
        server_settings.logins = &logins;
        client = std::make_unique<end>(client_settings, ssh::role::client, limits);
        server = std::make_unique<end>(server_settings, ssh::role::server, limits);
        for (int round = 0; round < 20; ++round) exchange();
    }
    void exchange() {
        client->flush_to(*server);
        server->flush_to(*client);
    }
    bool ready() const {
        return client->transport.authenticated() && server->transport.authenticated() &&
               !client->failed && !server->failed;
    }

    crypto::host_key host_key = crypto::host_key::from_seed("bench");
    ssh::login_policy logins;
    ssh::settings client_settings, server_settings;
    std::unique_ptr<end> client, server;
};

}  // namespace bench
