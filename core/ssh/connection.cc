// How a channel ends, because every rule of docs/wire.md section 8.6 meets here:
//   our EOF follows the last queued byte; our CLOSE follows EOF, or comes at once when the flow is
//   aborted; a CLOSE of the peer is answered with one CLOSE; after our CLOSE nothing more is sent
//   on that id; the id is free when both were seen.
#include "core/ssh/connection.hh"

#include <algorithm>
#include <functional>

namespace burin::ssh {

namespace {
// A channel's turn in the round robin: two full packets.
inline constexpr std::uint32_t quantum_bytes = 2 * max_payload_bytes;
// A flow earns a larger window after this many windows' worth of bytes.
inline constexpr std::uint32_t windows_before_growth = 4;
}  // namespace

connection::connection(transport& t, connection_events& events, ring::budget& budget,
                       piece_pool& pieces, const connection_limits& limits)
    : _transport(t), _events(events), _budget(budget), _pieces(pieces), _limits(limits) {}

connection::~connection() {
    lose();
}

// ---- the table ----

channel* connection::make(channel_state state) noexcept {
    if (_count >= _limits.max_channels) return nullptr;
    std::uint32_t window = _budget.open(_limits.window_max);
    if (window == 0) return nullptr;
    auto* c = new channel;
    c->state = state;
    c->window = c->receive_left = window;
    if (_free_ids.empty()) {
        c->local = static_cast<std::uint32_t>(_table.size());
        _table.push_back(c);
    } else {
        std::pop_heap(_free_ids.begin(), _free_ids.end(), std::greater<>());
        c->local = _free_ids.back();
        _free_ids.pop_back();
        _table[c->local] = c;
    }
    ++_count;
    return c;
}

void connection::free(channel& c) noexcept {
    // Out of the three lists; they are short and this is not the data path.
    auto unlink = [&c](channel*& first, channel* channel::* next) {
        for (channel** at = &first; *at != nullptr; at = &((*at)->*next))
            if (*at == &c) {
                *at = c.*next;
                return;
            }
    };
    if (c.ready) {
        unlink(_ready_first, &channel::next_ready);
        _ready_last = _ready_first;
        while (_ready_last != nullptr && _ready_last->next_ready != nullptr)
            _ready_last = _ready_last->next_ready;
    }
    if (c.owes) unlink(_adjust_first, &channel::next_adjust);
    if (c.waiting) unlink(_waiting_first, &channel::next_waiting);
    _queued_bytes -= c.queue.bytes();
    c.queue.clear(_pieces);
    _budget.close(c.window);
    _table[c.local] = nullptr;
    _free_ids.push_back(c.local);
    std::push_heap(_free_ids.begin(), _free_ids.end(), std::greater<>());
    --_count;
    delete &c;
}

channel* connection::find(std::uint32_t id) noexcept {
    if (id < _table.size() && _table[id] != nullptr) return _table[id];
    violation("message for a channel that is not open");
    return nullptr;
}

void connection::violation(std::string_view rule) noexcept {
    if (_failed) return;
    _failed = true;
    _events.on_violation(rule);
}

void connection::queue(const byte_vector& message) noexcept {
    _transport.send(message);
}

// ---- messages in ----

void connection::receive(bytes_span payload, const ring::buffer& holder) noexcept {
    if (_failed) return;
    switch (number_of(payload)) {
        case message::channel_data: on_data(payload, holder); break;
        case message::channel_window_adjust: on_adjust(payload); break;
        case message::channel_open: on_open(payload); break;
        case message::channel_open_confirmation: on_confirmation(payload); break;
        case message::channel_open_failure: on_open_failure(payload); break;
        case message::channel_eof: on_eof(payload); break;
        case message::channel_close: on_close(payload); break;
        case message::channel_request: on_channel_request(payload); break;
        case message::channel_extended_data: on_extended_data(payload); break;
        case message::channel_success:
        case message::channel_failure: break;  // we ask nothing of channels
        case message::global_request: {
            global_request request;
            if (!parse(payload, request)) return violation("malformed global request");
            _events.on_global_request(request);
            break;
        }
        case message::request_success:
        case message::request_failure:
            _events.on_request_reply(number_of(payload) == message::request_success,
                                     payload.subspan(1));
            break;
        default: _transport.refuse_unknown(); break;
    }
}

void connection::on_data(bytes_span payload, const ring::buffer& holder) noexcept {
    if (payload.size() < data_header_bytes) return violation("malformed channel data");
    std::uint32_t id = load_u32(payload.data() + 1), size = load_u32(payload.data() + 5);
    if (size != payload.size() - data_header_bytes)
        return violation("channel data whose length disagrees with its packet");
    channel* c = find(id);
    if (c == nullptr) return;
    if (c->state == channel_state::opening || c->state == channel_state::asked)
        return violation("data on a channel that is not open");
    if (c->eof_received) return violation("data after EOF");
    if (size > max_payload_bytes) return violation("incoming packet exceeds maximum payload size");
    if (size > c->receive_left) return violation("remote side wrote too much");
    if (size == 0) return;
    c->receive_left -= size;
    c->bytes_received += size;
    c->since_growth += size;
    if (c->end == nullptr) {  // closing: nobody takes it; the window dies with the channel
        _counters.dropped_bytes += size;
        return;
    }
    c->end->on_data(payload.subspan(data_header_bytes), holder);
}

void connection::on_extended_data(bytes_view payload) noexcept {
    channel_extended_data message;
    if (!parse(payload, message)) return violation("malformed extended data");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    auto size = static_cast<std::uint32_t>(message.data.size());
    if (size > max_payload_bytes) return violation("incoming packet exceeds maximum payload size");
    if (size > c->receive_left) return violation("remote side wrote too much");
    c->receive_left -= size;
    _counters.dropped_bytes += size;
    consumed(*c, size);  // no stream of ours takes it: dropped, its window given back
}

void connection::on_open(bytes_view payload) noexcept {
    channel_open open;
    if (!parse(payload, open)) return violation("malformed channel open");
    channel* c = nullptr;
    open_failure_reason reason = open_failure_reason::shortage;
    std::string_view text = "too many channels";
    if (open.max_packet < 9 || open.max_packet > 0x80000000u) {
        reason = open_failure_reason::connect_failed;
        text = "invalid request";
    } else {
        c = make(channel_state::asked);
    }
    if (c == nullptr) {
        ++_counters.channels_refused;
        channel_open_failure failure{open.sender, reason, text};
        _scratch.clear();
        build(_scratch, failure);
        return queue(_scratch);
    }
    c->remote = open.sender;
    c->send_credit = open.window;
    c->max_packet = std::min(open.max_packet, max_payload_bytes);
    _events.on_open(*c, open);
}

void connection::on_confirmation(bytes_view payload) noexcept {
    channel_open_confirmation message;
    if (!parse(payload, message)) return violation("malformed channel confirmation");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    if (c->state == channel_state::closing &&
        c->remote == ~0u) {  // we gave up while it was opening
        c->remote = message.sender;
        _scratch.clear();
        build_close(_scratch, c->remote);
        return queue(_scratch);
    }
    if (c->state != channel_state::opening) return violation("unexpected channel confirmation");
    if (message.max_packet < 9 || message.max_packet > 0x80000000u)
        return violation("channel confirmation with an invalid maximum packet");
    c->remote = message.sender;
    c->send_credit = message.window;
    c->max_packet = std::min(message.max_packet, max_payload_bytes);
    c->state = channel_state::open;
    ++_counters.channels_opened;
    c->end->on_confirmed();
}

void connection::on_open_failure(bytes_view payload) noexcept {
    channel_open_failure message;
    if (!parse(payload, message)) return violation("malformed channel failure");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    bool given_up = c->state == channel_state::closing && c->remote == ~0u;
    if (c->state != channel_state::opening && !given_up)
        return violation("unexpected channel failure");
    ++_counters.channels_refused;
    channel_end* end = c->end;
    c->end = nullptr;
    free(*c);
    if (end != nullptr) end->on_refused(message.reason, message.text);
}

void connection::on_adjust(bytes_view payload) noexcept {
    channel_window_adjust message;
    if (!parse(payload, message)) return violation("malformed window adjust");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    if (c->state == channel_state::opening || c->state == channel_state::asked)
        return violation("window adjust on a channel that is not open");
    if (message.bytes > ~c->send_credit) return violation("window adjust beyond 2^32-1");
    c->send_credit += message.bytes;
    c->stalled = 0;
    if (c->state != channel_state::open) return;
    if (!c->queue.empty())
        mark_ready(*c);
    else
        want_more(*c);
}

void connection::on_eof(bytes_view payload) noexcept {
    std::uint32_t id;
    if (!parse_recipient(payload, id)) return violation("malformed EOF");
    channel* c = find(id);
    if (c == nullptr) return;
    if (c->state == channel_state::opening || c->state == channel_state::asked)
        return violation("EOF on a channel that is not open");
    if (c->eof_received) return;
    c->eof_received = true;
    _peer_sends_eof = true;
    if (c->end != nullptr) c->end->on_eof();
}

void connection::on_close(bytes_view payload) noexcept {
    std::uint32_t id;
    if (!parse_recipient(payload, id)) return violation("malformed CLOSE");
    channel* c = find(id);
    if (c == nullptr) return;
    if (c->state == channel_state::opening || c->state == channel_state::asked)
        return violation("CLOSE on a channel that is not open");
    channel_end* end = c->end;
    c->end = nullptr;
    if (c->state != channel_state::closing) {
        _scratch.clear();
        build_close(_scratch, c->remote);
        queue(_scratch);
    }
    bool complete = c->eof_received;
    free(*c);
    if (end != nullptr) end->on_closed(complete ? close_cause::finished : close_cause::cut_off);
}

void connection::on_channel_request(bytes_view payload) noexcept {
    channel_request request;
    if (!parse(payload, request)) return violation("malformed channel request");
    if (!request.want_reply) return;
    // The one message that may name a channel already gone (docs/wire.md section 8.6).
    std::uint32_t id = request.recipient;
    if (id >= _table.size() || _table[id] == nullptr) return;
    channel* c = _table[id];
    if (c->state != channel_state::open) return;
    _scratch.clear();
    build_channel_failure(_scratch, c->remote);
    queue(_scratch);
}

// ---- opening ----

channel* connection::open(channel_end& end, std::string_view type, bytes_view extra) noexcept {
    channel* c = make(channel_state::opening);
    if (c == nullptr) return nullptr;
    c->end = &end;
    c->remote = ~0u;
    channel_open message;
    message.type = type;
    message.sender = c->local;
    message.window = c->receive_left;
    message.max_packet = max_payload_bytes;
    message.rest = extra;
    _scratch.clear();
    build(_scratch, message);
    queue(_scratch);
    return c;
}

void connection::accept(channel& c, channel_end& end) noexcept {
    c.end = &end;
    c.state = channel_state::open;
    ++_counters.channels_opened;
    channel_open_confirmation message;
    message.recipient = c.remote;
    message.sender = c.local;
    message.window = c.receive_left;
    message.max_packet = max_payload_bytes;
    _scratch.clear();
    build(_scratch, message);
    queue(_scratch);
    want_more(c);
}

void connection::refuse(channel& c, open_failure_reason reason, std::string_view text) noexcept {
    ++_counters.channels_refused;
    channel_open_failure message{c.remote, reason, text};
    _scratch.clear();
    build(_scratch, message);
    queue(_scratch);
    free(c);
}

// ---- payload ----

std::uint32_t connection::sendable(const channel& c) const noexcept {
    if (c.state != channel_state::open || c.eof_wanted || c.close_wanted) return 0;
    std::uint64_t queued = c.queue.bytes();
    return queued >= c.send_credit ? 0 : c.send_credit - static_cast<std::uint32_t>(queued);
}

void connection::send(channel& c, ring::buffer holder, bytes_view bytes) noexcept {
    c.queue.push(_pieces.make(std::move(holder), bytes));
    _queued_bytes += bytes.size();
    mark_ready(c);
}

void connection::send_eof(channel& c) noexcept {
    if (c.eof_wanted) return;
    c.eof_wanted = true;
    finish_if_due(c);
}

void connection::close(channel& c) noexcept {
    c.end = nullptr;
    if (c.state == channel_state::opening) return abort(c);
    c.close_wanted = true;
    finish_if_due(c);
}

void connection::abort(channel& c) noexcept {
    c.end = nullptr;
    _queued_bytes -= c.queue.bytes();
    c.queue.clear(_pieces);
    if (c.state == channel_state::opening) {
        c.state = channel_state::closing;  // CLOSE goes out when the peer's answer names its id
        return;
    }
    if (c.state == channel_state::asked) return refuse(c, open_failure_reason::connect_failed, "");
    c.eof_wanted = false;
    c.close_wanted = true;
    send_close(c);
}

void connection::finish_if_due(channel& c) noexcept {
    if (!c.queue.empty() || c.state != channel_state::open) return;
    if (c.eof_wanted && !c.eof_sent) {
        c.eof_sent = true;
        _scratch.clear();
        build_eof(_scratch, c.remote);
        queue(_scratch);
    }
    if (c.close_wanted) send_close(c);
}

void connection::send_close(channel& c) noexcept {
    if (c.state == channel_state::closing) return;
    c.state = channel_state::closing;
    _scratch.clear();
    build_close(_scratch, c.remote);
    queue(_scratch);
}

void connection::mark_ready(channel& c) noexcept {
    if (c.ready || c.send_credit == 0) {
        if (c.send_credit == 0 && c.stalled == 0) {
            c.stalled = 1;
            ++c.stalls;
        }
        return;
    }
    c.ready = true;
    c.next_ready = nullptr;
    (_ready_first == nullptr ? _ready_first : _ready_last->next_ready) = &c;
    _ready_last = &c;
    _events.on_pending();
}

void connection::want_more(channel& c) noexcept {
    if (c.waiting || c.end == nullptr) return;
    c.waiting = true;
    c.next_waiting = _waiting_first;
    _waiting_first = &c;
    _events.on_pending();
}

void connection::tell_sendable() noexcept {
    channel* c = _waiting_first;
    _waiting_first = nullptr;
    while (c != nullptr) {
        channel* after = c->next_waiting;
        c->waiting = false;
        if (c->end != nullptr && c->state == channel_state::open) c->end->on_sendable();
        c = after;
    }
}

// ---- windows towards us ----

void connection::consumed(channel& c, std::uint32_t bytes) noexcept {
    c.consumed += bytes;
    if (c.owes || c.consumed == 0) return;
    // A quarter of the window at a time, as little as one packet when it is small.
    if (c.consumed < std::max<std::uint32_t>(c.window / 4, 1)) return;
    c.owes = true;
    c.next_adjust = _adjust_first;
    _adjust_first = &c;
    _events.on_pending();
}

void connection::maybe_grow(channel& c) noexcept {
    if (c.window >= _limits.window_max) return;
    if (c.since_growth < std::uint64_t{windows_before_growth} * c.window) return;
    // Used up by more than half before credit went out, although the end keeps up: the window is
    // what limits the flow.
    if (c.receive_left > c.window / 2) return;
    c.since_growth = 0;
    std::uint32_t more = _budget.grow(std::min(c.window, _limits.window_max - c.window));
    c.window += more;
    c.consumed += more;
}

void connection::flush_adjusts() noexcept {
    channel* c = _adjust_first;
    _adjust_first = nullptr;
    while (c != nullptr) {
        channel* after = c->next_adjust;
        c->owes = false;
        if (c->state == channel_state::open && !c->eof_received && c->consumed > 0) {
            maybe_grow(*c);
            channel_window_adjust message{c->remote, c->consumed};
            c->receive_left += c->consumed;
            c->consumed = 0;
            _scratch.clear();
            build(_scratch, message);
            queue(_scratch);
            ++_counters.adjusts_sent;
        }
        c = after;
    }
}

// ---- flush ----

bool connection::pending() const noexcept {
    return _ready_first != nullptr || _adjust_first != nullptr || _waiting_first != nullptr;
}

void connection::flush_data(packet_sink& sink) noexcept {
    if (!_transport.data_allowed()) return;
    while (_ready_first != nullptr) {
        channel* c = _ready_first;
        std::uint32_t left = quantum_bytes;
        bool full = false;
        while (left > 0 && !c->queue.empty() && c->send_credit > 0) {
            const piece& front = *c->queue.first();
            std::uint32_t size = std::min({front.size, c->max_packet, c->send_credit});
            std::size_t sealed = _transport.sealed_size(data_header_bytes + size);
            std::byte* out = sink.room(sealed);
            if (out == nullptr) {
                full = true;
                break;
            }
            data_header head = make_data_header(c->remote, size);
            _transport.seal(head, {front.data, size}, out);
            sink.commit(sealed);
            c->send_credit -= size;
            c->bytes_sent += size;
            _queued_bytes -= size;
            c->queue.take(size, _pieces);
            left -= std::min(left, size);
            if (!_transport.data_allowed()) break;
        }
        if (full) return;  // the same channel goes on next turn with what its queue holds
        _ready_first = c->next_ready;
        if (_ready_first == nullptr) _ready_last = nullptr;
        c->ready = false;
        if (c->queue.empty()) {
            finish_if_due(*c);
            if (c->send_credit > 0) want_more(*c);
        } else {
            mark_ready(*c);
        }
        if (!_transport.data_allowed()) return;
    }
}

void connection::own_queued() noexcept {
    // No channel queues more than its credit, so whatever has a queue stands in the ready list.
    for (channel* c = _ready_first; c != nullptr; c = c->next_ready) c->queue.own(_pieces);
}

// ---- requests ----

void connection::reply(bool success, bytes_view payload) noexcept {
    _scratch.clear();
    if (success)
        build_request_success(_scratch, payload);
    else
        build_request_failure(_scratch, payload);
    queue(_scratch);
}

void connection::request(std::string_view name, bytes_view rest) noexcept {
    _scratch.clear();
    build(_scratch, global_request{name, true, rest});
    queue(_scratch);
}

void connection::lose() noexcept {
    _failed = true;
    for (std::size_t i = 0; i < _table.size(); ++i) {
        channel* c = _table[i];
        if (c == nullptr) continue;
        channel_end* end = c->end;
        c->end = nullptr;
        free(*c);
        if (end != nullptr) end->on_closed(close_cause::lost);
    }
}

}  // namespace burin::ssh
