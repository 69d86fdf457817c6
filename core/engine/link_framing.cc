// What a link puts around packets: where the next one goes, and which WebSocket message holds it.
#include <algorithm>
#include <cstring>

#include "core/engine/link.hh"
#include "crypto/random.hh"

namespace burin::engine {

namespace {
// Go's SSH writer makes messages of at most this; many small packets share one (docs/wire.md
// section 3.3).
constexpr std::size_t go_message_bytes = 4096;
}  // namespace

// Room for packets inside the framing. Superframes: one message around everything. Go: a message
// for each large packet, one for each group of small ones. Native: no framing.
std::byte* link::room(std::size_t bytes) noexcept {
    if (_payload_sealed && _sealed + bytes > _payload_bytes) return nullptr;
    if (_framing == framing::websocket) {
        bool grouped = _superframes || bytes <= go_message_bytes;
        if (_message != 0 &&
            (!grouped || (!_superframes && _sealed - _message + bytes > go_message_bytes)))
            close_message();
        if (_sealed + bytes + http::max_frame_header > _arena_bytes) return nullptr;
        if (_message == 0) open_message();
    } else if (_sealed + bytes > _arena_bytes) {
        return nullptr;
    }
    return _arena + _sealed;
}

void link::commit(std::size_t bytes) noexcept {
    _sealed += bytes;
    _payload_sealed = true;
}

void link::open_message() noexcept {
    // The header's size depends on what will follow; the gap is closed (or filled) by
    // close_message().
    _sealed += http::max_frame_header;
    _message = _sealed;
}

void link::close_message() noexcept {
    if (_message == 0) return;
    std::size_t payload = _sealed - _message;
    std::size_t start = _message - http::max_frame_header;
    _message = 0;
    if (payload == 0) {
        _sealed = start;
        return;
    }
    std::byte header[http::max_frame_header];
    bool masked = _role == ssh::role::client;
    std::uint32_t key = masked && _options.random_mask ? crypto::random_u32() : 0;
    if (key != 0) http::apply_mask({_arena + start + http::max_frame_header, payload}, key);
    std::size_t size = http::write_frame_header(header, http::opcode::binary, payload, masked, key);
    std::size_t gap = http::max_frame_header - size;
    if (start == 0 ||
        start == _sent) {  // nothing in front: the bytes before the header are skipped
        std::memcpy(_arena + start + gap, header, size);
        _sent = start + gap;
        return;
    }
    if (payload <= go_message_bytes || payload < start - _sent) {
        std::memmove(_arena + start + size, _arena + start + http::max_frame_header, payload);
        std::memcpy(_arena + start, header, size);
        _sealed -= gap;
        return;
    }
    std::memmove(_arena + _sent + gap, _arena + _sent, start - _sent);
    std::memcpy(_arena + start + gap, header, size);
    _sent += gap;
}

void link::seal_control() noexcept {
    while (_transport->control_pending()) {
        // Small packets share a message, and the next one when it is full; a packet that is larger
        // than such a message gets one of its own.
        std::size_t written = 0;
        std::size_t most = _arena_bytes;
        if (_framing == framing::websocket && !_superframes) most = go_message_bytes;
        for (std::size_t wanted : {most, most, _arena_bytes}) {
            if (wanted > most) close_message();
            std::size_t used = _message == 0 ? 0 : _sealed - _message;
            std::size_t ask = wanted > used && _message != 0 ? wanted - used : wanted;
            std::size_t overhead = _message == 0 ? http::max_frame_header : 0;
            if (_sealed + overhead + 64 > _arena_bytes) return;
            ask = std::min(ask, _arena_bytes - _sealed - overhead);
            if (_framing == framing::websocket && _message == 0) open_message();
            written = _transport->seal_control({_arena + _sealed, ask});
            if (written > 0) break;
            close_message();
        }
        if (written == 0) return;
        _sealed += written;
    }
}

}  // namespace burin::engine
