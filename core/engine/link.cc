#include "core/engine/link.hh"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/engine/duration.hh"
#include "core/ssh/transport_link.hh"
#include "ring/shortage.hh"

namespace burin::engine {

namespace {

// Everything a stranger can make us hold before login, in bytes (the transport keeps its own,
// smaller limits).
constexpr std::size_t early_bytes = 64 * 1024;
// More than a handshake says in one turn. Thousands of strangers may be answered in the same one.
constexpr std::size_t early_arena_bytes = 4 * 1024;
// What goes around one of its packets at most, and a version line in front.
constexpr std::size_t early_framing_bytes = 512;
// Answers to HTTP requests and pings that wait to be sent: a peer that lets more of them wait is
// not read from until it has taken them.
constexpr std::size_t most_raw_bytes = 16 * 1024;
// WebSocket messages stay well below the 512 KiB that Go accepts (docs/wire.md section 3.1).
static_assert(send_pace::most_seal_bytes < 512 * 1024);
// A kernel that is short of something for a receive or send has done nothing of it: all flows of
// the session wait for so long instead of ending. For how long in all, the ping decides.
constexpr ring::microseconds_t shortage_pause = 10 * ring::millisecond;
// A worker that is later than this was stopped, or its machine was.
constexpr ring::microseconds_t stood_still = ring::second;

}  // namespace

link::link(worker& w, int descriptor, ssh::role role, const link_options& options)
    : _worker(w),
      _descriptor(descriptor),
      _role(role),
      _options(options),
      _exchange_watch(_exchange, options.exchange_timeout) {
    ++_worker.load;
    _worker.add(*this);
    arm_receive();
}

link::~link() {
    add_to(_worker.past_sessions());
    _worker.forget(*this);
    give_arena_back();
    if (_options.send_zero_copy != link_options::zero_copy::off) _worker.loans().forget(*this);
    _worker.remove(*this);
    --_worker.load;
}

// ---- in ----

void link::arm_receive() noexcept {
    if (_ended || _receive.in_flight) return;
    // A stranger's next request waits until the answer to the last one has gone.
    if (_framing == framing::head && (!_raw_out.empty() || sending()) && _role == ssh::role::server)
        return;
    bool early = !logged_in();
    if (early && _login_held) return;
    _group = early ? &_worker.early_buffers() : &_worker.session_buffers();
    _worker.ring().receive_select(_receive, _descriptor, _group->id(), _group->bytes());
}

void link::on_received(ring::completion c) noexcept {
    ring::buffer buffer;
    if (c.has_buffer()) buffer = _group->take(c);
    if (_ended) return retire();
    if (c.result > 0) {
        ++_counters.receives;
        _counters.received_bytes += static_cast<std::uint64_t>(c.result);
        take(std::move(buffer), static_cast<std::uint32_t>(c.result));
    } else if (c.result == -ENOBUFS) {
        _group->ran_out();
    } else if (ring::shortage(c)) {
        return _worker.timers().arm(_pause, _worker.now() + shortage_pause);
    } else if (c.result == 0) {
        end(end_of_stream);
    } else if (c.result != -EAGAIN && c.result != -EINTR) {
        end(std::strerror(-c.result));
    }
    if (!_ended) _worker.wake(*this);  // the flush arms the next receive
}

void link::take(ring::buffer buffer, std::uint32_t bytes) noexcept {
    std::byte* data = buffer.data();
    if (_framing == framing::head) {
        take_head({data, bytes});
    } else {
        // What the last receive left goes right in front of the new bytes: payload first, then the
        // cut frame header.
        const std::byte* rest = _run;
        std::size_t rest_bytes = static_cast<std::size_t>(_run_end - _run);
        std::size_t rest_run = _carry_run;
        if (!_carry.empty()) {
            rest = _carry.data();
            rest_bytes = _carry.size();
        }
        if (rest_bytes > _group->headroom()) {
            end("packet larger than allowed");
        } else {
            std::byte* start = data - rest_bytes;
            if (rest_bytes > 0) std::memcpy(start, rest, rest_bytes);
            _carry.clear();
            _block = std::move(buffer);
            _run = start;
            _run_end = start + rest_run;
            process(_run_end, data + bytes);
        }
    }
    if (_ended) _block.reset();
}

// `raw`: bytes as they came; the run in front of them is payload that waits for the rest of its
// packet.
void link::process(std::byte* raw, std::byte* raw_end) noexcept {
    if (_framing == framing::native) {
        _run_end = raw_end;
        raw = raw_end;
        _run += _transport->receive({_run, _run_end});
        return keep_rest(raw, raw_end);
    }
    http::websocket_reader::run run{_run, _run_end};
    while (!_ended) {
        auto status = _reader->advance(run, raw, raw_end);
        run.begin += _transport->receive({run.begin, run.end});
        if (status == http::websocket_status::ready) continue;
        bytes_view reply = _reader->take_reply();
        _raw_out.insert(_raw_out.end(), reply.begin(), reply.end());
        if (status == http::websocket_status::closed) return end("websocket closed by the peer");
        if (status == http::websocket_status::failed) return end(_reader->error());
        break;
    }
    _run = run.begin;
    _run_end = run.end;
    keep_rest(raw, raw_end);
}

void link::keep_rest(std::byte* raw, std::byte* raw_end) noexcept {
    if (_ended) return;
    auto payload = static_cast<std::size_t>(_run_end - _run);
    auto header = static_cast<std::size_t>(raw_end - raw);
    if (payload + header == 0) {
        _block.reset();
        _run = _run_end = nullptr;
        _carry_run = 0;
        return;
    }
    // Side by side, so that the next receive moves them as one.
    if (header > 0 && raw != _run_end) {
        std::memmove(_run_end, raw, header);
    }
    _carry_run = payload;
    // When blocks run short, none may wait for the rest of a packet: that needs another block, and
    // a hundred sessions in the midst of theirs would hold them all.
    const bool scarce = _block && _block.group()->held() > _block.group()->count() / 2;
    if (_transport->authenticated() && !scarce) {
        _run_end = _run + payload + header;
        return;
    }
    // A stranger holds no block: what is cut waits in memory of its own.
    if (!_transport->authenticated() && payload + header > early_bytes)
        return end("too much data before authentication");
    _carry.assign(_run, _run + payload + header);
    _block.reset();
    _run = _run_end = nullptr;
}

void link::take_head(bytes_view bytes) noexcept {
    if (_carry.size() + bytes.size() > early_bytes) return end("too much data before the upgrade");
    _carry.insert(_carry.end(), bytes.begin(), bytes.end());
    read_heads();
}

// One head after another: the next when the answer to the last has gone, so that whoever does not
// read answers is owed one.
void link::read_heads() noexcept {
    while (!_ended && _framing == framing::head && !_close_after_send && !_carry.empty() &&
           (_role == ssh::role::client || (_raw_out.empty() && !sending()))) {
        std::size_t used = on_head(_carry);
        if (used == 0 && _framing == framing::head) return;
        _carry.erase(_carry.begin(), _carry.begin() + static_cast<std::ptrdiff_t>(used));
    }
    if (_framing != framing::head) read_carried();  // bytes behind the head
}

// What waits in memory of its own takes the same path as received bytes.
void link::read_carried() noexcept {
    if (_ended || _carry.empty()) return;
    byte_vector rest = std::move(_carry);
    _carry.clear();
    _run = rest.data();
    _run_end = rest.data() + std::exchange(_carry_run, 0);
    process(_run_end, rest.data() + rest.size());
    if (_run != nullptr && !_ended) {  // logged in within these bytes: the rest must outlive `rest`
        _carry.assign(_run, _run_end);
        _run = _run_end = nullptr;
    }
}

void link::become(framing f, const ssh::settings& settings, ssh::dialect dialect,
                  bool superframes) noexcept {
    _framing = f;
    _superframes = superframes;
    if (f == framing::websocket)
        _reader = std::make_unique<http::websocket_reader>(_role == ssh::role::server
                                                               ? http::websocket_role::server
                                                               : http::websocket_role::client,
                                                           _options.message_limit);
    _transport = std::make_unique<ssh::transport>(settings, _role, dialect, *this);
    _connection = std::make_unique<ssh::connection>(*_transport, *this, _worker.budget(),
                                                    _worker.pieces(), _options.limits);
    if (dialect == ssh::dialect::native && _role == ssh::role::server)
        _worker.timers().arm(_offer, _worker.now() + offer_delay);
    _worker.wake(*this);
}

void link::on_offer(ring::microseconds_t) noexcept {
    if (_ended) return;
    _transport->offer_now();
    _worker.wake(*this);
}

// ---- transport and connection events ----

void link::on_message(bytes_span payload) noexcept {
    _connection->receive(payload, _block);
}
void link::on_failure(std::string_view why) {
    end(why);
}
void link::on_log(ssh::log_level level, std::string_view text) {
    log(level == ssh::log_level::debug, text);
}
void link::on_pending() noexcept {
    if (!_flushing) _worker.wake(*this);
}
void link::on_violation(std::string_view rule) noexcept {
    // The peer's log names the rule as well.
    _transport->disconnect(static_cast<std::uint32_t>(ssh::disconnect_reason::protocol_error),
                           rule);
    end(rule);
}

bool link::answer(const ssh::global_request& request) noexcept {
    if (request.name == "ping") {
        if (request.want_reply) _connection->reply(true, as_bytes("pong"));
        return true;
    }
    if (request.name == ssh::cancel_open_name && _connection->takes_opens_back()) {
        _connection->take_back(request.rest);
        return true;
    }
    if (request.name == "keepalive@openssh.com") {
        if (request.want_reply) _connection->reply(false, {});
        return true;
    }
    return false;
}

void link::on_request_reply(bool success, bytes_view payload) noexcept {
    if (_other_requests > 0) {  // replies come in the order of the requests; config is the first
        --_other_requests;
        return on_other_reply(success, payload);
    }
    if (!_ping_waiting) return;  // unsolicited: ignored
    if (!payload.empty() && as_text(payload) != "pong") return end("strange ping response");
    _ping_waiting = false;
    _last_latency = _worker.now() - _ping_sent;
    note_latency();
    if (_options.keepalive > 0)
        _worker.timers().arm(_keepalive, _worker.now() + _options.keepalive);
}

void link::on_keepalive(ring::microseconds_t now) noexcept {
    if (_ended) return;
    if (_ping_waiting) {
        // The time that we stood still ourselves is not the peer's: its answer may lie in the
        // socket, behind more than one turn takes.
        if (now - _keepalive.deadline() > stood_still)
            return _worker.timers().arm(_keepalive, now + _options.ping_timeout);
        return end("ping timeout");
    }
    _ping_waiting = true;
    _ping_sent = now;
    _ping_moved = moved_bytes();
    _connection->request(_transport->is_native() ? "keepalive@openssh.com" : "ping", {});
    on_ping_sent();
    _worker.timers().arm(_keepalive, now + _options.ping_timeout);
}

void link::set_ready() noexcept {
    _ready = true;
    _deadline.disarm();
    _offer.disarm();
    fit_to_path();
    if (_options.keepalive > 0)
        _worker.timers().arm(_keepalive, _worker.now() + _options.keepalive);
}

void link::deadline(ring::microseconds_t at, std::string_view why) noexcept {
    _deadline_why = why;
    _worker.timers().arm(_deadline, at);
}

void link::resume_login() noexcept {
    if (_ended) return;
    _login_held = false;
    _transport->resume_login();
    read_carried();
    if (!_ended) _worker.wake(*this);
}

std::size_t link::held_bytes() const noexcept {
    return _carry.capacity() + _raw_out.capacity() + (_early_arena != nullptr ? _arena_bytes : 0) +
           (_transport != nullptr ? _transport->held_bytes() : 0);
}

void link::on_deadline(ring::microseconds_t) noexcept {
    end(_deadline_why);
}

void link::on_exchange_overdue(ring::microseconds_t) noexcept {
    const std::string why =
        fmt::format("ssh: rekeying failed: not done within {}",
                    duration_text(std::chrono::microseconds(_options.exchange_timeout)));
    _transport->disconnect(static_cast<std::uint32_t>(ssh::disconnect_reason::key_exchange_failed),
                           why);
    end(why);
}

// ---- out ----

void link::send_raw(std::string_view text) noexcept {
    auto bytes = as_bytes(text);
    _raw_out.insert(_raw_out.end(), bytes.begin(), bytes.end());
    _worker.wake(*this);
}

void link::seal() noexcept {
    _sealed = _sent = _message = 0;
    _payload_sealed = false;
    if (!_raw_out.empty()) {
        std::size_t part = std::min(_raw_out.size(), _arena_bytes / 2);
        std::memcpy(_arena, _raw_out.data(), part);
        _raw_out.erase(_raw_out.begin(), _raw_out.begin() + static_cast<std::ptrdiff_t>(part));
        _sealed = part;
    }
    if (_transport == nullptr || !_raw_out.empty()) return;
    // The first may end a key exchange: credit that waited for it goes before payload does.
    seal_control();
    if (_connection != nullptr) _connection->flush_adjusts();
    seal_control();
    if (_connection != nullptr && !_transport->control_pending() && !_ended) {
        _connection->flush_data(*this);
        seal_control();  // EOF and CLOSE behind the last byte
    }
    close_message();
}

void link::flush() noexcept {
    if (_closed) return;
    _flushing = true;
    if (_framing == framing::head && !_ended) read_heads();
    bool starved = false;
    if (!on_its_way() && sending()) {
        if (!_pause.armed()) arm_send();
    } else if (!sending()) {
        bool something = !_raw_out.empty() ||
                         (_transport != nullptr && _transport->control_pending()) ||
                         (_connection != nullptr && _connection->pending());
        if (something) {
            take_arena();
            starved = _arena == nullptr;  // woken when one comes back
            if (!starved) {
                seal();
                _pace.begin(_sealed - _sent, _worker.now());
                arm_send();
                if (_ready) fit_unsent();
            }
        }
    }
    if (_connection != nullptr && !_ended) _connection->tell_sendable();
    if (_ready && !_ended) _exchange_watch.look(*_transport, _worker.timers(), _worker.now());
    // Payload that could not be sealed keeps no receive buffer when those run short.
    if (_connection != nullptr && _connection->queued_bytes() > 0) {
        auto short_of = [](const ring::buffer_group& g) { return g.held() > g.count() / 2; };
        if (short_of(_worker.relays().buffers) || short_of(_worker.datagrams().buffers))
            _connection->own_queued();
    }
    if (!_ended && !_close_after_send && _raw_out.size() < most_raw_bytes) arm_receive();
    if (_early && !_ended) on_held(held_bytes());
    _flushing = false;
    if (!sending()) {
        if (_close_after_send && _raw_out.empty()) end("");
        if (!starved && _connection != nullptr && !_ended && _connection->pending())
            _worker.wake(*this);
    }
    if (_ended) {
        _carry = byte_vector();  // nobody reads it any more, and thousands may end together
        _said_last = true;
        retire();
    }
}

void link::take_arena() noexcept {
    if (_arena != nullptr) return;
    // A client chose whom it talks to, and its config may be long.
    if (logged_in() || _role == ssh::role::client) {
        _arena = _worker.take_arena(*this);
        fit_sends();
    } else {
        // A reply signed with a large RSA key is longer than all else.
        const std::size_t next = _transport == nullptr ? 0 : _transport->next_control_bytes();
        _arena_bytes = _payload_bytes = std::max(early_arena_bytes, next + early_framing_bytes);
        _early_arena = std::make_unique<std::byte[]>(_arena_bytes);
        _arena = _early_arena.get();
    }
}

void link::give_arena_back() noexcept {
    if (_early_arena != nullptr)
        _early_arena.reset();
    else if (_loan != nullptr)
        _worker.loans().give_back(*std::exchange(_loan, nullptr));
    else if (_arena != nullptr)
        _worker.give_back_arena(_arena);
    _arena = nullptr;
}

void link::arm_send() noexcept {
    if (_sent >= _sealed) {
        give_arena_back();
        _sent = _sealed = 0;
        return;
    }
    if (lend()) return;
    const int flags = (_ended ? MSG_DONTWAIT : 0) | (_pace.apart(_worker.now()) ? MSG_EOR : 0);
    _worker.ring().send(_send, _descriptor, {_arena + _sent, _sealed - _sent}, flags);
}

void link::on_sent(ring::completion c) noexcept {
    if (c.result > 0) {
        ++_counters.sends;
        _counters.sent_bytes += static_cast<std::uint64_t>(c.result);
        _sent += static_cast<std::size_t>(c.result);
        _pace.sent(static_cast<std::size_t>(c.result), _worker.now());
    } else if (ring::shortage(c) && !_ended) {
        return _worker.timers().arm(_pause, _worker.now() + shortage_pause);
    } else if (c.result != -EINTR && c.result != -EAGAIN) {
        _sent = _sealed;
        end(c.result == 0 ? "connection closed" : std::strerror(-c.result));
    }
    if (_ended && _said_last) _sent = _sealed;
    arm_send();
    if (!on_its_way() && !_ended) _worker.wake(*this);
    retire();
}

// ---- ends ----

void link::end(std::string_view why) noexcept {
    if (_ended) return;
    _ended = true;
    _ready = false;
    _keepalive.disarm();
    _deadline.disarm();
    _pause.disarm();
    _exchange.disarm();
    _offer.disarm();
    std::string reason(why);  // may lie in what is about to go
    if (_connection != nullptr) _connection->lose();
    on_ended(reason);
    // The flush says a last word (a DISCONNECT, a Close frame) as far as the socket takes it; a
    // send that already waits for the socket is given up.
    cancel_next();
    _worker.wake(*this);
}

void link::cancel_next() noexcept {
    if (_cancel.in_flight) return;
    if (_receive.in_flight && !_receive_cancelled) {
        _receive_cancelled = true;
        _worker.ring().cancel(_cancel, _receive);
    } else if (on_its_way() && !_send_cancelled) {
        _send_cancelled = true;
        if (_lending)
            _worker.loans().cancel(_cancel, *_loan);
        else
            _worker.ring().cancel(_cancel, _send);
    }
}

void link::on_cancelled(ring::completion c) noexcept {
    if (ring::cancel_failed(c)) _receive_cancelled = _send_cancelled = false;
    cancel_next();
    retire();
}

void link::release() noexcept {
    --_flows;
    if (_ended) retire();
}

void link::retire() noexcept {
    if (_retired || !_ended || !_said_last) return;
    if (_receive.in_flight || on_its_way() || _cancel.in_flight) return;
    // The peer is told at once; flows whose destination still has to take something only need the
    // memory.
    if (!_closed) {
        _closed = true;
        _block.reset();
        _worker.ring().close_quietly(_descriptor);
    }
    if (_flows > 0) return;
    _retired = true;
    _worker.dispose(std::unique_ptr<disposable>(this));
}

void link::on_flow_open(const relay::socket_relay&) noexcept {}
void link::on_flow_closed(const relay::socket_relay&) noexcept {
    release();
}
void link::on_flow_refused(const relay::socket_relay&, std::string_view) noexcept {}

void link::report(std::string& into) const {
    // Thousands of them; the listener's line counts them.
    if (_early || (_ended && _flows == 0)) return;
    auto mean = [](std::uint64_t bytes, std::uint64_t times) {
        return times == 0 ? 0 : bytes / times;
    };
    into += fmt::format(
        "{}: received={} in {} mean={} sent={} in {} mean={} unsent={} latency-us={} "
        "round-trip-us={} key-exchanges={} exchanging={} zero-copy-sends={} copied={}\n",
        describe(), _counters.received_bytes, _counters.receives,
        mean(_counters.received_bytes, _counters.receives), _counters.sent_bytes, _counters.sends,
        mean(_counters.sent_bytes, _counters.sends), _sealed - _sent, _last_latency,
        std::max(_socket_round_trip, _quiet_latency),
        _transport == nullptr ? 0 : _transport->counters().key_exchanges,
        _transport != nullptr && _transport->exchanging() ? "yes" : "no", _counters.zero_copy_sends,
        _counters.zero_copy_copied);
    if (_connection == nullptr) return;
    const ssh::connection_counters& c = _connection->counters();
    std::uint32_t oldest = 0;
    for (const ssh::channel* ch : _connection->channels())
        if (ch != nullptr) oldest = std::max(oldest, _connection->queue_age_ms(*ch));
    into += fmt::format(
        "{}: channels={} opened={} refused={} queued={} oldest-ms={} dropped={} adjusts={} "
        "grown={} shrunk={}\n",
        describe(), _connection->open_channels(), c.channels_opened, c.channels_refused,
        _connection->queued_bytes(), oldest, c.dropped_bytes, c.adjusts_sent, c.windows_grown,
        c.windows_shrunk);
    for (const ssh::channel* ch : _connection->channels()) {
        if (ch == nullptr) continue;
        into += fmt::format(
            "{}: channel {}: sent={} received={} credit={} window={} left={} queued={} age-ms={} "
            "stalls={}\n",
            describe(), ch->local, ch->bytes_sent, ch->bytes_received, ch->send_credit, ch->window,
            ch->receive_left, ch->queue.bytes(), _connection->queue_age_ms(*ch), ch->stalls);
    }
}

void link::add_to(session_counts& s) const noexcept {
    s.receives += _counters.receives;
    s.received_bytes += _counters.received_bytes;
    s.sends += _counters.sends;
    s.sent_bytes += _counters.sent_bytes;
    s.zero_copy_sends += _counters.zero_copy_sends;
    s.zero_copy_copied += _counters.zero_copy_copied;
    if (_transport == nullptr) return;
    s.key_exchanges += _transport->counters().key_exchanges;
    if (!_transport->authenticated()) return;
    ++s.opened;
    s.live += _ended ? 0 : 1;
    if (_connection == nullptr) return;
    const ssh::connection_counters& c = _connection->counters();
    s.channels_opened += c.channels_opened;
    s.channels_refused += c.channels_refused;
    s.dropped_bytes += c.dropped_bytes;
    s.adjusts += c.adjusts_sent;
}

bool link::close_means_eof() const noexcept {
    return _peer_is_go && !_connection->peer_sends_eof();
}

}  // namespace burin::engine
