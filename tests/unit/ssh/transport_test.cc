// A session at work: keys changed under load from either side, messages nobody knows, queues that
// have an end.
#include "core/ssh/messages.hh"
#include "core/ssh/transport_queue.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/bare_peer.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {
namespace {

// Numbered data in one direction, checked at its end.
struct stream {
    stream(link_end& sender, link_end& receiver) : from(sender), to(receiver) {
        to.events.when_message = [this](const byte_vector& payload) {
            channel_data got;
            if (parse(payload, got)) {
                CHECK(got.recipient == arrived);
                ++arrived;
            } else {
                ++others;
            }
        };
        to.events.keep = false;
    }
    // Seals a burst, if it is allowed now, behind what control there is.
    void flush(unsigned burst) {
        drain(*from.end, from.said);
        for (unsigned at = 0; at < burst && from.end->data_allowed(); ++at) {
            const byte_vector body(300);
            const auto head = make_data_header(sent++, 300);
            const std::size_t before = from.said.size();
            const std::size_t size = from.end->sealed_size(head.size() + body.size());
            from.said.resize(before + size);
            REQUIRE(from.end->seal(head, body, from.said.data() + before) == size);
        }
    }
    link_end& from;
    link_end& to;
    std::uint32_t sent = 0, arrived = 0, others = 0;
};

void check_flow(transport_pair& pair, unsigned rounds, unsigned seed,
                const std::function<void(unsigned)>& between) {
    stream up(pair.client, pair.server), down(pair.server, pair.client);
    std::mt19937 random(seed);
    for (unsigned round = 0; round < rounds; ++round) {
        between(round);
        up.flush(random() % 5);
        down.flush(random() % 5);
        const auto cut = random_cuts(static_cast<unsigned>(random()));
        // Either direction may be late.
        if (random() % 3 != 0) transport_pair::carry(pair.client, pair.server, cut);
        if (random() % 3 != 0) transport_pair::carry(pair.server, pair.client, cut);
    }
    pair.pump();
    INFO(pair.client.events.failure << " / " << pair.server.events.failure);
    REQUIRE(pair.client.events.failures == 0);
    REQUIRE(pair.server.events.failures == 0);
    CHECK(up.sent > rounds / 2);
    CHECK(down.sent > rounds / 2);
    CHECK(up.arrived == up.sent);
    CHECK(down.arrived == down.sent);
    CHECK(pair.client.end->data_allowed());
    CHECK(pair.server.end->data_allowed());
}

TEST_CASE("keys change under load, whoever begins") {
    const auto seed = GENERATE(11u, 12u, 13u, 14u);
    const int who = GENERATE(0, 1, 2);
    INFO("seed " << seed << ", begun by " << who << " (client, server, both)");
    transport_pair pair;
    pair.open_session();
    const byte_vector session(pair.client.end->session_id().begin(),
                              pair.client.end->session_id().end());
    check_flow(pair, 200, seed, [&](unsigned round) {
        if (round % 20 != 10) return;
        if (who != 1) pair.client.end->start_rekey();
        if (who != 0) pair.server.end->start_rekey();
        byte_vector ping;
        build(ping, global_request{"ping", true, {}});
        CHECK(pair.client.end->send(ping));
    });
    CHECK(pair.client.end->counters().key_exchanges >= 10);
    CHECK(pair.client.end->counters().key_exchanges == pair.server.end->counters().key_exchanges);
    // The first hash stays the session's name.
    CHECK(std::ranges::equal(pair.client.end->session_id(), session));
    CHECK(std::ranges::equal(pair.server.end->session_id(), session));
}

TEST_CASE("a limit reached begins a key exchange by itself") {
    const bool by_packets = GENERATE(false, true);
    const bool by_client = GENERATE(false, true);
    transport_pair pair;
    settings& limited = by_client ? pair.client_settings : pair.server_settings;
    if (by_packets) limited.rekey_packets = 30;
    if (!by_packets) limited.rekey_bytes = 10000;
    pair.open_session();
    check_flow(pair, 150, 21, [](unsigned) {});
    CHECK(pair.client.end->counters().key_exchanges > 3);
}

TEST_CASE("a server that shows another key in rekeying is another server") {
    transport_pair pair;
    pair.open_session();
    pair.host_key = crypto::host_key::from_seed("another");
    pair.server.end->start_rekey();
    pair.pump();
    CHECK(pair.client.events.failure == "the server shows another key in rekeying");
    CHECK(pair.client.end->failed());
}

TEST_CASE("between KEXINIT and NEWKEYS data and messages wait, and then go in order") {
    transport_pair pair;
    pair.open_session();
    pair.client.end->start_rekey();
    CHECK_FALSE(pair.client.end->data_allowed());
    byte_vector payload;
    build(payload, global_request{"ping", true, {}});
    CHECK(pair.client.end->send(payload));
    drain(*pair.client.end, pair.client.said);
    const auto kexinit_only = pair.client.end->counters().packets_sent;
    CHECK_FALSE(pair.client.end->control_pending());
    CHECK_FALSE(pair.client.end->data_allowed());
    // The server does not know yet, and is heard.
    CHECK(pair.server.end->data_allowed());
    CHECK(pair.server.end->send(payload));
    drain(*pair.server.end, pair.server.said);
    transport_pair::carry(pair.server, pair.client, whole());
    CHECK(pair.client.events.messages.size() == 1);
    pair.pump();
    CHECK(pair.client.end->data_allowed());
    // ECDH_INIT, NEWKEYS, then what waited.
    CHECK(pair.client.end->counters().packets_sent == kexinit_only + 3);
    CHECK(pair.server.events.messages.size() == 1);
}

// A client that goes through its login by hand, so that what it says next is the test's.
struct bare_session : transport_pair {
    explicit bare_session(dialect speaks) {
        logins.add_user("user", crypto::secret_string("pass"));
        connect(speaks);
        peer = std::make_unique<bare_peer>(*server.end, speaks == dialect::chisel
                                                            ? "SSH-chisel-v3-client"
                                                            : "SSH-2.0-OpenSSH_9.2p1");
        bare_offer offer;
        offer.key_exchanges = "curve25519-sha256,kex-strict-c-v00@openssh.com";
        REQUIRE(peer->exchange_as_client(offer, true));
        byte_vector service, login;
        wire::writer(service).byte(5).string("ssh-userauth");
        wire::writer(login).byte(50).string("user").string("ssh-connection").string("password");
        wire::writer(login).boolean(false).string("pass");
        peer->say(service);
        peer->say(login);
        REQUIRE(number_of(peer->hear()) == message::service_accept);
        REQUIRE(number_of(peer->hear()) == message::userauth_success);
    }
    std::unique_ptr<bare_peer> peer;
};

TEST_CASE("what is sealed next is told beforehand") {
    transport_pair pair;
    pair.open_session();
    transport& t = *pair.client.end;
    CHECK(t.next_control_bytes() == 0);
    for (const std::size_t size : {1, 100, 6000}) {
        CAPTURE(size);
        REQUIRE(t.send(byte_vector(size, std::byte{100})));
        const std::size_t next = t.next_control_bytes();
        CHECK(next > size);
        byte_vector room(next);
        CHECK(t.seal_control(bytes_span(room).first(next - 1)) == 0);
        CHECK(t.seal_control(room) == next);
        CHECK(t.next_control_bytes() == 0);
    }
}

TEST_CASE("messages nobody knows: UNIMPLEMENTED to native peers, silence to chisel ones") {
    const auto speaks = GENERATE(dialect::chisel, dialect::native);
    bare_session session(speaks);
    const unsigned number = GENERATE(8u, 19u, 50u, 79u, 128u, 191u, 196u, 255u);
    INFO("number " << number);
    session.peer->say(static_cast<message>(number));
    CHECK(session.server.events.failures == 0);
    const byte_vector answer = session.peer->hear();
    if (speaks == dialect::native) {
        byte_vector expected;
        // The sequence number begins again at NEWKEYS: SERVICE_REQUEST 0, login 1, this one 2.
        wire::writer(expected).byte(3).u32(2);
        CHECK(answer == expected);
    } else {
        CHECK(answer.empty());
    }
    CHECK(session.server.end->counters().unknown == 1);
}

TEST_CASE("a connection message nobody knows is refused in the same way") {
    const auto speaks = GENERATE(dialect::chisel, dialect::native);
    bare_session session(speaks);
    session.server.events.when_message = [&](const byte_vector&) {
        session.server.end->refuse_unknown();
    };
    session.peer->say(static_cast<message>(127));
    CHECK(number_of(session.peer->hear()) ==
          (speaks == dialect::native ? message::unimplemented : message{0}));
}

TEST_CASE("PING is answered with PONG; PONG, IGNORE, DEBUG and UNIMPLEMENTED with nothing") {
    bare_session session(dialect::chisel);
    byte_vector payload;
    wire::writer(payload).byte(192).string("data");
    session.peer->say(payload);
    payload[0] = std::byte{193};
    CHECK(session.peer->hear() == payload);
    for (const message number :
         {message::pong, message::ignore, message::debug, message::unimplemented}) {
        session.peer->say(number);
    }
    CHECK(session.peer->hear().empty());
    CHECK(session.server.events.failures == 0);
}

TEST_CASE("DISCONNECT ends a session with the peer's words") {
    bare_session session(dialect::native);
    byte_vector payload;
    wire::writer(payload).byte(1).u32(11).string("bye\x07").string("");
    session.peer->say(payload);
    CHECK(session.server.events.failure == "ssh: disconnect, reason 11: bye\\x07");
    CHECK_FALSE(session.server.end->send(payload));
    CHECK(session.peer->hear().empty());
}

TEST_CASE("our own DISCONNECT is the last thing said") {
    transport_pair pair;
    pair.open_session();
    pair.server.end->disconnect(11, "closing");
    CHECK_FALSE(pair.server.end->data_allowed());
    pair.pump();
    CHECK(pair.server.events.failures == 0);
    CHECK(pair.client.events.failure == "ssh: disconnect, reason 11: closing");
}

TEST_CASE("a peer that asks but does not read is let go") {
    transport_pair pair;
    pair.open_session();
    byte_vector payload;
    wire::writer(payload).byte(192).string(std::string(1000, 'x'));
    unsigned sent = 0;
    for (; sent < 5000 && pair.server.events.failures == 0; ++sent) {
        byte_vector packet(pair.client.end->sealed_size(payload.size()));
        pair.client.end->seal({}, payload, packet.data());
        feed(*pair.server.end, pair.server.run, packet);
    }
    CHECK(pair.server.events.failures == 1);
    CHECK(sent * payload.size() > max_queued_bytes * 9 / 10);
    CHECK(sent * payload.size() < max_queued_bytes * 11 / 10);
}

TEST_CASE("non-key-exchange messages within the peer's key exchange are fatal") {
    bare_session session(dialect::native);
    bare_offer offer;
    offer.key_exchanges = "curve25519-sha256";
    session.peer->say(offer.payload());
    CHECK(number_of(session.peer->hear()) == message::kexinit);
    SECTION("data") {
        session.peer->say(message::channel_data);
    }
    SECTION("ping") {
        session.peer->say(message::ping);
    }
    SECTION("login") {
        session.peer->say(message::userauth_request);
    }
    CHECK(session.server.events.failures == 1);
    CHECK(session.server.events.messages.empty());
    // The reason travels within the exchange.
    CHECK(number_of(session.peer->hear()) == message::disconnect);
}

TEST_CASE("IGNORE is harmless in a later key exchange") {
    bare_session session(dialect::native);
    bare_offer offer;
    offer.key_exchanges = "curve25519-sha256";
    session.peer->say(offer.payload());
    session.peer->say(message::ignore);
    CHECK(session.server.events.failures == 0);
}

TEST_CASE("control is sealed in whole packets, into whatever room there is") {
    transport_pair pair;
    pair.open_session();
    byte_vector payload;
    build(payload, global_request{"ping", true, byte_vector(100)});
    for (int at = 0; at < 10; ++at) REQUIRE(pair.client.end->send(payload));
    const std::size_t each = pair.client.end->sealed_size(payload.size());
    byte_vector room(3 * each - 1);
    CHECK(pair.client.end->seal_control(bytes_span(room).first(each - 1)) == 0);
    CHECK(pair.client.end->seal_control(room) == 2 * each);
    feed(*pair.server.end, pair.server.run, bytes_view(room).first(2 * each));
    CHECK(pair.client.end->control_pending());
    pair.pump();
    CHECK(pair.server.events.messages.size() == 10);
}

TEST_CASE("the queue keeps order and bytes however it grows") {
    const unsigned seed = 31;
    INFO("seed " << seed);
    std::mt19937 random(seed);
    message_queue queue;
    std::vector<byte_vector> expected;
    std::size_t first = 0;
    for (unsigned step = 0; step < 5000; ++step) {
        if (random() % 2 == 0 || first == expected.size()) {
            byte_vector payload(random() % 300, static_cast<std::byte>(step));
            REQUIRE(queue.push(payload, std::size_t{1} << 20));
            expected.push_back(payload);
        } else {
            REQUIRE(std::ranges::equal(queue.front(), expected[first++]));
            queue.pop();
        }
        REQUIRE(queue.empty() == (first == expected.size()));
    }
    CHECK_FALSE(queue.push(byte_vector(1 << 20), std::size_t{1} << 20));
}

}  // namespace
}  // namespace burin::ssh
