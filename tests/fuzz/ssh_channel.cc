// The connection layer between an owner and a peer who both do what the script says. The peer keeps
// a ledger of RFC 4254 section 5: who honours it is never accused, and what the layer says to him
// stays within it: credit, packet sizes, nothing behind a CLOSE. Who breaks a rule ends the
// session, and every end is told once.
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "core/ssh/connection.hh"
#include "tests/fuzz/ssh_watch.hh"
#include "tests/unit/ssh/recorder.hh"

namespace {

using namespace burin;
using namespace burin::ssh;
using fuzz::check;

constexpr std::uint32_t most_channels = 12;

ring::microseconds_t now = 0;
ring::microseconds_t clock_of_ours() {
    return now;
}

// One end of a channel, owned by the script.
struct flow : channel_end {
    void on_confirmed() noexcept override { check(!over && ++confirmed == 1, "confirmed once"); }
    void on_refused(open_failure_reason, std::string_view) noexcept override { finish(); }
    void on_data(bytes_span payload, const ring::buffer&) noexcept override {
        check(!over && !eof && !payload.empty(), "data before the end, and some");
        check(payload.size() <= max_payload_bytes, "packets are not larger than was said");
        held += static_cast<std::uint32_t>(payload.size());
    }
    void on_eof() noexcept override {
        check(!over && !eof, "one EOF");
        eof = true;
    }
    void on_closed(close_cause why) noexcept override {
        check(why != close_cause::finished || eof, "finished means that EOF came");
        finish();
    }
    void on_sendable() noexcept override { check(!over, "nothing is asked after the end"); }
    void finish() noexcept {
        check(!over, "the end is told once");
        over = true;
        at = nullptr;
    }

    channel* at = nullptr;
    bool over = false, eof = false;
    unsigned confirmed = 0;
    std::uint32_t held = 0;
};

struct sink final : packet_sink {
    explicit sink(std::size_t bytes) : memory(bytes) {}
    std::byte* room(std::size_t bytes) noexcept override {
        return used + bytes <= memory.size() ? memory.data() + used : nullptr;
    }
    void commit(std::size_t bytes) noexcept override { used += bytes; }
    byte_vector memory;
    std::size_t used = 0;
};

// What the peer knows of a channel, by the layer's id.
struct entry {
    bool answered = false;       // both ids are known
    std::uint32_t remote = 0;    // the peer's own id
    std::uint64_t may_send = 0;  // bytes that the layer still takes
    std::uint64_t credit = 0;    // bytes that the peer still takes
    std::uint32_t max_packet = 0;
    bool heard_eof = false, heard_close = false, said_eof = false, said_close = false;
};

struct ear : fuzz::watcher {
    void on_message(bytes_span payload) override {
        watcher::on_message(payload);
        heard.emplace_back(payload.begin(), payload.end());
    }
    std::deque<byte_vector> heard;
};

// Two transports that are logged in; they serve one input after another, as nothing of a channel is
// left in them.
struct line {
    crypto::host_key host = crypto::host_key::from_seed("foobar");
    login_policy logins;
    settings config;
    fuzz::watcher ours;
    ear theirs;
    std::unique_ptr<transport> end, peer;
    byte_vector up, down, up_run, down_run;

    line() {
        config.host_key = &host;
        config.logins = &logins;
        end = std::make_unique<transport>(config, role::server, dialect::chisel, ours);
        peer = std::make_unique<transport>(config, role::client, dialect::chisel, theirs);
        pump();
        check(end->authenticated() && peer->authenticated(), "logged in");
    }
    void pump() {
        do {
            drain(*end, down, 64 << 10);
            drain(*peer, up, 64 << 10);
            feed(*peer, down_run, std::exchange(down, {}));
            feed(*end, up_run, std::exchange(up, {}));
        } while (end->control_pending() || peer->control_pending());
    }
};

class session final : connection_events {
  public:
    session(fuzz::script& in, line& on)
        : _in(in),
          _line(on),
          _budget(4u << 20, 20),
          _layer(
              *on.end, *this, _budget, _pieces,
              {.max_channels = most_channels, .window_max = 256 * 1024, .clock = clock_of_ours}) {
        now = 0;
        if (in.pick(2) == 1) _layer.set_takes_opens_back();
    }

    void live() {
        const std::uint64_t growth = _budget.growth_left();
        for (int steps = 0; !_in.over() && !_violated && steps < 3000; ++steps) act();
        flush(1 << 20);
        _line.pump();
        hear();
        _layer.lose();
        for (const flow& f : _flows) check(f.over || f.at == nullptr, "every end is told");
        check(_layer.open_channels() == 0 && _layer.unanswered() == 0, "nothing is left");
        check(_layer.queued_bytes() == 0 && _pieces.in_use() == 0, "no payload is left");
        check(_pieces.owned_bytes() == 0, "nor memory of it");
        check(_budget.growth_left() == growth && _budget.open_channels() == 0, "nor of the budget");
    }

  private:
    // ---- the owner ----
    void on_open(channel& c, const channel_open& open) noexcept override {
        if (open.window == 77) return _layer.refuse(c, open_failure_reason::prohibited, "no");
        flow& f = _flows.emplace_back();
        f.at = &c;
        // Who is asked may take his time, and is the channel's end meanwhile
        // (connection::take_back).
        if (open.window == 78) {
            c.end = &f;
            _asked.push_back(&f);
        } else {
            _layer.accept(c, f);
        }
    }
    void on_global_request(const global_request& request) noexcept override {
        if (request.name == cancel_open_name)
            _layer.take_back(request.rest);
        else if (request.want_reply)
            _layer.reply(true, as_bytes("pong"));
    }
    void on_request_reply(bool, bytes_view) noexcept override {}
    void on_pending() noexcept override {}
    void on_violation(std::string_view rule) noexcept override {
        check(!_violated && !rule.empty(), "one rule is broken, and named");
        check(_wild, "who honours the rules is not accused");
        _violated = true;
    }

    void act();
    void own(unsigned what);
    void flush(std::size_t room);
    flow* some_flow();
    // ---- the peer ----
    void say(bytes_view message);
    void open();
    void on_channel(unsigned what);
    void answer_open();
    void hear();
    void hear_one(bytes_view message);
    entry* some_entry();
    entry* of_remote(std::uint32_t remote);

    fuzz::script& _in;
    line& _line;
    ring::budget _budget;
    piece_pool _pieces;
    std::deque<flow> _flows;
    std::deque<flow*> _asked;
    connection _layer;
    std::map<std::uint32_t, entry> _book;     // by the layer's id
    std::map<std::uint32_t, entry> _opening;  // by the peer's id: asked, not answered
    bool _wild = false, _violated = false;
};

void session::act() {
    const unsigned what = _in.pick(24);
    switch (what) {
        case 0:
            _wild = true;
            say(_in.take(1 + std::size_t{_in.byte()}));
            break;
        case 1:
        case 2: open(); break;
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
        case 10: on_channel(what); break;
        case 11: answer_open(); break;
        default: own(what); break;
    }
    if (!_wild) hear();
}

void session::say(bytes_view message) {
    const auto number = static_cast<unsigned>(number_of(message));
    if (number < 80 || number > 127) return;
    byte_vector copy = fuzz::exact(message);
    _layer.receive(copy, {});
}

// ---- the peer ----

void session::open() {
    constexpr std::uint32_t windows[] = {0, 77, 78, 100, 70'000, 2'097'152, 0xffffffff};
    constexpr std::uint32_t packets[] = {8, 9, 100, 32'768, 262'144, 0x80000001};
    channel_open message;
    message.type = "chisel";
    message.sender = _in.pick(16);
    message.window = windows[_in.pick(7)];
    message.max_packet = packets[_in.pick(6)];
    message.rest = as_bytes("host:1");
    // An id of his own that is in use he does not use again.
    if (_opening.contains(message.sender) || of_remote(message.sender) != nullptr) return;
    entry& e = _opening[message.sender];
    e.remote = message.sender;
    e.credit = message.window;
    e.max_packet = message.max_packet;
    byte_vector out;
    build(out, message);
    say(out);
}

entry* session::some_entry() {
    if (_book.empty()) return nullptr;
    auto at = _book.begin();
    std::advance(at, _in.pick(static_cast<unsigned>(std::min<std::size_t>(_book.size(), 200))));
    return &at->second;
}

entry* session::of_remote(std::uint32_t remote) {
    for (auto& [local, e] : _book)
        if (e.answered && e.remote == remote) return &e;
    return nullptr;
}

void session::on_channel(unsigned what) {
    entry* e = some_entry();
    if (e == nullptr || !e->answered || e->said_close) return;
    const std::uint32_t local =
        std::find_if(_book.begin(), _book.end(), [e](auto& b) { return &b.second == e; })->first;
    byte_vector out;
    wire::writer write(out);
    switch (what) {
        case 3:
        case 4:
        case 5: {
            if (e->said_eof) return;
            std::uint64_t size = _in.u16() % 33'000;
            size = std::min({size, e->may_send, std::uint64_t{max_payload_bytes}});
            e->may_send -= size;
            write.byte(what == 5 ? 95 : 94).u32(local);
            if (what == 5) write.u32(1);
            write.string(byte_vector(size, std::byte{'d'}));
            break;
        }
        case 6:
        case 7: {
            const std::uint64_t more = std::min<std::uint64_t>(
                what == 7 ? 0xffffffff : 1 + _in.u16(), 0xffffffff - e->credit);
            e->credit += more;
            build(out, channel_window_adjust{local, static_cast<std::uint32_t>(more)});
            break;
        }
        case 8:
            e->said_eof = true;
            build_eof(out, local);
            break;
        case 9:
            e->said_close = true;
            build_close(out, local);
            if (e->heard_close) _book.erase(local);
            break;
        default: build(out, channel_request{local, "signal", _in.pick(2) == 1, {}}); break;
    }
    say(out);
}

// To an open of the layer's.
void session::answer_open() {
    for (auto& [local, e] : _book) {
        if (e.answered) continue;
        const unsigned how = _in.byte();
        byte_vector out;
        const std::uint32_t remote = 16 + local;  // apart from those of his own opens
        if (how % 4 == 0) {
            build(out, channel_open_failure{local, open_failure_reason::connect_failed, "no"});
            _book.erase(local);
        } else {
            e.answered = true;
            e.remote = remote;
            e.credit = how % 4 == 1 ? 0 : 1000u * how;
            e.max_packet = how % 4 == 3 ? 9 : 40'000;
            build(out, channel_open_confirmation{
                           local, remote, static_cast<std::uint32_t>(e.credit), e.max_packet, {}});
        }
        return say(out);
    }
    byte_vector out;
    build(out, global_request{"ping", true, {}});
    say(out);
}

// What the layer has said, in order.
void session::hear() {
    _line.pump();
    check(_line.theirs.failures == 0 && _line.ours.failures == 0, "the line is whole");
    while (!_line.theirs.heard.empty()) {
        const byte_vector message = std::move(_line.theirs.heard.front());
        _line.theirs.heard.pop_front();
        if (!_wild) hear_one(message);
    }
}

void session::hear_one(bytes_view message) {
    channel_open opened;
    channel_open_confirmation confirmed;
    channel_open_failure refused;
    channel_window_adjust adjusted;
    channel_data data;
    std::uint32_t recipient = 0;
    if (parse(message, opened)) {
        check(opened.sender < most_channels && !_book.contains(opened.sender), "a free id");
        check(opened.max_packet == max_payload_bytes, "as it takes");
        _book[opened.sender].may_send = opened.window;
    } else if (parse(message, confirmed)) {
        const auto asked = _opening.find(confirmed.recipient);
        check(asked != _opening.end(), "what was asked is answered");
        check(confirmed.sender < most_channels && !_book.contains(confirmed.sender), "a free id");
        entry e = asked->second;
        _opening.erase(asked);
        e.answered = true;
        e.may_send = confirmed.window;
        _book[confirmed.sender] = e;
    } else if (parse(message, refused)) {
        check(_opening.erase(refused.recipient) == 1, "what was asked is answered");
    } else if (parse(message, adjusted)) {
        entry* e = of_remote(adjusted.recipient);
        check(e != nullptr && !e->heard_close, "credit on an open channel");
        e->may_send += adjusted.bytes;
        check(adjusted.bytes > 0 && e->may_send <= 256 * 1024, "windows have a bound");
    } else if (parse(message, data)) {
        entry* e = of_remote(data.recipient);
        check(e != nullptr && !e->heard_eof && !e->heard_close, "data on an open channel");
        check(!data.data.empty() && data.data.size() <= e->credit, "within the credit");
        check(data.data.size() <= e->max_packet, "in packets of a size that was agreed");
        e->credit -= data.data.size();
    } else if (parse_recipient(message, recipient)) {
        entry* e = of_remote(recipient);
        check(e != nullptr, "of a channel");
        if (number_of(message) == message::channel_eof) {
            check(!e->heard_eof && !e->heard_close, "one EOF");
            e->heard_eof = true;
        } else if (number_of(message) == message::channel_close) {
            check(!e->heard_close, "one CLOSE");
            e->heard_close = true;
            if (e->said_close) std::erase_if(_book, [e](auto& b) { return &b.second == e; });
        }
    } else {
        const auto number = static_cast<unsigned>(number_of(message));
        check(number == 80 || number == 81, "nothing else is said");
    }
}

// ---- the owner ----

flow* session::some_flow() {
    const unsigned first = _in.byte();
    for (std::size_t i = 0; i < _flows.size(); ++i) {
        flow& f = _flows[(first + i) % _flows.size()];
        if (f.at != nullptr && f.at->end == &f) return &f;
    }
    return nullptr;
}

void session::own(unsigned what) {
    if (what == 12) {
        flow& f = _flows.emplace_back();
        f.at = _layer.open(f, "chisel", as_bytes("host:1"));
        return;
    }
    if (what == 13) return flush(64 + std::size_t{_in.byte()} * 400);
    if (what == 14) {
        now += std::uint64_t{_in.byte()} * 10'000;
        return _layer.own_queued();
    }
    if (what == 15) {
        if (_asked.empty()) return;
        flow* f = _asked.front();
        _asked.pop_front();
        if (f->over || f->at == nullptr) return;
        if (_in.pick(2) == 0) return _layer.accept(*f->at, *f);
        channel& c = *std::exchange(f->at, nullptr);
        return _layer.refuse(c, open_failure_reason::connect_failed, "no");
    }
    if (what == 16) return _line.end->start_rekey();
    if (what == 17) return _layer.request("ping", {});
    flow* f = some_flow();
    if (f == nullptr || f->at->state == channel_state::asked) return;
    channel& c = *f->at;
    _layer.queue_age_ms(c);
    switch (what) {
        case 18:
        case 19: {
            static const byte_vector bytes(70'000, std::byte{'p'});
            const std::uint32_t most = _layer.sendable(c);
            if (c.eof_wanted || c.close_wanted) break;
            const std::uint32_t size =
                std::min<std::uint32_t>(most, what == 18 ? 1 + _in.byte() : 1 + _in.u16());
            if (size > 0) _layer.send(c, {}, bytes_view(bytes).first(size));
            break;
        }
        case 20: _layer.send_eof(c); break;
        case 21:
            f->at = nullptr;
            f->over = true;
            _in.pick(2) == 0 ? _layer.close(c) : _layer.abort(c);
            break;
        case 22: {
            const std::uint32_t part = f->held - f->held / (1 + _in.pick(4)) * (_in.pick(2));
            f->held -= std::min(f->held, part);
            _layer.consumed(c, part);
            break;
        }
        default: _layer.widen(c, 1 + _in.u16()); break;
    }
}

void session::flush(std::size_t room) {
    _layer.pending();
    _layer.flush_adjusts();
    // Control goes first: it is sealed before data is.
    drain(*_line.end, _line.down, 64 << 10);
    sink out(room);
    _layer.flush_data(out);
    _line.down.insert(_line.down.end(), out.memory.begin(),
                      out.memory.begin() + static_cast<std::ptrdiff_t>(out.used));
    _layer.tell_sendable();
    for (const channel* c : _layer.channels()) {
        if (c == nullptr) continue;
        check(c->receive_left <= c->window && c->consumed <= c->window, "windows add up");
    }
}

void run(bytes_view input) {
    static std::unique_ptr<line> held;
    if (!held) held = std::make_unique<line>();
    fuzz::script in(input);
    session(in, *held).live();
    held->theirs.heard.clear();
    if (held->end->failed() || held->peer->failed()) held.reset();
}

const fuzz::target registered("ssh_channel", run,
                              "core/ssh/connection.cc core/ssh/connection_windows.cc "
                              "core/ssh/channel.cc core/ssh/messages.cc");

}  // namespace
