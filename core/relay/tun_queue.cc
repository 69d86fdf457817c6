#include "core/relay/tun_queue.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/relay/random_key.hh"
#include "crypto/random.hh"
#include "ring/shortage.hh"

namespace burin::relay {

namespace {

// A slot takes the largest frame; 64 of them are two turns of bulk. One more page keeps neighbours'
// headers off the same cache sets. Some are kept for what other workers' queues pass on.
constexpr ring::buffer_group::shape slot_shape{.id = 3,
                                               .bytes = 68 * 1024,
                                               .headroom = 0,
                                               .count = 128,
                                               .offered = 16,
                                               .chunk = 16,
                                               .kept = 16};
static_assert(slot_shape.bytes >= tun::max_frame_bytes);

// Flows that moved within this time share what may be under way.
constexpr ring::microseconds_t epoch_time = 50 * ring::millisecond;
// A kernel that is short of something for a read is asked again after this.
constexpr ring::microseconds_t shortage_pause = 10 * ring::millisecond;
constexpr ring::microseconds_t crowd_interval = 10 * ring::second;
// Less would be single segments instead of superframes.
constexpr std::uint32_t least_fair_share = 16 * 1024;

std::uint32_t random_id() {
    std::uint32_t id;
    crypto::fill_random(std::as_writable_bytes(std::span(&id, 1)));
    return id;
}

tun_flow& owner(tun::tcp_flow& f) noexcept {
    return *static_cast<tun_flow*>(f.owner());
}

}  // namespace

tun_queue::tun_queue(context& c, ring::budget& budget, tun_uplink& uplink,
                     tun::descriptor descriptor, const tun_queue_settings& settings)
    : _context(c),
      _budget(budget),
      _uplink(uplink),
      _settings(settings),
      _descriptor(std::move(descriptor)),
      _slots(c.ring, slot_shape),
      _homes(uplink, settings.most_flows + tun_datagram_settings{}.most_flows),
      _writer(c.ring, _descriptor.number()),
      _icmp(_writer, _blocks, settings.mtu_bytes, random_id()),
      _echo(c, uplink, _icmp, settings.echo),
      _tcp(*this,
           {.mtu = settings.mtu_bytes, .congestion = settings.congestion, .isn_key = random_key()}),
      _table(random_key(), settings.most_flows),
      _half_open(random_key(), settings.half_open) {
    if (c.datagrams != nullptr)
        _datagrams = std::make_unique<tun_datagrams>(
            c, *c.datagrams, _uplink, _homes, _writer, _blocks, _icmp,
            tun_datagram_settings{.mtu_bytes = settings.mtu_bytes,
                                  .superframes = settings.udp_superframes,
                                  .most_targets = std::max(1u, settings.most_flows / 4),
                                  .dns = settings.dns});
    _context.ring.read_frames(_read, _descriptor.number(), _slots.id());
}

tun_queue::~tun_queue() {
    free_dead();
    for (tun_flow* f : _flows) delete f;
}

// ---- frames in ----

void tun_queue::on_read(ring::completion c) noexcept {
    ring::buffer slot;
    if (c.has_buffer()) slot = _slots.take(c);
    if (_stopping) return;
    if (c.result > 0) {
        _frame = std::move(slot);
        take({_frame.data(), static_cast<std::size_t>(c.result)}, tun_strays::nobody);
        _frame.reset();
    } else if (c.result == -ENOBUFS) {
        ++_counters.out_of_slots;
        _slots.ran_out();
    } else if (ring::shortage(c) || c.result == -ECANCELED) {
        ++_counters.read_errors;
        timers().arm(_pause, time() + shortage_pause);
    } else if (c.result != -EAGAIN && c.result != -EINTR && !_lost) {
        ++_counters.read_errors;
        _lost = true;
        _uplink.on_device_lost(c.result == 0 ? EIO : -c.result);
    }
}

void tun_queue::take(bytes_view frame, unsigned from) noexcept {
    ++_counters.frames;
    _counters.bytes += frame.size();
    _homes.begin(frame, from);
    tun::parsed_frame parsed;
    const tun::frame_kind kind = tun::parse_frame(frame, parsed);
    ++_counters.kinds[static_cast<std::size_t>(kind)];
    if (kind == tun::frame_kind::fragment) return take_fragment(parsed);
    hand_on(kind, parsed);
}

void tun_queue::hand_on(tun::frame_kind kind, const tun::parsed_frame& frame) noexcept {
    switch (kind) {
        case tun::frame_kind::tcp:
            if (!frame.payload.empty()) {
                ++_counters.payload_frames;
                _counters.payload_bytes += frame.packet.size();
            }
            return take_tcp(frame);
        case tun::frame_kind::udp: return take_udp(frame);
        case tun::frame_kind::icmp: return take_icmp(frame);
        case tun::frame_kind::other_protocol:
            return _icmp.tell(frame, tun::icmp_error::protocol_unreachable, 0, _frame, time());
        default: return;  // counted, and dropped
    }
}

void tun_queue::take_tcp(const tun::parsed_frame& frame) noexcept {
    const std::uint32_t index = _table.find(frame.key);
    if (index != tun::flow_table::none) {
        tun_flow& f = *_flows[index];
        if (f.tcp().on_segment(frame, time()) == tun::tcp_flow::segment_outcome::reopen)
            open(frame, &f);
        return;
    }
    if (_homes.judge_segment(frame) != tun_homes::verdict::ours) return;
    const auto kind = frame.flags & (tun::tcp_syn | tun::tcp_ack | tun::tcp_rst | tun::tcp_fin);
    if (kind == tun::tcp_syn) return open(frame, nullptr);
    ++_counters.unknown_flow;
    tun::header_buffer header;
    if (tun::write_reset(header, frame)) _writer.write(header.bytes(), {});
}

void tun_queue::take_udp(const tun::parsed_frame& frame) noexcept {
    if (tun::is_trace_probe(frame) && _uplink.session() != nullptr)
        return _icmp.tell(frame, tun::icmp_error::port_unreachable, 0, _frame, time());
    if (_datagrams == nullptr) return;
    if (_homes.judge_datagram(frame.key, *_datagrams) == tun_homes::verdict::ours)
        _datagrams->take(frame, _frame);
}

void tun_queue::adopt(bytes_view frame, unsigned from) noexcept {
    if (_stopping || frame.size() > _slots.bytes()) return;
    _frame = _slots.borrow();
    if (!_frame) {
        ++_counters.adoption_refused;
        return;
    }
    ++_counters.adopted;
    std::memcpy(_frame.data(), frame.data(), frame.size());
    take({_frame.data(), frame.size()}, from);
    _frame.reset();
}

void tun_queue::carried(const tun::flow_key& key, unsigned by) noexcept {
    // The host began it anew while this worker had no session: what there still is here waits for
    // one, or is left of one that was lost.
    const std::uint32_t index = _table.find(key);
    if (index != tun::flow_table::none && !_flows[index]->yield()) return;
    _homes.carried(key, by);
}

void tun_queue::open(const tun::parsed_frame& syn, const tun_flow* before) noexcept {
    const bool room = make_room(syn.key);  // first: it may bury flows
    std::uint32_t index = static_cast<std::uint32_t>(_flows.size());
    if (!_free_indices.empty()) index = _free_indices.back();
    if (!room || _table.insert(syn.key, index) != tun::flow_table::outcome::inserted) {
        if (room) ++_counters.too_many_flows;  // no memory
        return;                                // the host tries again
    }
    auto* f = new tun_flow(*this, _tcp, syn, index, _uplink.next_number(), time());
    if (index == _flows.size()) {
        _flows.push_back(f);
    } else {
        _free_indices.pop_back();
        _flows[index] = f;
    }
    if (before != nullptr) f->tcp().succeed(before->tcp());
    ++_counters.flows;
    _homes.opened(syn.key);
    _half_open.insert(index, syn.key, time());
    if (ssh::connection* session = _uplink.session()) return f->open(*session);
    ++_counters.held;
    f->wait(time() + _settings.hold_time);
}

bool tun_queue::make_room(const tun::flow_key& key) noexcept {
    ssh::connection* session = _uplink.session();
    if (session != nullptr && session->unanswered() >= 2 * _settings.half_open.most) {
        ++_counters.too_many_unanswered;
        tell_crowd();
        return false;
    }
    bool full = _table.size() >= _settings.most_flows;
    if (full && _first_time_wait != half_open::none) {
        ++_counters.time_waits_cut;
        _flows[_first_time_wait]->give_way();
        full = false;
    }
    half_open::answer a = _half_open.admit(key, time(), full);
    if (a.what == half_open::outcome::room) return true;
    tell_crowd();
    tun_flow* loser = a.loser == half_open::none ? nullptr : _flows[a.loser];
    // Where an open cannot be taken back, its place is gone until the peer answers: only a host
    // that has more than its share is worth that.
    if (a.what == half_open::outcome::replaces && session != nullptr && loser->asked() &&
        !session->takes_opens_back())
        a.what = half_open::outcome::refused;
    switch (a.what) {
        case half_open::outcome::crowded: ++_counters.crowded_out; break;
        case half_open::outcome::replaces: ++_counters.replaced; break;
        default: ++(full ? _counters.too_many_flows : _counters.too_many_half_open); return false;
    }
    loser->give_way();
    return true;
}

void tun_queue::tell_crowd() noexcept {
    if (_crowd_told != 0 && time() - _crowd_told < crowd_interval) return;
    _crowd_told = time();
    _uplink.on_crowd();
}

void tun_queue::session_ready() noexcept {
    _echo.session_ready();
    for (std::size_t i = 0; i < _flows.size(); ++i) {
        if (_flows[i] == nullptr || !_flows[i]->waiting()) continue;
        ssh::connection* session = _uplink.session();  // may end with any of these
        if (session == nullptr) return;
        _flows[i]->open(*session);
    }
}

// ---- fragments, and ICMP ----

void tun_queue::take_fragment(const tun::parsed_frame& part) noexcept {
    const bool whole = _fragments.add(part, time());
    if (whole) {
        // The slot of the last part has room for all of it.
        const bytes_view frame = _fragments.take({_frame.data(), _slots.bytes()});
        _homes.replace(frame);
        tun::parsed_frame parsed;
        const tun::frame_kind kind = tun::parse_frame(frame, parsed);
        ++_counters.kinds[static_cast<std::size_t>(kind)];
        // Fragments carry no ports, so another queue may have the flow. Where nobody can say which,
        // there is no reset for that.
        if (kind == tun::frame_kind::tcp && !_homes.steered(parsed.key) &&
            _table.find(parsed.key) == tun::flow_table::none) {
            ++_counters.unknown_flow;
        } else {
            hand_on(kind, parsed);  // a fragment inside a fragment is nobody's
        }
    }
    if (!_fragments_late.armed() && _fragments.deadline() != tun::never_us)
        timers().arm(_fragments_late, _fragments.deadline());
}

void tun_queue::on_fragments_late(ring::microseconds_t now) noexcept {
    // More than an error may quote.
    std::array<std::byte, 1536> space;
    bytes_view first;
    while (_fragments.expire(now, space, first)) {
        if (first.empty() || _stopping) continue;
        tun::parsed_frame cause;
        tun::parse_frame(first, cause);
        _icmp.tell(cause, tun::icmp_error::reassembly_exceeded, 0, {}, now);
    }
    if (_fragments.deadline() != tun::never_us)
        timers().arm(_fragments_late, _fragments.deadline());
}

void tun_queue::take_icmp(const tun::parsed_frame& frame) noexcept {
    if (tun::is_echo_request(frame)) {
        if (_uplink.session() != nullptr) {
            if (!_echo.take(frame)) _icmp.answer_echo(frame, _frame, time());
            return;
        }
        if (_homes.judge_echo() != tun_homes::verdict::ours) return;
        ++_counters.echoes_unanswered;
        return;
    }
    tun::icmp_report report;
    if (!tun::read_icmp_error(frame, report)) return;
    ++_counters.errors_heard;
    if (obey(report)) return;
    ++_counters.errors_strange;
    const bool matters = report.has_seq && report.what != tun::icmp_report::kind::soft;
    if (matters && _stray_errors.take(time())) _uplink.on_stray_error(report);
}

bool tun_queue::obey(const tun::icmp_report& report) noexcept {
    const std::uint32_t index = _table.find(report.key);
    if (index == tun::flow_table::none || !report.has_seq) return false;
    if (!_flows[index]->tcp().is_in_flight(report.seq)) {
        ++_counters.errors_strange;
        return true;
    }
    tun_flow& f = *_flows[index];
    switch (report.what) {
        case tun::icmp_report::kind::too_big:
            ++_counters.too_big_heard;
            f.tcp().on_packet_too_big(report.mtu);
            break;
        case tun::icmp_report::kind::hard:
            // An open connection outlives what anybody can forge (RFC 5927 section 5.2); one that
            // was not yet is refused (RFC 1122 section 4.2.3.9).
            if (f.tcp().state() == tun::tcp_state::syn_received) f.reset();
            break;
        case tun::icmp_report::kind::soft: break;
    }
    return true;
}

// ---- what terminators say ----

bool tun_queue::emit(tun::tcp_flow&, const tun::tcp_frame& frame) noexcept {
    return _writer.write(frame.header, frame.payload);
}
void tun_queue::deliver(tun::tcp_flow& f, bytes_view bytes, tun::payload_holder* h) noexcept {
    owner(f).deliver(bytes, h);
}
void tun_queue::finished(tun::tcp_flow& f) noexcept {
    owner(f).finished();
}
void tun_queue::acked(tun::tcp_flow& f, std::uint32_t bytes) noexcept {
    owner(f).acked(bytes);
}
void tun_queue::arm(tun::tcp_flow& f, tun::time_us deadline) noexcept {
    owner(f).arm(deadline);
}
void tun_queue::established(tun::tcp_flow& f) noexcept {
    _half_open.remove(owner(f).index());
}
void tun_queue::lingers(tun::tcp_flow& f) noexcept {
    owner(f).lingers();
}
void tun_queue::closed(tun::tcp_flow& f, tun::tcp_close reason) noexcept {
    owner(f).closed(reason);
}

// ---- flush ----

void tun_queue::note(tun_flow& f) noexcept {
    if (f._back != nullptr) return;
    f._next = nullptr;
    f._back = _work_end;
    *_work_end = &f;
    _work_end = &f._next;
    ++_work_count;
}

void tun_queue::forget(tun_flow& f) noexcept {
    if (f._back == nullptr) return;
    *f._back = f._next;
    (f._next == nullptr ? _work_end : f._next->_back) = f._back;
    f._back = nullptr;
    f._next = nullptr;
    --_work_count;
}

void tun_queue::linger(tun_flow& f) noexcept {
    f._lingering = true;
    f._time_wait_before = _last_time_wait;
    f._time_wait_next = half_open::none;
    (_last_time_wait == half_open::none ? _first_time_wait
                                        : _flows[_last_time_wait]->_time_wait_next) = f.index();
    _last_time_wait = f.index();
}

void tun_queue::end_time_wait(tun_flow& f) noexcept {
    if (!std::exchange(f._lingering, false)) return;
    const std::uint32_t before = f._time_wait_before, next = f._time_wait_next;
    (before == half_open::none ? _first_time_wait : _flows[before]->_time_wait_next) = next;
    (next == half_open::none ? _last_time_wait : _flows[next]->_time_wait_before) = before;
}

void tun_queue::expire(tun_flow& f) noexcept {
    ++_counters.never_answered;
    f.give_way();
}

void tun_queue::bury(tun_flow& f) noexcept {
    forget(f);
    _half_open.remove(f.index());
    end_time_wait(f);
    _table.erase(f.tcp().key());
    _homes.over(f.tcp().key());
    _dead.push_back(&f);
}

void tun_queue::flush_work() noexcept {
    // Whoever is noted meanwhile, or wants to wait, has its turn in the next flush.
    for (std::uint32_t left = _work_count; left > 0 && _work != nullptr; --left) {
        tun_flow& f = *_work;
        forget(f);
        if (f.work()) note(f);
    }
}

std::uint32_t tun_queue::fair_share() const noexcept {
    const std::uint32_t movers = std::max({_movers, _movers_before, 1u});
    return static_cast<std::uint32_t>(
        std::clamp<std::uint64_t>(_settings.most_under_way / movers, least_fair_share, ~0u));
}

void tun_queue::reclaim_shares() noexcept {
    if (time() < _reclaim_due) return;
    _reclaim_due = time() + 2 * epoch_time;
    for (tun_flow* f : _flows)
        if (f != nullptr && _epoch - f->_counted > 1) f->give_back_unused();
}

void tun_queue::flush() noexcept {
    if (_context.now >= _epoch_end) {
        _epoch_end = _context.now + epoch_time;
        _movers_before = std::exchange(_movers, 0);
        ++_epoch;
    }
    flush_work();
    _tcp.flush(_context.now);
    if (_datagrams != nullptr) _datagrams->flush();
    free_slots();
    _blocks.end_turn();
    free_dead();
    _slots.offer();
    if (!_read.in_flight && !_stopping && !_lost && !_pause.armed()) {
        if (_slots.offered() > 0)
            _context.ring.read_frames(_read, _descriptor.number(), _slots.id());
        else if (_slots.held() == 0)  // no memory for a first one; else one comes back in a turn
            timers().arm(_pause, time() + shortage_pause);
    }
    if (_stopping && !_stopped && quiet()) {
        _stopped = true;
        _uplink.on_stopped();
    }
}

bool tun_queue::pending() const noexcept {
    return _tcp.pending() && _writer.has_room();
}

void tun_queue::free_slots() noexcept {
    if (_lent.empty() && _slots.held() <= _slots.count() / 2) return;
    if (_slots.held() > 0) ++_counters.slots_copied;
    // Without a live session nothing is queued.
    if (ssh::connection* session = _uplink.session()) session->own_queued();
    _lent.clear();
}

void tun_queue::free_dead() noexcept {
    for (tun_flow* f : _dead) {
        _flows[f->index()] = nullptr;
        _free_indices.push_back(f->index());
        delete f;
    }
    _dead.clear();
}

// ---- the end ----

void tun_queue::stop() noexcept {
    if (_stopping) return;
    _stopping = true;
    for (tun_flow* f : _flows)
        if (f != nullptr) f->reset();
    if (_datagrams != nullptr) _datagrams->stop();
    _echo.stop();
    _pause.disarm();
    if (_read.in_flight) _context.ring.cancel(_cancel, _read);
}

void tun_queue::on_cancelled(ring::completion) noexcept {
    // A multishot read may have been between two of its completions.
    if (_read.in_flight) _context.ring.cancel(_cancel, _read);
}

bool tun_queue::quiet() const noexcept {
    return !_read.in_flight && !_cancel.in_flight && _writer.in_flight() == 0 && _table.size() == 0;
}

// ---- reports ----

void tun_queue::report(std::string& into, std::string_view name) const {
    auto mean = [](std::uint64_t bytes, std::uint64_t times) {
        return times == 0 ? 0 : bytes / times;
    };
    const tun_queue_counters& in = _counters;
    const tun_writer_counters& out = _writer.counters();
    into += fmt::format(
        "{}: read: frames={} bytes={} with-payload={} mean={} no-slot={} slots={}/{} "
        "slots-copied={}\n",
        name, in.frames, in.bytes, in.payload_frames, mean(in.payload_bytes, in.payload_frames),
        in.out_of_slots, _slots.held(), _slots.count(), in.slots_copied);
    into += fmt::format(
        "{}: write: frames={} bytes={} with-payload={} mean={} in-flight={} no-room={} errors={} "
        "held-blocks={} copied-bytes={}\n",
        name, out.frames, out.bytes, out.payload_frames,
        mean(out.payload_bytes, out.payload_frames), _writer.in_flight(), out.no_room, out.errors,
        _blocks.held(), tun::copied_payload_bytes());
    tun::tcp_statistics tcp = const_cast<tun::tcp_context&>(_tcp).statistics();
    into += fmt::format(
        "{}: tcp: flows={} opened={} held={} segments-in={} acks-out={} retransmitted={} "
        "timeouts={} fast-retransmits={} tail-probes={} spurious={} probes={} keepalives={} "
        "paced-waits={} ecn={} duplicates={} out-of-order={} resets-in={} "
        "resets-out={} challenges={} bad-acks={}\n",
        name, _table.size(), in.flows, in.held, tcp.segments_in, tcp.acks_out,
        tcp.retransmitted_bytes, tcp.timeouts, tcp.fast_retransmits, tcp.tail_probes,
        tcp.spurious_repairs, tcp.window_probes, tcp.keepalive_probes, tcp.paced_waits,
        tcp.ecn_reductions, tcp.duplicate_segments, tcp.out_of_order_segments, tcp.resets_in,
        tcp.resets_out, tcp.challenge_acks, tcp.bad_acks);
    const tun::icmp_counters& icmp = _icmp.counters();
    into += fmt::format(
        "{}: icmp: echo-replies={} echoes-unanswered={} errors-sent={} limited={} unanswerable={} "
        "errors-heard={} strange={} too-big={}\n",
        name, icmp.echo_replies, in.echoes_unanswered, icmp.errors, icmp.limited, icmp.unanswerable,
        in.errors_heard, in.errors_strange, in.too_big_heard);
    _echo.report(into, name);
    const tun::fragment_counters& parts = _fragments.counters();
    into += fmt::format(
        "{}: fragments: taken={} reassembled={} waiting={} bytes={} repeated={} overlapping={} "
        "malformed={} evicted={} refused={} timed-out={}\n",
        name, parts.fragments, parts.reassembled, _fragments.datagrams(), _fragments.bytes(),
        parts.repeated, parts.overlapping, parts.malformed, parts.evicted, parts.refused,
        parts.timed_out);
    const tun_strays& strays = _homes.strays();
    into += fmt::format(
        "{}: strays: handed-over={} adopted={} refused={} undeliverable={} passed={} carried={}\n",
        name, _homes.handed_over(), in.adopted, in.adoption_refused, _homes.undeliverable(),
        strays.passed(), strays.adopted());
    into += fmt::format(
        "{}: half-open: flows={}/{} hosts={} crowded-out={} replaced={} never-answered={} "
        "too-many={} too-many-unanswered={} time-waits-cut={}\n",
        name, _half_open.size(), _settings.half_open.most, _half_open.hosts(), in.crowded_out,
        in.replaced, in.never_answered, in.too_many_half_open, in.too_many_unanswered,
        in.time_waits_cut);
    into += fmt::format("{}: dropped: unknown-flow={} too-many-flows={} reassembly={}", name,
                        in.unknown_flow, in.too_many_flows, tcp.reassembly_refused);
    for (std::size_t number = 1; number < in.kinds.size(); ++number) {
        const auto kind = static_cast<tun::frame_kind>(number);
        if (kind == tun::frame_kind::icmp || kind == tun::frame_kind::fragment) continue;
        if (in.kinds[number] > 0) into += fmt::format(" {}={}", to_text(kind), in.kinds[number]);
    }
    into += "\n";
    if (_datagrams != nullptr) _datagrams->report(into, name);
    for (const tun_flow* f : _flows)
        if (f != nullptr) into += fmt::format("{}: {}\n", name, f->describe());
}

}  // namespace burin::relay
