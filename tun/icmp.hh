// ICMP and ICMPv6 as a router and the stand-in of every destination speak them (RFC 792, RFC 1812
// section 4.3, RFC 4443): errors and echo replies to a host, and what a host's errors say about our
// flows. A machine without I/O: parsed frames and a time in, headers out. What is written comes
// from the destination that the host wrote to, never from an address of the gateway: a kernel
// drops its own addresses when they come in from a device.
//
// When a session is live, whether a destination may be answered for, and what an error does to a
// flow is the caller's to decide.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "tun/clock.hh"
#include "tun/frame.hh"

namespace burin::tun {

enum class icmp_error : std::uint8_t {
    protocol_unreachable,  // IPv6: parameter problem, at the octet that names it (RFC 4443 3.4)
    port_unreachable,
    network_unreachable,
    host_unreachable,
    prohibited,           // by an administrator
    too_big,              // and may not be fragmented; tells the MTU
    hops_exceeded,        // on the way
    reassembly_exceeded,  // its other fragments did not come in time
};

// A message to a host: the headers, then `rest`, which lies in the frame that was its cause.
struct icmp_message {
    header_buffer header;
    bytes_view rest;
};

// Whether an error may answer this frame (RFC 1812 section 4.3.2.7, RFC 4443 section 2.4 (e)): not
// when it is itself an error, or a fragment other than the first. What parse_frame() refused has no
// answer either: multicast, broadcast, and sources that are no host's address.
bool may_be_answered(const parsed_frame& cause) noexcept;

// Writes an error about `cause`, of which `packet` and key are used; quotes as much of it as RFC
// 1812 section 4.3.2.3 (576 bytes in all) and RFC 4443 section 2.4 (c) (1280) allow. `mtu` in
// bytes, for too_big. False: none is due.
bool write_icmp_error(icmp_message& out, const parsed_frame& cause, icmp_error what,
                      std::uint32_t mtu = 0) noexcept;
// The reply to an echo request, with all of its data. May be longer than an MTU (fragments.hh).
// False: it is none.
bool write_echo_reply(icmp_message& out, const parsed_frame& request) noexcept;

// An echo request whose answer comes from elsewhere and later: what is kept of it.
class echo_stub {
  public:
    echo_stub() = default;
    // `request` is one.
    explicit echo_stub(const parsed_frame& request) noexcept;

    // The reply, with this data.
    void write_reply(icmp_message& out, bytes_view data) const noexcept;
    // The request as far as an error may quote it (RFC 792: the IP header and 64 bits behind it),
    // for as long as the stub lives. Empty payload, and so no error, when extension headers were
    // too long.
    parsed_frame cause() const noexcept;

  private:
    static constexpr std::size_t most_quoted = 76;  // IPv4 with all options and 8; IPv6 with some

    flow_key _key;
    std::uint32_t _id_and_number = 0;
    std::uint8_t _traffic_class = 0;
    std::uint8_t _icmp_at = 0, _quoted_bytes = 0;
    std::array<std::byte, most_quoted> _quoted;
};

// A packet of a host that is gone by the time an error about it is due: its headers made anew, as
// far as an error must quote them for the host to find its socket (RFC 792: the IP header and 64
// bits behind it; RFC 5927 section 4.1: the sequence number among them). What the packet had
// besides, options and window among it, is not known any more.
class quoted_packet {
  public:
    // The SYN that `flow` began with, and its sequence number.
    static quoted_packet of_syn(const flow_key& flow, sequence first) noexcept;
    // A datagram of `flow`.
    static quoted_packet of_datagram(const flow_key& flow) noexcept;
    // What an error may be written about, for as long as this lives.
    parsed_frame cause() const noexcept;

  private:
    quoted_packet(const flow_key& flow, ip_protocol protocol, std::size_t transport_bytes) noexcept;
    std::byte* transport() noexcept { return _bytes.data() + ip_header_bytes(_key); }

    flow_key _key;
    std::array<std::byte, ipv6_header_bytes + tcp_header_bytes> _bytes{};
    std::uint8_t _size = 0;
};

// What a host or a router in front of it says about a packet of ours.
struct icmp_report {
    enum class kind : std::uint8_t {
        hard,     // protocol or port unreachable: nobody will ever answer (RFC 1122 4.2.3.9)
        soft,     // anything else that may pass: unreachable net or host, time exceeded, ...
        too_big,  // `mtu` says what fits
    };
    kind what = kind::soft;
    std::uint32_t mtu = 0;
    flow_key key;  // of the flow, as its own frames have it: source is the host
    bool has_seq = false;
    sequence seq;  // of the quoted segment, for TCP
};
// False: not an error, or it quotes nothing that could be ours. `message` is of kind icmp.
bool read_icmp_error(const parsed_frame& message, icmp_report& out) noexcept;

// So many a second, and so many at once.
class token_bucket {
  public:
    constexpr token_bucket(std::uint32_t per_second, std::uint32_t burst) noexcept
        : _per_second(per_second), _most(burst * token), _level(_most) {}
    bool take(time_us now) noexcept;

  private:
    static constexpr std::uint64_t token = 1'000'000;  // a second's microseconds
    std::uint64_t _per_second;
    std::uint64_t _most;
    std::uint64_t _level;
    time_us _filled_at = 0;
};

struct icmp_limits {
    // Linux's icmp_msgs_per_sec and icmp_msgs_burst.
    std::uint32_t errors_per_second = 1000, errors_burst = 50;
    std::uint32_t echoes_per_second = 1000, echoes_burst = 200;
};

struct icmp_counters {
    std::uint64_t echo_replies = 0, errors = 0;
    std::uint64_t limited = 0;       // due, but too many of them
    std::uint64_t unanswerable = 0;  // an error was wanted where none may be
};

// The same, with the limits of RFC 4443 section 2.4 (f) and counted.
class icmp_responder {
  public:
    explicit icmp_responder(const icmp_limits& limits = {}) noexcept
        : _errors(limits.errors_per_second, limits.errors_burst),
          _echoes(limits.echoes_per_second, limits.echoes_burst) {}

    bool error(icmp_message& out, const parsed_frame& cause, icmp_error what, std::uint32_t mtu,
               time_us now) noexcept;
    bool echo_reply(icmp_message& out, const parsed_frame& request, time_us now) noexcept;

    const icmp_counters& counters() const noexcept { return _counters; }

  private:
    token_bucket _errors;
    token_bucket _echoes;
    icmp_counters _counters;
};

bool is_echo_request(const parsed_frame& message) noexcept;
// A datagram without a hop left would die at the next router, and its sender wants to hear of that.
// Where a destination's stand-in is the end of the way, it is the destination that answers, as it
// does to the last probe of a trace: nobody listens on the port (RFC 1122 section 3.2.2.1).
bool is_trace_probe(const parsed_frame& datagram) noexcept;

}  // namespace burin::tun
