// What an opener says about a channel before its open is answered, by its own number because it
// knows no other: that it takes the open back (docs/wire.md section 8.9), and payload (13.4). That
// is part of the window which the answer will grant, and so of the budget from the open on.
#include <algorithm>
#include <utility>

#include "core/ssh/connection.hh"

namespace burin::ssh {

// Ends of ours number their channels from 0.
void connection::note_remote(channel& c) noexcept {
    const std::uint32_t most = std::max(early_channels, _limits.max_channels);
    if ((!_takes_opens_back && !_takes_early_data) || c.remote >= most) return;
    if (c.remote >= _by_remote.size()) _by_remote.resize(c.remote + 1);
    _by_remote[c.remote] = &c;
}

channel* connection::find_remote(std::uint32_t id) const noexcept {
    return id < _by_remote.size() ? _by_remote[id] : nullptr;
}

void connection::take_back(bytes_view rest) noexcept {
    if (rest.size() != 4) return violation("malformed cancel-open");
    channel* c = find_remote(load_u32(rest.data()));
    // It may have been answered meanwhile.
    if (c == nullptr || c->state != channel_state::asked || c->end == nullptr) return;
    channel_end* end = std::exchange(c->end, nullptr);
    refuse(*c, open_failure_reason::connect_failed, "taken back");
    end->on_closed(close_cause::cut_off);
}

void connection::on_early(bytes_span payload, const ring::buffer& holder) noexcept {
    if (!_takes_early_data) return violation("early data without the feature");
    if (number_of(payload) == message::early_data) return on_early_data(payload, holder);
    on_early_eof(payload);
}

void connection::on_early_data(bytes_span payload, const ring::buffer& holder) noexcept {
    if (payload.size() < data_header_bytes) return violation("malformed early data");
    const std::uint32_t id = load_u32(payload.data() + 1), size = load_u32(payload.data() + 5);
    if (size != payload.size() - data_header_bytes) return violation("malformed early data");
    // What comes for such a channel could not be told from what comes for one that is gone.
    if (id >= early_channels) return violation("early data on a channel of a high number");
    channel* c = find_remote(id);
    if (c == nullptr) {  // its open was refused, or taken back, while this was under way
        _counters.dropped_bytes += size;
        return;
    }
    if (c->eof_received) return violation("data after EOF");
    if (c->bytes_received + size > early_bytes || size > c->receive_left)
        return violation("more early data than may be");
    take(*c, payload.subspan(data_header_bytes), holder);
}

void connection::on_early_eof(bytes_view payload) noexcept {
    std::uint32_t id;
    if (!parse_recipient(payload, id)) return violation("malformed early EOF");
    if (id >= early_channels) return violation("early data on a channel of a high number");
    channel* c = find_remote(id);
    if (c == nullptr || c->eof_received) return;
    c->eof_received = true;
    _peer_sends_eof = true;
    if (c->end != nullptr) c->end->on_eof();
}

}  // namespace burin::ssh
