// One connection of the load generator as a machine over a nonblocking socket, the same for both
// ends.
//
//   client                                     server
//   request: "BLOAD1" op '\n' seed offset up down ->
//                                              <- "BREADY1\n"
//   'G' (all streams are open: the clock runs) ->
//   `up` bytes of pattern                      <-> `down` bytes of pattern
//                                              <- report: "BREPORT\n" received, first bad position,
//                                              sent
//
// Integers are 64 bits, little endian. A count of no_position means "until the client half-closes";
// the report is always the last 32 bytes. An op of 'h' holds the connection open after the report,
// 'e' echoes, 's' never reads. A connection whose first byte is '?' gets '!' (the one-byte request
// of `connect`).
#pragma once

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "bench/load_pattern.hh"

namespace load {

static_assert(std::endian::native == std::endian::little, "the request is written as it lies");

inline constexpr std::size_t request_size = 40;
inline constexpr std::size_t ready_size = 8;
inline constexpr std::size_t report_size = 32;
inline constexpr char ready_text[] = "BREADY1\n";
inline constexpr char report_text[] = "BREPORT\n";
inline constexpr int pieces_per_turn = 4;  // 1 MiB a turn, so that streams of one thread share it

struct request {
    char magic[6] = {'B', 'L', 'O', 'A', 'D', '1'};
    char op = 'b';
    char end = '\n';
    std::uint64_t seed = 0;
    std::uint64_t offset = 0;
    std::uint64_t up = 0;
    std::uint64_t down = 0;
};
static_assert(sizeof(request) == request_size);

struct report {
    char magic[8] = {};
    std::uint64_t received = 0;
    std::uint64_t bad_at = no_position;
    std::uint64_t sent = 0;
};
static_assert(sizeof(report) == report_size);

// Where downward streams start relative to upward ones, so that an echo is not taken for an answer.
inline constexpr std::uint64_t down_shift = 77777;

// The patterns asked for so far; they stay, a benchmark uses few seeds.
inline const pattern& pattern_of(std::uint64_t seed) {
    static std::mutex guard;
    static std::map<std::uint64_t, std::unique_ptr<pattern>> known;
    const std::lock_guard lock(guard);
    auto& entry = known[seed];
    if (!entry) entry = std::make_unique<pattern>(seed);
    return *entry;
}

enum class step { more, done, failed };

// What a far end does for strangers; by default all that it is asked.
struct manners {
    std::uint64_t most_seeds = no_position;  // each costs half a megabyte, for good
    std::size_t echo_bytes = largest_piece;  // held for a client that sends and does not read
    bool keeps_idle = true;                  // 'h' and 's'
};

// Owns its descriptor. `turn` is called when epoll says that the socket is readable or writable.
class flow {
  public:
    enum class role { client, fresh, server, echo, stall, raw };

    // `bounds` outlives the flow.
    flow(int fd, role kind, const manners& bounds = anything) noexcept
        : _fd(fd), _role(kind), _bounds(bounds) {}
    flow(const flow&) = delete;
    flow& operator=(const flow&) = delete;
    ~flow() {
        if (_fd >= 0) ::close(_fd);
    }

    // The client's half, after "BREADY1\n" has been read.
    void start_client(const request& asked, const pattern& data) noexcept {
        _request = asked;
        _data = &data;
        _head[0] = 'G';
        _head_size = 1;
        _go = true;
        set_totals(asked.up, asked.down, asked.offset, asked.offset + down_shift);
    }

    // A listener of one purpose: sends `down` bytes, or swallows (and checks, if `data`) whatever
    // comes.
    void start_raw(std::uint64_t down, const pattern* data, bool check) noexcept {
        _data = data;
        _check = check;
        _go = true;
        _eager = true;
        _closes = down > 0;
        set_totals(down, no_position, 0, 0);
    }

    step turn(bool readable, bool writable, std::vector<std::uint8_t>& buffer) {
        if (readable && wants_input()) {
            const step result = read_some(buffer);
            if (result != step::more) return result;
        }
        if ((writable || _eager) && wants_output()) return write_some();
        return finished() ? step::done : step::more;
    }

    // The client's clock ran out: nothing more is sent, and the half-close asks the server to stop.
    void stop() noexcept {
        if (_stopped) return;
        _stopped = true;
        _send_total = _sent;
        ::shutdown(_fd, SHUT_WR);
    }

    bool wants_input() const noexcept {
        if (_role == role::echo && !_pending.empty()) return false;
        return !_input_ended && _role != role::stall;
    }
    bool wants_output() const noexcept {
        if (_head_sent < _head_size || !_pending.empty()) return true;
        return _go && (body_left() || _tail_sent < _tail_size);
    }

    int fd() const noexcept { return _fd; }
    role kind() const noexcept { return _role; }
    std::uint64_t received() const noexcept { return _received; }
    std::uint64_t sent() const noexcept { return _sent; }
    const std::string& error() const noexcept { return _error; }
    bool clean() const noexcept { return _bad_at == no_position; }
    std::uint64_t bad_at() const noexcept { return _bad_at; }
    std::uint32_t armed = 0;  // the epoll events that the loop asked for
    std::uint32_t home = 0;   // the server thread that carries it
    // Its time is over: whoever carries it ends it at its next event. Any thread sets it.
    std::atomic<bool> expired{false};

  private:
    static constexpr manners anything{};

    bool body_left() const noexcept { return _sent < _send_total && _data != nullptr; }

    void set_totals(std::uint64_t send, std::uint64_t receive, std::uint64_t send_from,
                    std::uint64_t receive_from) noexcept {
        _send_total = send;
        _receive_total = receive;
        _send_from = send_from;
        _receive_from = receive_from;
    }

    step fail(const char* what, int error) {
        _error = std::string(what) + (error != 0 ? std::string(": ") + std::strerror(error) : "");
        return step::failed;
    }

    bool finished() const noexcept {
        switch (_role) {
            case role::client: return _report_seen;
            case role::raw: return _input_ended && !wants_output();
            default: return _input_closed && !wants_output();
        }
    }

    step read_some(std::vector<std::uint8_t>& buffer) {
        for (int piece = 0; piece < pieces_per_turn; ++piece) {
            // Room for the held-back tail stands in front of what is received (client only).
            std::uint8_t* at = buffer.data() + report_size;
            std::size_t room = largest_piece;
            if (_role == role::fresh) room = request_size - _request_got;
            if (_role == role::echo) room = _bounds.echo_bytes;
            const ssize_t got = ::recv(_fd, at, room, 0);
            if (got < 0) {
                if (errno == EAGAIN || errno == EINTR) return step::more;
                return fail("recv", errno);
            }
            if (got == 0) return on_end();
            const step result = on_bytes(at, static_cast<std::size_t>(got));
            if (result != step::more) return result;
            if (static_cast<std::size_t>(got) < room || !wants_input()) return step::more;
        }
        return step::more;
    }

    step on_bytes(std::uint8_t* at, std::size_t size) {
        switch (_role) {
            case role::fresh: return on_request(at, size);
            case role::echo:
                _pending.assign(at, at + size);
                _received += size;
                return write_some();
            case role::client: return on_client_bytes(at, size);
            case role::server:
                if (!_go) {
                    _go = true;
                    _eager = true;
                    ++at;
                    --size;
                }
                check(at, size);
                if (_received > _receive_total) return fail("more bytes than announced", 0);
                return step::more;
            default: check(at, size); return step::more;
        }
    }

    void check(const std::uint8_t* at, std::size_t size) noexcept {
        if (_check && _bad_at == no_position && _data != nullptr) {
            const std::uint64_t bad = _data->first_difference(_receive_from + _received, at, size);
            if (bad != no_position) _bad_at = bad - _receive_from;
        }
        _received += size;
        if (_role == role::server && _received == _receive_total) complete();
    }

    // The report is the last 32 bytes, so these are always held back and never compared with the
    // pattern.
    step on_client_bytes(std::uint8_t* at, std::size_t size) {
        std::uint8_t* from = at - _held_size;
        std::memcpy(from, _held.data(), _held_size);
        const std::size_t whole = _held_size + size;
        const std::size_t keep = std::min(whole, report_size);
        check(from, whole - keep);
        std::memcpy(_held.data(), from + whole - keep, keep);
        _held_size = keep;
        if (_receive_total != no_position && _received == _receive_total && keep == report_size)
            return read_report();
        if (_received > _receive_total) return fail("more bytes than asked for", 0);
        return step::more;
    }

    step read_report() {
        report told;
        if (_held_size < report_size) return fail("connection ended before the report", 0);
        std::memcpy(&told, _held.data(), report_size);
        if (std::memcmp(told.magic, report_text, sizeof told.magic) != 0)
            return fail("connection ended without a report", 0);
        if (told.bad_at != no_position) _bad_at = std::min(_bad_at, told.bad_at);
        if (told.received != _sent || told.sent != _received)
            return fail("the two ends counted different bytes", 0);
        _report_seen = true;
        _input_ended = true;
        return step::done;
    }

    step on_end() {
        _input_ended = true;
        _input_closed = true;
        if (_role == role::client) return read_report();
        if (_role == role::server) {
            if (_receive_total != no_position && _received < _receive_total && _tail_size == 0)
                return fail("stream cut off", 0);
            _receive_total = _received;
            _send_total = std::min(_send_total, _sent);
            complete();
        }
        return finished() ? step::done : step::more;
    }

    step on_request(const std::uint8_t* at, std::size_t size) {
        std::memcpy(reinterpret_cast<std::uint8_t*>(&_request) + _request_got, at, size);
        const bool first = _request_got == 0;
        _request_got += size;
        if (first && at[0] == '?') {
            _head[0] = '!';
            _head_size = 1;
            _role = role::raw;
            _send_total = 0;
            return write_some();
        }
        if (_request_got < request_size) return step::more;
        if (std::memcmp(_request.magic, "BLOAD1", 6) != 0)
            return fail("not a request of bench_load", 0);
        const bool keeps = _request.op == 'h' || _request.op == 's';
        if ((keeps && !_bounds.keeps_idle) || _request.seed > _bounds.most_seeds)
            return fail("a request that is not granted here", 0);
        std::memcpy(_head.data(), ready_text, ready_size);
        _head_size = ready_size;
        _data = &pattern_of(_request.seed);
        set_totals(_request.down, _request.up, _request.offset + down_shift, _request.offset);
        _closes = _request.op != 'h';
        _role = _request.op == 's' ? role::stall : role::server;
        if (_request.op == 'e') _role = role::echo;
        _eager = true;
        return write_some();
    }

    // Everything announced has arrived; the report follows what is still to be sent.
    void complete() noexcept {
        if (_tail_size != 0) return;
        _tail_size = report_size;
        _eager = true;
    }

    step write_some() {
        if (_role == role::echo && _head_sent == _head_size) return write_echo();
        int pieces = 0;
        while (wants_output() && pieces++ < pieces_per_turn) {
            const std::uint8_t* from;
            std::size_t size;
            if (_head_sent < _head_size) {
                from = _head.data() + _head_sent;
                size = _head_size - _head_sent;
            } else if (body_left()) {
                from = _data->at(_send_from + _sent);
                size = static_cast<std::size_t>(
                    std::min<std::uint64_t>(largest_piece, _send_total - _sent));
            } else {
                if (_tail_sent == 0) {
                    report told{{}, _received, _bad_at, _sent};
                    std::memcpy(told.magic, report_text, sizeof told.magic);
                    std::memcpy(_tail.data(), &told, report_size);
                }
                from = _tail.data() + _tail_sent;
                size = _tail_size - _tail_sent;
            }
            const ssize_t put = ::send(_fd, from, size, MSG_NOSIGNAL);
            if (put < 0) {
                if (errno == EAGAIN || errno == EINTR) break;
                return fail("send", errno);
            }
            const auto moved = static_cast<std::size_t>(put);
            if (_head_sent < _head_size)
                _head_sent += moved;
            else if (body_left())
                _sent += moved;
            else
                _tail_sent += moved;
            if (moved < size) break;
        }
        _eager = false;
        const bool told = _role == role::raw || (_tail_size != 0 && _tail_sent == _tail_size);
        if (_closes && told && !wants_output() && !_stopped) {
            _stopped = true;
            ::shutdown(_fd, SHUT_WR);
        }
        return finished() ? step::done : step::more;
    }

    step write_echo() {
        while (!_pending.empty()) {
            const ssize_t put = ::send(_fd, _pending.data(), _pending.size(), MSG_NOSIGNAL);
            if (put < 0) {
                if (errno == EAGAIN || errno == EINTR) break;
                return fail("send", errno);
            }
            _sent += static_cast<std::uint64_t>(put);
            _pending.erase(_pending.begin(), _pending.begin() + put);
        }
        return finished() ? step::done : step::more;
    }

    int _fd;
    role _role;
    const manners& _bounds;
    bool _go = false;            // the client said that the clock runs
    bool _check = true;          // received bytes are compared with the pattern
    bool _eager = false;         // try to write without waiting for epoll
    bool _closes = false;        // our sending half closes when all is sent
    bool _stopped = false;       // our sending half is closed
    bool _input_ended = false;   // nothing more is read
    bool _input_closed = false;  // because the peer closed its half
    bool _report_seen = false;
    const pattern* _data = nullptr;
    std::uint64_t _sent = 0;
    std::uint64_t _send_total = 0;
    std::uint64_t _send_from = 0;
    std::uint64_t _received = 0;
    std::uint64_t _receive_total = no_position;
    std::uint64_t _receive_from = 0;
    std::uint64_t _bad_at = no_position;
    std::size_t _head_size = 0;
    std::size_t _head_sent = 0;
    std::size_t _tail_size = 0;
    std::size_t _tail_sent = 0;
    std::size_t _held_size = 0;
    std::size_t _request_got = 0;
    std::array<std::uint8_t, ready_size> _head{};
    std::array<std::uint8_t, report_size> _tail{};
    std::array<std::uint8_t, report_size> _held{};
    request _request{};
    std::vector<std::uint8_t> _pending;
    std::string _error;
};

}  // namespace load
