#include "core/relay/tun_datagrams.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/relay/random_key.hh"
#include "core/relay/tun_queue.hh"
#include "tun/fragments.hh"
#include "tun/udp_frame.hh"

namespace burin::relay {

namespace {

// Frames that wait for the end of the turn: half of what the writer takes.
constexpr std::size_t most_batches = 256;

std::string with_port(const tun::flow_address& address, std::uint16_t port) {
    if (address.is_v4()) return fmt::format("{}:{}", to_text(address), port);
    return fmt::format("[{}]:{}", to_text(address), port);
}

tun::flow_key destination_of(const tun::flow_key& flow) noexcept {
    tun::flow_key key = flow;
    key.source = {};
    key.source_port = 0;
    return key;
}

tun::flow_key source_of(const tun::flow_key& flow) noexcept {
    tun::flow_key key = flow;
    key.source_port = key.destination_port = 0;
    key.destination = {};
    return key;
}

// An index for a new entry of a vector with gaps.
template <class T>
std::uint32_t place(std::vector<T*>& all, std::vector<std::uint32_t>& free, T* one) {
    if (free.empty()) {
        all.push_back(one);
        return static_cast<std::uint32_t>(all.size() - 1);
    }
    const std::uint32_t index = free.back();
    free.pop_back();
    all[index] = one;
    return index;
}

}  // namespace

// One channel. When a destination has more flows than the far end tells apart, it has several, one
// behind the other.
class tun_datagrams::target final : private datagram_owner, public datagram_context::mortal {
  public:
    target(tun_datagrams& owner, const tun::flow_key& k)
        : key(k), name(owner._settings.dns.target(k)), _owner(owner) {}

    // True: there is a channel, or it is being opened.
    bool ready() noexcept {
        if (_channel.exists()) return true;
        ssh::connection* session = _owner._uplink.session();
        if (session == nullptr) {
            ++_owner._counters.no_session;
            return false;
        }
        const ring::microseconds_t now = _owner._context.now;
        if (_asked && now - _asked_at < _owner._settings.retry_time) {
            ++_owner._counters.no_channel;
            return false;
        }
        _asked = true;
        _asked_at = now;
        if (_channel.open(*session, name)) return true;
        ++_owner._counters.no_channel;
        return false;
    }
    datagram_channel& channel() noexcept { return _channel; }
    const datagram_channel& channel() const noexcept { return _channel; }

    const tun::flow_key key;
    const std::string name;
    std::vector<flow*> flows;
    target* next = nullptr;  // of the same destination
    std::uint32_t index = 0;

  private:
    void on_channel_open() noexcept override {}
    void on_datagram(const datagram& d, const ring::buffer& holder) noexcept override {
        if (flow* f = find(d.source)) _owner.answer(*f, d.payload, holder);
    }
    void on_unreachable(refusal why, std::string_view source) noexcept override {
        const flow* f = find(source);
        if (f == nullptr) return;
        ++_owner._counters.unreachable;
        const auto packet = tun::quoted_packet::of_datagram(f->key);
        _owner._icmp.tell(packet.cause(), icmp_error_of(why), 0, {}, _owner._context.now);
    }
    flow* find(std::string_view source) noexcept {
        if (_recent < flows.size() && flows[_recent]->source == source) return flows[_recent];
        const auto at = std::find_if(flows.begin(), flows.end(),
                                     [&](const flow* f) { return f->source == source; });
        if (at == flows.end()) {
            ++_owner._counters.unknown_source;
            return nullptr;
        }
        _recent = static_cast<std::size_t>(at - flows.begin());
        return flows[_recent];
    }
    void on_channel_gone(ending how, std::string_view why) noexcept override {
        if (how == ending::lost) {
            _asked = false;  // the next session has refused nothing yet
            return;
        }
        ++_owner._counters.channels_refused;
        _owner._uplink.on_datagrams_refused(name, why);
    }

    tun_datagrams& _owner;
    datagram_channel _channel{_owner._datagrams, *this};
    std::size_t _recent = 0;
    bool _asked = false;
    ring::microseconds_t _asked_at = 0;
};

tun_datagrams::tun_datagrams(context& c, datagram_context& d, tun_uplink& uplink, tun_homes& homes,
                             tun_writer& writer, tun_blocks& blocks, tun_icmp& icmp,
                             const tun_datagram_settings& s)
    : _context(c),
      _datagrams(d),
      _uplink(uplink),
      _homes(homes),
      _writer(writer),
      _blocks(blocks),
      _icmp(icmp),
      _settings(s),
      _table(random_key(), s.most_flows),
      _target_table(random_key(), s.most_targets),
      _host_table(random_key(), s.most_flows),
      _id(crypto::random_u32()) {}

tun_datagrams::~tun_datagrams() {
    stop();
}

void tun_datagrams::stop() noexcept {
    _stopping = true;
    for (std::size_t i = 0; i < _flows.size(); ++i)
        if (_flows[i] != nullptr) remove(*_flows[i]);
    for (std::size_t i = 0; i < _batch_count; ++i) _batches[i] = {};
    _batch_count = 0;
    _expiry.disarm();
}

// ---- flows and targets ----

void tun_datagrams::touch(flow& f) noexcept {
    f.last = _context.now;
    auto& ages = is_dns(f) ? _dns_ages : _ages;
    if (ages.last != &f) {
        ages.remove(f);
        ages.push(f);
    }
    if (f.of->flows.last != &f) {
        f.of->flows.remove(f);
        f.of->flows.push(f);
    }
}

tun_datagrams::host* tun_datagrams::host_of(const tun::flow_key& whose) noexcept {
    const tun::flow_key key = source_of(whose);
    const std::uint32_t known = _host_table.find(key);
    if (known != tun::flow_table::none) return _hosts[known];
    auto* made = new host;
    made->index = place(_hosts, _free_hosts, made);
    _host_table.insert(key, made->index);  // no more hosts than flows
    return made;
}

// The newest of a destination's channels; another one in front of it when that is full.
tun_datagrams::target* tun_datagrams::target_with_room(const tun::flow_key& whose) noexcept {
    const tun::flow_key key = destination_of(whose);
    const std::uint32_t known = _target_table.find(key);
    target* first = known == tun::flow_table::none ? nullptr : _targets[known];
    for (target* t = first; t != nullptr; t = t->next)
        if (t->flows.size() < _datagrams.settings.most_sources) return t;
    if (_target_count >= _settings.most_targets) return nullptr;
    auto* made = new target(*this, key);
    made->next = first;
    made->index = place(_targets, _free_targets, made);
    if (first != nullptr) _target_table.erase(key);
    _target_table.insert(key, made->index);
    ++_target_count;
    ++_counters.targets;
    return made;
}

tun_datagrams::flow* tun_datagrams::find_or_make(const tun::flow_key& key) noexcept {
    const std::uint32_t known = _table.find(key);
    if (known != tun::flow_table::none) return _flows[known];
    // Without a session there is nobody to ask for a channel, and nothing to remember.
    if (_uplink.session() == nullptr) {
        ++_counters.no_session;
        return nullptr;
    }
    const std::uint32_t host_index = _host_table.find(source_of(key));
    if (host_index != tun::flow_table::none) {
        host& h = *_hosts[host_index];
        if (h.count >= _settings.most_flows_of_a_host || _table.size() >= _settings.most_flows) {
            ++_counters.flows_replaced;
            remove(*h.flows.first);
        }
    }
    if (_table.size() >= _settings.most_flows && !crowd_out()) {
        ++_counters.too_many_flows;
        return nullptr;
    }
    target* to = target_with_room(key);
    // Some targets have more flows than one; what this datagram may cost is bounded all the same.
    for (int tries = 0; to == nullptr && tries < 8 && crowd_out(); ++tries)
        to = target_with_room(key);
    if (to == nullptr) {
        ++_counters.too_many_targets;
        return nullptr;
    }
    auto* f = new flow;
    f->key = key;
    f->source = with_port(key.source, key.source_port);
    f->to = to;
    f->of = host_of(key);
    f->index = place(_flows, _free_flows, f);
    _table.insert(key, f->index);
    to->flows.push_back(f);
    ++f->of->count;
    f->of->flows.push(*f);
    (is_dns(*f) ? _dns_ages : _ages).push(*f);
    f->last = _context.now;
    ++_counters.flows;
    _homes.opened(key);
    const ring::microseconds_t expiry = f->last + idle_time(*f);
    if (!_expiry.armed() || expiry < _expiry.deadline()) _context.timers.arm(_expiry, expiry);
    return f;
}

void tun_datagrams::remove(flow& f) noexcept {
    _table.erase(f.key);
    _homes.over(f.key);
    _flows[f.index] = nullptr;
    _free_flows.push_back(f.index);
    (is_dns(f) ? _dns_ages : _ages).remove(f);
    host& h = *f.of;
    h.flows.remove(f);
    if (--h.count == 0) {
        _host_table.erase(source_of(f.key));
        _hosts[h.index] = nullptr;
        _free_hosts.push_back(h.index);
        delete &h;
    }
    target& t = *f.to;
    std::erase(t.flows, &f);
    if (t.flows.empty()) {
        t.channel().close();
        const std::uint32_t first = _target_table.find(t.key);
        if (first == t.index) {
            _target_table.erase(t.key);
            if (t.next != nullptr) _target_table.insert(t.key, t.next->index);
        } else {
            target* before = _targets[first];
            while (before->next != &t) before = before->next;
            before->next = t.next;
        }
        _targets[t.index] = nullptr;
        _free_targets.push_back(t.index);
        --_target_count;
        _datagrams.bury(&t);
    }
    delete &f;
}

bool tun_datagrams::crowd_out() noexcept {
    flow* oldest = _ages.first;
    if (oldest == nullptr || (_dns_ages.first != nullptr && _dns_ages.first->last < oldest->last))
        oldest = _dns_ages.first;
    if (oldest == nullptr || _context.now - oldest->last < _settings.least_idle_time) return false;
    ++_counters.flows_crowded_out;
    remove(*oldest);
    return true;
}

void tun_datagrams::on_expiry(ring::microseconds_t now) noexcept {
    auto expire = [&](auto& ages, ring::microseconds_t idle) {
        while (ages.first != nullptr && now - ages.first->last >= idle) remove(*ages.first);
    };
    expire(_ages, _settings.idle_time);
    expire(_dns_ages, _settings.dns_idle_time);
    rearm();
}

void tun_datagrams::rearm() noexcept {
    ring::microseconds_t next = ring::timer_wheel::never;
    if (_ages.first != nullptr) next = _ages.first->last + _settings.idle_time;
    if (_dns_ages.first != nullptr)
        next = std::min(next, _dns_ages.first->last + _settings.dns_idle_time);
    if (next != ring::timer_wheel::never) _context.timers.arm(_expiry, next);
}

// ---- host -> channel ----

void tun_datagrams::take(const tun::parsed_frame& frame, const ring::buffer& slot) noexcept {
    if (_stopping) return;
    const auto bytes = static_cast<std::uint32_t>(frame.payload.size());
    std::uint32_t size = bytes;
    if (frame.gso_type == tun::virtio_gso_udp_l4 && frame.gso_size != 0 && frame.gso_size < bytes) {
        size = frame.gso_size;
        ++_counters.superframes_in;
    }
    flow* f = find_or_make(frame.key);
    if (f == nullptr || !f->to->ready()) return;
    touch(*f);
    _counters.datagrams_in += size < bytes ? (bytes + size - 1) / size : 1;
    // Whatever it lies in, it is ours to write to, or there is no slot and it is copied.
    const bytes_span payload{const_cast<std::byte*>(frame.payload.data()), bytes};
    f->to->channel().send(slot, payload, size, f->source);
}

// ---- channel -> host ----

void tun_datagrams::answer(flow& f, bytes_view payload, const ring::buffer& holder) noexcept {
    touch(f);
    const auto size = static_cast<std::uint32_t>(payload.size());
    const std::size_t packet = tun::ip_header_bytes(f.key) + tun::udp_header_bytes + size;
    ++_counters.datagrams_out;
    tun::payload_slice slice = holder ? _blocks.slice(payload, holder) : tun::copy_payload(payload);
    // Only what the next link takes whole can be part of a superframe.
    const bool alone = !_settings.superframes || packet > _settings.mtu_bytes || size == 0;
    if (!alone && f.turn == _turn) {
        batch& b = _batches[f.batch];
        const bool room =
            b.count < b.slices.size() && b.bytes + packet <= tun::max_packet_bytes && !b.closed;
        if (room && size <= b.size) {
            b.closed = size < b.size;
            b.bytes += size;
            b.slices[b.count++] = std::move(slice);
            return;
        }
    }
    if (_batch_count == most_batches) flush();
    if (_batch_count == _batches.size()) _batches.emplace_back();
    batch& b = _batches[_batch_count];
    b.key = f.key;
    b.size = b.bytes = size;
    b.count = 1;
    b.closed = alone;
    b.slices[0] = std::move(slice);
    f.turn = _turn;
    f.batch = static_cast<std::uint32_t>(_batch_count++);
}

void tun_datagrams::flush() noexcept {
    for (std::size_t i = 0; i < _batch_count; ++i) {
        batch& b = _batches[i];
        write(b);
        for (std::uint32_t s = 0; s < b.count; ++s) b.slices[s] = {};
    }
    _batch_count = 0;
    ++_turn;
}

void tun_datagrams::write(const batch& b) noexcept {
    if (tun::ip_header_bytes(b.key) + tun::udp_header_bytes + b.size > _settings.mtu_bytes)
        return write_large(b);
    std::array<tun::payload_piece, tun::tcp_send_queue::max_pieces> pieces;
    for (std::uint32_t i = 0; i < b.count; ++i)
        pieces[i] = {b.slices[i].data(), b.slices[i].size(), b.slices[i].holder()};
    tun::header_buffer header;
    tun::write_udp_header(header, b.key, b.bytes, static_cast<std::uint16_t>(b.size));
    if (b.count > 1) ++_counters.superframes_out;
    const std::uint32_t count = b.bytes == 0 ? 0 : b.count;
    if (!_writer.write(header.bytes(), std::span(pieces).first(count)))
        _counters.no_room += b.count;
}

void tun_datagrams::write_large(const batch& b) noexcept {
    const tun::payload_slice& slice = b.slices[0];
    tun::header_buffer whole, header;
    tun::write_whole_udp_header(whole, b.key, slice.bytes());
    tun::fragment_cutter cutter(whole, slice.size(), _settings.mtu_bytes, ++_id);
    for (std::uint32_t from = 0, bytes = 0; cutter.next(header, from, bytes);) {
        const tun::payload_piece piece{slice.data() + from, bytes, slice.holder()};
        if (_writer.write(header.bytes(), std::span(&piece, 1))) continue;
        ++_counters.no_room;
        return;
    }
}

void tun_datagrams::report(std::string& into, std::string_view name) const {
    const tun_datagram_counters& c = _counters;
    into += fmt::format(
        "{}: udp: flows={} targets={} opened={} replaced={} crowded-out={} datagrams-in={} "
        "superframes-in={} datagrams-out={} superframes-out={} refused={} unreachable={}\n",
        name, _table.size(), _target_count, c.flows, c.flows_replaced, c.flows_crowded_out,
        c.datagrams_in, c.superframes_in, c.datagrams_out, c.superframes_out, c.channels_refused,
        c.unreachable);
    into += fmt::format(
        "{}: udp dropped: no-session={} no-channel={} too-many-flows={} too-many-targets={} "
        "unknown-source={} no-room={}\n",
        name, c.no_session, c.no_channel, c.too_many_flows, c.too_many_targets, c.unknown_source,
        c.no_room);
    for (const target* t : _targets)
        if (t != nullptr)
            into += fmt::format("{}: udp {}: flows={} waiting={}\n", name, t->name, t->flows.size(),
                                t->channel().waiting_bytes());
}

}  // namespace burin::relay
