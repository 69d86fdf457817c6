// Two transports after the login. The script seals any message on either side as its owner would,
// begins key exchanges, cuts and holds back the streams: numbered messages arrive in order and none
// is lost, until one side has broken a rule; and then that is the end of it, for a reason.
#include <memory>

#include "core/ssh/messages.hh"
#include "tests/fuzz/ssh_watch.hh"
#include "tests/unit/ssh/recorder.hh"

namespace {

using namespace burin;
using namespace burin::ssh;
using fuzz::check;

struct world {
    crypto::host_key host = crypto::host_key::from_seed("foobar");
    login_policy logins;
    world() { logins.add_user("user", crypto::secret_string("pass")); }
};
const world& fixed() {
    static const world made;
    return made;
}

// Numbered messages in one direction: 94 and the number.
struct listener : fuzz::watcher {
    void on_message(bytes_span payload) override {
        watcher::on_message(payload);
        if (payload.size() == 9 && payload[0] == std::byte{94} && payload[5] == std::byte{'#'}) {
            check(load_u32(payload.data() + 1) == arrived, "messages arrive in order");
            ++arrived;
        }
        if (unknown && end != nullptr) end->refuse_unknown();
    }
    transport* end = nullptr;
    bool unknown = false;
    std::uint32_t arrived = 0;
};

struct side {
    settings config;
    listener seen;
    std::unique_ptr<transport> end;
    byte_vector said, run;
    std::uint32_t numbered = 0;
    bool wild = false;  // it has said what the script wanted
};

class session {
  public:
    explicit session(fuzz::script& in) : _in(in) {
        const unsigned how = in.byte();
        _speaks = (how & 1) != 0 ? dialect::native : dialect::chisel;
        for (side* s : {&_client, &_server}) {
            s->config.host_key = &fixed().host;
            s->config.logins = &fixed().logins;
            s->config.user = "user";
            s->config.password = crypto::secret_string("pass");
            s->config.guess_key_exchange = (how & 2) != 0;
            if ((how & 4) != 0) s->config.rekey_packets = 40;
            if ((how & 8) != 0) s->config.ciphers = "aes256-gcm@openssh.com";
            const role as = s == &_client ? role::client : role::server;
            s->end = std::make_unique<transport>(s->config, as, _speaks, s->seen);
            s->seen.end = s->end.get();
        }
        settle();
        check(_client.seen.logins == 1 && _server.seen.logins == 1, "who knows the password is in");
        check(fuzz::equal(_client.end->session_id(), _server.end->session_id()), "one session");
    }

    void live() {
        while (!_in.over()) {
            act();
            for (side* s : {&_client, &_server}) check_transport(*s->end, s->seen);
            if (_client.end->failed() && _server.end->failed()) return;
        }
        settle();
        for (side* s : {&_client, &_server}) {
            check_transport(*s->end, s->seen);
            if (!_client.wild && !_server.wild)
                check(s->seen.failures == 0 && s->end->data_allowed(), "nobody is to blame");
        }
        if (_client.end->failed() || _server.end->failed()) return;
        // A length that was changed on the way: its reader waits for octets that never come.
        const bool cut = !_client.run.empty() || !_server.run.empty();
        check(!cut || _client.wild || _server.wild, "no packet waits for its end");
        if (cut) return;
        check(_server.seen.arrived == _client.numbered && _client.seen.arrived == _server.numbered,
              "nothing is lost");
        check(_client.end->counters().key_exchanges == _server.end->counters().key_exchanges,
              "keys change on both sides");
    }

  private:
    void act();
    void end_or_rest(side& s);
    void inject(side& s, bytes_view payload);
    void number(side& s, unsigned count);
    void carry(side& from, side& to, std::size_t most, fuzz::cutter cut);
    void settle();

    fuzz::script& _in;
    dialect _speaks = dialect::chisel;
    side _client, _server;
};

void session::act() {
    const unsigned what = _in.byte();
    side& s = (what & 1) != 0 ? _client : _server;
    side& other = (what & 1) != 0 ? _server : _client;
    switch (what >> 1 & 7) {
        case 0: inject(s, _in.take(1 + std::size_t{_in.byte()})); break;
        case 1: number(s, 1 + _in.pick(8)); break;
        case 2: s.end->start_rekey(); break;
        case 3: carry(s, other, _in.u16(), fuzz::cutter(_in.byte())); break;
        case 4: {
            const bytes_view payload = _in.take(_in.byte());
            if (!payload.empty() && payload[0] != std::byte{94}) {
                s.wild = true;
                s.end->send(payload);
            }
            break;
        }
        case 5: s.seen.unknown = _in.pick(2) == 1; break;
        case 6:
            drain(*s.end, s.said, 64 + std::size_t{_in.byte()} * 64);
            carry(s, other, s.said.size(), fuzz::cutter(_in.byte()));
            break;
        default: end_or_rest(s); break;
    }
}

void session::end_or_rest(side& s) {
    switch (_in.pick(8)) {
        case 7:
            s.wild = true;
            s.end->disconnect(11, "enough");
            break;
        case 6: {
            // What somebody on the way changed is noticed.
            drain(*s.end, s.said, 64 << 10);
            if (s.said.empty()) break;
            s.wild = true;
            s.said[_in.u16() % s.said.size()] ^= std::byte(1 + _in.pick(255));
            break;
        }
        default: settle(); break;
    }
}

// A message of the script's, sealed as if the owner of this side had meant it.
void session::inject(side& s, bytes_view payload) {
    if (payload.empty()) return;
    drain(*s.end, s.said, 64 << 10);
    if (!s.end->data_allowed()) return;
    s.wild = true;
    const std::size_t before = s.said.size(), size = s.end->sealed_size(payload.size());
    s.said.resize(before + size);
    check(s.end->seal({}, payload, s.said.data() + before) == size, "a packet has the size told");
}

void session::number(side& s, unsigned count) {
    drain(*s.end, s.said, 64 << 10);
    for (; count > 0 && s.end->data_allowed(); --count) {
        std::byte head[9] = {std::byte{94}, {}, {}, {}, {}, std::byte{'#'}};
        store_u32(head + 1, s.numbered++);
        const std::size_t before = s.said.size(), size = s.end->sealed_size(sizeof head);
        s.said.resize(before + size);
        s.end->seal(head, {}, s.said.data() + before);
    }
}

void session::carry(side& from, side& to, std::size_t most, fuzz::cutter cut) {
    std::size_t left = std::min(most, from.said.size());
    bytes_view stream = bytes_view(from.said).first(left);
    while (left > 0) {
        const std::size_t part = cut.next(left);
        to.run.insert(to.run.end(), stream.begin(),
                      stream.begin() + static_cast<std::ptrdiff_t>(part));
        stream = stream.subspan(part);
        left -= part;
        byte_vector chunk = fuzz::exact(to.run);
        const std::size_t taken = to.end->receive(chunk);
        check(taken <= chunk.size(), "no more is taken than there is");
        to.run.assign(chunk.begin() + static_cast<std::ptrdiff_t>(taken), chunk.end());
        check(to.run.size() <= max_packet_bytes + 20, "less than a packet waits");
    }
    from.said.erase(from.said.begin(), from.said.begin() + static_cast<std::ptrdiff_t>(
                                                               std::min(most, from.said.size())));
}

// Until nobody has anything to say.
void session::settle() {
    for (int rounds = 0; rounds < 64; ++rounds) {
        for (side* s : {&_client, &_server}) drain(*s->end, s->said, 64 << 10);
        if (_client.said.empty() && _server.said.empty()) return;
        carry(_client, _server, _client.said.size(), fuzz::cutter(0));
        carry(_server, _client, _server.said.size(), fuzz::cutter(0));
    }
    check(false, "two ends fall silent");
}

void run(bytes_view input) {
    fuzz::script in(input);
    session(in).live();
}

// transport.cc is named by ssh_transport: much of it is the way to the login, which is over here.
const fuzz::target registered("ssh_session", run,
                              "core/ssh/transport_packets.cc core/ssh/transport_link.cc "
                              "core/ssh/transport_queue.cc");

}  // namespace
