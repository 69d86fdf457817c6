// What no peer may do in the transport, before, in and after the login, in either role
// (docs/violations.md; docs/wire.md sections 4.1 to 4.8, 5 and 8.8): each broken rule is named
// once, told to the peer, and ends the conversation; what is tolerated changes nothing.
#include <string>
#include <vector>

#include "core/ssh/messages.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/bare_peer.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {
namespace {

byte_vector only(unsigned number) {
    return {static_cast<std::byte>(number)};
}
template <class... Parts>
byte_vector with(unsigned number, const Parts&... parts) {
    byte_vector out = only(number);
    (wire::writer(out).string(parts), ...);
    return out;
}
byte_vector behind(byte_vector message) {
    message.push_back({});
    return message;
}
byte_vector cut(byte_vector message) {
    message.pop_back();
    return message;
}

// How far the peer, which is the test, has come when it breaks a rule.
enum class stage {
    line,      // the version lines are out
    loose,     // its KEXINIT as well; no strict key exchange
    strict,    // the same, strict
    secured,   // NEWKEYS both ways
    login,     // the login has begun
    open,      // it is over
    rekeying,  // the peer's KEXINIT of the next exchange is out
};

// One transport, and a peer that has come so far.
struct rule_stage : transport_pair {
    rule_stage(role ours, stage until, dialect speaks = dialect::chisel)
        : own(ours == role::server ? server : client), side(ours) {
        logins.add_user("user", crypto::secret_string("pass"));
        give_password("user", "pass");
        connect(speaks);
        offer.key_exchanges = "curve25519-sha256";
        if (until != stage::loose)
            offer.key_exchanges += side == role::server ? ",kex-strict-c-v00@openssh.com"
                                                        : ",kex-strict-s-v00@openssh.com";
        peer.emplace(*own.end, speaks == dialect::native ? "SSH-2.0-OpenSSH_9.2p1"
                               : side == role::server    ? "SSH-chisel-v3-client"
                                                         : "SSH-chisel-v3-server");
        if (until <= stage::strict) {
            peer->say_line();
            if (until != stage::line) peer->say(offer.payload());
        } else {
            REQUIRE((side == role::server ? peer->exchange_as_client(offer, true)
                                          : peer->exchange_as_server(offer, host_key, true)));
        }
        if (until >= stage::login) log_in(until);
        if (until == stage::rekeying) {
            offer.key_exchanges = "curve25519-sha256";
            peer->say(offer.payload());
        }
        // What was said so far is heard, so that what comes now is the answer.
        while (!peer->hear().empty()) {
        }
        REQUIRE(own.events.failures == 0);
    }
    void log_in(stage until) {
        if (side == role::server) {
            peer->say(with(5, std::string_view("ssh-userauth")));
            if (until == stage::login) return;
            byte_vector login =
                with(50, std::string_view("user"), std::string_view("ssh-connection"),
                     std::string_view("password"));
            wire::writer(login).boolean(false).string("pass");
            peer->say(login);
        } else {
            peer->say(with(6, std::string_view("ssh-userauth")));
            if (until == stage::login) return;
            peer->say(only(52));
        }
        REQUIRE(own.end->authenticated());
    }
    // The rule is named once, the peer is told, and whatever comes now is taken and forgotten.
    void broken(std::string_view words) {
        CHECK(own.events.failure == words);
        CHECK(own.events.failures == 1);
        CHECK(own.end->failed());
        CHECK_FALSE(own.end->data_allowed());
        byte_vector last;
        for (byte_vector next = peer->hear(); !next.empty(); next = peer->hear()) last = next;
        CHECK(number_of(last) == message::disconnect);
        wire::reader read(bytes_view(last).subspan(last.empty() ? 0 : 1));
        read.u32();
        CHECK(read.text() == words);
        const std::size_t heard = own.events.messages.size();
        byte_vector more(100, std::byte{94});
        CHECK(own.end->receive(more) == more.size());
        CHECK_FALSE(own.end->send(more));
        CHECK(own.events.failures == 1);
        CHECK(own.events.messages.size() == heard);
        CHECK(peer->hear().empty());
    }

    link_end& own;
    role side;
    bare_offer offer;
    std::optional<bare_peer> peer;
};

enum class who { both, server, client };

struct row {
    stage at;
    byte_vector said;
    std::string words;  // empty: tolerated
    who ours = who::both;
};

std::string number(unsigned n, std::string_view words) {
    return "message " + std::to_string(n) + " " + std::string(words);
}

std::vector<row> rows() {
    using namespace std::string_view_literals;
    const std::string_view first = "in the first key exchange",
                           not_due = "is not due in the key exchange",
                           login = "is not due in the login", before = "before the login",
                           within = "within a key exchange";
    std::vector<row> out;
    const byte_vector kexinit = bare_offer().payload();
    const byte_vector value = with(30, byte_vector(32, std::byte{9}));

    // Nothing may come before KEXINIT, nor between a strict one and NEWKEYS (4.3): not even what
    // is harmless elsewhere.
    for (const stage at : {stage::line, stage::strict}) {
        for (const unsigned n : {0u, 2u, 3u, 4u, 5u, 6u, 7u, 19u, 50u, 52u, 80u, 94u, 192u, 255u})
            out.push_back({at, with(n, ""sv), number(n, first)});
        out.push_back({at, only(21), number(21, not_due)});
    }
    out.push_back({stage::line, value, number(30, not_due)});
    out.push_back({stage::line, with(31, ""sv), number(31, not_due)});
    out.push_back({stage::strict, with(31, ""sv), number(31, not_due), who::server});
    out.push_back({stage::strict, value, number(30, not_due), who::client});
    out.push_back({stage::strict, kexinit, number(20, not_due)});
    out.push_back({stage::strict, with(49, ""sv), number(49, not_due)});
    for (const unsigned n : {2u, 3u, 4u}) out.push_back({stage::loose, with(n, ""sv), ""});
    for (const unsigned n : {5u, 7u, 50u, 80u, 94u, 192u, 255u})
        out.push_back({stage::loose, with(n, ""sv), number(n, within)});

    // Messages of the key exchange that are none.
    out.push_back({stage::line, only(20), "malformed KEXINIT"});
    out.push_back({stage::line, cut(kexinit), "malformed KEXINIT"});
    out.push_back({stage::line, behind(kexinit), "malformed KEXINIT"});
    byte_vector overlong = kexinit;
    overlong[17] = std::byte{0xff};
    out.push_back({stage::line, overlong, "malformed KEXINIT"});
    const std::string init = "malformed ECDH_INIT", reply = "malformed ECDH_REPLY";
    out.push_back({stage::strict, only(30), init, who::server});
    out.push_back({stage::strict, behind(value), init, who::server});
    out.push_back({stage::strict, cut(value), init, who::server});
    out.push_back({stage::strict, with(30, byte_vector(31)), init, who::server});
    out.push_back({stage::strict, with(30, byte_vector(33)), init, who::server});
    // Points of small order: the secret would be all zeros (RFC 8731 section 3).
    byte_vector one(32);
    one[0] = std::byte{1};
    for (const byte_vector& point : {byte_vector(32), one}) {
        out.push_back({stage::strict, with(30, point), init, who::server});
        out.push_back({stage::strict, with(31, "key"sv, point, "signature"sv), reply, who::client});
    }
    out.push_back({stage::strict, only(31), reply, who::client});
    out.push_back(
        {stage::strict, with(31, "key"sv, byte_vector(32, std::byte{9})), reply, who::client});
    out.push_back(
        {stage::strict, with(31, "key"sv, byte_vector(31), "signature"sv), reply, who::client});
    out.push_back({stage::strict, with(31, "key"sv, byte_vector(32, std::byte{9}), "signature"sv),
                   "ssh: handshake failed: the server's signature is wrong", who::client});

    // The login (5): one message after the other, and none of it again.
    out.push_back({stage::secured, with(5, "ssh-connection"sv),
                   "service 'ssh-connection' is not ssh-userauth", who::server});
    out.push_back(
        {stage::secured, with(5, "a\nb"sv), "service 'a\\x0ab' is not ssh-userauth", who::server});
    out.push_back({stage::secured, behind(with(5, "ssh-userauth"sv)), "malformed SERVICE_REQUEST",
                   who::server});
    out.push_back(
        {stage::secured, with(6, "shell"sv), "service 'shell' was not asked for", who::client});
    out.push_back({stage::secured, only(6), "malformed SERVICE_ACCEPT", who::client});
    out.push_back({stage::secured, with(6, "ssh-userauth"sv), number(6, login), who::server});
    out.push_back({stage::secured, with(5, "ssh-userauth"sv), number(5, login), who::client});
    for (const stage at : {stage::secured, stage::login}) {
        for (const unsigned n : {80u, 90u, 94u, 150u, 192u, 193u})
            out.push_back({at, with(n, ""sv), number(n, before)});
        for (const unsigned n : {60u, 61u, 79u})
            out.push_back({at, with(n, ""sv), number(n, login)});
        out.push_back({at, only(21), number(21, not_due)});
        // A server may change keys at any time; strangers do not make one sign again and again.
        out.push_back({at, kexinit, "rekeying before the login", who::server});
        out.push_back({at, kexinit, "", who::client});
        for (const unsigned n : {2u, 3u, 4u}) out.push_back({at, with(n, ""sv), ""});
        out.push_back({at, with(7, "\1"sv), "malformed EXT_INFO",
                       at == stage::secured ? who::both : who::client});
    }
    out.push_back({stage::secured, with(50, ""sv), number(50, login)});
    out.push_back({stage::secured, only(52), number(52, login)});
    out.push_back({stage::login, with(5, "ssh-userauth"sv), number(5, login)});
    out.push_back({stage::login, with(6, "ssh-userauth"sv), number(6, login)});
    out.push_back({stage::login, with(7, ""sv), number(7, login), who::server});
    out.push_back({stage::login, only(52), number(52, login), who::server});
    out.push_back({stage::login, with(50, "user"sv), "malformed USERAUTH_REQUEST", who::server});
    out.push_back({stage::login, with(50, "user"sv, "shell"sv, "none"sv),
                   "malformed USERAUTH_REQUEST", who::server});
    out.push_back({stage::login, behind(with(50, "user"sv, "ssh-connection"sv, "none"sv)),
                   "malformed USERAUTH_REQUEST", who::server});
    out.push_back({stage::login, with(50, "user"sv, "ssh-connection"sv, "password"sv),
                   "malformed USERAUTH_REQUEST", who::server});
    out.push_back({stage::login, with(50, "user"sv, "ssh-connection"sv, "publickey"sv),
                   "malformed USERAUTH_REQUEST", who::server});
    out.push_back({stage::login, with(50, ""sv), number(50, login), who::client});
    out.push_back({stage::login, with(53, "read this"sv, "en"sv), "", who::client});

    // Afterwards.
    for (const unsigned n : {2u, 3u, 4u, 5u, 6u, 7u, 8u, 50u, 51u, 52u, 53u, 150u, 193u, 255u})
        out.push_back({stage::open, with(n, ""sv), ""});
    out.push_back({stage::open, only(0), ""});
    out.push_back({stage::open, with(192, "data"sv), ""});
    out.push_back({stage::open, only(192), "malformed PING"});
    out.push_back({stage::open, behind(with(192, "data"sv)), "malformed PING"});
    out.push_back({stage::open, only(21), number(21, not_due)});
    out.push_back({stage::open, value, number(30, not_due)});
    out.push_back({stage::open, with(31, ""sv), number(31, not_due)});
    out.push_back({stage::open, cut(kexinit), "malformed KEXINIT"});
    for (const unsigned n : {5u, 7u, 50u, 80u, 90u, 94u, 150u, 192u, 193u})
        out.push_back({stage::rekeying, with(n, ""sv), number(n, within)});
    out.push_back({stage::rekeying, kexinit, number(20, not_due)});
    out.push_back({stage::rekeying, only(21), number(21, not_due)});
    for (const unsigned n : {2u, 3u, 4u}) out.push_back({stage::rekeying, with(n, ""sv), ""});
    return out;
}

TEST_CASE("what no peer may say in the transport ends it, named and told, in both roles",
          "[rules]") {
    unsigned played = 0;
    for (const row& r : rows()) {
        for (const role ours : {role::server, role::client}) {
            if (r.ours == (ours == role::server ? who::client : who::server)) continue;
            ++played;
            INFO("stage " << static_cast<int>(r.at) << ", message "
                          << static_cast<unsigned>(number_of(r.said)) << ", our server "
                          << (ours == role::server) << ", expected: " << r.words);
            rule_stage b(ours, r.at);
            b.peer->say(r.said);
            if (!r.words.empty()) {
                b.broken(r.words);
                continue;
            }
            CHECK(b.own.events.failure.empty());
            CHECK_FALSE(b.own.end->failed());
            if (r.at == stage::open) CHECK(b.own.end->data_allowed());
        }
    }
    CHECK(played > 200);
}

TEST_CASE("a line that is none ends the transport without an answer, in both roles", "[rules]") {
    struct line {
        std::string said, words;
        dialect speaks = dialect::chisel;
    };
    const line lines[] = {
        {"HTTP/1.1 400 Bad Request\n", "not an SSH version line: HTTP/1.1 400 Bad Request"},
        {"hello\nSSH-chisel-v3-x\r\n", "not an SSH version line: hello"},
        {"ssh-chisel-v3-x\r\n", "not an SSH version line: ssh-chisel-v3-x\\x0d"},
        {"\n", "not an SSH version line: "},
        {"SSH-\x1b" + std::string(300, 'x'),
         "version line too long: SSH-\\x1b" + std::string(59, 'x') + "..."},
        {"SSH-1.5-old\n", "not an SSH version line: SSH-1.5-old", dialect::native},
        {"SSH-chisel-v3-x\n", "not an SSH version line: SSH-chisel-v3-x", dialect::native},
    };
    for (const line& l : lines) {
        for (const role ours : {role::server, role::client}) {
            INFO(l.said);
            transport_pair pair;
            pair.logins.add_user("user", crypto::secret_string("pass"));
            pair.connect(l.speaks);
            link_end& own = ours == role::server ? pair.server : pair.client;
            byte_vector run;
            feed(*own.end, run, as_bytes(l.said));
            CHECK(own.events.failure == l.words);
            CHECK(own.events.failures == 1);
            feed(*own.end, run, as_bytes("SSH-2.0-late\r\n"));
            CHECK(own.events.failures == 1);
            // Our own line was due before, and KEXINIT but for a native server's, which waits for
            // its client's; a DISCONNECT would have nobody to read it.
            own.said.clear();
            drain(*own.end, own.said);
            const bool waits = l.speaks == dialect::native && ours == role::server;
            CHECK(own.end->counters().packets_sent == (waits ? 0 : 1));
        }
    }
}

TEST_CASE("packets that are none end the transport, in both roles", "[rules]") {
    struct packet {
        std::vector<unsigned> head;  // what stands in front
        std::size_t zeros;           // and behind it
        std::string words;
    };
    const auto length = [](unsigned n) {
        return std::vector<unsigned>{n >> 24, n >> 16 & 0xff, n >> 8 & 0xff, n & 0xff};
    };
    const auto then = [&](unsigned n, unsigned padding) {
        auto out = length(n);
        out.push_back(padding);
        return out;
    };
    const std::string above = "broken packet: packet_length is above the limit",
                      small = "broken packet: packet_length is too small",
                      block = "broken packet: packet_length is not a multiple of the block size";
    // In clear, before the first NEWKEYS (4.5).
    const packet clear[] = {
        {length(0), 0, small},
        {length(5), 0, small},
        {length(13), 0, block},
        {length(35004), 0, above},
        {length(0xffffffff), 0, above},
        {then(12, 3), 11, "broken packet: padding is shorter than 4"},
        {then(12, 0), 11, "broken packet: padding is shorter than 4"},
        {then(12, 12), 11, "broken packet: padding is longer than the packet"},
        {then(12, 255), 11, "broken packet: padding is longer than the packet"},
        {then(12, 11), 11, "broken packet: payload is empty"},
    };
    // Under AES-GCM, where the length is in clear.
    const packet sealed[] = {
        {length(0), 0, small},          {length(15), 0, small},
        {length(24), 0, block},         {length(262160), 0, above},
        {length(0xffffffff), 0, above}, {length(32), 48, "broken packet: MAC does not match"},
    };
    const auto play = [](role ours, stage at, const packet& p) {
        INFO(p.words);
        rule_stage b(ours, at);
        byte_vector raw;
        for (const unsigned octet : p.head) raw.push_back(static_cast<std::byte>(octet));
        raw.resize(raw.size() + p.zeros);
        // Whatever can be told by the length is told before the rest has come.
        b.peer->give(raw);
        b.broken(p.words);
    };
    for (const role ours : {role::server, role::client}) {
        for (const packet& p : clear) play(ours, stage::line, p);
        for (const packet& p : sealed)
            for (const stage at : {stage::secured, stage::open, stage::rekeying}) play(ours, at, p);
    }
}

TEST_CASE("packets repeated, left out or out of order do not open, in both roles", "[rules]") {
    const role ours = GENERATE(role::server, role::client);
    const int how = GENERATE(0, 1, 2);
    transport_pair pair;
    pair.open_session();
    link_end& own = ours == role::server ? pair.server : pair.client;
    transport& peer = ours == role::server ? *pair.client.end : *pair.server.end;
    std::vector<byte_vector> packets;
    for (unsigned at = 0; at < 3; ++at) {
        const byte_vector payload(100, std::byte{94});
        packets.emplace_back(peer.sealed_size(payload.size()));
        peer.seal({}, payload, packets.back().data());
    }
    const std::vector<std::vector<unsigned>> orders = {{0, 0}, {1}, {0, 2, 1}};
    for (const unsigned at : orders[static_cast<unsigned>(how)])
        feed(*own.end, own.run, packets[at]);
    CHECK(own.events.failures == 1);
    CHECK(own.events.failure == "broken packet: MAC does not match");
    CHECK(own.events.messages.size() == (how == 1 ? 0 : 1));
}

TEST_CASE("ends without anything in common say what each offered, in both roles", "[rules]") {
    struct lists {
        std::string what;
        std::string bare_offer::* list;
    };
    const lists all[] = {{"key exchange", &bare_offer::key_exchanges},
                         {"host key", &bare_offer::host_keys},
                         {"cipher", &bare_offer::ciphers}};
    for (const lists& l : all) {
        for (const role ours : {role::server, role::client}) {
            rule_stage b(ours, stage::line);
            b.offer.*l.list = "nobody@example.test,\x1b[2J";
            b.peer->say(b.offer.payload());
            const std::string failure = b.own.events.failure;
            INFO(failure);
            CHECK(failure.starts_with("no common " + l.what + ": client offers "));
            CHECK(failure.find("nobody@example.test,\\x1b[2J") != std::string::npos);
            b.broken(failure);
        }
    }
}

TEST_CASE("DISCONNECT ends a transport with the peer's words, escaped, at any time", "[rules]") {
    const role ours = GENERATE(role::server, role::client);
    const stage at = GENERATE(stage::line, stage::loose, stage::strict, stage::secured,
                              stage::login, stage::open, stage::rekeying);
    INFO("stage " << static_cast<int>(at));
    rule_stage b(ours, at);
    const bool whole = GENERATE(true, false);
    byte_vector said = only(1);
    if (whole) wire::writer(said).u32(2).string("so\r\nlong\x1b[31m").string("en");
    b.peer->say(said);
    const std::string words = whole ? "ssh: disconnect, reason 2: so\\x0d\\x0along\\x1b[31m"
                                    : "ssh: disconnect, reason 0: ";
    CHECK(b.own.events.failure == (at >= stage::open ? words : "ssh: handshake failed: " + words));
    CHECK(b.own.events.failures == 1);
    b.peer->say(said);
    CHECK(b.own.events.failures == 1);
    CHECK(b.peer->hear().empty());  // there is nobody to answer
}

TEST_CASE("a peer that makes us answer and does not read is let go, in both roles", "[rules]") {
    const role ours = GENERATE(role::server, role::client);
    rule_stage b(ours, stage::open);
    const byte_vector ping = with(192, byte_vector(1000));
    unsigned said = 0;
    for (; said < 5000 && b.own.events.failures == 0; ++said) b.peer->say(ping);
    CHECK(b.own.events.failure ==
          "the peer does not read: too many messages wait to be sent to it");
    CHECK(said * ping.size() > max_queued_bytes * 9 / 10);
    CHECK(said * ping.size() < max_queued_bytes * 11 / 10);
}

}  // namespace
}  // namespace burin::ssh
