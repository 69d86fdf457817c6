// A tunnel with some workers at each end, the load that goes through it, and what is counted of
// both.
#pragma once

#include <fmt/format.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>

#include "bench/scaling_child.hh"

namespace scaling {

inline constexpr const char* device = "scale0";
inline constexpr unsigned server_port = 7101, entry_port = 7102, load_port = 7000;

enum class way { direct, port, tun };
enum class direction { up, down };

inline const char* name_of(way w) {
    return w == way::direct ? "direct" : w == way::port ? "port" : "TUN";
}
inline const char* name_of(direction d) {
    return d == direction::up ? "up" : "down";
}

// What one transfer showed. CPU seconds are those of both ends, kernel work on their behalf
// included; shares are of the time of those processors.
struct sample {
    double gbit = 0, seconds = 0, bytes = 0, cpu = 0, load_cpu = 0;
    double client_busy = 0, server_busy = 0, load_busy = 0;
    // What workers were told by other threads while bytes moved, reports left out: accepted
    // connections, news, frames of the TUN that came in at another worker. Buffers are never given
    // back from another core, so in bulk there is nothing to tell.
    long messages = 0;
    double counted_gb = 0;  // that moved meanwhile
    double per_cpu() const { return cpu <= 0 ? 0 : bytes * 8e-9 / cpu; }
};

// Of a program that answers SIGUSR2: the messages that its workers took, all together.
class message_count {
  public:
    explicit message_count(child& of, unsigned workers) : _of(of), _workers(workers) {}

    // Asks, waits for the answers of all workers, and leaves out what asking has cost.
    long ask() {
        const std::size_t before = text_of(_of.log()).size();
        _of.signal(SIGUSR2);
        long sum = 0;
        _of.wait_until(
            [&] {
                static const std::regex line(R"(worker \d+: from other threads: messages=(\d+)\n)");
                const std::string text = text_of(_of.log()).substr(before);
                sum = 0;
                unsigned answers = 0;
                for (std::sregex_iterator at(text.begin(), text.end(), line), end; at != end;
                     ++at) {
                    sum += std::stol((*at)[1]);
                    ++answers;
                }
                return answers >= _workers;
            },
            "told how many messages the workers took");
        return sum - static_cast<long>(_workers) * ++_asked;
    }

  private:
    child& _of;
    unsigned _workers;
    long _asked = 0;
};

struct tunnel_options {
    words server, client;  // more flags of each
    bool with_tun = true;
};

// Both ends, connected: one session a worker.
class tunnel {
  public:
    tunnel(const programs& tools, const space& where, const plan& places,
           const tunnel_options& options, const std::string& folder)
        : _places(places) {
        const auto common = [&](const processors& on) {
            words flags{"--auth", "bench:bench", "--workers", std::to_string(places.workers)};
            if (places.pinned) {
                flags.push_back("--cpu-affinity");
                flags.push_back(in_order(on));
            }
            return flags;
        };
        words flags = common(places.server);
        for (const char* word : {"--host", cloud_address, "--key", "bench", "--port"})
            flags.emplace_back(word);
        flags.push_back(std::to_string(server_port));
        flags.insert(flags.end(), options.server.begin(), options.server.end());
        flags.insert(flags.begin(), "server");
        _server = std::make_unique<child>(tools.command("burin", flags), where.cloud(),
                                          places.server, folder + "/server.log");
        _server->wait_for("Listening on");
        flags = common(places.client);
        if (options.with_tun)
            for (const char* word :
                 {"--tun", device, "--tun-addr", "10.98.2.1/30", "--route", "10.98.1.1/32"})
                flags.emplace_back(word);
        flags.emplace_back("-v");  // says why flows come in where the kernel puts them
        flags.insert(flags.end(), options.client.begin(), options.client.end());
        flags.insert(flags.begin(), "client");
        flags.push_back(fmt::format("http://{}:{}", cloud_address, server_port));
        flags.push_back(fmt::format("127.0.0.1:{}:{}:{}", entry_port, destination, load_port));
        _client = std::make_unique<child>(tools.command("burin", flags), where.gate(),
                                          places.client, folder + "/client.log");
        _client->wait_for("Connected (", places.workers);
        // The main thread tells the workers of its own device, once.
        pause_ms(1000);
        _client_messages.emplace(*_client, places.workers);
        _server_messages.emplace(*_server, places.workers);
    }

    double cpu_seconds() const { return _client->cpu_seconds() + _server->cpu_seconds(); }
    long messages() { return _client_messages->ask() + _server_messages->ask(); }
    const plan& places() const noexcept { return _places; }
    // Empty where flows of the TUN come in at their worker.
    std::string unsteered() const {
        const std::string text = text_of(_client->log());
        static const std::string said = "Flows come in where the kernel puts them: ";
        const std::size_t at = text.find(said);
        if (at == text.npos) return {};
        return text.substr(at + said.size(), text.find('\n', at) - at - said.size());
    }
    // Ends both; a trouble when one had ended before.
    void stop() {
        for (child* one : {_client.get(), _server.get()})
            if (!one->alive()) throw trouble("an end is gone: " + one->last_words());
        _client->end();
        _server->end();
    }

  private:
    plan _places;
    std::unique_ptr<child> _server, _client;
    std::optional<message_count> _client_messages, _server_messages;
};

// `bench_load serve` in the cloud, and its clients in the gate.
class load {
  public:
    load(const programs& tools, const space& where, const plan& places, std::string folder)
        : _tools(tools), _where(where), _places(places), _folder(std::move(folder)) {
        words serve{"serve", "0.0.0.0", std::to_string(load_port)};
        add_threads(serve);
        _serve = std::make_unique<child>(tools.command("bench_load", serve), where.cloud(),
                                         places.load, _folder + "/load-server.log");
        _serve->wait_for("listening");
    }

    // `through`: nullptr for none.
    sample carry(tunnel* through, way w, direction d, unsigned flows, double seconds) {
        const std::string host = w == way::direct ? cloud_address
                                 : w == way::port ? "127.0.0.1"
                                                  : destination;
        words asked{name_of(d), host, std::to_string(w == way::port ? entry_port : load_port)};
        asked.insert(asked.end(), {"--streams", std::to_string(flows), "--seconds",
                                   fmt::format("{}", seconds), "--timeout", "10", "--progress"});
        add_threads(asked);
        sample found;
        const double serve_before = _serve->cpu_seconds();
        const double ends_before = through == nullptr ? 0 : through->cpu_seconds();
        const busy_time client = busy_time::of(_places.client),
                        server = busy_time::of(_places.server),
                        others = busy_time::of(_places.load);
        child run(_tools.command("bench_load", asked), _where.gate(), _places.load,
                  _folder + "/load.log");
        if (through != nullptr) {
            run.wait_for("streams are open");
            count_messages(*through, found, seconds);
        }
        run.wait_until([&] { return !run.alive(); }, "at its end in time", seconds + 30);
        found.client_busy = busy_time::of(_places.client).share_since(client);
        found.server_busy = busy_time::of(_places.server).share_since(server);
        found.load_busy = busy_time::of(_places.load).share_since(others);
        if (through != nullptr) found.cpu = through->cpu_seconds() - ends_before;
        const auto told = nlohmann::json::parse(last_line(text_of(run.log())), nullptr, false);
        if (!run.well() || !told.is_object() || !told.value("checksum_ok", false))
            throw trouble(fmt::format("{} {}, {} flows: {}", name_of(w), name_of(d), flows,
                                      run.last_words()));
        found.gbit = told.at("gbit_per_second");
        found.seconds = told.at("seconds");
        found.bytes = told.at("bytes");
        found.load_cpu =
            told.at("cpu_seconds").get<double>() + _serve->cpu_seconds() - serve_before;
        found.counted_gb = found.bytes * 1e-9 * counted_share;
        return found;
    }

  private:
    // Of a transfer's time, in its middle, while every flow is open.
    static constexpr double counted_from = 0.2, counted_share = 0.6;

    static void count_messages(tunnel& through, sample& found, double seconds) {
        pause_ms(static_cast<int>(seconds * counted_from * 1000));
        const long before = through.messages();
        pause_ms(static_cast<int>(seconds * counted_share * 1000));
        found.messages = through.messages() - before;
    }
    static std::string last_line(std::string text) {
        while (text.ends_with('\n')) text.pop_back();
        const std::size_t before = text.rfind('\n');
        return before == text.npos ? text : text.substr(before + 1);
    }
    void add_threads(words& to) const {
        if (!_places.pinned) return;
        to.insert(to.end(), {"--threads", std::to_string(_places.load.size())});
    }

    const programs& _tools;
    const space& _where;
    const plan& _places;
    std::string _folder;
    std::unique_ptr<child> _serve;
};

}  // namespace scaling
