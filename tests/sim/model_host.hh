// A model of the host behind the TUN: a plain TCP that opens the connection, sends, reads and
// closes. Written for clarity and strictness, not speed: 64-bit stream offsets instead of sequence
// numbers (converted at the wire only), maps; go-back-N without SACK, holes only with it (RFC
// 6675). It throws when the peer breaks a rule that a host can see: a window that moves back, data
// beyond the window it showed, an ACK of what was never sent, SACK blocks that make no sense, ECN
// where none was agreed on.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "tests/sim/model_wire.hh"

namespace sim {

using micros = std::uint64_t;
inline constexpr micros never = ~micros{0};

enum class probe_style { one_byte, below_window };

struct host_settings {
    endpoint here;
    endpoint there;
    std::uint32_t isn = 0;
    std::uint16_t mss = 1460;
    int shift = 7;  // -1: no window scaling
    std::uint32_t receive_buffer = 65536;
    std::uint32_t superframe_segments = 1;  // how many segments leave as one frame
    bool delays_acks = true;
    bool sacks = true;          // offers SACK, and uses it when agreed on
    bool tells_doubles = true;  // D-SACK
    bool ecn = false;
    bool ecn_answered = false;  // the other end must agree on it; else it must not
    checksum checksums = checksum::complete;
    probe_style probes = probe_style::one_byte;
    std::uint64_t send_total = 0;
    std::uint64_t stream = 0;      // of pattern()
    bool closes_when_sent = true;  // else: when everything was read
    std::uint64_t receive_total = 0;
    std::uint64_t receive_stream = 0;
};

class model_host {
  public:
    explicit model_host(const host_settings& settings) : _set(settings) {}

    void connect(micros now);
    void on_frame(const bytes& frame, micros now);
    void on_timer(micros now);
    micros deadline() const;
    // The application reads up to `count` bytes that have arrived; they are checked on the way.
    void read(std::uint64_t count, micros now);
    void reset(micros now);
    // No matter what closes_when_sent says: FIN after the last byte.
    void close(micros now);
    // A part of what was sent, sent again with other borders: [from, upto) as stream offsets,
    // bounded to what is lawful. Nothing when there is nothing.
    void repeat(std::uint64_t from, std::uint64_t upto);

    // Frames since the last call, in order.
    std::vector<bytes> take_output() { return std::move(_out); }

    bool is_open() const { return _state == state::open; }
    // Everything sent and received, both FINs through.
    bool is_done() const { return _state == state::open && _fin_acked && _fin_read; }
    bool was_reset() const { return _state == state::dead; }
    bool sent_everything() const { return _una >= _set.send_total; }
    std::uint64_t read_total() const { return _read; }
    std::uint64_t arrived() const { return _received - _read; }
    // The highest sequence number, as an offset, that this host ever allowed.
    std::uint64_t right_edge() const { return _edge; }
    std::uint64_t sent_highest() const { return _highest; }
    std::uint64_t sent_una() const { return _una; }
    // Payload that came although this host had it and had said so.
    std::uint64_t needless_bytes() const { return _needless; }
    std::uint64_t received_segments() const { return _segments_in; }
    bool agreed_on_sack() const { return _sack; }

  private:
    enum class state { closed, syn_sent, open, dead };

    void on_syn_ack(const segment& in, micros now);
    void on_window(const segment& in, std::uint64_t ack);
    void on_ack(const segment& in, micros now);
    void on_data(const segment& in, micros now);
    void output(micros now);
    void retransmit_first(micros now);
    // Bytes of [from, upto) that the peer is not known to have.
    std::uint64_t unsacked(std::uint64_t from, std::uint64_t upto) const;
    void take_sack(const segment& in, std::uint64_t ack);
    void on_evidence(micros now);
    void repair_holes(micros now);
    std::uint64_t pipe() const;
    std::uint64_t segment_bytes() const;
    void add_sack(segment& out);
    bool holds(std::uint64_t from, std::uint64_t upto) const;
    void note_run(std::uint64_t from, std::uint64_t upto);
    void transmit(std::uint64_t at, std::uint64_t count, bool fin);
    void acknowledge();
    segment blank() const;
    std::uint64_t window_now() const;
    void show_window(segment& out);
    bool wants_fin() const;

    host_settings _set;
    state _state = state::closed;
    std::vector<bytes> _out;

    std::uint64_t _una = 0, _next = 0, _highest = 0;  // offsets; the FIN is at send_total
    std::uint64_t _allowed = 0;                       // right edge the peer has shown
    bool _peer_scales = false;
    int _peer_shift = 0;
    std::uint64_t _window_seq = 0;
    std::uint16_t _peer_mss = 536;
    std::uint64_t _cwnd = 0, _threshold = ~0ull;
    unsigned _duplicates = 0;
    std::uint64_t _recover = 0;
    micros _rto = 300'000, _rto_at = never;
    bool _fin_acked = false;
    bool _closing = false;
    bool _sack = false, _ecn = false;
    std::map<std::uint64_t, std::uint64_t> _sacked;  // start to end, apart from each other
    std::uint64_t _repaired = 0;                     // holes below are sent again
    std::uint64_t _lost_upto = 0;                    // and those below count as lost
    bool _cwr = false, _echo = false;
    std::uint64_t _reduced_upto = 0;

    std::uint32_t _peer_isn = 0;
    std::uint64_t _received = 0, _read = 0, _edge = 0, _shown = 0;
    std::map<std::uint64_t, bytes> _ahead;
    std::map<std::uint64_t, std::uint64_t> _runs;  // of it, start to end, apart from each other
    std::map<std::uint64_t, bytes> _ready;
    std::vector<std::uint64_t> _arrivals;  // starts of what lies ahead, the latest first
    std::uint64_t _double_start = 0, _double_end = 0;
    std::uint64_t _needless = 0, _segments_in = 0;
    std::uint64_t _peer_fin = ~0ull;
    bool _fin_read = false;
    unsigned _unacked_segments = 0;
    micros _delayed_at = never;
};

}  // namespace sim
