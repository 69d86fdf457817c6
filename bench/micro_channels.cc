// Two ends of an SSH connection in one thread, without sockets: what the channel table, the windows
// and the scheduler cost on top of the cipher, by piece size and number of channels, and what an
// open channel costs in time. Names read channel/carry/PIECE/CHANNELS; rates count payload once,
// sealed and opened.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "core/ssh/authentication_policy.hh"
#include "core/ssh/connection.hh"
#include "core/ssh/transport.hh"
#include "crypto/host_key.hh"
#include "ring/budget.hh"

namespace {

using namespace burin;

constexpr std::size_t arena_bytes = 512 * 1024;  // one send
constexpr std::size_t batch_bytes = 256 * 1024;  // queued for one flush

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
    end(const ssh::settings& set, ssh::role side)
        : transport(set, side, ssh::dialect::chisel, *this),
          connection(transport, *this, budget, pieces, {}) {}

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
        out.used = 0;
        connection.flush_adjusts();
        while (transport.control_pending()) {
            const std::size_t size =
                transport.seal_control(bytes_span(out.memory).subspan(out.used));
            if (size == 0) break;
            out.used += size;
        }
        connection.flush_data(out);
        const std::size_t taken = other.transport.receive(bytes_span(out.memory).first(out.used));
        if (taken != out.used) failed = true;
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
    session() {
        server_settings.host_key = &host_key;
        server_settings.logins = &logins;
        client = std::make_unique<end>(client_settings, ssh::role::client);
        server = std::make_unique<end>(server_settings, ssh::role::server);
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

void carry(benchmark::State& state) {
    const auto size = static_cast<std::size_t>(state.range(0));
    const auto count = static_cast<std::size_t>(state.range(1));
    session both;
    if (!both.ready()) return state.SkipWithError("the two ends did not agree");
    std::vector<ssh::channel*> channels;
    for (std::size_t at = 0; at < count; ++at) {
        ssh::channel* opened = both.client->connection.open(*both.client, "chisel", {});
        if (opened == nullptr) return state.SkipWithError("no channel could be opened");
        channels.push_back(opened);
        both.exchange();
    }
    if (both.client->confirmed != count) return state.SkipWithError("a channel was not confirmed");
    const byte_vector payload(batch_bytes);
    std::size_t next = 0;
    std::uint64_t carried = 0;
    for (auto _ : state) {
        std::size_t queued = 0;
        // A batch for one flush, from one channel after the other.
        for (std::size_t looked_at = 0; queued + size <= batch_bytes && looked_at < 4096;
             ++looked_at) {
            ssh::channel& channel = *channels[next];
            next = next + 1 == count ? 0 : next + 1;
            if (both.client->connection.sendable(channel) < size) continue;
            both.client->connection.send(channel, {}, bytes_view(payload).subspan(queued, size));
            queued += size;
        }
        both.exchange();
        carried += queued;
    }
    state.SetBytesProcessed(static_cast<std::int64_t>(carried));
    if (both.client->failed || both.server->failed) state.SkipWithError("the connection failed");
}
BENCHMARK(carry)
    ->Name("channel/carry")
    ->ArgsProduct({{64, 1400, 16384, 32768, 65536}, {1}})
    ->Args({1400, 100})
    ->Args({32768, 16})
    ->Args({1400, 10000});

// Open, confirm, EOF both ways, close both ways; `range` other channels stay open.
void open_and_close(benchmark::State& state) {
    session both;
    if (!both.ready()) return state.SkipWithError("the two ends did not agree");
    for (std::int64_t at = 0; at < state.range(0); ++at) {
        if (both.client->connection.open(*both.client, "chisel", {}) == nullptr)
            return state.SkipWithError("no channel could be opened");
        both.exchange();
    }
    for (auto _ : state) {
        ssh::channel* opened = both.client->connection.open(*both.client, "chisel", {});
        both.exchange();
        both.client->connection.send_eof(*opened);
        both.client->connection.close(*opened);
        both.exchange();
        both.exchange();
        both.server->receivers.pop_back();
    }
    state.SetItemsProcessed(state.iterations());
    if (both.client->failed || both.server->failed) state.SkipWithError("the connection failed");
}
BENCHMARK(open_and_close)->Name("channel/open_close")->Arg(0)->Arg(1000);

}  // namespace
