// How a channel ends, because every rule of docs/wire.md section 8.6 meets here:
//   our EOF follows the last queued byte; our CLOSE follows EOF, or comes at once when the flow is
//   aborted; a CLOSE of the peer is answered with one CLOSE; after our CLOSE nothing more is sent
//   on that id; the id is free when both were seen.
#include "core/ssh/connection.hh"

#include <algorithm>
#include <array>
#include <functional>
#include <utility>

namespace burin::ssh {

namespace {
// With more opens than these waiting for their answers, a new channel begins with the least window:
// a flood of opens that nobody answers leaves the rest of the budget to those that move.
inline constexpr std::uint32_t calm_unanswered = 256;
}  // namespace

connection::connection(transport& t, connection_events& events, ring::budget& budget,
                       piece_pool& pieces, const connection_limits& limits)
    : _transport(t), _events(events), _budget(budget), _pieces(pieces), _limits(limits) {
    set_turn_bytes(0);
    set_packet_bytes(max_payload_bytes);
}

connection::~connection() {
    lose();
}

// ---- the table ----

channel* connection::make(channel_state state) noexcept {
    if (_failed || _count >= _limits.max_channels) return nullptr;
    const bool calm = _unanswered + _asked < calm_unanswered;
    std::uint32_t window = _budget.open(calm ? _limits.window_max : 0);
    if (window == 0) return nullptr;
    auto* c = new channel;
    c->state = state;
    c->window = c->receive_left = window;
    c->growth_since_ms = now_ms();
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
    ++(state == channel_state::asked ? _asked : _unanswered);
    return c;
}

void connection::settle(const channel& c) noexcept {
    if (c.state == channel_state::opening || c.state == channel_state::abandoned) --_unanswered;
    if (c.state == channel_state::asked) --_asked;
}

void connection::free(channel& c) noexcept {
    settle(c);
    if (find_remote(c.remote) == &c) _by_remote[c.remote] = nullptr;
    if (_ready.first() == &c && !_quick_turn) _turn_left = 0;
    leave_turn(c);
    _adjust.remove(c);
    _waiting.remove(c);
    _queued_bytes -= c.queue.bytes();
    c.queue.clear(_pieces);
    _budget.close(c.window - c.unbudgeted);
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

std::uint32_t connection::now_ms() const noexcept {
    return static_cast<std::uint32_t>(_limits.clock() / ring::millisecond);
}

std::uint32_t connection::queue_age_ms(const channel& c) const noexcept {
    return c.queue.empty() ? 0 : now_ms() - c.queued_since_ms;
}

bool connection::queue() noexcept {
    _events.on_pending();
    return _transport.send(_scratch);
}

// Both ends know both ids: what RFC 4254 allows on a channel is allowed.
bool connection::answered(const channel& c) noexcept {
    return c.state == channel_state::open || c.state == channel_state::closing;
}

bool connection::may_send(const channel& c) noexcept {
    return c.state == channel_state::open || (c.early && c.state == channel_state::opening);
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
        case message::channel_failure: on_channel_reply(payload); break;
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
        case message::early_data:
        case message::early_eof: on_early(payload, holder); break;
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
    if (!answered(*c)) return violation("data on a channel that is not open");
    if (c->eof_received) return violation("data after EOF");
    if (size > max_payload_bytes) return violation("incoming packet exceeds maximum payload size");
    if (size > c->receive_left) return violation("remote side wrote too much");
    take(*c, payload.subspan(data_header_bytes), holder);
}

void connection::take(channel& c, bytes_span data, const ring::buffer& holder) noexcept {
    if (data.empty()) return;
    const auto size = static_cast<std::uint32_t>(data.size());
    c.receive_left -= size;
    c.bytes_received += size;
    c.since_growth += size;
    c.answered = true;
    if (c.end == nullptr) {  // closing: nobody takes it; the window dies with the channel
        _counters.dropped_bytes += size;
        return;
    }
    c.end->on_data(data, holder);
}

void connection::on_extended_data(bytes_view payload) noexcept {
    channel_extended_data message;
    if (!parse(payload, message)) return violation("malformed extended data");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    if (!answered(*c)) return violation("data on a channel that is not open");
    if (c->eof_received) return violation("data after EOF");
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
    std::string_view text = "too many channels", language = "en";
    if (open.max_packet < 9 || open.max_packet > 0x80000000u) {
        reason = open_failure_reason::connect_failed;
        text = "invalid request";
        language = "en_US.UTF-8";
    } else {
        c = make(channel_state::asked);
    }
    if (c == nullptr) {
        ++_counters.channels_refused;
        channel_open_failure failure{open.sender, reason, text, language};
        _scratch.clear();
        build(_scratch, failure);
        queue();
        return;
    }
    c->remote = open.sender;
    c->send_credit = open.window;
    c->max_packet = std::min(open.max_packet, max_payload_bytes);
    note_remote(*c);
    _events.on_open(*c, open);
}

void connection::on_confirmation(bytes_view payload) noexcept {
    channel_open_confirmation message;
    if (!parse(payload, message)) return violation("malformed channel confirmation");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    if (c->state == channel_state::abandoned) {
        settle(*c);
        c->remote = message.sender;
        send_close(*c);
        return;
    }
    if (c->state != channel_state::opening) return violation("unexpected channel confirmation");
    if (message.max_packet < 9 || message.max_packet > 0x80000000u)
        return violation("channel confirmation with an invalid maximum packet");
    // What went early is part of the window (docs/wire.md section 13.4).
    if (message.window < c->bytes_sent)
        return violation("channel confirmation with a window below the early data");
    settle(*c);
    c->remote = message.sender;
    c->send_credit = message.window - static_cast<std::uint32_t>(c->bytes_sent);
    c->max_packet = std::min(message.max_packet, max_payload_bytes);
    c->state = channel_state::open;
    ++_counters.channels_opened;
    channel_end* end = c->end;
    if (!c->queue.empty()) mark_ready(*c);
    if (c->eof_wanted && !finish_if_due(*c)) return;
    end->on_confirmed();
}

void connection::on_open_failure(bytes_view payload) noexcept {
    channel_open_failure message;
    if (!parse(payload, message)) return violation("malformed channel failure");
    channel* c = find(message.recipient);
    if (c == nullptr) return;
    if (c->state != channel_state::opening && c->state != channel_state::abandoned)
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
    if (!answered(*c)) return violation("window adjust on a channel that is not open");
    if (message.bytes > ~c->send_credit) return violation("window adjust beyond 2^32-1");
    c->send_credit += message.bytes;
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
    if (!answered(*c)) return violation("EOF on a channel that is not open");
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
    if (!answered(*c)) return violation("CLOSE on a channel that is not open");
    channel_end* end = c->end;
    bool complete = c->eof_received, answer = c->state != channel_state::closing;
    _scratch.clear();
    build_close(_scratch, c->remote);
    free(*c);
    // When the session ends here, this channel is already gone and the others are told first.
    if (answer) queue();
    if (end != nullptr) end->on_closed(complete ? close_cause::finished : close_cause::cut_off);
}

void connection::on_channel_request(bytes_view payload) noexcept {
    channel_request request;
    if (!parse(payload, request)) return violation("malformed channel request");
    // The one message that may name a channel already gone (docs/wire.md section 8.6).
    std::uint32_t id = request.recipient;
    if (id >= _table.size() || _table[id] == nullptr) return;
    channel* c = _table[id];
    if (c->state != channel_state::open) return;
    if (!request.want_reply) {
        if (c->end != nullptr) c->end->on_notice(request.name, request.rest);
        return;
    }
    _scratch.clear();
    build_channel_failure(_scratch, c->remote);
    queue();
}

// We ask nothing of channels: a reply changes nothing on one that is there.
void connection::on_channel_reply(bytes_view payload) noexcept {
    std::uint32_t id;
    if (!parse_recipient(payload, id)) return violation("malformed reply to a channel request");
    find(id);
}

// ---- opening ----

channel* connection::open(channel_end& end, std::string_view type, bytes_view extra,
                          early goes) noexcept {
    channel* c = make(channel_state::opening);
    if (c == nullptr) return nullptr;
    if (goes == early::data && _takes_early_data && c->local < early_channels) {
        c->early = true;
        c->send_credit = early_bytes;
        c->max_packet = max_payload_bytes;
    }
    channel_open message;
    message.type = type;
    message.sender = c->local;
    message.window = c->receive_left;
    message.max_packet = max_payload_bytes;
    message.rest = extra;
    _scratch.clear();
    build(_scratch, message);
    if (!queue()) {
        if (_count > 0) free(*c);  // else lose() was here
        return nullptr;
    }
    c->end = &end;
    return c;
}

void connection::accept(channel& c, channel_end& end) noexcept {
    settle(c);
    c.end = &end;
    c.state = channel_state::open;
    ++_counters.channels_opened;
    channel_open_confirmation message;
    message.recipient = c.remote;
    message.sender = c.local;
    message.window = c.receive_left + static_cast<std::uint32_t>(c.bytes_received);  // early data
    message.max_packet = max_payload_bytes;
    _scratch.clear();
    build(_scratch, message);
    if (queue()) want_more(c);
}

void connection::refuse(channel& c, open_failure_reason reason, std::string_view text) noexcept {
    ++_counters.channels_refused;
    channel_open_failure message{c.remote, reason, text};
    _scratch.clear();
    build(_scratch, message);
    c.end = nullptr;
    free(c);
    queue();
}

// ---- payload ----

std::uint32_t connection::sendable(channel& c) noexcept {
    if (!may_send(c) || c.eof_wanted || c.close_wanted) return 0;
    if (_queued_bytes >= queued_limit_bytes) {
        want_more(c);
        return 0;
    }
    std::uint64_t queued = c.queue.bytes();
    return queued >= c.send_credit ? 0 : c.send_credit - static_cast<std::uint32_t>(queued);
}

void connection::send(channel& c, ring::buffer holder, bytes_view bytes) noexcept {
    if (!bytes.empty()) send(c, _pieces.make(std::move(holder), bytes));
}

void connection::send(channel& c, piece* p) noexcept {
    if (c.queue.empty()) c.queued_since_ms = now_ms();
    _queued_bytes += p->size;
    c.queue.push(p);
    mark_ready(c);
}

void connection::send_eof(channel& c) noexcept {
    if (c.eof_wanted) return;
    c.eof_wanted = true;
    finish_if_due(c);
}

void connection::close(channel& c) noexcept {
    if (!answered(c)) return abort(c);
    c.end = nullptr;
    c.close_wanted = true;
    finish_if_due(c);
}

void connection::abort(channel& c) noexcept {
    c.end = nullptr;
    _queued_bytes -= c.queue.bytes();
    c.queue.clear(_pieces);
    if (c.state == channel_state::opening) {
        c.state = channel_state::abandoned;
        if (!_takes_opens_back) return;
        std::array<std::byte, 4> id;
        store_u32(id.data(), c.local);
        _scratch.clear();
        build(_scratch, global_request{cancel_open_name, false, id});
        queue();
        return;
    }
    if (c.state == channel_state::asked) return refuse(c, open_failure_reason::connect_failed, "");
    send_close(c);
}

bool connection::finish_if_due(channel& c) noexcept {
    if (!c.queue.empty() || !may_send(c)) return true;
    if (c.eof_wanted && !c.eof_sent) {
        c.eof_sent = true;
        _scratch.clear();
        if (c.state == channel_state::open)
            build_eof(_scratch, c.remote);
        else
            build_early_eof(_scratch, c.local);
        if (!queue()) return false;
    }
    return !c.close_wanted || send_close(c);
}

bool connection::send_close(channel& c) noexcept {
    if (c.state == channel_state::closing) return true;
    c.state = channel_state::closing;
    _scratch.clear();
    build_close(_scratch, c.remote);
    return queue();
}

void connection::want_more(channel& c) noexcept {
    if (_waiting.holds(c) || c.end == nullptr || c.eof_wanted) return;
    _waiting.push(c);
    _events.on_pending();
}

void connection::tell_sendable() noexcept {
    while (!_waiting.empty() && _queued_bytes < queued_limit_bytes) {
        channel* c = _waiting.first();
        _waiting.remove(*c);
        if (c->end != nullptr && may_send(*c)) c->end->on_sendable();
    }
}

// ---- requests ----

void connection::reply(bool success, bytes_view payload) noexcept {
    _scratch.clear();
    if (success)
        build_request_success(_scratch, payload);
    else
        build_request_failure(_scratch, payload);
    queue();
}

void connection::request(std::string_view name, bytes_view rest) noexcept {
    _scratch.clear();
    build(_scratch, global_request{name, true, rest});
    queue();
}

void connection::notify(channel& c, std::string_view name, bytes_view rest) noexcept {
    if (c.state != channel_state::open) return;
    _scratch.clear();
    build(_scratch, channel_request{c.remote, name, false, rest});
    queue();
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
