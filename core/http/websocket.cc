#include "core/http/websocket.hh"

#include <algorithm>
#include <cstring>

namespace burin::http {

namespace {

// A join that would move more than this first lets the run be consumed. Go's fragments are 4096
// bytes (docs/wire.md section 3.2): they are joined into long runs at once.
constexpr std::size_t cheap_move_bytes = 4096;

constexpr std::uint8_t fin = 0x80, rsv = 0x70, mask_bit = 0x80;

std::uint8_t u8(std::byte b) noexcept {
    return static_cast<std::uint8_t>(b);
}

// RFC 6455 section 7.4: the codes that may stand in a frame.
bool valid_close_code(unsigned code) noexcept {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1013) ||
           (code >= 3000 && code <= 4999);
}

bool valid_utf8(bytes_view text) noexcept {
    std::size_t i = 0;
    while (i < text.size()) {
        unsigned c = u8(text[i]);
        std::size_t more = c < 0x80 ? 0 : c >= 0xc2 && c < 0xe0 ? 1 : (c & 0xf0) == 0xe0 ? 2 : 3;
        if ((c >= 0x80 && c < 0xc2) || c > 0xf4 || text.size() - i <= more) return false;
        for (std::size_t k = 1; k <= more; ++k)
            if ((u8(text[i + k]) & 0xc0) != 0x80) return false;
        unsigned second = more > 0 ? u8(text[i + 1]) : 0;
        if ((c == 0xe0 && second < 0xa0) || (c == 0xed && second > 0x9f) ||
            (c == 0xf0 && second < 0x90) || (c == 0xf4 && second > 0x8f))
            return false;
        i += more + 1;
    }
    return true;
}

}  // namespace

// ---- writing ----

std::size_t write_frame_header(std::byte* out, opcode op, std::uint64_t payload, bool masked,
                               std::uint32_t mask_key) noexcept {
    std::uint8_t bit = masked ? mask_bit : 0;
    out[0] = std::byte(fin | static_cast<std::uint8_t>(op));
    std::size_t at = 2;
    if (payload < 126) {
        out[1] = std::byte(bit | payload);
    } else {
        bool wide = payload > 0xffff;
        out[1] = std::byte(bit | (wide ? 127 : 126));
        for (int shift = wide ? 56 : 8; shift >= 0; shift -= 8)
            out[at++] = std::byte(static_cast<std::uint8_t>(payload >> shift));
    }
    if (masked) {
        std::memcpy(out + at, &mask_key, sizeof mask_key);
        at += sizeof mask_key;
    }
    return at;
}

// Sixteen bytes at a time through GCC's vector type, so that the same lines serve every processor.
// Whole vectors are loaded before they are stored and the loop goes upwards, so the destination may
// overlap the source from below.
void apply_mask(std::byte* to, const std::byte* from, std::size_t bytes, std::uint32_t mask_key,
                std::uint64_t phase) noexcept {
    if (mask_key == 0) {
        if (to != from) std::memmove(to, from, bytes);
        return;
    }
    std::array<std::byte, 4> in_phase;
    for (std::size_t i = 0; i < 4; ++i)
        std::memcpy(&in_phase[i], reinterpret_cast<const std::byte*>(&mask_key) + ((phase + i) & 3),
                    1);
    std::uint32_t key;
    std::memcpy(&key, in_phase.data(), sizeof key);

    using vector [[gnu::vector_size(16)]] = std::uint32_t;
    const vector keys = {key, key, key, key};
    while (bytes >= sizeof(vector)) {
        vector v;
        std::memcpy(&v, from, sizeof v);
        v ^= keys;
        std::memcpy(to, &v, sizeof v);
        to += sizeof v;
        from += sizeof v;
        bytes -= sizeof v;
    }
    for (std::size_t i = 0; i < bytes; ++i) to[i] = from[i] ^ in_phase[i & 3];
}

// ---- reading ----

struct websocket_reader::header {
    std::uint8_t first, second;
    opcode op;
    bool final;
    bool is_control;
    std::size_t bytes;  // of the header
    std::uint64_t payload;
    std::uint32_t key;

    // False when it is not whole yet; the first two bytes are there.
    bool parse(const std::byte* raw, std::size_t available) noexcept {
        std::uint8_t length = second & 0x7f;
        std::size_t extended = length < 126 ? 0 : length == 126 ? 2 : 8;
        bytes = 2 + extended + ((second & mask_bit) != 0 ? 4 : 0);
        if (available < bytes) return false;
        payload = length;
        if (extended > 0) {
            payload = 0;
            for (std::size_t i = 0; i < extended; ++i) payload = payload << 8 | u8(raw[2 + i]);
        }
        key = 0;
        if ((second & mask_bit) != 0) std::memcpy(&key, raw + 2 + extended, sizeof key);
        return true;
    }
};

// The flow: payload of the current frame first, then a header, and so on until the bytes end.
websocket_status websocket_reader::advance(run& ready, std::byte*& raw,
                                           std::byte* raw_end) noexcept {
    if (!_error.empty()) return websocket_status::failed;
    std::size_t grown = 0;
    for (;;) {
        auto available = static_cast<std::size_t>(raw_end - raw);
        if (_left > 0) {
            if (available == 0) return websocket_status::need_more;
            std::size_t payload = std::min<std::uint64_t>(_left, available);
            auto waiting = static_cast<std::size_t>(ready.end - ready.begin);
            if (waiting == 0) ready = {raw, raw};
            if (ready.end == raw) {
                apply_mask({raw, payload}, _key, _phase);
                ready.end += payload;
            } else {
                if (grown > 0 && std::min(waiting, payload) > cheap_move_bytes)
                    return websocket_status::ready;
                if (waiting < payload) {
                    apply_mask({raw, payload}, _key, _phase);
                    std::memmove(raw - waiting, ready.begin, waiting);
                    ready = {raw - waiting, raw + payload};
                } else {
                    apply_mask(ready.end, raw, payload, _key, _phase);
                    ready.end += payload;
                }
            }
            raw += payload;
            grown += payload;
            _left -= payload;
            _phase += payload;
            continue;
        }
        if (available < 2) return websocket_status::need_more;

        header h;
        h.first = u8(raw[0]);
        h.second = u8(raw[1]);
        h.op = opcode(h.first & 0x0f);
        h.final = (h.first & fin) != 0;
        h.is_control = (h.first & 0x08) != 0;
        // What two bytes tell is refused before more is awaited.
        if ((h.first & rsv) != 0) return fail(1002, "websocket: RSV bits set");
        if ((h.second & mask_bit) != _mask_bit) return fail(1002, "websocket: bad MASK");
        if (h.is_control) {
            if (h.op > opcode::pong) return fail(1002, "websocket: bad opcode");
            if ((h.second & 0x7f) > max_control_payload)
                return fail(1002, "websocket: len > 125 for control");
            if (!h.final) return fail(1002, "websocket: FIN not set on control");
        } else {
            if (h.op > opcode::binary) return fail(1002, "websocket: bad opcode");
            if (_in_message && h.op != opcode::continuation)
                return fail(1002, "websocket: data before FIN");
            if (!_in_message && h.op == opcode::continuation)
                return fail(1002, "websocket: continuation after FIN");
        }
        if (!h.parse(raw, available)) return websocket_status::need_more;

        if (h.is_control) {
            if (available < h.bytes + h.payload) return websocket_status::need_more;
            bytes_span payload{raw + h.bytes, static_cast<std::size_t>(h.payload)};
            apply_mask(payload, h.key);
            raw += h.bytes + h.payload;
            if (websocket_status s = control(h, payload); s != websocket_status::ready) return s;
            continue;
        }
        if (h.op != opcode::continuation) _message = 0;
        if (h.payload >> 63 != 0) return fail(1002, "websocket: length above 2^63");
        if (h.payload > _limit - _message) return fail(1009, "websocket: read limit exceeded");
        _message += h.payload;
        _in_message = !h.final;
        _left = h.payload;
        _phase = 0;
        _key = h.key;
        raw += h.bytes;
    }
}

// `ready` means: go on.
websocket_status websocket_reader::control(const header& h, bytes_view payload) noexcept {
    if (h.op == opcode::ping) {
        reply(opcode::pong, payload);
        return websocket_status::ready;
    }
    if (h.op == opcode::pong) return websocket_status::ready;
    if (payload.size() == 1) return fail(1002, "websocket: bad close frame");
    std::size_t echoed = 0;
    if (payload.size() >= 2) {
        if (!valid_close_code(static_cast<unsigned>(u8(payload[0])) << 8 | u8(payload[1])))
            return fail(1002, "websocket: bad close code");
        if (!valid_utf8(payload.subspan(2)))
            return fail(1002, "websocket: invalid utf8 payload in close frame");
        echoed = 2;  // the code, without the text (docs/wire.md section 3.1)
    }
    reply(opcode::close, payload.first(echoed));
    _error = "websocket: closed by the peer";
    return websocket_status::closed;
}

websocket_status websocket_reader::fail(std::uint16_t close_code, std::string_view rule) noexcept {
    constexpr std::string_view prefix = "websocket: ";
    _error = rule;
    std::array<std::byte, max_control_payload> payload;
    std::string_view text = rule.substr(prefix.size());
    if (close_code == 1009) text.remove_suffix(text.size());  // as Go does
    payload[0] = std::byte(close_code >> 8);
    payload[1] = std::byte(close_code & 0xff);
    std::size_t size = std::min(text.size(), payload.size() - 2);
    std::memcpy(payload.data() + 2, text.data(), size);
    reply(opcode::close, {payload.data(), size + 2});
    return websocket_status::failed;
}

void websocket_reader::reply(opcode op, bytes_view payload) noexcept {
    // A newer Pong takes the place of one that was not taken; a Close comes behind it.
    std::size_t at = op == opcode::pong ? 0 : _pong_bytes;
    std::size_t size =
        write_frame_header(_reply.data() + at, op, payload.size(), _ours == websocket_role::client);
    if (!payload.empty()) std::memcpy(_reply.data() + at + size, payload.data(), payload.size());
    _reply_bytes = static_cast<std::uint16_t>(at + size + payload.size());
    if (op == opcode::pong) _pong_bytes = _reply_bytes;
}

bytes_view websocket_reader::take_reply() noexcept {
    bytes_view out{_reply.data(), _reply_bytes};
    _reply_bytes = _pong_bytes = 0;
    return out;
}

}  // namespace burin::http
