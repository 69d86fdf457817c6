#include "core/engine/metrics.hh"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>

namespace burin::engine {

namespace {

using enum metric_kind;

struct row {
    metric of;
    metric_family family;
};

constexpr row rows[] = {
    {metric::build_info,
     {"burin_build_info", gauge, "Version, role and cipher library; always 1."}},
    {metric::process_start_time,
     {"process_start_time_seconds", gauge, "When the process began, seconds since the epoch.",
      true}},
    {metric::process_cpu,
     {"process_cpu_seconds_total", counter, "CPU time of all threads, kernel included.", true}},
    {metric::process_resident,
     {"process_resident_memory_bytes", gauge, "Memory that is resident."}},
    {metric::process_virtual, {"process_virtual_memory_bytes", gauge, "Memory that is mapped."}},
    {metric::process_open_fds, {"process_open_fds", gauge, "Descriptors that are open."}},
    {metric::process_max_fds, {"process_max_fds", gauge, "Descriptors that may be open."}},
    {metric::process_threads, {"process_threads", gauge, "Threads."}},
    {metric::log_lines_dropped,
     {"burin_log_lines_dropped_total", counter, "Log lines that nobody read in time."}},
    {metric::scrapes, {"burin_scrapes_total", counter, "Requests for metrics, by how they ended."}},
    {metric::worker_cpu,
     {"burin_worker_cpu_seconds_total", counter, "CPU time of a worker's thread.", true}},
    {metric::worker_turns, {"burin_worker_turns_total", counter, "Turns of a worker's loop."}},
    {metric::worker_enters,
     {"burin_worker_enters_total", counter, "Calls of io_uring_enter: one a turn."}},
    {metric::timers, {"burin_timers", gauge, "Timers that are armed."}},
    {metric::sessions, {"burin_sessions", gauge, "Sessions that are logged in."}},
    {metric::sessions_opened, {"burin_sessions_opened_total", counter, "Sessions that logged in."}},
    {metric::session_bytes,
     {"burin_session_bytes_total", counter,
      "Bytes of the tunnel's own connections, framing and encryption included."}},
    {metric::session_operations,
     {"burin_session_operations_total", counter,
      "Receives and sends of the tunnel's own connections."}},
    {metric::session_zero_copy,
     {"burin_session_zero_copy_sends_total", counter,
      "Sends of --send-zc whose bytes the kernel is done with, by whether it had copied them."}},
    {metric::key_exchanges,
     {"burin_key_exchanges_total", counter,
      "SSH key exchanges: one a session at its begin, the others are rekeys."}},
    {metric::window_adjusts,
     {"burin_window_adjusts_total", counter, "SSH WINDOW_ADJUST messages sent."}},
    {metric::channels, {"burin_channels", gauge, "SSH channels that are open."}},
    {metric::channels_limit,
     {"burin_channels_limit", gauge, "SSH channels that a worker may have open."}},
    {metric::channels_opened,
     {"burin_channels_opened_total", counter, "SSH channels opened, by either end."}},
    {metric::channels_refused,
     {"burin_channels_refused_total", counter, "SSH channels refused, by either end."}},
    {metric::channel_dropped_bytes,
     {"burin_channel_dropped_bytes_total", counter,
      "Payload for channels whose end was gone already."}},
    {metric::flows, {"burin_flows", gauge, "TCP sockets carried."}},
    {metric::flow_resets, {"burin_flow_resets_total", counter, "TCP sockets ended by a reset."}},
    {metric::traffic_bytes,
     {"burin_traffic_bytes_total", counter,
      "Bytes carried: payload of TCP sockets (port) and UDP sockets (udp), frames of the TUN with "
      "their headers (tun)."}},
    {metric::traffic_packets,
     {"burin_traffic_packets_total", counter,
      "Datagrams of UDP sockets (udp), and frames of the TUN, where a superframe is one (tun)."}},
    {metric::socket_operations,
     {"burin_socket_operations_total", counter, "Receives and sends of TCP sockets."}},
    {metric::partial_sends,
     {"burin_socket_partial_sends_total", counter, "Sends that a TCP socket took a part of."}},
    {metric::drops,
     {"burin_drops_total", counter,
      "What was dropped or refused, by what it was and why (docs/observability.md)."}},
    {metric::budget_used,
     {"burin_memory_budget_used_bytes", gauge,
      "Of --memory, what windows have been granted and datagrams hold."}},
    {metric::budget_limit,
     {"burin_memory_budget_limit_bytes", gauge, "Of --memory, what each may take."}},
    {metric::pool_used, {"burin_pool_buffers", gauge, "Buffers of a pool that are in use."}},
    {metric::pool_limit, {"burin_pool_buffers_limit", gauge, "Buffers that a pool may have."}},
    {metric::pool_resident,
     {"burin_pool_resident_bytes", gauge, "Memory of a pool that the kernel was not given back."}},
    {metric::held_bytes, {"burin_held_bytes", gauge, "Payload that waits in memory of its own."}},
    {metric::copied_bytes,
     {"burin_copied_bytes_total", counter, "Payload copied out of receive buffers."}},
    {metric::buffer_shortages,
     {"burin_buffer_shortages_total", counter,
      "Receives that found no buffer in their pool, and waited for one."}},
    {metric::dials, {"burin_dials_total", counter, "Dials that ended, by how."}},
    {metric::dials_pending, {"burin_dials_pending", gauge, "Dials that are under way."}},
    {metric::udp_sockets, {"burin_udp_sockets", gauge, "UDP sockets towards destinations."}},
    {metric::udp_sockets_closed,
     {"burin_udp_sockets_closed_total", counter,
      "UDP sockets towards destinations that were closed, by why."}},
    {metric::udp_runs,
     {"burin_udp_runs_total", counter, "Runs of several datagrams by one system call."}},
    {metric::icmp_errors, {"burin_icmp_errors_total", counter, "ICMP errors, by who told whom."}},
    {metric::echoes, {"burin_echoes_total", counter, "Echo requests carried, by how they ended."}},
    {metric::tun_flows, {"burin_tun_flows", gauge, "TCP flows of the TUN."}},
    {metric::tun_flows_opened,
     {"burin_tun_flows_opened_total", counter, "TCP flows of the TUN, ever."}},
    {metric::tun_half_open,
     {"burin_tun_half_open_flows", gauge, "TCP flows of the TUN whose handshake is not complete."}},
    {metric::tun_half_open_limit,
     {"burin_tun_half_open_flows_limit", gauge, "How many of them there may be."}},
    {metric::tun_udp_flows, {"burin_tun_udp_flows", gauge, "UDP flows of the TUN."}},
    {metric::tun_tcp_events,
     {"burin_tun_tcp_events_total", counter, "What the TUN's TCP met with its hosts."}},
    {metric::tun_retransmitted_bytes,
     {"burin_tun_retransmitted_bytes_total", counter, "Bytes sent to hosts once more."}},
    {metric::tun_fragments,
     {"burin_tun_fragments_total", counter, "IP fragments taken in, and datagrams made of them."}},
    {metric::tun_strays, {"burin_tun_strays_total", counter, "Frames passed between workers."}},
    {metric::connected, {"burin_connected", gauge, "1 while a client's session is live."}},
    {metric::connect_attempts,
     {"burin_connect_attempts_total", counter, "Attempts of a client to reach the server."}},
    {metric::reconnections,
     {"burin_reconnections_total", counter, "Sessions of a client that followed another."}},
    {metric::sessions_lost,
     {"burin_sessions_lost_total", counter, "Live sessions of a client that ended."}},
    {metric::connections_waiting,
     {"burin_connections_waiting", gauge, "Local connections that wait for a session."}},
    {metric::login_failures,
     {"burin_login_failures_total", counter, "Logins of a server that failed."}},
    {metric::logins_waiting,
     {"burin_logins_waiting", gauge, "Logins whose answer is held back after failures."}},
    {metric::strangers,
     {"burin_strangers", gauge, "Connections of a server that have not logged in."}},
    {metric::strangers_limit, {"burin_strangers_limit", gauge, "How many there may be."}},
    {metric::strangers_bytes, {"burin_strangers_bytes", gauge, "What they make the server hold."}},
    {metric::strangers_bytes_limit,
     {"burin_strangers_limit_bytes", gauge, "What they may make the server hold."}},
    {metric::strangers_ended,
     {"burin_strangers_ended_total", counter, "Connections ended before a login, by why."}},
    {metric::accept_pauses,
     {"burin_accept_pauses_total", counter, "Times that no descriptor was left for a connection."}},
};

constexpr bool in_order() {
    for (std::size_t i = 0; i < std::size(rows); ++i)
        if (static_cast<std::size_t>(rows[i].of) != i) return false;
    return std::size(rows) == static_cast<std::size_t>(metric::count);
}
static_assert(in_order(), "a row for each metric, in the order of the enumeration");

std::string number(std::uint64_t value, bool billionths) {
    constexpr std::uint64_t billion = 1'000'000'000;
    return billionths ? fmt::format("{}.{:09}", value / billion, value % billion)
                      : fmt::format("{}", value);
}

// A sample with the worker whose it is; the process's come first.
struct placed {
    int worker;  // -1: the process
    tally::sample what;
};

bool before(const placed& a, const placed& b) {
    if (a.what.of != b.what.of) return a.what.of < b.what.of;
    if (a.worker != b.worker) return a.worker < b.worker;
    return a.what.labels < b.what.labels;
}

void write_sample(std::string& out, const placed& p) {
    const metric_family& f = family_of(p.what.of);
    out += f.name;
    if (p.worker >= 0 || !p.what.labels.empty()) {
        out += '{';
        if (p.worker >= 0) out += fmt::format("worker=\"{}\"", p.worker);
        if (p.worker >= 0 && !p.what.labels.empty()) out += ',';
        out += p.what.labels;
        out += '}';
    }
    out += ' ';
    out += number(p.what.value, f.billionths);
    out += '\n';
}

void write_head(std::string& out, const metric_family& f) {
    out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", f.name, escape_help(f.help), f.name,
                       f.kind == counter ? "counter" : "gauge");
}

std::string escaped(std::string_view text, std::string_view marks) {
    std::string out;
    for (char c : text) {
        if (c == '\n') {
            out += "\\n";
            continue;
        }
        if (marks.find(c) != std::string_view::npos) out += '\\';
        out += c;
    }
    return out;
}

}  // namespace

const metric_family& family_of(metric of) noexcept {
    return rows[static_cast<std::size_t>(of)].family;
}

std::string escape_label(std::string_view value) {
    return escaped(value, "\\\"");
}

std::string escape_help(std::string_view text) {
    return escaped(text, "\\");
}

std::string exposition(std::span<const build_label> build, const tally& process,
                       std::span<const tally> workers) {
    std::vector<placed> all;
    for (const tally::sample& s : process.samples()) all.push_back({-1, s});
    for (std::size_t i = 0; i < workers.size(); ++i)
        for (const tally::sample& s : workers[i].samples()) all.push_back({static_cast<int>(i), s});
    std::stable_sort(all.begin(), all.end(), before);

    std::string out;
    write_head(out, family_of(metric::build_info));
    out += family_of(metric::build_info).name;
    for (std::size_t i = 0; i < build.size(); ++i)
        out += fmt::format("{}{}=\"{}\"", i == 0 ? '{' : ',', build[i].name,
                           escape_label(build[i].value));
    out += build.empty() ? " 1\n" : "} 1\n";
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (i == 0 || all[i].what.of != all[i - 1].what.of)
            write_head(out, family_of(all[i].what.of));
        placed sum = all[i];
        while (i + 1 < all.size() && !before(all[i], all[i + 1]))
            sum.what.value += all[++i].what.value;
        write_sample(out, sum);
    }
    return out;
}

void tally::add_sessions() {
    const session_counts& s = sessions;
    add(metric::sessions, s.live);
    add(metric::sessions_opened, s.opened);
    add(metric::session_bytes, s.received_bytes, "direction=\"received\"");
    add(metric::session_bytes, s.sent_bytes, "direction=\"sent\"");
    add(metric::session_operations, s.receives, "direction=\"received\"");
    add(metric::session_operations, s.sends, "direction=\"sent\"");
    add(metric::session_zero_copy, s.zero_copy_sends - s.zero_copy_copied, "copy=\"spared\"");
    add(metric::session_zero_copy, s.zero_copy_copied, "copy=\"made\"");
    add(metric::key_exchanges, s.key_exchanges);
    add(metric::window_adjusts, s.adjusts);
    add(metric::channels_opened, s.channels_opened);
    add(metric::channels_refused, s.channels_refused);
    add(metric::channel_dropped_bytes, s.dropped_bytes);
}

}  // namespace burin::engine
