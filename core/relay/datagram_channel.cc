#include "core/relay/datagram_channel.hh"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace burin::relay {

namespace {
// What is queued on the channel itself and can no longer be dropped: two turns of its round robin.
constexpr std::uint64_t most_committed_bytes = 128 * 1024;
// Credit that the peer has from the beginning. What comes is gone at once, so it costs no memory; a
// window that first grew with the traffic would lose the beginning of each flow.
constexpr std::uint32_t window_bytes = 1u << 20;
// What is told of datagrams that were lost (docs/wire.md section 13.3).
constexpr std::string_view unreachable_name = "unreachable@burin";

std::uint32_t datagrams_in(const late_run& run) noexcept {
    return static_cast<std::uint32_t>((run.payload.size() + run.size - 1) / run.size);
}
}  // namespace

datagram_channel::~datagram_channel() {
    close();
}

// ---- life ----

bool datagram_channel::open(ssh::connection& connection, std::string_view target) noexcept {
    close();
    const std::string name = std::string(target) + "/udp";
    ssh::channel* c = connection.open(*this, "chisel", as_bytes(name));
    if (c == nullptr) return false;
    attach(connection, c);
    return true;
}

void datagram_channel::accept(ssh::connection& connection, ssh::channel& c) noexcept {
    attach(connection, &c);
    _confirmed = true;
    connection.accept(c, *this);  // the session may be over with it
    if (_channel == nullptr) return;
    connection.send(c, {}, gob_definition());
    connection.widen(c, window_bytes);
}

void datagram_channel::attach(ssh::connection& connection, ssh::channel* c) noexcept {
    _connection = &connection;
    _channel = c;
    _confirmed = false;
    _reader = {};
}

void datagram_channel::detach() noexcept {
    ++_life;
    _channel = nullptr;
    _confirmed = false;
    while (!_backlog.empty()) {
        ssh::piece* p = _backlog.pop();
        _context.held_bytes -= p->size;
        _context.pieces.drop(p);
        ++_context.counters.no_channel;
    }
    while (_late != nullptr) {
        _context.counters.no_channel += datagrams_in(*_late);
        drop_oldest_late();
    }
    _reader = {};
    account();
}

void datagram_channel::close() noexcept {
    if (_channel == nullptr) return;
    ssh::channel* c = _channel;
    detach();
    _connection->close(*c);
}

void datagram_channel::account() noexcept {
    const std::size_t held = _reader.held_bytes();
    _context.held_bytes += held;
    _context.held_bytes -= std::exchange(_accounted, held);
}

// ---- out ----

bool datagram_channel::flows(std::size_t bytes) const noexcept {
    return _confirmed && _backlog.empty() && _late == nullptr &&
           _channel->queue.bytes() < most_committed_bytes &&
           _connection->sendable(*_channel) >= bytes;
}

void datagram_channel::send(const ring::buffer& holder, bytes_span payload, std::uint32_t size,
                            std::string_view source) noexcept {
    const gob_run_bytes run(payload.size(), size, source.size());
    if (holder && flows(run.total)) {
        const auto before = static_cast<std::size_t>(payload.data() - holder.data());
        const std::size_t in_front = before + holder.group()->headroom();
        const std::size_t behind = holder.group()->bytes() - before;
        if (in_front >= run.in_front && behind >= run.total - run.in_front)
            return _connection->send(*_channel, holder.share(),
                                     write_gob_run(payload, size, source));
    } else if (holder && put_aside(holder, payload, size, source)) {
        return;
    }
    bytes_view left = payload;
    do {
        const bytes_view one = left.first(std::min<std::size_t>(left.size(), size));
        left = left.subspan(one.size());
        send_copy(source, one);
    } while (!left.empty() && _channel != nullptr);  // the first may end the session
}

bool datagram_channel::put_aside(const ring::buffer& holder, bytes_span payload, std::uint32_t size,
                                 std::string_view source) noexcept {
    if (payload.empty() || source.size() > late_run::most_source_bytes) return false;
    late_run* run = _context.take_late();
    if (run == nullptr) {
        _context.settle();  // what is older goes first, and may end the session
        if (_channel != nullptr) return false;
        _context.counters.no_channel += (payload.size() + size - 1) / size;
        return true;
    }
    *run = {.whose = this,
            .holder = holder.share(),
            .payload = payload,
            .size = size,
            .source_bytes = static_cast<std::uint8_t>(source.size()),
            .source = {}};
    std::copy(source.begin(), source.end(), run->source.begin());
    (_late == nullptr ? _late : _last_late->next) = run;
    _last_late = run;
    _late_bytes += static_cast<std::uint32_t>(payload.size());
    // These alone are as much as may wait: the backlog, and what is oldest here, could only make
    // room.
    while (_late_bytes - _late->payload.size() >= most_waiting_bytes) {
        _context.counters.no_window += datagrams_in(*_late);
        drop_oldest_late();
    }
    return true;
}

void datagram_channel::drop_oldest_late() noexcept {
    late_run* run = _late;
    _late = run->next;
    _late_bytes -= static_cast<std::uint32_t>(run->payload.size());
    run->whose = nullptr;
    run->holder.reset();
}

void datagram_channel::settle(late_run& run) noexcept {
    const ring::buffer holder = run.holder.share();
    drop_oldest_late();
    send(holder, run.payload, run.size, {run.source.data(), run.source_bytes});
}

void datagram_channel::send_copy(std::string_view source, bytes_view payload) noexcept {
    const std::size_t header = gob_header_bytes(source.size(), payload.size());
    const std::size_t size = header + payload.size() + gob_trailer_bytes;
    ssh::piece* p = _context.pieces.make_owned(static_cast<std::uint32_t>(size));
    std::byte* at = p->owned + header;
    if (!payload.empty()) std::memcpy(at, payload.data(), payload.size());
    write_gob_around(at, payload.size(), source);
    if (flows(size)) return _connection->send(*_channel, p);
    wait(p);
}

void datagram_channel::send_received(const datagram_run& run, std::string_view source) noexcept {
    const std::uint32_t most = _context.settings.max_bytes;
    if (run.size <= most) return send(run.buffer, run.bytes, run.size, source);
    _context.settle();  // what is older goes first
    for (bytes_view left = run.bytes; !left.empty() && _channel != nullptr;) {
        const bytes_view one = left.first(std::min<std::size_t>(left.size(), run.size));
        left = left.subspan(one.size());
        send_copy(source, one.first(std::min<std::size_t>(one.size(), most)));
    }
}

void datagram_channel::tell_unreachable(refusal why, std::string_view source) noexcept {
    if (!_confirmed || !_connection->tells_unreachable()) return;
    byte_vector rest;
    wire::writer(rest).byte(static_cast<std::uint8_t>(why)).string(source);
    _connection->notify(*_channel, unreachable_name, rest);
}

void datagram_channel::wait(ssh::piece* p) noexcept {
    _context.held_bytes += p->size;
    _backlog.push(p);
    drain();
    while (!_backlog.empty() && (_backlog.bytes() > most_waiting_bytes || !_context.may_wait(0))) {
        ssh::piece* oldest = _backlog.pop();
        _context.held_bytes -= oldest->size;
        _context.pieces.drop(oldest);
        ++_context.counters.no_window;
    }
}

// A record goes as soon as the peer takes any of it: it has memory of its own and may wait for the
// rest of its credit on the channel.
void datagram_channel::drain() noexcept {
    while (!_backlog.empty() && _confirmed) {
        if (_channel->queue.bytes() >= most_committed_bytes) return;
        if (_connection->sendable(*_channel) == 0) return;
        ssh::piece* p = _backlog.pop();
        _context.held_bytes -= p->size;
        _connection->send(*_channel, p);
    }
}

void datagram_channel::on_sendable() noexcept {
    drain();
}

// ---- in ----

void datagram_channel::on_confirmed() noexcept {
    _confirmed = true;
    _connection->send(*_channel, {}, gob_definition());
    _connection->widen(*_channel, window_bytes);
    drain();
    _owner.on_channel_open();
}

void datagram_channel::on_data(bytes_span payload, const ring::buffer& holder) noexcept {
    const std::uint32_t life = _life;
    bytes_view left = payload;
    datagram d;
    auto what = gob_reader::outcome::more;
    while (life == _life && (what = _reader.next(left, d)) == gob_reader::outcome::record)
        _owner.on_datagram(d, _reader.assembled() ? ring::buffer() : holder.share());
    if (life != _life) return;  // the owner has closed it
    account();
    const bool too_much = _accounted > 0 && _context.held_bytes > _context.settings.most_held_bytes;
    if (what == gob_reader::outcome::failed || too_much) {
        const char* why = what == gob_reader::outcome::failed ? _reader.error() : "no memory left";
        ssh::channel* c = _channel;
        ++_context.counters.channels_broken;
        detach();
        _connection->abort(*c);
        return _owner.on_channel_gone(datagram_owner::ending::broken, why);
    }
    _connection->consumed(*_channel, static_cast<std::uint32_t>(payload.size()));
}

void datagram_channel::on_notice(std::string_view name, bytes_view rest) noexcept {
    if (name != unreachable_name || !_connection->tells_unreachable()) return;
    wire::reader read(rest);
    const std::uint8_t why = read.byte();
    const std::string_view source = read.text();
    // Kinds of a later version are skipped, as are notices that make no sense: nothing hangs on
    // them.
    const bool known = why >= static_cast<std::uint8_t>(refusal::refused) &&
                       why <= static_cast<std::uint8_t>(refusal::prohibited);
    if (read.ok() && known) _owner.on_unreachable(static_cast<refusal>(why), source);
}

void datagram_channel::on_refused(ssh::open_failure_reason, std::string_view text) noexcept {
    detach();
    _owner.on_channel_gone(datagram_owner::ending::refused, text);
}

// Nothing more comes, and nobody waits for what we might still say.
void datagram_channel::on_eof() noexcept {
    close();
    _owner.on_channel_gone(datagram_owner::ending::closed, "EOF");
}

void datagram_channel::on_closed(ssh::close_cause cause) noexcept {
    detach();
    const bool lost = cause == ssh::close_cause::lost;
    _owner.on_channel_gone(lost ? datagram_owner::ending::lost : datagram_owner::ending::closed,
                           lost ? "the session is gone" : "closed by the peer");
}

}  // namespace burin::relay
