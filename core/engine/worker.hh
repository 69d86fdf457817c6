// A core's world: a thread with its ring, timers, buffers, budget and everything that lives on
// them. Sessions and listeners are made on it and stay on it; other threads reach it by post()
// alone.
//
// A turn: enter (submit and wait) -> every completion becomes a state change -> timers -> flush,
// once, in a fixed order
// -> next turn. One io_uring_enter a turn.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "core/engine/metrics.hh"
#include "core/engine/zero_copy.hh"
#include "core/relay/context.hh"
#include "core/relay/datagram_context.hh"
#include "core/relay/dialer.hh"
#include "core/relay/resolver.hh"
#include "core/relay/tun_queue.hh"
#include "core/ssh/channel.hh"
#include "ring/budget.hh"
#include "ring/buffer_group.hh"
#include "ring/mailbox.hh"
#include "ring/memory_pool.hh"
#include "ring/ring.hh"
#include "ring/timer_wheel.hh"

namespace burin::engine {

class worker;

// Dials that may be pending, of one session and of all sessions of a worker: three quarters and
// seven eighths of the channels that the worker may have.
constexpr std::uint32_t most_session_dials(std::uint32_t channels) noexcept {
    return std::max(16u, channels / 4 * 3);
}
constexpr std::uint32_t most_worker_dials(std::uint32_t channels) noexcept {
    return std::max(24u, channels / 8 * 7);
}

struct worker_options {
    std::uint64_t memory_bytes = 256u << 20;
    std::uint32_t max_channels = 10'000;
    ring::microseconds_t dial_timeout = 30 * ring::second;
    ring::features mask = {};
    relay::socket_hook prepare_socket = {};  // for the sockets to name servers
    relay::datagram_settings datagrams = {};
    // Descriptors have run out: others make room, in this worker or elsewhere, and whether any do.
    std::function<bool(worker&)> ran_out = {};
    ring::microseconds_t look_interval = 20 * ring::millisecond;  // of may_look()
    std::vector<unsigned> processors = {};  // one a worker, or none: wherever the kernel puts it
    std::function<void()> settled = {};     // on the worker's thread, when its ring exists
};

// What takes part in the flush of every turn; added and removed on the worker's thread.
class turn_member {
  public:
    virtual ~turn_member() = default;
    // Seals and queues what is to be sent. Called once a turn, only after wake() of the worker
    // named it.
    virtual void flush() noexcept = 0;

  private:
    friend class worker;
    turn_member* _next_woken = nullptr;
    bool _woken = false, _starved = false;
    std::uint64_t _flushed_turn = 0;
};

// What lives on a worker until it leaves by itself or the worker stops.
class resident {
  public:
    virtual ~resident() = default;
    // The worker stops: end now; it waits a moment for residents to go.
    virtual void leave() noexcept = 0;
    // Lines for a person.
    virtual void report(std::string& into) const = 0;
    // The same as numbers (metrics.hh).
    virtual void count(tally&) const {}
};

// What must be freed at the end of a turn, when nothing on the stack refers to it any longer.
class disposable {
  public:
    virtual ~disposable() = default;
};

class worker {
  public:
    worker(unsigned index, const worker_options&);
    ~worker();
    worker(const worker&) = delete;
    worker& operator=(const worker&) = delete;

    // Starts the thread; returns when its ring exists. Throws ring::unavailable with a sentence for
    // a person.
    void start();
    // Any thread: runs `action` on the worker.
    void post(std::function<void(worker&)> action);
    // Any thread: ends the loop after the turn; join() then frees everything that lives on the
    // worker.
    void stop();
    void join();

    unsigned index() const noexcept { return _index; }
    // Sessions, as the dealer of accepted connections counts them.
    std::atomic<std::uint32_t> load{0};

    // ---- on the worker's thread ----
    ring::ring& ring() noexcept { return *_ring; }
    ring::timer_wheel& timers() noexcept { return *_timers; }
    ring::microseconds_t now() const noexcept { return _now; }
    ring::buffer_group& session_buffers() noexcept { return *_session_buffers; }
    // For connections before login: small, so that strangers do not walk through the others.
    ring::buffer_group& early_buffers() noexcept { return *_early_buffers; }
    // Room for one send. nullptr: all are in use, and the member is woken when one comes back.
    std::byte* take_arena(turn_member&) noexcept;
    void give_back_arena(std::byte*) noexcept;
    // Arenas that are being sent without a copy.
    zero_copy_loans& loans() noexcept { return *_loans; }
    const ring::memory_pool& arenas() const noexcept { return *_arenas; }
    ring::budget& budget() noexcept { return *_budget; }
    ssh::piece_pool& pieces() noexcept { return *_pieces; }
    relay::context& relays() noexcept { return *_relays; }
    relay::datagram_context& datagrams() noexcept { return *_datagrams; }
    relay::resolver& resolver() noexcept { return *_resolver; }
    relay::dialer& dialer() noexcept { return *_dialer; }
    const worker_options& options() const noexcept { return _options; }
    // Whether the state of a socket may be asked for now, which is a system call: all workers
    // together do so 50 times a second at most.
    bool may_look() noexcept;
    // The member's flush() is called in this turn (or the next, when the flush has begun).
    void wake(turn_member&) noexcept;
    void forget(turn_member&) noexcept;
    // The worker's TUN queue, flushed after all members; nullptr: none.
    void attach(relay::tun_queue* q) noexcept { _tun = q; }
    void dispose(std::unique_ptr<disposable>) noexcept;
    void add(resident& r) { _residents.insert(&r); }
    void remove(resident& r) noexcept { _residents.erase(&r); }
    // Run on this thread when the loop is over and the ring still exists.
    void at_end(std::function<void()> action) { _at_end.push_back(std::move(action)); }
    void report(std::string& into) const;
    void count(tally&) const;
    // Of sessions that are over: what they had counted.
    session_counts& past_sessions() noexcept { return _past_sessions; }
    std::uint64_t turns() const noexcept { return _turns; }

  private:
    void run();
    void take_place();
    void loop();
    void turn() noexcept;
    void wind_up();
    void flush() noexcept;
    void on_mail(ring::completion) noexcept;
    void on_rest(ring::microseconds_t) noexcept;
    void on_arenas_again(ring::microseconds_t) noexcept { wake_starved(); }
    void wake_starved() noexcept;

    unsigned _index;
    worker_options _options;
    ring::mailbox _mailbox;
    std::thread _thread;
    std::atomic<int> _started{0};  // 1: the ring exists, -1: it does not
    std::string _failure;
    bool _stopping = false;

    std::unique_ptr<ring::ring> _ring;
    std::unique_ptr<ring::timer_wheel> _timers;
    std::unique_ptr<ring::buffer_group> _socket_buffers;
    std::unique_ptr<ring::buffer_group> _session_buffers;
    std::unique_ptr<ring::buffer_group> _early_buffers;
    std::unique_ptr<ring::buffer_group> _datagram_buffers;
    std::unique_ptr<ring::memory_pool> _arenas;
    std::unique_ptr<zero_copy_loans> _loans;
    std::unique_ptr<ring::budget> _budget;
    std::unique_ptr<ssh::piece_pool> _pieces;
    std::unique_ptr<relay::context> _relays;
    std::unique_ptr<relay::datagram_context> _datagrams;
    std::unique_ptr<relay::resolver> _resolver;
    std::unique_ptr<relay::dialer> _dialer;
    ring::member_op<&worker::on_mail> _mail{this};
    std::uint64_t _mail_count = 0;
    turn_member* _woken = nullptr;
    turn_member* _woken_last = nullptr;
    std::vector<turn_member*> _starved;  // of arenas
    ring::member_timer<&worker::on_arenas_again> _arenas_again{this};
    relay::tun_queue* _tun = nullptr;
    std::vector<std::unique_ptr<disposable>> _disposed;
    std::set<resident*> _residents;
    session_counts _past_sessions;
    std::vector<std::function<void()>> _at_end;
    ring::member_timer<&worker::on_rest> _rest{this};
    std::uint64_t _rest_turns = 0;  // when _rest last fired
    ring::microseconds_t _now = 0;
    ring::microseconds_t _look_due = 0;
    std::uint64_t _turns = 0;
};

}  // namespace burin::engine
