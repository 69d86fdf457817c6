// What `--metrics` shows, in Prometheus' text format 0.0.4 (docs/observability.md): the families
// there are, the numbers that a worker or the process hands over, and the text that they become.
//
// A worker fills a tally in one turn, as it does a report for SIGUSR2; all else happens on the
// thread that asked. Labels are texts of this program, checked by the compiler, so that nothing of
// a peer's comes in and the number of series is bounded by the number of workers.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace burin::engine {

enum class metric : std::uint8_t {
    build_info,
    process_start_time,
    process_cpu,
    process_resident,
    process_virtual,
    process_open_fds,
    process_max_fds,
    process_threads,
    log_lines_dropped,
    scrapes,
    worker_cpu,
    worker_turns,
    worker_enters,
    timers,
    sessions,
    sessions_opened,
    session_bytes,
    session_operations,
    session_zero_copy,
    key_exchanges,
    window_adjusts,
    channels,
    channels_limit,
    channels_opened,
    channels_refused,
    channel_dropped_bytes,
    flows,
    flow_resets,
    traffic_bytes,
    traffic_packets,
    socket_operations,
    partial_sends,
    drops,
    budget_used,
    budget_limit,
    pool_used,
    pool_limit,
    pool_resident,
    held_bytes,
    copied_bytes,
    buffer_shortages,
    dials,
    dials_pending,
    udp_sockets,
    udp_sockets_closed,
    udp_runs,
    icmp_errors,
    echoes,
    tun_flows,
    tun_flows_opened,
    tun_half_open,
    tun_half_open_limit,
    tun_udp_flows,
    tun_tcp_events,
    tun_retransmitted_bytes,
    tun_fragments,
    tun_strays,
    connected,
    connect_attempts,
    reconnections,
    sessions_lost,
    connections_waiting,
    login_failures,
    logins_waiting,
    strangers,
    strangers_limit,
    strangers_bytes,
    strangers_bytes_limit,
    strangers_ended,
    accept_pauses,
    count  // of the above
};

// What a family's numbers are.
enum class metric_kind : std::uint8_t { counter, gauge };

struct metric_family {
    std::string_view name;
    metric_kind kind;
    std::string_view help;
    // Numbers are kept in billionths: nanoseconds of a family whose unit is the second.
    bool billionths = false;
};
const metric_family& family_of(metric) noexcept;

// name="value" pairs with commas between them, or nothing. Only what stands in this program's text
// becomes one, and only if it needs no escapes.
class metric_labels {
  public:
    consteval metric_labels() = default;
    consteval metric_labels(const char* text) : _text(text) {
        if (!good(_text)) throw "not labels";
    }
    constexpr std::string_view text() const noexcept { return _text; }

  private:
    static consteval bool good(std::string_view text) {
        const auto is_lower = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
        for (std::size_t at = 0;;) {
            const std::size_t name = at;
            while (at < text.size() && is_lower(text[at])) ++at;
            if (at == name || text.substr(at, 2) != "=\"") return false;
            const std::size_t value = at += 2;
            while (at < text.size() && (is_lower(text[at]) || text[at] == '-')) ++at;
            if (at == value || at == text.size() || text[at++] != '"') return false;
            if (at == text.size()) return true;
            if (text[at++] != ',') return false;
        }
    }
    std::string_view _text;
};

// What sessions counted, summed over those of a worker. The worker keeps the sum of those that are
// over, so that no counter ever goes down.
struct session_counts {
    std::uint64_t opened = 0;  // logged in, ever
    std::uint64_t live = 0;    // logged in, now
    std::uint64_t receives = 0, received_bytes = 0, sends = 0, sent_bytes = 0;
    std::uint64_t zero_copy_sends = 0, zero_copy_copied = 0;  // of those, and of the first
    std::uint64_t key_exchanges = 0, adjusts = 0;
    std::uint64_t channels_opened = 0, channels_refused = 0, dropped_bytes = 0;
};

// Numbers of one worker or of the process. What is added twice under one name counts together.
class tally {
  public:
    struct sample {
        metric of;
        std::string_view labels;
        std::uint64_t value;
    };

    // With room for what a worker adds, so that the worker allocates nothing.
    tally() { _samples.reserve(256); }
    void add(metric of, std::uint64_t value, metric_labels labels = {}) {
        _samples.push_back({of, labels.text(), value});
    }
    // Empty again, with the room that it has.
    void clear() noexcept {
        _samples.clear();
        sessions = {};
    }
    // Those of `sessions`, once all of them are in.
    void add_sessions();
    std::span<const sample> samples() const noexcept { return _samples; }

    session_counts sessions;

  private:
    std::vector<sample> _samples;
};

// The whole text. `build`: what burin_build_info tells, in front of its 1; values are escaped.
struct build_label {
    std::string_view name;
    std::string value;
};
std::string exposition(std::span<const build_label> build, const tally& process,
                       std::span<const tally> workers);

// Of a label's value: \ " and line feeds (text format 0.0.4).
std::string escape_label(std::string_view value);
// Of a HELP line's text: \ and line feeds.
std::string escape_help(std::string_view text);

}  // namespace burin::engine
