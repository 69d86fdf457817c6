// What the two commands are told: flags with chisel's defaults and environment fallbacks
// (docs/wire.md sections 10.1 to 10.3). Plain values; tools/command_line fills them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/engine/link.hh"
#include "core/engine/metrics_server.hh"
#include "core/engine/remote.hh"
#include "core/engine/worker.hh"
#include "core/http/upgrade.hh"
#include "core/http/websocket.hh"
#include "crypto/secret.hh"
#include "tun/congestion_control.hh"

namespace burin::engine {

struct common_settings {
    bool verbose = false;
    ring::microseconds_t keepalive = 25 * ring::second;  // 0: none
    ring::microseconds_t ping_timeout = 0;               // 0: as keepalive
    ring::microseconds_t dial_timeout = 30 * ring::second;
    ring::microseconds_t exchange_timeout = 30 * ring::second;  // for new keys in a session
    std::uint64_t rekey_bytes = ssh::settings{}.rekey_bytes;    // after which keys are changed
    std::string ciphers;  // that are offered (ssh::settings); empty: all
    unsigned workers = 1;
    std::uint64_t memory_bytes = 256u << 20;                         // a worker
    std::uint32_t max_channels = 10'000;                             // a session
    std::uint32_t window_max = ssh::connection_limits{}.window_max;  // bytes a channel
    bool old_kernel = false;           // take the paths of Linux 6.1 (tests)
    metrics_address metrics;           // where counters are shown
    std::vector<unsigned> processors;  // of the workers; empty: wherever the kernel puts them
    std::string congestion;            // of the TCP between the ends; empty: the system's
    relay::datagram_settings datagrams;
    link_options::zero_copy send_zero_copy = link_options::zero_copy::off;
    // Bytes of one WebSocket message from the peer; 0: no limit.
    std::uint64_t message_limit = http::websocket_reader::default_message_limit;

    link_options session() const {
        return {.keepalive = keepalive,
                .ping_timeout = ping_timeout == 0 ? keepalive : ping_timeout,
                .exchange_timeout = exchange_timeout,
                .limits = {.max_channels = max_channels, .window_max = window_max},
                .message_limit = message_limit,
                .send_zero_copy = send_zero_copy};
    }
    worker_options worker() const {
        return {.memory_bytes = memory_bytes,
                .max_channels = max_channels,
                .dial_timeout = dial_timeout,
                .mask = {.read_multishot = !old_kernel},
                .datagrams = datagrams,
                .look_interval = workers * worker_options{}.look_interval,
                .processors = processors};
    }
};

struct server_settings : common_settings {
    std::string host = "0.0.0.0";
    std::uint16_t port = 8080;
    crypto::secret_string key;      // a seed
    std::string keygen;             // write a key there and exit
    crypto::secret_string keyfile;  // its name, or an inline ck- key
    crypto::secret_string auth;     // user:pass
    std::string authorized_keys;
    ring::microseconds_t login_timeout = 30 * ring::second;
    ring::microseconds_t config_timeout = 10 * ring::second;
    ring::microseconds_t login_delay = ring::second;  // after a failed one; 0: none
};

struct client_settings : common_settings {
    std::string server;
    std::vector<remote> remotes;
    std::string fingerprint;
    crypto::secret_string auth;
    int max_retry_count = -1;  // negative: unlimited
    ring::microseconds_t min_retry_interval = ring::second;
    ring::microseconds_t max_retry_interval = 300 * ring::second;
    http::header_list headers;
    std::string hostname;                    // replaces the Host header
    bool random_mask = false;                // mask frames with random keys instead of zero
    std::string tun;                         // device name; empty: none
    std::vector<std::string> tun_addresses;  // CIDR
    std::vector<std::string> routes;         // CIDR
    std::vector<std::string> excludes;       // CIDR: parts of `routes` that stay outside
    std::string dns;                         // where flows to port 53 go; empty: where they say
    bool steering = true;                    // false: as if the kernel refused the program (tests)
    tun::congestion_control tun_congestion = tun::congestion_control::cubic;  // towards hosts
    ring::microseconds_t connect_timeout = 45 * ring::second;
    ring::microseconds_t handshake_timeout = 30 * ring::second;
    ring::microseconds_t session_wait = 35 * ring::second;
};

}  // namespace burin::engine
