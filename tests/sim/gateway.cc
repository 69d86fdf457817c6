#include "tests/sim/gateway.hh"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace sim {

using namespace burin::tun;

gateway::gateway(const gateway_settings& settings, std::uint64_t seed)
    : _set(settings), _random(seed), _context(*this, settings.tcp) {}

gateway::~gateway() {
    _flow.reset();
    if (_block != nullptr && --_block->references == 0) release_block(_block);
}

// Callbacks are noexcept: the first failure is kept and thrown when the call is over.
void gateway::fail(const char* what) noexcept {
    if (_failure == nullptr) _failure = what;
}
void gateway::throw_failure() {
    if (_failure != nullptr) throw std::runtime_error(std::string("gateway: ") + _failure);
}

void gateway::release_block(payload_holder* holder) noexcept {
    auto* gone = static_cast<block*>(holder);
    --gone->owner->_live_blocks;
    delete gone;
}

void gateway::new_block() {
    if (_block != nullptr && --_block->references == 0) release_block(_block);
    _block = new block;
    _block->owner = this;
    _block->release = release_block;
    _block->references = 1;
    _block->data.resize(256 * 1024);
    ++_live_blocks;
}

void gateway::on_frame(const bytes& frame, std::uint64_t now) {
    const burin::bytes_view view(reinterpret_cast<const std::byte*>(frame.data()), frame.size());
    parsed_frame parsed;
    if (parse_frame(view, parsed) != frame_kind::tcp) {
        ++_dropped;
        return;
    }
    if (_flow == nullptr || _flow->state() == tcp_state::closed) {
        const bool opens = (parsed.flags & ~(tcp_ece | tcp_cwr)) == tcp_syn && !_closed;
        if (opens) {
            _flow = std::make_unique<tcp_flow>(_context, parsed, now);
            _host_isn = parsed.seq.value();
            _host_scales = parsed.options.window_shift >= 0;
        } else {
            header_buffer header;
            if (write_reset(header, parsed)) {
                const auto* raw = reinterpret_cast<const std::uint8_t*>(header.bytes().data());
                _out.emplace_back(raw, raw + header.bytes().size());
            }
        }
    } else {
        _flow->on_segment(parsed, now);
        maybe_fin(now);
    }
    check();
}

bool gateway::waits_for_accept() const {
    return _flow != nullptr && _flow->state() == tcp_state::opening;
}

void gateway::accept(std::uint64_t now) {
    if (!waits_for_accept()) return;
    _granted = _set.far_window;
    _flow->accept(static_cast<std::uint32_t>(_granted), now);
    check();
}

void gateway::abort() {
    _flow->abort();
    throw_failure();
}

void gateway::drop() {
    _flow->drop();
    throw_failure();
}

void gateway::packet_too_big(std::uint32_t mtu) {
    if (_flow != nullptr) _flow->on_packet_too_big(mtu);
    check();
}

void gateway::close(std::uint64_t now) {
    _set.closes_when_sent = true;
    maybe_fin(now);
    check();
}

void gateway::on_timer(std::uint64_t now) {
    _armed = ~0ull;
    if (_flow != nullptr) _flow->on_timer(now);
    check();
}

void gateway::flush(std::uint64_t now) {
    _context.flush(now);
    check();
}

void gateway::grant() {
    if (_flow == nullptr) return;
    _granted = _set.far_window - (_delivered - _consumed);
    _flow->set_receive_credit(static_cast<std::uint32_t>(_granted));
}

void gateway::consume(std::uint64_t count, std::uint64_t now) {
    _consumed = std::min(_delivered, _consumed + count);
    grant();
    maybe_fin(now);  // credit may have let the host's FIN through
    check();
}

bool gateway::produce(std::uint64_t count, std::uint64_t now) {
    if (_flow == nullptr || _closed || _flow->state() == tcp_state::opening) return false;
    const std::uint64_t before = _produced;
    while (count > 0 && _produced < _set.send_total) {
        const std::uint64_t window = _set.near_window - (_produced - _acked);
        std::uint64_t size = std::min(
            {_random.between(1, _set.largest_slice), count, window, _set.send_total - _produced});
        if (size == 0) break;
        if (_block == nullptr || _block->used == _block->data.size()) new_block();
        size = std::min<std::uint64_t>(size, _block->data.size() - _block->used);
        std::uint8_t* at = _block->data.data() + _block->used;
        fill_pattern(at, size, _set.send_stream, _produced);
        _block->used += size;
        payload_slice slice({reinterpret_cast<const std::byte*>(at), size}, _block);
        if (!_flow->send(std::move(slice), now)) fail("send() refused");
        _produced += size;
        count -= size;
    }
    maybe_fin(now);
    check();
    return _produced > before;
}

void gateway::maybe_fin(std::uint64_t now) {
    if (_fin_given || _closed || _produced < _set.send_total) return;
    if (!_set.closes_when_sent && !_fin_in) return;
    if (_flow == nullptr || _flow->state() == tcp_state::opening) return;
    _fin_given = true;
    _flow->send_fin(now);
}

bool gateway::emit(tcp_flow&, const tcp_frame& frame) noexcept {
    if (_random.chance(_set.refuse_per_million)) return false;
    bytes out;
    const auto* header = reinterpret_cast<const std::uint8_t*>(frame.header.data());
    out.assign(header, header + frame.header.size());
    std::uint64_t total = 0;
    for (const payload_piece& piece : frame.payload) {
        const auto* data = reinterpret_cast<const std::uint8_t*>(piece.data);
        out.insert(out.end(), data, data + piece.length);
        total += piece.length;
        if (piece.holder == nullptr || piece.holder->references == 0) fail("a piece nobody owns");
    }
    if (total != frame.payload_bytes) fail("payload_bytes is not the sum of the pieces");
    try {
        check_emitted(read_frame(out));
    } catch (const std::exception&) {
        fail("emitted a frame that cannot be read");
    }
    _out.push_back(std::move(out));
    return true;
}

void gateway::check_emitted(const segment& out) noexcept {
    if (out.rst) return;
    if (out.syn) {
        _our_isn = out.seq;
        _our_shift = _host_scales && out.shift > 0 ? out.shift : 0;
    }
    if (_flow == nullptr) return;
    const std::uint32_t edge =
        out.ack + (static_cast<std::uint32_t>(out.window) << (out.syn ? 0 : _our_shift));
    if (_have_edge && static_cast<std::int32_t>(edge - _shown_edge) < 0) {
        // A FIN's own number lies beyond the window and moves nothing.
        if (!(_fin_in && _shown_edge - edge <= 1)) fail("the right edge moved back");
    }
    _have_edge = true;
    _shown_edge = edge;
    const auto expected =
        static_cast<std::uint32_t>(_host_isn + 1 + _delivered + (_fin_in ? 1 : 0));
    if (out.ack != expected) fail("ACK is not what was delivered");
    if (!out.data.empty()) {
        const std::uint32_t start = out.seq - (_our_isn + 1);
        const std::uint64_t end = start + out.data.size();
        if (end > _host_edge) fail("data beyond the host's window");
        if (end > _produced) fail("data that was never given");
        if (start + 0ull < (_acked > 0 ? _acked : 0)) fail("acknowledged data sent again");
    }
}

void gateway::deliver(tcp_flow& flow, burin::bytes_view data, payload_holder* holder) noexcept {
    if (data.empty()) fail("delivered nothing");
    if (_fin_in) fail("delivered after FIN");
    if (data.size() > _granted) fail("delivered more than the credit");
    if (holder != nullptr && holder->references == 0) fail("delivered what nobody owns");
    if (!is_pattern(reinterpret_cast<const std::uint8_t*>(data.data()), data.size(),
                    _set.receive_stream, _delivered)) {
        fail("delivered a wrong byte");
        return;
    }
    _delivered += data.size();
    _granted -= std::min<std::uint64_t>(_granted, data.size());
    if (flow.receive_credit() != _granted) fail("credit accounting");
}

void gateway::finished(tcp_flow&) noexcept {
    if (_fin_in) fail("finished() twice");
    if (_delivered != _set.receive_total) fail("FIN before the last byte");
    _fin_in = true;
}

void gateway::acked(tcp_flow&, std::uint32_t count) noexcept {
    _acked += count;
    if (_acked > _produced) fail("more acknowledged than sent");
}

void gateway::arm(tcp_flow&, std::uint64_t at) noexcept {
    if (at >= _armed) fail("armed later than before");
    _armed = at;
}

void gateway::closed(tcp_flow&, tcp_close reason) noexcept {
    if (_closed) fail("closed() twice");
    _closed = true;
    _reason = reason;
}

bool gateway::transferred() const {
    return _delivered == _set.receive_total && _consumed == _delivered && _acked == _set.send_total;
}

bool gateway::is_quiet() const {
    return _closed || (_flow != nullptr && _flow->state() == tcp_state::time_wait);
}

void gateway::check() const {
    if (_failure != nullptr) const_cast<gateway*>(this)->throw_failure();
    if (_flow == nullptr || _closed) return;
    auto demand = [](bool holds, const char* what) {
        if (!holds) throw std::runtime_error(std::string("gateway: ") + what);
    };
    const tcp_state state = _flow->state();
    if (state == tcp_state::opening) return;
    demand(_flow->unacknowledged() == _produced - _acked, "unacknowledged() and acked() differ");
    demand(_produced - _acked <= _set.near_window, "more held than granted");
    demand(_flow->receive_credit() == _granted, "credit differs");
    // Only units and the reserve for rounding may show more than there is credit for.
    demand(_flow->advertised() <= _granted + 65536, "window far above the credit");
    demand(_flow->reassembly_bytes() <= _set.far_window + 65536, "reassembly above the window");
    demand(_context.scoreboards().taken() <= 1, "more than one scoreboard");
    if (state == tcp_state::open && _flow->in_flight() > 0) {
        demand(_flow->deadline() != never_us || wants_turn(), "data in flight without a timer");
    }
    demand(_flow->deadline() >= _armed, "a deadline that was not armed");
}

void gateway::bury() {
    if (_flow != nullptr && !_closed) throw std::runtime_error("gateway: flow never closed");
    _flow.reset();
    if (_block != nullptr && --_block->references == 0) release_block(_block);
    _block = nullptr;
    if (_context.pending()) throw std::runtime_error("gateway: a dead flow on the list");
    if (_context.scoreboards().taken() != 0) {
        throw std::runtime_error("gateway: a scoreboard left");
    }
    if (_context.pool().taken() != 0) throw std::runtime_error("gateway: list nodes left");
    if (_live_blocks != 0) throw std::runtime_error("gateway: blocks left");
    if (copied_payload_bytes() != 0) throw std::runtime_error("gateway: copies left");
}

}  // namespace sim
