#include "core/relay/datagram_entry.hh"

#include <utility>

namespace burin::relay {

namespace {
constexpr ring::microseconds_t reopen_time = ring::second;
}

datagram_entry::datagram_entry(datagram_context& c, datagram_uplink& uplink, int descriptor,
                               std::string target)
    : _context(c),
      _uplink(uplink),
      _target(std::move(target)),
      _socket(c, *this, descriptor, datagram_socket::kind::bound),
      _sources(c.settings.most_sources, c.settings.deadline) {}

void datagram_entry::open() noexcept {
    ssh::connection* session = _uplink.session();
    if (session == nullptr || _channel.exists() || _stopping) return;
    _opened = _context.now;
    if (!_channel.open(*session, _target))
        _uplink.on_entry_failed(*this, "no more channels (see --max-channels and --memory)");
}

void datagram_entry::stop() noexcept {
    if (std::exchange(_stopping, true)) return;
    _channel.close();
    _socket.close();
}

void datagram_entry::on_received(const datagram_run& run, const endpoint* from) noexcept {
    const std::string_view source = _sources.note(*from, _context.now);
    if (!_channel.exists() && _context.now - _opened >= reopen_time) open();
    if (!_channel.exists()) {
        _context.counters.no_channel += run.count;
        return;
    }
    _bytes_sent += run.bytes.size();
    _channel.send_received(run, source);
}

void datagram_entry::on_datagram(const datagram& d, const ring::buffer& holder) noexcept {
    const endpoint* to = _sources.find(d.source, _context.now);
    if (to == nullptr) {
        ++_context.counters.unknown_source;
        return;
    }
    _bytes_received += d.payload.size();
    _socket.send(to, d.payload, holder);
}

void datagram_entry::on_channel_open() noexcept {
    _uplink.on_entry_open(*this);
}

void datagram_entry::on_channel_gone(ending how, std::string_view why) noexcept {
    if (how == ending::lost)
        _uplink.on_entry_closed(*this);
    else
        _uplink.on_entry_failed(*this, why);
}

}  // namespace burin::relay
