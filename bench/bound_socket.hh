// A TCP socket at one end of a stream of bench_bound, at either end of the line: read, hand on,
// write, with the sizes that core/relay/socket_relay.cc has.
//
// A socket is read again when what it brought is sealed. What is for it goes out in one sendmsg a
// turn; a socket that is slow keeps blocks of the line, of which bound_line.hh bounds the number.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>

#include "bench/bound_line.hh"

namespace bound {

class socket_stream;

// The sockets of one end, and the lists that its flush works through.
class sockets {
  public:
    sockets(ring::ring& r, line& l) : _ring(r), _line(l), _buffers(r, socket_shape) {}

    void flush_sends() noexcept;
    void flush_receives() noexcept;
    void bury() noexcept;

  private:
    friend class socket_stream;
    // As the tunnel's (relay::context::receive_share).
    std::uint32_t receive_share() const noexcept {
        return std::clamp(turn_bytes / std::max(1u, _received_last_turn), least_receive,
                          _buffers.bytes());
    }

    ring::ring& _ring;
    line& _line;
    ring::buffer_group _buffers;
    std::vector<socket_stream*> _sending, _receiving, _now, _dead;
    std::uint32_t _received_last_turn = 0, _received_this_turn = 0;
};

class socket_stream final : public stream {
  public:
    // Near end: accepted here. Far end: not connected yet.
    socket_stream(sockets& all, std::uint32_t number, int descriptor)
        : _all(all), _number(number), _descriptor(descriptor) {
        _all._line.attach(number, *this);
    }

    void accepted() noexcept {
        _connected = true;
        want_receive();
    }
    void connect(const sockaddr_in& target) noexcept {
        _target = target;
        _all._ring.connect(_other, _descriptor, as_sockaddr(_target), sizeof _target);
    }

    // ---- stream ----
    void take(bytes_span payload, const ring::buffer& block) noexcept override {
        if (_ending || _write_ended) return _all._line.taken(payload.size());
        _out.push({block.share(), payload.data(), payload.size()});
        want_send();
    }
    void take_eof() noexcept override {
        _write_ending = true;
        settle();
    }
    void take_reset() noexcept override { end(); }
    void sealed(std::uint32_t) noexcept override { want_receive(); }

  private:
    friend class sockets;
    struct part {
        ring::buffer block;
        const std::byte* data = nullptr;
        std::size_t size = 0;
    };

    void on_connected(ring::completion c) noexcept {
        if (_ending) return retire();
        if (c.result < 0) return reset();
        _connected = true;
        want_receive();
        want_send();
        settle();
    }

    void want_receive() noexcept {
        if (_listed_receiving || _receive.in_flight || _read_ended || _ending) return;
        _listed_receiving = true;
        _all._receiving.push_back(this);
    }
    void arm_receive() noexcept {
        _listed_receiving = false;
        if (_receive.in_flight || _read_ended || _ending || !_connected) return;
        const std::uint32_t wanted = std::max(least_receive, 2 * _last_received);
        _all._ring.receive_select(_receive, _descriptor, _all._buffers.id(),
                                  std::min(wanted, _all.receive_share()));
    }
    void on_received(ring::completion c) noexcept {
        ring::buffer buffer;
        if (c.has_buffer()) buffer = _all._buffers.take(c);
        if (_ending) return retire();
        if (c.result > 0) {
            _last_received = static_cast<std::uint32_t>(c.result);
            ++_all._received_this_turn;
            const bytes_view bytes(buffer.data(), _last_received);
            return _all._line.send_data(_number, bytes, std::move(buffer));
        }
        if (c.result == -ENOBUFS) _all._buffers.ran_out();
        if (c.result == -ENOBUFS || c.result == -EINTR || c.result == -EAGAIN)
            return want_receive();
        if (c.result < 0) return reset();
        _read_ended = true;
        _all._line.send_end(_number, kind::eof);
        settle();
    }

    void want_send() noexcept {
        if (_listed_sending || _send.in_flight || !_connected || _ending) return;
        _listed_sending = true;
        _all._sending.push_back(this);
    }
    void arm_send() noexcept {
        _listed_sending = false;
        if (_send.in_flight || _ending || _out.empty()) return;
        const std::size_t count = std::min(_out.size(), _vectors.size());
        for (std::size_t at = 0; at < count; ++at)
            _vectors[at] = {const_cast<std::byte*>(_out[at].data), _out[at].size};
        _message.msg_iov = _vectors.data();
        _message.msg_iovlen = count;
        _all._ring.send_message(_send, _descriptor, &_message, 0);
    }
    void on_sent(ring::completion c) noexcept {
        if (_ending) return retire();
        if (c.result < 0 && c.result != -EINTR && c.result != -EAGAIN) return reset();
        auto left = static_cast<std::size_t>(std::max(0, c.result));
        _all._line.taken(left);
        while (left > 0) {
            part& first = _out.front();
            const std::size_t now = std::min(left, first.size);
            first.data += now;
            first.size -= now;
            left -= now;
            if (first.size == 0) _out.pop();
        }
        if (!_out.empty()) return want_send();
        settle();
    }

    void settle() noexcept {
        if (_ending) return retire();
        if (_write_ending && !_write_ended && _connected && _out.empty() && !_send.in_flight) {
            _write_ended = true;
            ::shutdown(_descriptor, SHUT_WR);
        }
        if (_read_ended && _write_ended) end();
    }
    void reset() noexcept {
        if (!_ending) _all._line.send_end(_number, kind::reset);
        end();
    }
    void end() noexcept {
        if (std::exchange(_ending, true)) return;
        _all._line.detach(_number);
        // Unsent bytes, or a side that has not ended: the program sees a reset.
        const linger hard{_read_ended && _write_ended ? 0 : 1, 0};
        ::setsockopt(_descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
        if (_receive.in_flight || _send.in_flight || _other.in_flight)
            _all._ring.cancel(_cancel, _descriptor);
        retire();
    }
    void on_cancelled(ring::completion) noexcept { retire(); }
    void retire() noexcept {
        if (_dead || _receive.in_flight || _send.in_flight || _other.in_flight || _cancel.in_flight)
            return;
        _dead = true;
        for (; !_out.empty(); _out.pop()) _all._line.taken(_out.front().size);
        _all._ring.close_quietly(_descriptor);
        _all._dead.push_back(this);
    }

    sockets& _all;
    std::uint32_t _number;
    int _descriptor;
    sockaddr_in _target{};
    fifo<part> _out;
    std::array<iovec, 256> _vectors;
    msghdr _message{};
    std::uint32_t _last_received = 0;
    bool _connected = false, _read_ended = false, _write_ending = false, _write_ended = false;
    bool _listed_sending = false, _listed_receiving = false, _ending = false, _dead = false;
    ring::member_op<&socket_stream::on_received> _receive{this};
    ring::member_op<&socket_stream::on_sent> _send{this};
    ring::member_op<&socket_stream::on_connected> _other{this};
    ring::member_op<&socket_stream::on_cancelled> _cancel{this};
};

inline void sockets::flush_sends() noexcept {
    _now.swap(_sending);
    for (socket_stream* s : _now) s->arm_send();
    _now.clear();
}

inline void sockets::flush_receives() noexcept {
    _received_last_turn = std::exchange(_received_this_turn, 0);
    _now.swap(_receiving);
    for (socket_stream* s : _now) s->arm_receive();
    _now.clear();
    _buffers.offer();
}

// After the lists have been worked through, so that none names what is freed.
inline void sockets::bury() noexcept {
    std::erase_if(_dead, [](socket_stream* s) {
        const bool free = !s->_listed_sending && !s->_listed_receiving;
        if (free) delete s;
        return free;
    });
}

}  // namespace bound
