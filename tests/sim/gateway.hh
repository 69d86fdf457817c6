// The relay's side of a flow, as a test wants it: opens the flow on a SYN, takes what it delivers
// into a far side with a window of its own, feeds it slices of shared blocks, and watches every
// promise of tun/tcp.hh while doing so. Throws std::runtime_error at the first broken one.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/sim/model_wire.hh"
#include "tests/sim/random.hh"
#include "tun/tcp.hh"

namespace sim {

struct gateway_settings {
    burin::tun::tcp_settings tcp;
    std::uint64_t far_window = 256 * 1024;   // what the far side grants for bytes from the host
    std::uint64_t near_window = 256 * 1024;  // what we grant for bytes towards the host
    std::uint64_t receive_total = 0;
    std::uint64_t receive_stream = 0;
    std::uint64_t send_total = 0;
    std::uint64_t send_stream = 0;
    bool closes_when_sent = true;  // else: after the host's FIN
    std::uint32_t largest_slice = 32768;
    std::uint32_t refuse_per_million = 0;  // how often emit() has no room
};

class gateway final : private burin::tun::tcp_events {
  public:
    gateway(const gateway_settings& settings, std::uint64_t seed);
    ~gateway();

    void on_frame(const bytes& frame, std::uint64_t now);
    void accept(std::uint64_t now);
    void abort();
    // The same without a word to the host.
    void drop();
    // What a router says about a frame of ours; `mtu` in bytes.
    void packet_too_big(std::uint32_t mtu);
    // No matter what closes_when_sent says: FIN after the last byte.
    void close(std::uint64_t now);
    void on_timer(std::uint64_t now);
    void flush(std::uint64_t now);
    // The far side takes up to `count` bytes of what it was given and grants as many again.
    void consume(std::uint64_t count, std::uint64_t now);
    // The far side sends up to `count` bytes, as its window allows. False: none.
    bool produce(std::uint64_t count, std::uint64_t now);

    std::vector<bytes> take_output() { return std::move(_out); }
    bool wants_turn() const { return _context.pending(); }
    bool waits_for_accept() const;
    std::uint64_t deadline() const { return _armed; }
    // The whole stream came, was checked and was taken; the whole other one was acknowledged.
    bool transferred() const;
    // The same, but for what the far side has yet to take.
    bool exchanged() const { return _delivered == _set.receive_total && _acked == _set.send_total; }
    bool closed() const { return _closed; }
    bool was_closed(burin::tun::tcp_close reason) const { return _closed && _reason == reason; }
    bool is_quiet() const;  // over, or in TIME_WAIT
    void check() const;
    // After closed(): destroys the flow and demands that nothing is left of it.
    void bury();
    const burin::tun::tcp_statistics& statistics() { return _context.statistics(); }
    std::uint64_t dropped_frames() const { return _dropped; }
    std::uint64_t delivered() const { return _delivered; }
    std::uint64_t acked_total() const { return _acked; }
    bool produced_everything() const { return _produced == _set.send_total; }
    bool sent_fin() const { return _fin_given; }
    bool holds_delivered() const { return _consumed < _delivered; }

    // Right edge of the host's window, as an offset; data must stay below it.
    void set_host_edge(std::uint64_t edge) { _host_edge = edge; }

  private:
    struct block : burin::tun::payload_holder {
        gateway* owner = nullptr;
        bytes data;
        std::uint64_t used = 0;
    };

    bool emit(burin::tun::tcp_flow&, const burin::tun::tcp_frame&) noexcept override;
    void deliver(burin::tun::tcp_flow&, burin::bytes_view,
                 burin::tun::payload_holder*) noexcept override;
    void finished(burin::tun::tcp_flow&) noexcept override;
    void acked(burin::tun::tcp_flow&, std::uint32_t) noexcept override;
    void arm(burin::tun::tcp_flow&, std::uint64_t) noexcept override;
    void closed(burin::tun::tcp_flow&, burin::tun::tcp_close) noexcept override;
    static void release_block(burin::tun::payload_holder*) noexcept;

    void fail(const char* what) noexcept;
    void throw_failure();
    void check_emitted(const segment& out) noexcept;
    void grant();
    void maybe_fin(std::uint64_t now);
    void new_block();

    gateway_settings _set;
    random _random;
    burin::tun::tcp_context _context;
    std::unique_ptr<burin::tun::tcp_flow> _flow;
    std::vector<bytes> _out;
    const char* _failure = nullptr;

    std::uint64_t _delivered = 0, _consumed = 0, _granted = 0;
    std::uint64_t _produced = 0, _acked = 0;
    bool _fin_in = false, _fin_given = false, _closed = false;
    burin::tun::tcp_close _reason = burin::tun::tcp_close::finished;
    std::uint64_t _armed = ~0ull;
    block* _block = nullptr;
    std::uint64_t _live_blocks = 0;
    std::uint64_t _dropped = 0;

    bool _have_edge = false;
    std::uint32_t _shown_edge = 0;
    int _our_shift = 0;
    bool _host_scales = false;
    std::uint32_t _host_isn = 0, _our_isn = 0;
    std::uint64_t _host_edge = 65535;
};

}  // namespace sim
