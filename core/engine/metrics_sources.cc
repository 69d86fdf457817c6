#include "core/engine/metrics_sources.hh"

#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "core/relay/tun_datagrams.hh"

namespace burin::engine {

namespace {

constexpr std::uint64_t billion = 1'000'000'000;

void count_port(tally& t, const relay::relay_counters& c) {
    t.add(metric::traffic_bytes, c.received_bytes, "kind=\"port\",direction=\"to_tunnel\"");
    t.add(metric::traffic_bytes, c.sent_bytes, "kind=\"port\",direction=\"from_tunnel\"");
    t.add(metric::socket_operations, c.receives, "direction=\"to_tunnel\"");
    t.add(metric::socket_operations, c.sends, "direction=\"from_tunnel\"");
    t.add(metric::partial_sends, c.partial_sends);
    t.add(metric::flow_resets, c.resets);
}

void count_frames(tally& t, const relay::tun_queue_counters& in,
                  const relay::tun_writer_counters& out) {
    t.add(metric::traffic_bytes, in.bytes, "kind=\"tun\",direction=\"to_tunnel\"");
    t.add(metric::traffic_bytes, out.bytes, "kind=\"tun\",direction=\"from_tunnel\"");
    t.add(metric::traffic_packets, in.frames, "kind=\"tun\",direction=\"to_tunnel\"");
    t.add(metric::traffic_packets, out.frames, "kind=\"tun\",direction=\"from_tunnel\"");
    t.add(metric::buffer_shortages, in.out_of_slots, "pool=\"tun_slots\"");
    t.add(metric::drops, out.no_room, "kind=\"tun\",reason=\"no_room\"");
    t.add(metric::drops, out.errors, "kind=\"tun\",reason=\"write_error\"");
    t.add(metric::drops, in.unknown_flow, "kind=\"tun\",reason=\"unknown_flow\"");
    t.add(metric::drops, in.too_many_flows, "kind=\"tun\",reason=\"too_many_flows\"");
    t.add(metric::drops, in.crowded_out, "kind=\"tun\",reason=\"crowded_out\"");
    t.add(metric::drops, in.replaced, "kind=\"tun\",reason=\"replaced\"");
    t.add(metric::drops, in.never_answered, "kind=\"tun\",reason=\"never_answered\"");
    t.add(metric::drops, in.too_many_half_open, "kind=\"tun\",reason=\"too_many_half_open\"");
    t.add(metric::drops, in.too_many_unanswered, "kind=\"tun\",reason=\"too_many_unanswered\"");
    t.add(metric::drops, in.adoption_refused, "kind=\"tun\",reason=\"adoption_refused\"");
    using kind = tun::frame_kind;
    const auto dropped = [&](kind what, metric_labels labels) {
        t.add(metric::drops, in.kinds[static_cast<std::size_t>(what)], labels);
    };
    dropped(kind::other_protocol, "kind=\"tun\",reason=\"other_protocol\"");
    dropped(kind::multicast, "kind=\"tun\",reason=\"multicast\"");
    dropped(kind::link_local, "kind=\"tun\",reason=\"link_local\"");
    dropped(kind::truncated, "kind=\"tun\",reason=\"truncated\"");
    dropped(kind::bad_ip_header, "kind=\"tun\",reason=\"bad_ip_header\"");
    dropped(kind::bad_ip_checksum, "kind=\"tun\",reason=\"bad_ip_checksum\"");
    dropped(kind::bad_address, "kind=\"tun\",reason=\"bad_address\"");
    dropped(kind::source_routed, "kind=\"tun\",reason=\"source_routed\"");
    dropped(kind::bad_tcp_header, "kind=\"tun\",reason=\"bad_tcp_header\"");
    dropped(kind::bad_tcp_checksum, "kind=\"tun\",reason=\"bad_tcp_checksum\"");
    dropped(kind::bad_udp_header, "kind=\"tun\",reason=\"bad_udp_header\"");
    dropped(kind::bad_udp_checksum, "kind=\"tun\",reason=\"bad_udp_checksum\"");
    dropped(kind::bad_icmp_checksum, "kind=\"tun\",reason=\"bad_icmp_checksum\"");
}

void count_tcp(tally& t, const tun::tcp_statistics& c) {
    t.add(metric::tun_retransmitted_bytes, c.retransmitted_bytes);
    t.add(metric::tun_tcp_events, c.timeouts, "event=\"timeout\"");
    t.add(metric::tun_tcp_events, c.fast_retransmits, "event=\"fast_retransmit\"");
    t.add(metric::tun_tcp_events, c.tail_probes, "event=\"tail_probe\"");
    t.add(metric::tun_tcp_events, c.spurious_repairs, "event=\"spurious_repair\"");
    t.add(metric::tun_tcp_events, c.ecn_reductions, "event=\"ecn_reduction\"");
    t.add(metric::tun_tcp_events, c.window_probes, "event=\"window_probe\"");
    t.add(metric::tun_tcp_events, c.keepalive_probes, "event=\"keepalive_probe\"");
    t.add(metric::tun_tcp_events, c.duplicate_segments, "event=\"duplicate_segment\"");
    t.add(metric::tun_tcp_events, c.out_of_order_segments, "event=\"out_of_order_segment\"");
    t.add(metric::tun_tcp_events, c.resets_in, "event=\"reset_received\"");
    t.add(metric::tun_tcp_events, c.resets_out, "event=\"reset_sent\"");
    t.add(metric::tun_tcp_events, c.challenge_acks, "event=\"challenge_ack\"");
    t.add(metric::tun_tcp_events, c.bad_acks, "event=\"bad_ack\"");
    t.add(metric::drops, c.reassembly_refused, "kind=\"tun\",reason=\"no_reassembly_memory\"");
}

void count_fragments(tally& t, const tun::fragment_counters& c) {
    t.add(metric::tun_fragments, c.fragments, "what=\"taken\"");
    t.add(metric::tun_fragments, c.reassembled, "what=\"reassembled\"");
    t.add(metric::drops, c.overlapping, "kind=\"fragment\",reason=\"overlapping\"");
    t.add(metric::drops, c.malformed, "kind=\"fragment\",reason=\"malformed\"");
    t.add(metric::drops, c.evicted, "kind=\"fragment\",reason=\"evicted\"");
    t.add(metric::drops, c.refused, "kind=\"fragment\",reason=\"refused\"");
    t.add(metric::drops, c.timed_out, "kind=\"fragment\",reason=\"timed_out\"");
}

void count_udp(tally& t, const relay::tun_datagram_counters& c) {
    t.add(metric::drops, c.no_session, "kind=\"tun_udp\",reason=\"no_session\"");
    t.add(metric::drops, c.no_channel, "kind=\"tun_udp\",reason=\"no_channel\"");
    t.add(metric::drops, c.too_many_flows, "kind=\"tun_udp\",reason=\"too_many_flows\"");
    t.add(metric::drops, c.too_many_targets, "kind=\"tun_udp\",reason=\"too_many_targets\"");
    t.add(metric::drops, c.unknown_source, "kind=\"tun_udp\",reason=\"unknown_source\"");
    t.add(metric::drops, c.no_room, "kind=\"tun_udp\",reason=\"no_room\"");
}

void count_echo(tally& t, const relay::tun_echo_counters& c) {
    t.add(metric::echoes, c.answered, "outcome=\"answered\"");
    t.add(metric::echoes, c.refused, "outcome=\"refused\"");
    t.add(metric::echoes, c.timed_out, "outcome=\"timed_out\"");
    t.add(metric::drops, c.limited, "kind=\"echo\",reason=\"limited\"");
    t.add(metric::drops, c.too_long, "kind=\"echo\",reason=\"too_long\"");
    t.add(metric::drops, c.no_channel, "kind=\"echo\",reason=\"no_channel\"");
    t.add(metric::drops, c.no_window, "kind=\"echo\",reason=\"no_window\"");
    t.add(metric::drops, c.evicted, "kind=\"echo\",reason=\"evicted\"");
    t.add(metric::drops, c.lost, "kind=\"echo\",reason=\"lost\"");
    t.add(metric::drops, c.late, "kind=\"echo\",reason=\"late\"");
}

// The fields of /proc/self/stat behind the program's name, which may hold blanks: proc(5) counts
// the first of these as the third.
std::string stat_fields() {
    std::ifstream file("/proc/self/stat");
    std::string line;
    std::getline(file, line);
    const std::size_t name_end = line.rfind(')');
    return name_end == line.npos ? std::string() : line.substr(name_end + 1);
}

// Since the epoch; the kernel counts from the boot, on a clock that goes on while a machine sleeps.
std::uint64_t since_epoch(std::uint64_t ticks_after_boot) {
    timespec wall{}, boot{};
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    const auto nanoseconds = [](const timespec& at) {
        return static_cast<std::uint64_t>(at.tv_sec) * billion +
               static_cast<std::uint64_t>(at.tv_nsec);
    };
    const auto hertz = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
    return nanoseconds(wall) - nanoseconds(boot) + ticks_after_boot * (billion / hertz);
}

}  // namespace

void count(tally& t, const relay::context& c) {
    count_port(t, c.counters);
    t.add(metric::flows, c.alive());
    t.add(metric::held_bytes, c.pieces.owned_bytes());
    t.add(metric::copied_bytes, c.pieces.copied_out());
    t.add(metric::buffer_shortages, c.counters.out_of_buffers, "pool=\"socket_buffers\"");
}

void count(tally& t, const relay::datagram_context& of) {
    const relay::datagram_counters& c = of.counters;
    t.add(metric::traffic_bytes, c.received_bytes, "kind=\"udp\",direction=\"to_tunnel\"");
    t.add(metric::traffic_bytes, c.sent_bytes, "kind=\"udp\",direction=\"from_tunnel\"");
    t.add(metric::traffic_packets, c.received, "kind=\"udp\",direction=\"to_tunnel\"");
    t.add(metric::traffic_packets, c.sent, "kind=\"udp\",direction=\"from_tunnel\"");
    t.add(metric::udp_runs, c.runs_received, "direction=\"to_tunnel\"");
    t.add(metric::udp_runs, c.runs_sent, "direction=\"from_tunnel\"");
    t.add(metric::buffer_shortages, c.out_of_buffers, "pool=\"datagram_buffers\"");
    t.add(metric::udp_sockets, of.sockets);
    t.add(metric::udp_sockets_closed, c.sockets_expired, "reason=\"expired\"");
    t.add(metric::udp_sockets_closed, c.sockets_evicted, "reason=\"evicted\"");
    t.add(metric::icmp_errors, c.icmp_errors, "from=\"destination\"");
    t.add(metric::drops, c.no_channel, "kind=\"udp\",reason=\"no_channel\"");
    t.add(metric::drops, c.no_window, "kind=\"udp\",reason=\"no_window\"");
    t.add(metric::drops, c.no_address, "kind=\"udp\",reason=\"no_address\"");
    t.add(metric::drops, c.no_socket, "kind=\"udp\",reason=\"no_socket\"");
    t.add(metric::drops, c.unknown_source, "kind=\"udp\",reason=\"unknown_source\"");
    t.add(metric::drops, c.socket_full, "kind=\"udp\",reason=\"socket_full\"");
    t.add(metric::drops, c.send_errors, "kind=\"udp\",reason=\"send_error\"");
    t.add(metric::drops, c.channels_broken, "kind=\"udp\",reason=\"broken_channel\"");
    t.add(metric::budget_used, of.held_bytes, "kind=\"datagrams\"");
    t.add(metric::budget_limit, of.settings.most_held_bytes, "kind=\"datagrams\"");
}

void count(tally& t, const relay::dialer& d) {
    const relay::dialer_counters& c = d.counters;
    t.add(metric::dials, c.connected, "outcome=\"connected\"");
    t.add(metric::dials, c.failed, "outcome=\"failed\"");
    t.add(metric::dials, c.timed_out, "outcome=\"timed_out\"");
    t.add(metric::dials, c.taken_back, "outcome=\"taken_back\"");
    t.add(metric::dials, c.refused, "outcome=\"no_room\"");
    t.add(metric::dials_pending, d.pending());
}

void count(tally& t, const relay::echo_pinger& of) {
    const relay::echo_pinger_counters& c = of.counters();
    t.add(metric::echoes, c.answered, "outcome=\"answered\"");
    t.add(metric::echoes, c.refused, "outcome=\"refused\"");
    t.add(metric::echoes, c.timed_out, "outcome=\"timed_out\"");
    t.add(metric::drops, c.limited, "kind=\"echo\",reason=\"limited\"");
    t.add(metric::drops, c.not_allowed, "kind=\"echo\",reason=\"not_allowed\"");
    t.add(metric::drops, c.evicted, "kind=\"echo\",reason=\"evicted\"");
    t.add(metric::drops, c.too_many, "kind=\"echo\",reason=\"too_many\"");
    t.add(metric::drops, c.no_window, "kind=\"echo\",reason=\"no_window\"");
    t.add(metric::drops, c.late, "kind=\"echo\",reason=\"late\"");
}

void count(tally& t, const relay::tun_queue& q) {
    count_frames(t, q.counters(), q.writes());
    count_tcp(t, q.statistics());
    count_fragments(t, q.fragments().counters());
    count_echo(t, q.echo().counters());
    t.add(metric::echoes, q.counters().echoes_unanswered, "outcome=\"no_session\"");
    t.add(metric::echoes, q.icmp().counters().echo_replies, "outcome=\"answered_here\"");
    t.add(metric::icmp_errors, q.icmp().counters().errors, "from=\"gateway\"");
    t.add(metric::icmp_errors, q.counters().errors_heard, "from=\"host\"");
    t.add(metric::drops, q.icmp().counters().limited, "kind=\"icmp\",reason=\"limited\"");
    t.add(metric::drops, q.icmp().counters().unanswerable, "kind=\"icmp\",reason=\"unanswerable\"");
    if (const relay::tun_datagrams* udp = q.datagrams()) {
        count_udp(t, udp->counters());
        t.add(metric::tun_udp_flows, udp->flows());
    }
    t.add(metric::tun_flows, q.flows());
    t.add(metric::tun_flows_opened, q.counters().flows);
    t.add(metric::tun_half_open, q.half_opens().size());
    t.add(metric::tun_half_open_limit, q.settings().half_open.most);
    t.add(metric::tun_strays, q.homes().handed_over(), "what=\"handed_over\"");
    t.add(metric::tun_strays, q.counters().adopted, "what=\"adopted\"");
    t.add(metric::drops, q.homes().undeliverable(), "kind=\"tun\",reason=\"undeliverable\"");
}

void count(tally& t, const ring::budget& b) {
    // What every channel has from its first moment on is set aside for those that are not there.
    const std::uint64_t set_aside =
        std::uint64_t{b.channel_limit() - b.open_channels()} * ring::budget::base_bytes;
    t.add(metric::budget_used, b.total() - b.growth_left() - set_aside, "kind=\"windows\"");
    t.add(metric::budget_limit, b.total(), "kind=\"windows\"");
    t.add(metric::channels, b.open_channels());
    t.add(metric::channels_limit, b.channel_limit());
}

void count_process(tally& t) {
    std::istringstream stat(stat_fields());
    const auto skip = [&stat](int fields) {
        for (std::string word; fields > 0; --fields) stat >> word;
    };
    std::uint64_t user = 0, system = 0, threads = 0, started = 0, mapped = 0, pages = 0;
    skip(11);  // state to cmajflt
    stat >> user >> system;
    skip(4);  // cutime to nice
    stat >> threads;
    skip(1);  // itrealvalue
    stat >> started >> mapped >> pages;
    if (stat) {
        const auto tick = billion / static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
        static const std::uint64_t began = since_epoch(started);  // the same in every scrape
        t.add(metric::process_start_time, began);
        t.add(metric::process_cpu, (user + system) * tick);
        t.add(metric::process_threads, threads);
        t.add(metric::process_virtual, mapped);
        t.add(metric::process_resident, pages * static_cast<std::uint64_t>(getpagesize()));
    }
    std::error_code error;
    std::uint64_t open = 0;
    for (std::filesystem::directory_iterator at("/proc/self/fd", error), end; !error && at != end;
         at.increment(error))
        ++open;
    if (!error && open > 0) t.add(metric::process_open_fds, open - 1);  // the folder's own
    rlimit files{};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) t.add(metric::process_max_fds, files.rlim_cur);
}

}  // namespace burin::engine
