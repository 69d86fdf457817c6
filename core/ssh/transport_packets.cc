// The packet layer: sealing in order, opening in place, keys changed exactly behind NEWKEYS.
#include "core/ssh/transport_packets.hh"

#include <cstring>

#include "core/ssh/messages.hh"

namespace burin::ssh {

packet_layer::packet_layer(const settings& config, std::string_view version)
    : _sealer(crypto::make_sealer(crypto::cipher::none, {})),
      _opener(crypto::make_opener(crypto::cipher::none, {})),
      _config(config),
      _version(version) {
    _opener->limit(_max_packet);
}

bool packet_layer::queue_exchange(bytes_view payload) {
    if (number_of(payload) == message::kexinit) _closed = _held = true;
    return _exchange.push(payload, max_queued_bytes);
}

bool packet_layer::queue(bytes_view payload, std::size_t limit) {
    return _ordinary.push(payload, limit);
}

void packet_layer::queue_newkeys(std::unique_ptr<crypto::packet_sealer> next, sequence_rule rule) {
    constexpr std::byte newkeys[] = {static_cast<std::byte>(message::newkeys)};
    _next_sealer = std::move(next);
    _next_rule = rule;
    _exchange.push(newkeys, max_queued_bytes);
}

void packet_layer::queue_last(bytes_view payload) {
    // One message above the limit: it ends the connection, and tells why.
    (_closed ? _exchange : _ordinary).push(payload, 2 * max_held_bytes);
}

std::size_t packet_layer::seal_queued(bytes_span room) noexcept {
    std::size_t written = 0;
    if (_version_due) {
        if (room.size() < _version.size() + 2) return 0;
        std::memcpy(room.data(), _version.data(), _version.size());
        std::memcpy(room.data() + _version.size(), "\r\n", 2);
        written = _version.size() + 2;
        _version_due = false;
    }
    while (!_exchange.empty() || (!_closed && !_ordinary.empty())) {
        message_queue& from = _exchange.empty() ? _ordinary : _exchange;
        const bytes_view payload = from.front();
        if (_sealer->sealed_size(payload.size()) > room.size() - written) break;
        written += seal({}, payload, room.data() + written);
        const bool switches = number_of(payload) == message::newkeys && &from == &_exchange;
        from.pop();
        if (switches) {
            _sealer = std::move(_next_sealer);
            renew(_send, _next_rule);
            _closed = false;
        }
    }
    if (!_closed && _ordinary.empty()) _held = false;
    return written;
}

std::size_t packet_layer::seal(bytes_view head, bytes_view body, std::byte* out) noexcept {
    const std::size_t payload = head.size() + body.size();
    ++_send.packets;
    _send.bytes += payload;
    ++counters.packets_sent;
    counters.bytes_sent += payload;
    return _sealer->seal(_send.sequence++, head, body, out);
}

crypto::packet_opener::opened packet_layer::open(bytes_span in) noexcept {
    const auto got = _opener->open(_receive.sequence, in);
    if (got.state == crypto::packet_opener::opened::status::complete) {
        ++_receive.sequence;
        ++_receive.packets;
        _receive.bytes += got.payload.size();
        ++counters.packets_received;
        counters.bytes_received += got.payload.size();
    }
    return got;
}

void packet_layer::use_opener(std::unique_ptr<crypto::packet_opener> next, sequence_rule rule) {
    _opener = std::move(next);
    _opener->limit(_max_packet);
    renew(_receive, rule);
    ++counters.key_exchanges;
}

void packet_layer::limit_packets(std::size_t bytes) noexcept {
    _max_packet = static_cast<std::uint32_t>(bytes);
    _opener->limit(_max_packet);
}

void packet_layer::renew(direction& way, sequence_rule rule) {
    way.packets = way.bytes = 0;
    if (rule == sequence_rule::restarts) way.sequence = 0;
}

}  // namespace burin::ssh
