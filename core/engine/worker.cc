#include "core/engine/worker.hh"

#include <pthread.h>
#include <unistd.h>

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <stdexcept>
#include <utility>

#include "core/engine/metrics_sources.hh"
#include "core/engine/processors.hh"

namespace burin::engine {

namespace {

// Socket receives: what one flow can bring a turn. Session receives: many packets, with room in
// front for the packet that the last receive cut (docs/architecture.md, the two journeys).
constexpr ring::buffer_group::shape socket_shape{
    .id = 1, .bytes = 256 * 1024, .headroom = 0, .count = 128, .offered = 4, .chunk = 8};
constexpr ring::buffer_group::shape session_shape{
    .id = 2, .bytes = 256 * 1024, .headroom = 272 * 1024, .count = 128, .offered = 2, .chunk = 3};
// Before login: what a handshake needs, behind all that a stranger may leave cut (64 KiB).
constexpr ring::buffer_group::shape early_shape{
    .id = 4, .bytes = 16 * 1024, .headroom = 64 * 1024, .count = 64, .offered = 4, .chunk = 8};
// Sealed packets of one send, framing included.
constexpr std::size_t arena_bytes = 512 * 1024;
constexpr std::uint32_t arenas_limit = 1024;
constexpr ring::microseconds_t wind_up_limit = 500 * ring::millisecond;
// None of the arenas is there at all: memory is asked for again after this.
constexpr ring::microseconds_t memory_pause = 10 * ring::millisecond;
// A worker with fewer turns in this time moves nothing in bulk, and gives back what bulk needed.
constexpr ring::microseconds_t rest_time = ring::second;
constexpr std::uint64_t rest_turns = 200;
// What UDP may hold of a worker's memory; the rest is the budget of windows.
constexpr std::uint64_t datagram_share(std::uint64_t memory_bytes) {
    return std::min<std::uint64_t>(memory_bytes / 16, 16u << 20);
}

struct call final : ring::message {
    explicit call(std::function<void(worker&)> f) : action(std::move(f)) {}
    void deliver(void* context) override { action(*static_cast<worker*>(context)); }
    std::function<void(worker&)> action;
};

}  // namespace

worker::worker(unsigned index, const worker_options& options) : _index(index), _options(options) {}

worker::~worker() {
    stop();
    join();
}

void worker::start() {
    _thread = std::thread([this] { run(); });
    _started.wait(0);
    if (_started.load() < 0) {
        _thread.join();
        throw ring::unavailable(_failure);
    }
}

void worker::post(std::function<void(worker&)> action) {
    _mailbox.post(std::make_unique<call>(std::move(action)));
}

void worker::stop() {
    if (_thread.joinable()) post([](worker& w) { w._stopping = true; });
}

void worker::join() {
    if (_thread.joinable()) _thread.join();
}

void worker::run() {
    char name[16];
    std::snprintf(name, sizeof name, "worker-%u", _index);
    pthread_setname_np(pthread_self(), name);
    try {
        take_place();
        _ring = std::make_unique<ring::ring>(ring::options{.mask = _options.mask});
        _now = ring::monotonic_now();
        _timers = std::make_unique<ring::timer_wheel>(_now);
        _socket_buffers = std::make_unique<ring::buffer_group>(*_ring, socket_shape);
        _session_buffers = std::make_unique<ring::buffer_group>(*_ring, session_shape);
        _early_buffers = std::make_unique<ring::buffer_group>(*_ring, early_shape);
        _datagram_buffers =
            std::make_unique<ring::buffer_group>(*_ring, relay::datagram_context::buffer_shape(5));
        _arenas = std::make_unique<ring::memory_pool>(arena_bytes, 4, arenas_limit);
        _loans = std::make_unique<zero_copy_loans>(
            *_ring, [this](std::byte* arena) { give_back_arena(arena); });
        _options.datagrams.most_held_bytes = datagram_share(_options.memory_bytes);
        if (_options.ran_out)
            _options.datagrams.ran_out = [this] { return _options.ran_out(*this); };
        _budget = std::make_unique<ring::budget>(
            _options.memory_bytes - _options.datagrams.most_held_bytes, _options.max_channels);
        _pieces = std::make_unique<ssh::piece_pool>();
        _relays = std::make_unique<relay::context>(*_ring, *_timers, *_socket_buffers, *_pieces);
        _datagrams = std::make_unique<relay::datagram_context>(*_ring, *_timers, *_datagram_buffers,
                                                               *_pieces, _options.datagrams);
        _relays->datagrams = _datagrams.get();
        _resolver = std::make_unique<relay::resolver>(
            *_ring, *_timers, relay::resolver_settings{.prepare = _options.prepare_socket});
        _dialer = std::make_unique<relay::dialer>(
            *_ring, *_timers, *_resolver,
            relay::dial_settings{.timeout = _options.dial_timeout,
                                 .most = most_worker_dials(_budget->channel_limit()),
                                 .prepare = {},
                                 .ran_out = _options.datagrams.ran_out});
    } catch (const std::exception& e) {
        _failure = e.what();
        _started = -1;
        _started.notify_all();
        return;
    }
    if (_options.settled) _options.settled();
    _started = 1;
    _started.notify_all();
    loop();
    // Everything that lives here goes before what it lives on.
    for (auto& action : _at_end) action();
    _at_end.clear();
    _disposed.clear();
    _dialer.reset();
    _resolver.reset();
    _datagrams.reset();
    _relays.reset();
    _pieces.reset();
    _arenas.reset();
    _datagram_buffers.reset();
    _early_buffers.reset();
    _session_buffers.reset();
    _socket_buffers.reset();
    _rest.disarm();
    _arenas_again.disarm();
    _timers.reset();
    _ring.reset();
    _loans.reset();  // the ring knew their operations
}

// Before anything is allocated: memory comes from where the thread runs.
void worker::take_place() {
    if (_options.processors.empty()) return;
    const unsigned processor = _options.processors.at(_index);
    if (int error = run_on({&processor, 1}); error != 0)
        throw std::runtime_error(fmt::format("cannot run worker {} on CPU {}: {}", _index,
                                             processor, std::strerror(error)));
}

void worker::loop() {
    _ring->read(_mail, _mailbox.descriptor(), std::as_writable_bytes(std::span(&_mail_count, 1)));
    while (!_stopping) turn();
    wind_up();
}

void worker::turn() noexcept {
    ++_turns;
    const bool busy =
        _woken != nullptr || _relays->pending() || (_tun != nullptr && _tun->pending());
    _ring->wait(busy ? 0 : _timers->next());
    _now = ring::monotonic_now();  // before the completions, which may have been waited for long
    _relays->now = _datagrams->now = _now;
    _ring->deliver();
    _timers->advance(_now);
    flush();
    // Only what moves arms it: who sleeps is not woken for it a second time.
    if (!_rest.armed() && _turns > _rest_turns) _timers->arm(_rest, _now + rest_time);
}

void worker::on_rest(ring::microseconds_t) noexcept {
    const std::uint64_t turns = _turns - std::exchange(_rest_turns, _turns);
    if (turns > rest_turns) return _timers->arm(_rest, _now + rest_time);
    _socket_buffers->trim();
    _session_buffers->trim();
    _early_buffers->trim();
    _datagram_buffers->trim();
    _arenas->trim();
    if (_tun != nullptr) _tun->trim();
}

// Everything ends as it would by itself, so that peers see resets and closes in order; but not for
// longer than a moment.
void worker::wind_up() {
    for (resident* r : std::vector<resident*>(_residents.begin(), _residents.end())) r->leave();
    ring::microseconds_t limit = ring::monotonic_now() + wind_up_limit;
    while (_now < limit &&
           (!_residents.empty() || _relays->alive() > 0 || _datagrams->alive() > 0)) {
        _relays->end_all();
        _datagrams->end_all();
        ++_turns;
        _ring->wait(std::min(limit, _now + 10 * ring::millisecond));
        _now = ring::monotonic_now();
        _ring->deliver();
        _timers->advance(_now);
        flush();
    }
}

void worker::report(std::string& into) const {
    const relay::relay_counters& c = _relays->counters;
    auto mean = [](std::uint64_t bytes, std::uint64_t times) {
        return times == 0 ? 0 : bytes / times;
    };
    into +=
        fmt::format("worker {}: turns={} enters={} flows={} timers={}\n", _index, _turns,
                    _ring->enters(), _relays->alive(), _timers->armed() - (_rest.armed() ? 1 : 0));
    into += fmt::format(
        "worker {}: sockets: receives={} mean={} sends={} mean={} partial={} resets={} "
        "no-buffer={}\n",
        _index, c.receives, mean(c.received_bytes, c.receives), c.sends,
        mean(c.sent_bytes, c.sends), c.partial_sends, c.resets, c.out_of_buffers);
    into += fmt::format(
        "worker {}: pool: socket-buffers={}/{} session-buffers={}/{} arenas={}/{} lent={} "
        "pieces={} "
        "held-bytes={} copied-out={}\n",
        _index, _socket_buffers->held(), _socket_buffers->count(), _session_buffers->held(),
        _session_buffers->count(), _arenas->in_use(), _arenas->limit(), _loans->lent(),
        _pieces->in_use(), _pieces->owned_bytes(), _pieces->copied_out());
    constexpr std::size_t mib = 1u << 20;
    into += fmt::format(
        "worker {}: resident MiB: socket-buffers={} session-buffers={} arenas={} early-buffers={} "
        "datagram-buffers={} offered={}/{}\n",
        _index, _socket_buffers->memory().resident_bytes() / mib,
        _session_buffers->memory().resident_bytes() / mib, _arenas->resident_bytes() / mib,
        _early_buffers->memory().resident_bytes() / mib,
        _datagram_buffers->memory().resident_bytes() / mib, _socket_buffers->offered(),
        _session_buffers->offered());
    into += fmt::format("worker {}: budget: total={} free-for-growth={} channels={}/{}\n", _index,
                        _budget->total(), _budget->growth_left(), _budget->open_channels(),
                        _budget->channel_limit());
    // Nothing else comes from other threads: neither payload nor memory that is given back.
    into += fmt::format("worker {}: from other threads: messages={}\n", _index, _mailbox.taken());
    const relay::dialer_counters& d = _dialer->counters;
    into += fmt::format(
        "worker {}: dials: pending={} attempts={} started={} connected={} failed={} timed-out={} "
        "taken-back={} refused={}\n",
        _index, _dialer->pending(), _dialer->under_way(), d.started, d.connected, d.failed,
        d.timed_out, d.taken_back, d.refused);
    _datagrams->report(into, fmt::format("worker {}: datagrams", _index));
    for (const resident* r : _residents) r->report(into);
}

void worker::count(tally& t) const {
    t.add(metric::worker_turns, _turns);
    t.add(metric::worker_enters, _ring->enters());
    timespec cpu{};
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &cpu) == 0)
        t.add(metric::worker_cpu, static_cast<std::uint64_t>(cpu.tv_sec) * 1'000'000'000 +
                                      static_cast<std::uint64_t>(cpu.tv_nsec));
    t.add(metric::timers, _timers->armed() - (_rest.armed() ? 1 : 0));
    engine::count(t, *_relays);
    engine::count(t, *_datagrams);
    engine::count(t, *_dialer);
    engine::count(t, *_budget);
    const auto pool = [&t](std::uint64_t used, std::uint64_t most, const ring::memory_pool& memory,
                           metric_labels labels) {
        t.add(metric::pool_used, used, labels);
        t.add(metric::pool_limit, most, labels);
        t.add(metric::pool_resident, memory.resident_bytes(), labels);
    };
    const auto group = [&pool](const ring::buffer_group& g, metric_labels labels) {
        pool(g.held(), g.count(), g.memory(), labels);
    };
    group(*_socket_buffers, "pool=\"socket_buffers\"");
    group(*_session_buffers, "pool=\"session_buffers\"");
    group(*_early_buffers, "pool=\"early_buffers\"");
    group(*_datagram_buffers, "pool=\"datagram_buffers\"");
    pool(_arenas->in_use(), _arenas->limit(), *_arenas, "pool=\"arenas\"");
    t.sessions = _past_sessions;
    for (const resident* r : _residents) r->count(t);
    t.add_sessions();
}

void worker::on_mail(ring::completion) noexcept {
    _ring->read(_mail, _mailbox.descriptor(), std::as_writable_bytes(std::span(&_mail_count, 1)));
    _mailbox.drain(this);
}

bool worker::may_look() noexcept {
    if (_now < _look_due) return false;
    _look_due = _now + _options.look_interval;
    return true;
}

void worker::wake(turn_member& m) noexcept {
    if (m._woken) return;
    m._woken = true;
    m._next_woken = nullptr;
    (_woken == nullptr ? _woken : _woken_last->_next_woken) = &m;
    _woken_last = &m;
}

std::byte* worker::take_arena(turn_member& m) noexcept {
    std::byte* arena = _arenas->take();
    if (arena == nullptr && !m._starved) {
        m._starved = true;
        _starved.push_back(&m);
    }
    // Where none is in use nobody gives one back.
    if (arena == nullptr && _arenas->in_use() == 0 && !_arenas_again.armed())
        _timers->arm(_arenas_again, _now + memory_pause);
    return arena;
}

void worker::give_back_arena(std::byte* arena) noexcept {
    _arenas->give_back(arena);
    wake_starved();
}

void worker::wake_starved() noexcept {
    for (turn_member* m : _starved) {
        m->_starved = false;
        wake(*m);
    }
    _starved.clear();
}

void worker::forget(turn_member& m) noexcept {
    if (m._starved) std::erase(_starved, &m);
    if (!m._woken) return;
    turn_member** at = &_woken;
    turn_member* before = nullptr;
    while (*at != &m) {
        before = *at;
        at = &(*at)->_next_woken;
    }
    *at = m._next_woken;
    if (_woken_last == &m) _woken_last = before;
    m._woken = false;
}

void worker::dispose(std::unique_ptr<disposable> d) noexcept {
    _disposed.push_back(std::move(d));
}

void worker::flush() noexcept {
    // Sockets first: their credit becomes WINDOW_ADJUSTs of the next turn, their receives are
    // already answered.
    _relays->flush_sends();
    _datagrams->settle();
    // Whoever is woken again by the flush itself has its turn in the next one.
    while (_woken != nullptr && _woken->_flushed_turn != _turns) {
        turn_member* m = _woken;
        _woken = m->_next_woken;
        if (_woken == nullptr) _woken_last = nullptr;
        m->_woken = false;
        m->_flushed_turn = _turns;
        m->flush();
    }
    // Windows of what the sessions just sealed, and frames of what they just received.
    if (_tun != nullptr) _tun->flush();
    _relays->flush_receives();
    _relays->bury();
    _datagrams->flush();
    _disposed.clear();
    _socket_buffers->offer();
    _session_buffers->offer();
    _early_buffers->offer();
    _datagram_buffers->offer();
}

}  // namespace burin::engine
