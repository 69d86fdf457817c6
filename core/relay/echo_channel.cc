#include "core/relay/echo_channel.hh"

#include <utility>

namespace burin::relay {

namespace {
// Messages that wait for credit: seven of the largest, or 600 of what ping sends.
constexpr std::uint32_t most_backlog_bytes = 64 * 1024;
// What is queued on the channel itself, behind which others' data waits in its round robin.
constexpr std::uint64_t most_committed_bytes = 32 * 1024;
}  // namespace

echo_channel::~echo_channel() {
    close();
}

// ---- life ----

bool echo_channel::open(ssh::connection& connection) noexcept {
    ssh::channel* c = connection.open(*this, echo_channel_type, {});
    if (c == nullptr) return false;
    attach(connection, c);
    return true;
}

void echo_channel::accept(ssh::connection& connection, ssh::channel& c) noexcept {
    attach(connection, &c);
    _confirmed = true;
    connection.accept(c, *this);  // the session may be over with it
}

void echo_channel::attach(ssh::connection& connection, ssh::channel* c) noexcept {
    _connection = &connection;
    _channel = c;
    _confirmed = false;
    _reader = {};
}

void echo_channel::detach() noexcept {
    _channel = nullptr;
    _confirmed = false;
    while (!_waiting.empty()) _context.pieces.drop(_waiting.pop());
}

void echo_channel::close() noexcept {
    if (_channel == nullptr) return;
    ssh::channel* c = _channel;
    detach();
    _connection->abort(*c);
}

// ---- out ----

bool echo_channel::takes_more() noexcept {
    return _confirmed && _channel->queue.bytes() < most_committed_bytes &&
           _connection->sendable(*_channel) > 0;
}

bool echo_channel::send(const echo_message& m) noexcept {
    const auto size = static_cast<std::uint32_t>(echo_message_bytes(m));
    const bool at_once = _waiting.empty() && takes_more();
    if (!at_once && _waiting.bytes() + size > most_backlog_bytes) return false;
    ssh::piece* p = _context.pieces.make_owned(size);
    write_echo(p->owned, m);
    // It has memory of its own and may wait for the rest of its credit on the channel.
    if (at_once)
        _connection->send(*_channel, p);
    else
        _waiting.push(p);
    return true;
}

void echo_channel::drain() noexcept {
    while (!_waiting.empty() && takes_more()) _connection->send(*_channel, _waiting.pop());
}

// ---- in ----

void echo_channel::on_confirmed() noexcept {
    _confirmed = true;
    drain();
}

void echo_channel::on_data(bytes_span payload, const ring::buffer& holder) noexcept {
    const ring::buffer none;
    bytes_view left = payload;
    echo_message m;
    while (_reader.next(left, m)) {
        if (m.what == echo_message::kind::malformed) {
            close();
            return _owner.on_echo_channel_gone(echo_owner::ending::closed);
        }
        if (m.what == echo_message::kind::unknown)
            ++_unknown;
        else
            _owner.on_echo(m, _reader.assembled() ? none : holder);
    }
    _connection->consumed(*_channel, static_cast<std::uint32_t>(payload.size()));
}

void echo_channel::on_refused(ssh::open_failure_reason why, std::string_view) noexcept {
    detach();
    const bool never = why == ssh::open_failure_reason::prohibited ||
                       why == ssh::open_failure_reason::unknown_type;
    _owner.on_echo_channel_gone(never ? echo_owner::ending::not_offered
                                      : echo_owner::ending::refused);
}

void echo_channel::on_eof() noexcept {
    close();
    _owner.on_echo_channel_gone(echo_owner::ending::closed);
}

void echo_channel::on_closed(ssh::close_cause cause) noexcept {
    detach();
    _owner.on_echo_channel_gone(cause == ssh::close_cause::lost ? echo_owner::ending::lost
                                                                : echo_owner::ending::closed);
}

}  // namespace burin::relay
