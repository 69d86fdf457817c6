#include "tun/fragments.hh"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

namespace burin::tun {

// One fragment's data, which follow it in the same piece of memory.
struct fragment_store::part {
    part* next = nullptr;
    std::uint32_t offset = 0;
    std::uint32_t size = 0;

    std::byte* data() noexcept { return reinterpret_cast<std::byte*>(this + 1); }
    std::uint32_t end() const noexcept { return offset + size; }
};

namespace {

// What a datagram costs besides its parts.
constexpr std::uint32_t datagram_cost = 128;

// One key for both families: the identification stands where ports would. IPv6 knows a datagram by
// its addresses alone, since only its first part names the protocol for sure (RFC 8200 4.5).
flow_key key_of(const parsed_frame& part) noexcept {
    flow_key key = part.key;
    key.source_port = static_cast<std::uint16_t>(part.fragment.id >> 16);
    key.destination_port = static_cast<std::uint16_t>(part.fragment.id);
    if (part.ip_version == 6) key.protocol = ip_protocol::fragment;
    return key;
}

std::size_t least_first_bytes(ip_protocol protocol) noexcept {
    switch (protocol) {
        case ip_protocol::tcp: return tcp_header_bytes;
        case ip_protocol::udp:
        case ip_protocol::icmp:
        case ip_protocol::icmp_v6: return 8;
        default: return 1;
    }
}

// Whether a fragment alone makes sense.
bool is_sound(const parsed_frame& part) noexcept {
    const std::size_t size = part.payload.size();
    const std::size_t end = part.fragment.offset + size;
    const std::size_t most = max_packet_bytes - (part.ip_version == 4 ? ipv4_header_bytes : 0);
    if (size == 0 || end > most) return false;
    if (part.fragment.more && size % 8 != 0) return false;
    if (part.fragment.offset == 0) return size >= least_first_bytes(part.key.protocol);
    // RFC 3128: it would write over a TCP header's flags.
    return part.key.protocol != ip_protocol::tcp || part.fragment.offset >= tcp_header_bytes;
}

}  // namespace

fragment_store::~fragment_store() {
    for (datagram& d : _waiting) drop_parts(d);
}

std::size_t fragment_store::find(const flow_key& key) const noexcept {
    std::size_t at = 0;
    while (at < _waiting.size() && !(_waiting[at].key == key)) ++at;
    return at;
}

void fragment_store::drop_parts(datagram& d) noexcept {
    while (d.first != nullptr) {
        part* gone = d.first;
        d.first = gone->next;
        ::operator delete(gone);
    }
    const std::uint32_t parts = d.charged - datagram_cost;
    _bytes -= parts;
    d.charged -= parts;
    d.data_bytes = d.parts = 0;
}

void fragment_store::erase(std::size_t index) noexcept {
    drop_parts(_waiting[index]);
    _bytes -= _waiting[index].charged;
    _waiting.erase(_waiting.begin() + static_cast<std::ptrdiff_t>(index));
}

void fragment_store::give_up(datagram& d, std::uint64_t& counter) noexcept {
    ++counter;
    d.given_up = true;
    drop_parts(d);
}

bool fragment_store::evict_oldest(const flow_key& but, const flow_address* source) noexcept {
    for (std::size_t i = 0; i < _waiting.size(); ++i) {
        const flow_key& key = _waiting[i].key;
        if (key == but || (source != nullptr && !(key.source == *source))) continue;
        ++_counters.evicted;
        erase(i);
        return true;
    }
    return false;
}

// For `bytes` of a datagram, which is another one or waits already.
bool fragment_store::make_room(const flow_key& key, std::uint32_t bytes, bool another) noexcept {
    for (;;) {
        std::uint32_t count = another ? 1 : 0, held = bytes;
        for (const datagram& d : _waiting) {
            if (!(d.key.source == key.source)) continue;
            ++count;
            held += d.charged;
        }
        if (count <= _limits.most_source_datagrams && held <= _limits.most_source_bytes) break;
        if (!evict_oldest(key, &key.source)) return false;
    }
    while (_bytes + bytes > _limits.most_bytes ||
           _waiting.size() + (another ? 1 : 0) > _limits.most_datagrams) {
        if (!evict_oldest(key, nullptr)) return false;
    }
    return true;
}

// In its place between the others. False: the datagram is to be given up, as it overlaps.
bool fragment_store::insert(datagram& d, const parsed_frame& from) noexcept {
    const auto offset = std::uint32_t{from.fragment.offset};
    const auto size = static_cast<std::uint32_t>(from.payload.size());
    part* before = nullptr;
    part** link = &d.first;
    while (*link != nullptr && (*link)->offset < offset) {
        before = *link;
        link = &before->next;
    }
    part* after = *link;
    if (after != nullptr && after->offset == offset && after->size == size &&
        std::memcmp(after->data(), from.payload.data(), size) == 0) {
        ++_counters.repeated;
        return true;
    }
    if (before != nullptr && before->end() > offset) return false;
    if (after != nullptr && offset + size > after->offset) return false;
    // The last one tells the end, and nothing lies behind that.
    if (d.total != 0 && (!from.fragment.more || offset + size >= d.total)) return false;
    if (!from.fragment.more && after != nullptr) return false;

    void* memory = ::operator new(sizeof(part) + size, std::nothrow);
    if (memory == nullptr || d.parts >= _limits.most_parts) {
        ::operator delete(memory);
        give_up(d, _counters.refused);
        return true;
    }
    part* p = new (memory) part{after, offset, size};
    std::memcpy(p->data(), from.payload.data(), size);
    *link = p;
    if (!from.fragment.more) d.total = offset + size;
    if (offset == 0) {
        d.protocol = from.key.protocol;
        d.traffic_class = from.traffic_class;
    }
    ++d.parts;
    d.data_bytes += size;
    d.charged += static_cast<std::uint32_t>(sizeof(part)) + size;
    _bytes += static_cast<std::uint32_t>(sizeof(part)) + size;
    return true;
}

bool fragment_store::add(const parsed_frame& from, time_us now) noexcept {
    ++_counters.fragments;
    if (!is_sound(from)) {
        ++_counters.malformed;
        return false;
    }
    const flow_key key = key_of(from);
    const auto bytes = static_cast<std::uint32_t>(sizeof(part) + from.payload.size());
    std::size_t at = find(key);
    const bool another = at == _waiting.size();
    if (!another && _waiting[at].given_up) return false;
    if (!make_room(key, another ? bytes + datagram_cost : bytes, another)) {
        ++_counters.refused;
        return false;
    }
    if (another) {
        try {
            _waiting.push_back({.key = key, .since = now, .charged = datagram_cost});
        } catch (const std::bad_alloc&) {
            ++_counters.refused;
            return false;
        }
        _bytes += datagram_cost;
    }
    at = find(key);
    datagram& d = _waiting[at];
    if (!insert(d, from)) give_up(d, _counters.overlapping);
    if (d.total == 0 || d.data_bytes != d.total) return false;
    ++_counters.reassembled;
    _complete = at;
    return true;
}

std::size_t fragment_store::write_headers(const datagram& d, std::size_t bytes,
                                          bytes_span into) noexcept {
    flow_key back = d.key;  // headers are written towards the source of a flow
    std::swap(back.source, back.destination);
    std::byte* ip = into.data() + virtio_header_bytes;
    write_plain_virtio_header(into.data());
    write_ip_header(ip, back, d.protocol, bytes, d.traffic_class);
    return virtio_header_bytes + ip_header_bytes(back);
}

bytes_view fragment_store::take(bytes_span into) noexcept {
    const datagram& d = _waiting[_complete];
    const std::size_t headers = write_headers(d, d.total, into);
    for (part* p = d.first; p != nullptr; p = p->next)
        std::memcpy(into.data() + headers + p->offset, p->data(), p->size);
    const std::size_t size = headers + d.total;
    erase(_complete);
    return into.first(size);
}

time_us fragment_store::deadline() const noexcept {
    return _waiting.empty() ? never_us : _waiting.front().since + _limits.timeout;
}

bool fragment_store::expire(time_us now, bytes_span into, bytes_view& first) noexcept {
    first = {};
    if (now < deadline()) return false;
    datagram& d = _waiting.front();
    if (d.first != nullptr && d.first->offset == 0) {
        const std::size_t room = into.size() - virtio_header_bytes -
                                 (d.key.source.is_v4() ? ipv4_header_bytes : ipv6_header_bytes);
        const std::size_t size = std::min(room, std::size_t{d.first->size});
        const std::size_t headers = write_headers(d, size, into);
        std::memcpy(into.data() + headers, d.first->data(), size);
        first = into.first(headers + size);
    }
    if (!d.given_up) ++_counters.timed_out;
    erase(0);
    return true;
}

// ---- out ----

fragment_cutter::fragment_cutter(const header_buffer& whole, std::uint32_t payload_bytes,
                                 std::uint16_t mtu, std::uint32_t id) noexcept
    : _whole(whole), _payload_bytes(payload_bytes), _id(id) {
    const bytes_view packet = whole.bytes().subspan(virtio_header_bytes);
    const bool v4 = load_u8(packet.data()) >> 4 == 4;
    _ip_bytes = v4 ? ipv4_header_bytes : ipv6_header_bytes;
    _upper_bytes = static_cast<std::uint32_t>(packet.size()) - _ip_bytes;
    const std::uint32_t room = mtu - _ip_bytes;
    const std::uint32_t header = v4 ? 0 : fragment_header_bytes;
    _unit = _upper_bytes + payload_bytes <= room ? 0 : (room - header) & ~7u;
}

bool fragment_cutter::next(header_buffer& out, std::uint32_t& from, std::uint32_t& bytes) noexcept {
    if (_over) return false;
    const std::uint32_t data = _upper_bytes + _payload_bytes;
    if (_unit == 0) {
        out = _whole;
        from = 0;
        bytes = _payload_bytes;
        _over = true;
        return true;
    }
    const bytes_view whole = _whole.bytes();
    const std::uint32_t size = std::min(_unit, data - _done);
    _over = _done + size == data;
    const bool v4 = _ip_bytes == ipv4_header_bytes;
    std::byte* ip = out.data() + virtio_header_bytes;
    std::byte* end = ip + _ip_bytes;
    std::memcpy(out.data(), whole.data(), virtio_header_bytes + _ip_bytes);
    if (v4) {
        store_u16(ip + 2, static_cast<std::uint16_t>(_ip_bytes + size));
        store_u16(ip + 4, static_cast<std::uint16_t>(_id));
        store_u16(ip + 6, static_cast<std::uint16_t>(_done / 8 | (_over ? 0u : 0x2000u)));
        repair_ipv4_checksum(ip);
    } else {
        store_u16(ip + 4, static_cast<std::uint16_t>(fragment_header_bytes + size));
        store_u8(end, load_u8(ip + 6));
        store_u8(end + 1, 0);
        store_u16(end + 2, static_cast<std::uint16_t>(_done | (_over ? 0u : 1u)));
        store_u32(end + 4, _id);
        store_u8(ip + 6, static_cast<unsigned>(ip_protocol::fragment));
        end += fragment_header_bytes;
    }
    // The transport header is in the first part, and smaller than it.
    bytes = size;
    if (_done == 0) {
        std::memcpy(end, whole.data() + virtio_header_bytes + _ip_bytes, _upper_bytes);
        end += _upper_bytes;
        bytes -= _upper_bytes;
    }
    from = _done == 0 ? 0 : _done - _upper_bytes;
    _done += size;
    out.resize(static_cast<std::size_t>(end - out.data()));
    return true;
}

}  // namespace burin::tun
