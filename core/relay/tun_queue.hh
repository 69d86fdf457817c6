// One queue of the TUN device on one worker's ring: frames in, flows, frames out.
//
//   a frame -> parse -> flow table -> the flow's terminator (tun_flow.hh); a SYN makes a flow, and
//   asks the worker's live session for a channel to the SYN's destination. While there is no
//   session the SYN is held, and refused when none came in time; nothing goes anywhere else. Flows
//   whose handshake is not complete are bounded, of a host and in all (half_open.hh), and so are
//   opens that the peer has not answered: what is more is dropped, and the host sends it again.
//   Fragments are put together first. While a session is live, an echo request is carried to a
//   server that pings for us (tun_echo.hh), or else answered here in the name of its destination; a
//   protocol that cannot be carried gets an ICMP error.
//   What belongs to another worker's flow is passed on (tun_homes.hh).
//   flush(), once a turn, after the sessions': windows of what moved, then each flow's word to its
//   host, then slots go back to the kernel and the read is armed again.
//
// Reads fill slots that the kernel picks, one frame each, superframes included; payload is queued
// on its channel in the slot where it lies. When slots run short because a session does not get rid
// of what it was given, that is copied out of them: no stalled flow holds a slot.
//
// The queue owns its descriptor and its flows. It makes no system call. stop() resets every flow
// and takes back the read; it may be destroyed after on_stopped(), or when the ring will not be
// entered any more.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/relay/context.hh"
#include "core/relay/dns_steering.hh"
#include "core/relay/half_open.hh"
#include "core/relay/tun_blocks.hh"
#include "core/relay/tun_datagrams.hh"
#include "core/relay/tun_echo.hh"
#include "core/relay/tun_flow.hh"
#include "core/relay/tun_homes.hh"
#include "core/relay/tun_icmp.hh"
#include "core/relay/tun_strays.hh"
#include "core/relay/tun_writer.hh"
#include "ring/budget.hh"
#include "ring/buffer_group.hh"
#include "tun/descriptor.hh"
#include "tun/flow_table.hh"
#include "tun/fragments.hh"
#include "tun/frame.hh"
#include "tun/tcp.hh"

namespace burin::relay {

// Where flows of a queue go, and who counts them; outlives the queue.
class tun_uplink {
  public:
    virtual ~tun_uplink() = default;
    // The live session's channels; nullptr: there is no session.
    virtual ssh::connection* session() noexcept = 0;
    // CLOSE without EOF is this peer's only way to end a flow (Go up to 1.11).
    virtual bool close_means_eof() const noexcept = 0;
    // The live session's server pings destinations for its clients.
    virtual bool carries_echo() const noexcept { return false; }
    // What the next flow is called.
    virtual std::uint32_t next_number() noexcept = 0;
    virtual void on_flow_open(const tun_flow&) noexcept = 0;
    virtual void on_flow_closed(const tun_flow&) noexcept = 0;
    virtual void on_flow_refused(const tun_flow&, std::string_view why) noexcept = 0;
    // More flows would be half-open than may be: some give way, or SYNs are dropped. Not more often
    // than every ten seconds.
    virtual void on_crowd() noexcept {}
    // The server gave no channel for datagrams to `target`, or took it away.
    virtual void on_datagrams_refused(std::string_view target, std::string_view why) noexcept {
        (void)target, (void)why;
    }
    // A host's ICMP error about a segment of a flow that this queue does not have: the kernel deals
    // such messages by their addresses alone, so another queue of the device may have it. At most
    // 100 a second.
    virtual void on_stray_error(const tun::icmp_report&) noexcept {}
    // The device is gone or broken, `error` is an errno; nothing is read any more.
    virtual void on_device_lost(int error) noexcept = 0;
    // After stop(): nothing is pending.
    virtual void on_stopped() noexcept = 0;

    // ---- other workers' queues of the same device (tun_homes.hh) ----
    // This worker.
    virtual unsigned number() const noexcept { return 0; }
    // The worker that is this flow's home; tun_strays::nobody: the kernel chooses queues by itself.
    virtual unsigned home(const tun::flow_key&) const noexcept { return tun_strays::nobody; }
    // Where there are homes: the kernel gives this flow's frames to this worker's queue now.
    virtual bool comes_in_here(const tun::flow_key&) const noexcept { return true; }
    virtual bool has_session(unsigned worker) const noexcept {
        (void)worker;
        return false;
    }
    // Gives a copy of a frame (virtio header first) to the queue of worker `to`, which adopts it;
    // tun_strays::anybody: to one whose worker has a session. Returns whom, or tun_strays::nobody.
    virtual unsigned hand_over(bytes_view frame, unsigned to) noexcept {
        (void)frame, (void)to;
        return tun_strays::nobody;
    }
    // This worker carries a flow of that home; it is over. Their order is kept.
    virtual void on_adopted(const tun::flow_key& key, unsigned home) noexcept {
        (void)key, (void)home;
    }
    virtual void on_adopted_closed(const tun::flow_key& key, unsigned home) noexcept {
        (void)key, (void)home;
    }
};

struct tun_queue_settings {
    std::uint32_t most_flows = 10'000;
    // Among them. Opens that the peer has not answered may be twice as many: some are no flow's any
    // more.
    half_open_settings half_open = {};
    std::uint16_t mtu_bytes = 1500;
    ring::microseconds_t hold_time = 35 * ring::second;  // a SYN without a session
    // Bytes of one flow that may wait on this side. A megabyte is some 0.5 ms at 16 Gbit/s, more
    // than a turn; it is also what keeps a flow's superframes large: Linux sends half a window.
    std::uint32_t most_share = 1u << 20;
    // Bytes that hosts may have under way to us, all flows that move together: what waits in the
    // device is in front of everybody's next frame. 8 MiB are some 5 ms at 16 Gbit/s.
    std::uint64_t most_under_way = 8u << 20;
    bool udp_superframes = false;  // the device has them (tun/device.hh)
    tun::congestion_control congestion = tun::congestion_control::cubic;  // towards hosts
    // What a session may have waiting before windows stop being raised: two sends.
    std::uint64_t most_queued = 1u << 20;
    dns_steering dns = {};
    tun_echo_settings echo = {};
};

struct tun_queue_counters {
    std::uint64_t frames = 0, bytes = 0;                  // read, headers included
    std::uint64_t payload_frames = 0, payload_bytes = 0;  // frames with payload, all of their bytes
    std::uint64_t out_of_slots = 0, read_errors = 0;
    std::uint64_t flows = 0, held = 0;
    std::uint64_t unknown_flow = 0;  // no flow and no SYN: answered with RST
    std::uint64_t too_many_flows = 0;
    // Half-open flows that gave way for another host's, and for one of their own host's or of
    // equals; that the peer never answered; SYNs that found no place, by reason.
    std::uint64_t crowded_out = 0, replaced = 0, never_answered = 0;
    std::uint64_t too_many_half_open = 0, too_many_unanswered = 0;
    std::uint64_t time_waits_cut = 0;     // for new flows, when there are as many as may be
    std::uint64_t adopted = 0;            // frames from other workers' queues
    std::uint64_t adoption_refused = 0;   // there was no slot
    std::uint64_t slots_copied = 0;       // turns in which payload had to leave its slots
    std::uint64_t echoes_unanswered = 0;  // no session was live
    // ICMP errors of hosts: all, those about no flow or nothing under way, a smaller MTU told.
    std::uint64_t errors_heard = 0, errors_strange = 0, too_big_heard = 0;
    std::array<std::uint64_t, static_cast<std::size_t>(tun::frame_kind::kinds)> kinds{};
};

class tun_queue final : private tun::tcp_events {
  public:
    // Takes the descriptor: blocking, with a virtio header in front of every frame. Throws
    // ring::unavailable or std::bad_alloc.
    tun_queue(context&, ring::budget&, tun_uplink&, tun::descriptor, const tun_queue_settings&);
    ~tun_queue();
    tun_queue(const tun_queue&) = delete;
    tun_queue& operator=(const tun_queue&) = delete;

    // A frame that came in on another worker's queue, from worker `from`. Copied.
    void adopt(bytes_view frame, unsigned from) noexcept;
    // What on_adopted() and on_adopted_closed() of worker `by`'s queue said.
    void carried(const tun::flow_key& key, unsigned by) noexcept;
    void forget_carried(const tun::flow_key& key, unsigned by) noexcept { _homes.forget(key, by); }
    // A session is live: flows that waited for one get their channels.
    void session_ready() noexcept;
    // What another queue's host said about a flow that may be here.
    void hear(const tun::icmp_report& report) noexcept { obey(report); }
    void flush() noexcept;
    // Nothing moves in bulk: unused memory of the slots goes back to the kernel.
    void trim() noexcept { _slots.trim(); }
    // flush() has something to do at once.
    bool pending() const noexcept;
    void stop() noexcept;

    std::uint32_t flows() const noexcept { return _table.size(); }
    const half_open& half_opens() const noexcept { return _half_open; }
    const tun_queue_counters& counters() const noexcept { return _counters; }
    const tun_writer_counters& writes() const noexcept { return _writer.counters(); }
    tun::tcp_statistics& statistics() noexcept { return _tcp.statistics(); }
    const tun::tcp_statistics& statistics() const noexcept { return _tcp.statistics(); }
    // nullptr: there is nobody who carries UDP.
    const tun_datagrams* datagrams() const noexcept { return _datagrams.get(); }
    const tun_icmp& icmp() const noexcept { return _icmp; }
    const tun_echo& echo() const noexcept { return _echo; }
    const tun::fragment_store& fragments() const noexcept { return _fragments; }
    const tun_homes& homes() const noexcept { return _homes; }
    // Lines for a person, each begun with `name`.
    void report(std::string& into, std::string_view name) const;

    // ---- for its flows ----
    tun_uplink& uplink() noexcept { return _uplink; }
    ring::budget& budget() noexcept { return _budget; }
    ring::timer_wheel& timers() noexcept { return _context.timers; }
    const tun_queue_settings& settings() const noexcept { return _settings; }
    ring::microseconds_t time() const noexcept { return _context.now; }
    bool has_room() const noexcept { return _writer.has_room(); }
    // Errors that hosts are to be told.
    tun_icmp& icmp() noexcept { return _icmp; }
    // What each of the flows that move may show as its window.
    std::uint32_t fair_share() const noexcept;
    // The budget is short: flows that stand still give back of their shares what they do not use,
    // ten times a second at most. One that earned a share and met a destination that stopped
    // reading would keep it from those that move.
    void reclaim_shares() noexcept;
    // This flow moves.
    void count_mover(std::uint32_t& epoch) noexcept {
        if (epoch == _epoch) return;
        epoch = _epoch;
        ++_movers;
    }
    // The flow has something to do in the next flush.
    void note(tun_flow&) noexcept;
    // The slot of the frame that is being taken in.
    ring::buffer frame() const noexcept { return _frame.share(); }
    // Bytes that are queued on a channel without a slot: kept until the flush has copied what was
    // not sealed.
    void lend(tun::payload_slice slice) { _lent.push_back(std::move(slice)); }
    tun::payload_slice slice(bytes_view bytes, const ring::buffer& block) noexcept {
        return _blocks.slice(bytes, block);
    }
    // It is in TIME_WAIT.
    void linger(tun_flow&) noexcept;
    // The peer has not answered its open for so long that nobody waits any more.
    void expire(tun_flow&) noexcept;
    void bury(tun_flow&) noexcept;

  private:
    // ---- tcp_events ----
    bool emit(tun::tcp_flow&, const tun::tcp_frame&) noexcept override;
    void deliver(tun::tcp_flow&, bytes_view, tun::payload_holder*) noexcept override;
    void finished(tun::tcp_flow&) noexcept override;
    void acked(tun::tcp_flow&, std::uint32_t) noexcept override;
    void arm(tun::tcp_flow&, tun::time_us) noexcept override;
    void established(tun::tcp_flow&) noexcept override;
    void lingers(tun::tcp_flow&) noexcept override;
    void closed(tun::tcp_flow&, tun::tcp_close) noexcept override;

    void on_read(ring::completion) noexcept;
    void on_cancelled(ring::completion) noexcept;
    void on_pause_over(ring::microseconds_t) noexcept {}  // the flush that follows arms the read
    void take(bytes_view frame, unsigned from) noexcept;
    void hand_on(tun::frame_kind, const tun::parsed_frame&) noexcept;
    void take_tcp(const tun::parsed_frame&) noexcept;
    void take_udp(const tun::parsed_frame&) noexcept;
    void take_icmp(const tun::parsed_frame&) noexcept;
    void take_fragment(const tun::parsed_frame&) noexcept;
    // False: the flow is not here.
    bool obey(const tun::icmp_report&) noexcept;
    void on_fragments_late(ring::microseconds_t) noexcept;
    // `before`: a flow in TIME_WAIT whose place the SYN takes.
    void open(const tun::parsed_frame& syn, const tun_flow* before) noexcept;
    // False: the SYN has to be dropped.
    bool make_room(const tun::flow_key&) noexcept;
    void tell_crowd() noexcept;
    void end_time_wait(tun_flow&) noexcept;
    void forget(tun_flow&) noexcept;
    void flush_work() noexcept;
    void free_slots() noexcept;
    void free_dead() noexcept;
    bool quiet() const noexcept;

    context& _context;
    ring::budget& _budget;
    tun_uplink& _uplink;
    tun_queue_settings _settings;
    tun::descriptor _descriptor;
    ring::buffer_group _slots;
    ring::buffer _frame;  // while it is taken in
    tun_homes _homes;
    tun_blocks _blocks;
    tun_writer _writer;
    tun_icmp _icmp;
    tun_echo _echo;
    tun::fragment_store _fragments;
    tun::token_bucket _stray_errors{100, 20};
    ring::member_timer<&tun_queue::on_fragments_late> _fragments_late{this};
    std::unique_ptr<tun_datagrams> _datagrams;
    tun::tcp_context _tcp;
    tun::flow_table _table;
    half_open _half_open;
    // Flows in TIME_WAIT by index, the oldest first.
    std::uint32_t _first_time_wait = half_open::none, _last_time_wait = half_open::none;
    ring::microseconds_t _crowd_told = 0;
    std::vector<tun_flow*> _flows;  // by index
    std::vector<std::uint32_t> _free_indices;
    std::vector<tun_flow*> _dead;
    std::vector<tun::payload_slice> _lent;
    tun_flow* _work = nullptr;  // flows with something to do, in the order they were noted
    tun_flow** _work_end = &_work;
    std::uint32_t _work_count = 0;
    std::uint32_t _epoch = 1;  // a stretch of time in which flows that move are counted
    std::uint32_t _movers = 0, _movers_before = 0;
    ring::microseconds_t _epoch_end = 0;
    ring::microseconds_t _reclaim_due = 0;
    ring::member_op<&tun_queue::on_read> _read{this};
    ring::member_op<&tun_queue::on_cancelled> _cancel{this};
    ring::member_timer<&tun_queue::on_pause_over> _pause{this};  // before the next read
    tun_queue_counters _counters;
    bool _lost = false, _stopping = false, _stopped = false;
};

}  // namespace burin::relay
