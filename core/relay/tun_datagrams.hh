// UDP of hosts behind the TUN (docs/wire.md section 9.1): a channel a target, opened with its first
// datagram, shared by all who talk to that target and closed when the last of them has been silent
// for a while.
//
//   host -> channel: a datagram becomes a record where it lies, its gob header written over its own
//   UDP header; the datagrams of a superframe are moved apart in the slot to make room. What finds
//   no credit waits in bounded memory, the oldest dropped first (datagram_channel.hh).
//   channel -> host: an answer goes to the flow that its Src names, as a frame; answers of one flow
//   and one size that come in one turn leave as one superframe.
//   What the far end says became of a datagram (docs/wire.md section 13.3) is told to its host by
//   ICMP.
//
// A flow is a host's port and a target. A host may have so many, and takes the place of its own
// oldest flow when it wants more; all hosts together may have so many flows and targets, and when
// there are as many, the flow that is silent longest makes room if it is silent at all. What the
// server refuses is asked for again with the next datagram, at most once a second a target; without
// a session datagrams are dropped. Every drop is counted by its reason.
//
// One thread, the queue's. Time comes from the queue's context. It owns its channels; stop() closes
// them.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay/context.hh"
#include "core/relay/datagram_channel.hh"
#include "core/relay/dns_steering.hh"
#include "core/relay/tun_blocks.hh"
#include "core/relay/tun_homes.hh"
#include "core/relay/tun_icmp.hh"
#include "core/relay/tun_writer.hh"
#include "tun/flow_table.hh"
#include "tun/frame.hh"

namespace burin::relay {

class tun_uplink;

struct tun_datagram_settings {
    std::uint16_t mtu_bytes = 1500;
    bool superframes = false;  // the kernel takes UDP superframes
    std::uint32_t most_flows = 8192;
    std::uint32_t most_flows_of_a_host = 1024;
    std::uint32_t most_targets = 2048;  // channels
    // Silence, either way, after which a flow is forgotten. A name server answers at once or never.
    ring::microseconds_t idle_time = 60 * ring::second;
    ring::microseconds_t dns_idle_time = 10 * ring::second;
    // Silence after which it makes room for another host's when there are as many as may be.
    ring::microseconds_t least_idle_time = 2 * ring::second;
    // Before a channel that was refused or closed is asked for again.
    ring::microseconds_t retry_time = ring::second;
    dns_steering dns = {};
};

struct tun_datagram_counters {
    std::uint64_t datagrams_in = 0, datagrams_out = 0;  // from hosts, to hosts
    std::uint64_t superframes_in = 0, superframes_out = 0;
    std::uint64_t flows = 0, targets = 0;  // ever
    std::uint64_t channels_refused = 0;    // or closed by the peer
    std::uint64_t unreachable = 0;         // flows of which the far end said so
    std::uint64_t flows_replaced = 0;      // a host's oldest, for its newest
    std::uint64_t flows_crowded_out = 0;   // silent ones, for anybody's newest
    // Dropped, by reason.
    std::uint64_t no_session = 0;
    std::uint64_t no_channel = 0;  // refused lately, or none to be had
    std::uint64_t too_many_flows = 0;
    std::uint64_t too_many_targets = 0;
    std::uint64_t unknown_source = 0;  // an answer to a flow that is forgotten
    std::uint64_t no_room = 0;         // the device takes no more
};

class tun_datagrams {
  public:
    tun_datagrams(context&, datagram_context&, tun_uplink&, tun_homes&, tun_writer&, tun_blocks&,
                  tun_icmp&, const tun_datagram_settings&);
    ~tun_datagrams();
    tun_datagrams(const tun_datagrams&) = delete;
    tun_datagrams& operator=(const tun_datagrams&) = delete;

    // There is a flow of this key.
    bool knows(const tun::flow_key& key) const noexcept {
        return _table.find(key) != tun::flow_table::none;
    }
    // A frame of kind udp. Its payload lies in `slot`, which may be written to, or, when that is
    // none, anywhere.
    void take(const tun::parsed_frame&, const ring::buffer& slot) noexcept;
    // Answers of this turn, into the device.
    void flush() noexcept;
    void stop() noexcept;

    std::uint32_t flows() const noexcept { return _table.size(); }
    std::uint32_t targets() const noexcept { return _target_count; }
    const tun_datagram_counters& counters() const noexcept { return _counters; }
    void report(std::string& into, std::string_view name) const;

  private:
    class target;
    struct host;
    struct flow_link;
    struct flow;
    struct flow_link {
        flow* next = nullptr;
        flow* before = nullptr;
    };
    struct flow {
        tun::flow_key key;
        std::string source;  // as records name it
        target* to = nullptr;
        host* of = nullptr;
        ring::microseconds_t last = 0;  // datagram, either way
        flow_link by_age, by_host;
        std::uint32_t index = 0;
        std::uint32_t turn = 0, batch = 0;  // its batch, when `turn` is the present one
    };
    // Flows in the order of their last datagram, the longest silent first.
    template <flow_link flow::* Link>
    struct flow_list {
        flow* first = nullptr;
        flow* last = nullptr;
        void push(flow& f) noexcept {
            (f.*Link) = {nullptr, last};
            (last == nullptr ? first : (last->*Link).next) = &f;
            last = &f;
        }
        void remove(flow& f) noexcept {
            flow_link& link = f.*Link;
            (link.before == nullptr ? first : (link.before->*Link).next) = link.next;
            (link.next == nullptr ? last : (link.next->*Link).before) = link.before;
        }
    };
    struct host {
        flow_list<&flow::by_host> flows;
        std::uint32_t count = 0;
        std::uint32_t index = 0;
    };
    // Answers of one flow that leave as one frame.
    struct batch {
        tun::flow_key key;
        std::uint32_t size = 0;   // of each datagram but a shorter last one
        std::uint32_t bytes = 0;  // in all
        std::uint32_t count = 0;
        bool closed = false;
        std::array<tun::payload_slice, tun::tcp_send_queue::max_pieces> slices;
    };

    flow* find_or_make(const tun::flow_key&) noexcept;
    target* target_with_room(const tun::flow_key&) noexcept;
    host* host_of(const tun::flow_key&) noexcept;
    void touch(flow&) noexcept;
    void remove(flow&) noexcept;
    // The flow that is silent longest goes; false: none is silent.
    bool crowd_out() noexcept;
    void answer(flow&, bytes_view payload, const ring::buffer& holder) noexcept;
    void write(const batch&) noexcept;
    void write_large(const batch&) noexcept;
    void on_expiry(ring::microseconds_t now) noexcept;
    void rearm() noexcept;
    static bool is_dns(const flow& f) noexcept { return f.key.destination_port == 53; }
    ring::microseconds_t idle_time(const flow& f) const noexcept {
        return is_dns(f) ? _settings.dns_idle_time : _settings.idle_time;
    }

    context& _context;
    datagram_context& _datagrams;
    tun_uplink& _uplink;
    tun_homes& _homes;
    tun_writer& _writer;
    tun_blocks& _blocks;
    tun_icmp& _icmp;
    tun_datagram_settings _settings;
    tun::flow_table _table;         // flow -> index into _flows
    tun::flow_table _target_table;  // destination -> index into _targets, the newest of a chain
    tun::flow_table _host_table;    // source address -> index into _hosts
    std::vector<flow*> _flows;
    std::vector<target*> _targets;
    std::vector<host*> _hosts;
    std::vector<std::uint32_t> _free_flows, _free_targets, _free_hosts;
    flow_list<&flow::by_age> _ages, _dns_ages;
    ring::member_timer<&tun_datagrams::on_expiry> _expiry{this};
    std::vector<batch> _batches;
    std::size_t _batch_count = 0;  // in use in this turn
    std::uint32_t _target_count = 0;
    std::uint32_t _turn = 1;
    std::uint32_t _id;  // of the next large datagram
    bool _stopping = false;
    tun_datagram_counters _counters;
};

}  // namespace burin::relay
