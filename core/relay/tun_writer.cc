#include "core/relay/tun_writer.hh"

#include <cerrno>
#include <cstring>
#include <new>

namespace burin::relay {

tun_writer::pending* tun_writer::take() noexcept {
    if (_free == nullptr) {
        if (_made >= most_writes) return nullptr;
        try {
            auto chunk = std::make_unique<pending[]>(chunk_writes);
            pending* writes = chunk.get();
            _chunks.push_back(std::move(chunk));
            for (std::uint32_t i = chunk_writes; i-- > 0;) {
                writes[i].done = on_written;
                writes[i].owner = this;
                writes[i].next = _free;
                _free = &writes[i];
            }
            _made += chunk_writes;
        } catch (const std::bad_alloc&) {
            return nullptr;
        }
    }
    pending* p = _free;
    _free = p->next;
    return p;
}

bool tun_writer::write(bytes_view header, std::span<const tun::payload_piece> payload) noexcept {
    pending* p = take();
    if (p == nullptr) {
        ++_counters.no_room;
        return false;
    }
    std::memcpy(p->header.data(), header.data(), header.size());
    p->parts[0] = {p->header.data(), header.size()};
    p->bytes = static_cast<std::uint32_t>(header.size());
    p->pieces = static_cast<std::uint32_t>(payload.size());
    for (std::uint32_t i = 0; i < p->pieces; ++i) {
        const tun::payload_piece& piece = payload[i];
        p->parts[1 + i] = {const_cast<std::byte*>(piece.data), piece.length};
        p->held[i] = piece.hold();
        p->bytes += piece.length;
    }
    ++_counters.frames;
    _counters.bytes += p->bytes;
    if (p->pieces > 0) {
        ++_counters.payload_frames;
        _counters.payload_bytes += p->bytes;
    }
    ++_in_flight;
    _ring.write_vector(*p, _descriptor, std::span(p->parts).first(1 + p->pieces));
    return true;
}

void tun_writer::on_written(ring::op& o, ring::completion c) noexcept {
    auto& self = o.of<tun_writer>();
    auto* p = static_cast<pending*>(&o);
    if (c.result != static_cast<int>(p->bytes)) {
        ++self._counters.errors;
        self._last_error = c.result < 0 ? -c.result : EIO;
    }
    for (std::uint32_t i = 0; i < p->pieces; ++i) p->held[i] = {};
    p->next = self._free;
    self._free = p;
    --self._in_flight;
}

}  // namespace burin::relay
