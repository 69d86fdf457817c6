// A transport, as client or server, and a stranger: version lines, packets in clear, key exchange
// and login. The stranger of tests/unit/ssh does by the script what is right, so that every stage
// is reached, and says bytes and sealed messages of the script's in between. Who does not know the
// password, and has no key, never gets in; who has not the host's key is never trusted.
#include <memory>
#include <random>

#include "crypto/public_key.hh"
#include "tests/fuzz/ssh_watch.hh"
#include "tests/unit/ssh/bare_peer.hh"

namespace {

using namespace burin;
using namespace burin::ssh;
using fuzz::check;

constexpr std::string_view known_names[] = {
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ext-info-c",
    "kex-strict-c-v00@openssh.com",
    "kex-strict-s-v00@openssh.com",
    "ecdsa-sha2-nistp256",
    "ssh-ed25519",
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "none",
    "",
    "zlib@openssh.com",
};

// Nobody guesses it, no fuzzer either: it is another in every process.
const std::string& password() {
    static const std::string word = [] {
        std::random_device random;
        std::string out;
        for (int i = 0; i < 24; ++i) out += static_cast<char>('!' + random() % 90);
        return out;
    }();
    return word;
}

struct world {
    crypto::host_key host = crypto::host_key::from_seed("foobar");
    crypto::host_key known = crypto::host_key::from_seed("known");
    login_policy open, closed;

    world() {
        closed.add_user("user", crypto::secret_string(password()));
        closed.add_keys({{{known.blob().begin(), known.blob().end()}, ""}});
    }
};
const world& fixed() {
    static const world made;
    return made;
}

// The stranger, whose bytes arrive in chunks.
class stranger : public bare_peer {
  public:
    stranger(transport& other, fuzz::watcher& seen, std::string line)
        : bare_peer(other, std::move(line)), _end(other), _seen(seen) {}
    void give(bytes_view raw) override {
        do {
            // Long packets in fewer pieces: each is copied with all that waits in front of it.
            const bytes_view part = raw.first(std::max(cut.next(raw.size()), raw.size() / 64));
            raw = raw.subspan(part.size());
            _run.insert(_run.end(), part.begin(), part.end());
            byte_vector chunk = fuzz::exact(_run);
            const std::size_t taken = _end.receive(chunk);
            check(taken <= chunk.size(), "no more is taken than there is");
            check(!_end.failed() || taken == chunk.size(), "after the end everything is taken");
            _run.assign(chunk.begin() + static_cast<std::ptrdiff_t>(taken), chunk.end());
            check(_run.size() <= max_packet_bytes + 20, "less than a packet waits");
            check_transport(_end, _seen);
        } while (!raw.empty());
    }
    fuzz::cutter cut{0};

  private:
    transport& _end;
    fuzz::watcher& _seen;
    byte_vector _run;
};

class encounter {
  public:
    encounter(fuzz::script& in, unsigned how)
        : _in(in),
          _side((how & 1) != 0 ? role::server : role::client),
          _speaks((how & 2) != 0 ? dialect::native : dialect::chisel),
          _is_open((how & 4) != 0) {
        const world& w = fixed();
        _config.host_key = &w.host;
        _config.logins = _is_open ? &w.open : &w.closed;
        _config.fingerprint = crypto::fingerprint(w.host.blob());
        _config.user = "user";
        _config.password = crypto::secret_string(password());
        _config.guess_key_exchange = (how & 8) != 0;
        _end = std::make_unique<transport>(_config, _side, _speaks, _seen);
        _peer = std::make_unique<stranger>(
            *_end, _seen, _speaks == dialect::chisel ? "SSH-chisel-v3-x" : "SSH-2.0-OpenSSH_9.2");
    }

    void live() {
        while (!_in.over()) {
            act();
            check_transport(*_end, _seen);
            const bool may_enter = _side == role::server ? _honest_login || _is_open : _honest_host;
            check(_seen.logins == 0 || may_enter, "nobody gets in by chance");
            if (_side == role::client)
                check(_seen.secured == 0 || _honest_host, "no other host is trusted");
            if (_end->failed() && ++_after_end > 3) break;
        }
    }

  private:
    void act();
    void offer();
    void exchange();
    void log_in();
    void own();
    void hear();

    fuzz::script& _in;
    role _side;
    dialect _speaks;
    bool _is_open;
    bool _honest_login = false, _honest_host = false, _exchanged = false;
    unsigned _after_end = 0;
    settings _config;
    fuzz::watcher _seen;
    std::unique_ptr<transport> _end;
    std::unique_ptr<stranger> _peer;
};

void encounter::act() {
    switch (_in.pick(10)) {
        case 0: _peer->give(_in.take(_in.byte())); break;
        case 1: {
            const bytes_view payload = _in.take(1 + std::size_t{_in.byte()});
            if (!payload.empty()) _peer->say(payload);
            break;
        }
        case 2: _peer->say_line(); break;
        case 3: offer(); break;
        case 4: exchange(); break;
        case 5: log_in(); break;
        case 6: own(); break;
        case 7: _peer->cut = fuzz::cutter(_in.byte()); break;
        case 8: hear(); break;
        default: {
            // A long one, which costs the script little.
            byte_vector payload(1 + _in.u16() % 40000, std::byte{2});
            const bytes_view head = _in.take(_in.pick(32));
            std::copy_n(head.begin(), std::min(head.size(), payload.size()), payload.begin());
            _peer->say(payload);
            break;
        }
    }
}

// A KEXINIT of names that are known somewhere.
void encounter::offer() {
    byte_vector out{static_cast<std::byte>(message::kexinit)};
    out.resize(17);
    wire::writer write(out);
    for (int list = 0; list < 10; ++list) {
        std::string names;
        for (unsigned count = _in.pick(5); count > 0; --count)
            names += std::string(names.empty() ? "" : ",") +
                     std::string(known_names[_in.pick(std::size(known_names))]);
        write.string(names);
    }
    write.boolean(_in.pick(2) == 1).u32(_in.pick(8) == 1 ? 1 : 0);
    _peer->say(out);
}

// The whole first exchange, as it should be.
void encounter::exchange() {
    if (_exchanged) return;
    _exchanged = true;
    bare_offer offer;
    const unsigned how = _in.byte();
    const bool strict = (how & 1) != 0;
    const auto kind = (how & 2) != 0 ? crypto::cipher::aes256_gcm : crypto::cipher::aes128_gcm;
    if (strict)
        offer.key_exchanges += _side == role::server ? ",kex-strict-c-v00@openssh.com"
                                                     : ",kex-strict-s-v00@openssh.com";
    if ((how & 4) != 0) offer.key_exchanges += ",ext-info-c";
    if (_side == role::server) {
        if ((how & 2) != 0) offer.ciphers = "aes256-gcm@openssh.com";
        _peer->exchange_as_client(offer, strict, kind);
        return;
    }
    // Another host shows its key, and does not pass for ours.
    const bool other = (how & 8) != 0;
    _honest_host = !other;
    _peer->exchange_as_server(offer, other ? fixed().known : fixed().host, strict);
}

void encounter::log_in() {
    byte_vector out;
    const unsigned how = _in.pick(12);
    wire::writer write(out);
    auto request = [&](std::string_view method) {
        write.byte(50).string("user").string("ssh-connection").string(method);
    };
    const crypto::host_key& key = fixed().known;
    switch (how) {
        case 0: write.byte(5).string("ssh-userauth"); break;
        case 1: write.byte(6).string("ssh-userauth"); break;
        case 2: write.byte(52); break;
        case 3: request("none"); break;
        case 4:
            request("password");
            write.boolean(false).string(password());
            _honest_login = true;
            break;
        case 5:
            request("password");
            write.boolean(false).string("a guess");
            break;
        case 6:
            request("publickey");
            write.boolean(false).string(key.algorithm()).string(key.blob());
            break;
        case 7: {
            request("publickey");
            write.boolean(true).string(key.algorithm()).string(key.blob());
            byte_vector covered;
            wire::writer(covered).string(_peer->session_id()).raw(out);
            write.string(key.sign(covered));
            _honest_login = true;
            break;
        }
        case 8:
            // Someone's signature of something else.
            request("publickey");
            write.boolean(true).string(key.algorithm()).string(key.blob());
            write.string(key.sign(as_bytes("something")));
            break;
        case 9:
            write.byte(7).u32(2).string("server-sig-algs").string("ssh-ed25519");
            write.string("ping@openssh.com").string("0");
            break;
        case 10: write.byte(53).string("a banner\r\n").string(""); break;
        default: write.byte(51).string("password,publickey").boolean(false); break;
    }
    _peer->say(out);
}

// What an owner may do at any time.
void encounter::own() {
    switch (_in.pick(7)) {
        case 0: _end->start_rekey(); break;
        case 1: {
            const bytes_view payload = _in.take(_in.byte());
            const bool may = _end->send(payload);
            check(!may || _end->authenticated() || (_side == role::client && _seen.secured == 1),
                  "before the login nothing is sent");
            break;
        }
        case 2: _end->disconnect(11, "bye"); break;
        case 3: _end->resume_login(); break;
        case 4: _seen.answer = login_answer::later; break;
        case 5: _seen.answer = login_answer::now; break;
        default:
            if (!_end->data_allowed()) break;
            byte_vector out(_end->sealed_size(10));
            check(_end->seal(as_bytes("^12345"), as_bytes("6789"), out.data()) == out.size(),
                  "a packet has the size that was told");
    }
}

// What goes out is clean: it never holds the password.
void encounter::hear() {
    byte_vector said;
    drain(*_end, said, 64 + 64 * std::size_t{_in.byte()});
    check(as_text(said).find(password()) == std::string_view::npos, "no password in clear");
}

void run(bytes_view input) {
    fuzz::script in(input);
    const unsigned how = in.byte();
    encounter(in, how).live();
}

const fuzz::target registered("ssh_transport", run,
                              "core/ssh/transport.cc core/ssh/transport_packets.cc "
                              "core/ssh/transport_link.cc core/ssh/transport_queue.cc "
                              "core/ssh/version_line.cc core/ssh/handshake.cc "
                              "core/ssh/authentication.cc");

}  // namespace
