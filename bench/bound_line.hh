// The one TCP connection between the two ends of bench_bound: what the bare data path must do.
//
//   out: pieces wait where they were received; flush() seals them side by side into one arena, in
//   the order in which they came, and puts one send into the ring. One is in flight at a time.
//   in: a receive fills a block, packets are opened in place, payload goes to its stream with a
//   share of the block.
//
// No window, no scheduler, no framing around packets, no key exchange: keys are in this file, which
// is one of the reasons why this is no tunnel.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <unordered_map>

#include "bench/bound_wire.hh"
#include "ring/memory_pool.hh"
#include "ring/ring.hh"
#include "tun/payload.hh"

namespace bound {

// One end of one stream: a socket or a TUN flow.
class stream {
  public:
    virtual ~stream() = default;
    // Payload that lies in `block`; whoever keeps it shares the block, and tells line::taken().
    virtual void take(bytes_span payload, const ring::buffer& block) noexcept = 0;
    virtual void take_eof() noexcept = 0;
    virtual void take_reset() noexcept = 0;
    // So many bytes of line::send_data() have left their buffer.
    virtual void sealed(std::uint32_t bytes) noexcept = 0;
};

// Who hears of what is no stream's.
class line_events {
  public:
    virtual void on_open(std::uint32_t number, const sockaddr_in& target) noexcept = 0;
    virtual void on_over(int error) noexcept = 0;  // 0: the other end has closed

  protected:
    ~line_events() = default;
};

enum class role : std::uint8_t { near, far };

class line {
  public:
    line(ring::ring& r, int descriptor, role side, line_events& events)
        : _ring(r),
          _descriptor(descriptor),
          _events(events),
          _blocks(r, line_shape),
          _arenas(arena_bytes, 4, 4),
          _arena(_arenas.take()),
          _sealer(crypto::make_sealer(crypto::cipher::aes128_gcm, keys(side))),
          _opener(crypto::make_opener(crypto::cipher::aes128_gcm,
                                      keys(side == role::near ? role::far : role::near))) {
        if (_arena == nullptr) die("no memory");
    }

    // ---- streams; numbers are never used twice ----
    void attach(std::uint32_t number, stream& s) { _streams[number] = &s; }
    void detach(std::uint32_t number) noexcept {
        if (number == _last_number) _last = nullptr;
        _streams.erase(number);
    }

    // ---- out; each in the order of the calls ----
    void send_open(std::uint32_t number, const sockaddr_in& target) {
        piece p{.what = kind::open, .number = number, .count = ntohs(target.sin_port)};
        std::memcpy(p.address.data(), &target.sin_addr, p.address.size());
        _queue.push(std::move(p));
    }
    // Bytes in a receive buffer, or in a slice of the terminator's: whichever is given is held.
    void send_data(std::uint32_t number, bytes_view bytes, ring::buffer buffer,
                   tun::payload_slice slice = {}) {
        _queued += bytes.size();
        _queue.push({.what = kind::data,
                     .number = number,
                     .count = static_cast<std::uint32_t>(bytes.size()),
                     .data = bytes.data(),
                     .buffer = std::move(buffer),
                     .slice = std::move(slice)});
    }
    void send_end(std::uint32_t number, kind how) { _queue.push({.what = how, .number = number}); }

    std::uint64_t queued() const noexcept { return _queued; }
    // A stream got rid of bytes that it took.
    void taken(std::uint64_t bytes) noexcept { _waiting -= bytes; }

    void flush() noexcept {
        if (!_send.in_flight && !_queue.empty()) {
            seal();
            arm_send();
        }
        // What waits bounds itself: blocks that small pieces keep count as well.
        if (!_receive.in_flight && !_over && _waiting < most_waiting &&
            _blocks.held() < _blocks.count() / 2)
            _ring.receive_select(_receive, _descriptor, _blocks.id(), _blocks.bytes());
        _blocks.offer();
    }

    void report() const noexcept {
        const auto mean = [](std::uint64_t bytes, std::uint64_t times) {
            return static_cast<unsigned long long>(times == 0 ? 0 : bytes / times);
        };
        std::fprintf(stderr, "line: receives=%llu mean=%llu sends=%llu mean=%llu\n",
                     static_cast<unsigned long long>(_receives), mean(_received, _receives),
                     static_cast<unsigned long long>(_sends), mean(_sent_bytes, _sends));
    }

  private:
    struct piece {
        kind what = kind::data;
        std::uint32_t number = 0;
        std::uint32_t count = 0;  // of data: bytes left
        std::array<std::byte, 4> address{};
        const std::byte* data = nullptr;
        ring::buffer buffer = {};
        tun::payload_slice slice = {};
    };

    // Of what `side` seals.
    static crypto::cipher_keys keys(role side) {
        crypto::cipher_keys same;
        same.key.fill(static_cast<std::byte>(1 + static_cast<int>(side)));
        return same;
    }

    stream* find(std::uint32_t number) noexcept {
        if (_last != nullptr && _last_number == number) return _last;
        const auto found = _streams.find(number);
        if (found == _streams.end()) return nullptr;
        _last_number = number;
        return _last = found->second;
    }

    void seal() noexcept {
        _sealed = _sent = 0;
        while (!_queue.empty()) {
            piece& p = _queue.front();
            bytes_view body;
            if (p.what == kind::data)
                body = {p.data, std::min(p.count, packet_bytes)};
            else if (p.what == kind::open)
                body = p.address;
            const std::size_t size = _sealer->sealed_size(head_bytes + body.size());
            if (_sealed + size > seal_bytes) return;
            std::array<std::byte, head_bytes> head;
            head[0] = static_cast<std::byte>(p.what);
            store_u32(head.data() + 1, p.number);
            const auto bytes = static_cast<std::uint32_t>(body.size());
            store_u32(head.data() + 5, p.what == kind::data ? bytes : p.count);
            _sealed += _sealer->seal(_sent_packets++, head, body, _arena + _sealed);
            if (p.what == kind::data) {
                const std::uint32_t number = p.number;
                p.data += bytes;
                p.count -= bytes;
                _queued -= bytes;
                if (p.count == 0) _queue.pop();
                if (stream* s = find(number)) s->sealed(bytes);
            } else {
                _queue.pop();
            }
        }
    }

    void arm_send() noexcept {
        if (_sent < _sealed) _ring.send(_send, _descriptor, {_arena + _sent, _sealed - _sent});
    }

    void on_sent(ring::completion c) noexcept {
        if (c.result > 0) {
            ++_sends;
            _sent_bytes += static_cast<std::uint64_t>(c.result);
            _sent += static_cast<std::size_t>(c.result);
        } else if (c.result != -EINTR && c.result != -EAGAIN) {
            return over(-c.result);
        }
        arm_send();
    }

    void on_received(ring::completion c) noexcept {
        ring::buffer block;
        if (c.has_buffer()) block = _blocks.take(c);
        if (c.result == -ENOBUFS) return _blocks.ran_out();
        if (c.result == -EINTR || c.result == -EAGAIN) return;
        if (c.result <= 0) return over(-c.result);
        ++_receives;
        _received += static_cast<std::uint64_t>(c.result);
        // What the last receive left of a packet goes right in front of the new bytes.
        const auto rest = static_cast<std::size_t>(_run_end - _run);
        std::byte* begin = block.data() - rest;
        if (rest > 0) std::memcpy(begin, _run, rest);
        _run = begin;
        _run_end = block.data() + c.result;
        _block = std::move(block);
        open_packets();
        if (_run == _run_end) _block.reset();
    }

    void open_packets() noexcept {
        while (!_over) {
            const auto got =
                _opener->open(_received_packets, {_run, static_cast<std::size_t>(_run_end - _run)});
            if (got.state == crypto::packet_opener::opened::status::need_more) return;
            if (got.state == crypto::packet_opener::opened::status::broken) return over(EBADMSG);
            ++_received_packets;
            _run += got.wire_bytes;
            take(got.payload);
        }
    }

    void take(bytes_span packet) noexcept {
        if (packet.size() < head_bytes) return over(EBADMSG);
        const auto what = static_cast<kind>(packet[0]);
        const std::uint32_t number = load_u32(packet.data() + 1);
        const std::uint32_t count = load_u32(packet.data() + 5);
        const bytes_span body = packet.subspan(head_bytes);
        if (what == kind::open) {
            sockaddr_in target{};
            if (body.size() != sizeof target.sin_addr) return over(EBADMSG);
            target.sin_family = AF_INET;
            target.sin_port = htons(static_cast<std::uint16_t>(count));
            std::memcpy(&target.sin_addr, body.data(), body.size());
            return _events.on_open(number, target);
        }
        stream* s = find(number);
        if (s == nullptr) return;  // reset meanwhile
        switch (what) {
            case kind::data:
                if (body.size() != count) return over(EBADMSG);
                _waiting += count;
                return s->take(body, _block);
            case kind::eof: return s->take_eof();
            case kind::reset: return s->take_reset();
            default: return over(EBADMSG);
        }
    }

    void over(int error) noexcept {
        if (std::exchange(_over, true)) return;
        _events.on_over(error);
    }

    ring::ring& _ring;
    int _descriptor;
    line_events& _events;
    ring::buffer_group _blocks;
    ring::memory_pool _arenas;
    std::unordered_map<std::uint32_t, stream*> _streams;
    stream* _last = nullptr;  // packets of one stream come in a row
    std::uint32_t _last_number = 0;

    // ---- out ----
    fifo<piece> _queue;
    std::uint64_t _queued = 0;
    std::byte* _arena;
    std::size_t _sealed = 0, _sent = 0;
    std::unique_ptr<crypto::packet_sealer> _sealer;
    std::uint32_t _sent_packets = 0;
    ring::member_op<&line::on_sent> _send{this};

    // ---- in ----
    ring::buffer _block;  // where the run lies
    std::byte* _run = nullptr;
    std::byte* _run_end = nullptr;
    std::unique_ptr<crypto::packet_opener> _opener;
    std::uint32_t _received_packets = 0;
    std::uint64_t _waiting = 0;  // delivered to streams, and not yet taken
    ring::member_op<&line::on_received> _receive{this};

    bool _over = false;
    std::uint64_t _receives = 0, _received = 0, _sends = 0, _sent_bytes = 0;
};

}  // namespace bound
