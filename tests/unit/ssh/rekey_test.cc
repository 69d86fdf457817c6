// New keys in a session at work (RFC 4253 sections 7.1 and 9; docs/wire.md sections 4.3, 4.7): both
// ends begin whenever they like, over streams that are cut and late, and nothing is lost, changes
// its order or stands between a KEXINIT and its NEWKEYS.
#include <algorithm>
#include <string>

#include "core/ssh/kexinit.hh"
#include "core/ssh/messages.hh"
#include "core/ssh/transport_packets.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/bare_peer.hh"
#include "tests/unit/ssh/hand_played.hh"
#include "tests/unit/ssh/recorder.hh"
#include "tests/unit/ssh/station.hh"

namespace burin::ssh {
namespace {

byte_vector ping_message(std::uint32_t number = 0, std::size_t size = 4) {
    byte_vector out, rest(size);
    store_u32(rest.data(), number);
    build(out, global_request{"ping", true, rest});
    return out;
}

// What one end says, data and messages each numbered, and what the other hears of it.
struct voice {
    voice(link_end& speaker, link_end& listener) : from(speaker), to(listener) {
        to.events.keep = false;
        to.events.when_message = [this](const byte_vector& payload) { hear(payload); };
    }
    void hear(const byte_vector& payload) {
        channel_data data;
        global_request request;
        if (parse(payload, data)) {
            CHECK(data.recipient == data_heard);
            ++data_heard;
            bytes_heard += data.data.size();
        } else {
            CHECK(parse(payload, request));
            CHECK(load_u32(request.rest.data()) == messages_heard);
            ++messages_heard;
        }
    }
    void tell(std::size_t size = 4) {
        REQUIRE(from.end->send(ping_message(messages_said++, size)));
    }
    // One turn: messages, then data as long as it is allowed.
    void flush(unsigned packets, std::size_t size) {
        drain(*from.end, from.said);
        for (; packets > 0 && from.end->data_allowed(); --packets) {
            const byte_vector body(size);
            const auto head = make_data_header(data_said++, static_cast<std::uint32_t>(size));
            const std::size_t before = from.said.size();
            from.said.resize(before + from.end->sealed_size(head.size() + size));
            from.end->seal(head, body, from.said.data() + before);
            bytes_said += size;
        }
        drain(*from.end, from.said);
    }
    // Some of what is on its way arrives.
    void carry(std::size_t most, const cutter& cut) {
        const std::size_t size = std::min(most, from.said.size());
        for (std::size_t at = 0; at < size;) {
            const std::size_t part = std::min(size - at, cut(size - at));
            feed(*to.end, to.run, bytes_view(from.said).subspan(at, part));
            at += part;
        }
        from.said.erase(from.said.begin(), from.said.begin() + static_cast<std::ptrdiff_t>(size));
    }
    void check_whole() const {
        CHECK(data_heard == data_said);
        CHECK(bytes_heard == bytes_said);
        CHECK(messages_heard == messages_said);
        const auto& sent = from.end->counters();
        const auto& got = to.end->counters();
        CHECK(sent.packets_sent == got.packets_received);
        CHECK(sent.bytes_sent == got.bytes_received);
    }

    link_end& from;
    link_end& to;
    std::uint32_t data_said = 0, data_heard = 0, messages_said = 0, messages_heard = 0;
    std::uint64_t bytes_said = 0, bytes_heard = 0;
};

constexpr const char* ciphers[] = {"aes128-gcm@openssh.com",
                                   "aes256-gcm@openssh.com",
                                   "chacha20-poly1305@openssh.com",
                                   "aes128-ctr",
                                   "aes192-ctr",
                                   "aes256-ctr"};
constexpr const char* macs[] = {"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com",
                                "hmac-sha2-256", "hmac-sha2-512"};

TEST_CASE("keys change at random, from both ends, over late streams") {
    const unsigned first = std::random_device{}();
    std::uint64_t exchanges = 0, said = 0;
    for (unsigned at = 0; at < 30; ++at) {
        const unsigned seed = first + at;
        CAPTURE(seed);
        std::mt19937 random(seed);
        auto pick = [&random](unsigned count) { return static_cast<unsigned>(random() % count); };
        transport_pair pair;
        pair.client_settings.guess_key_exchange = pick(2) == 0;
        pair.client_settings.ciphers = ciphers[at % std::size(ciphers)];
        pair.client_settings.macs = macs[at / std::size(ciphers) % std::size(macs)];
        if (pick(2) == 0) pair.host_key = crypto::host_key::from_seed("another");
        pair.open_session();
        // Which of the limits there are is a matter of the seed.
        if (pick(3) == 0) pair.client_settings.rekey_packets = 10 + pick(200);
        if (pick(3) == 0) pair.client_settings.rekey_bytes = 1000 + pick(100'000);
        if (pick(3) == 0) pair.server_settings.rekey_packets = 10 + pick(200);
        if (pick(3) == 0) pair.server_settings.rekey_bytes = 1000 + pick(100'000);
        const unsigned one_in = 5 + pick(60);
        voice up(pair.client, pair.server), down(pair.server, pair.client);
        for (unsigned round = 0; round < 150; ++round) {
            for (voice* v : {&up, &down}) {
                if (pick(one_in) == 0) v->from.end->start_rekey();
                if (pick(4) == 0) v->tell();
                if (pick(2) == 0) v->flush(pick(5), 1 + pick(pick(8) == 0 ? 30'000 : 300));
            }
            for (voice* v : {&up, &down})
                if (pick(3) != 0)
                    v->carry(pick(3) == 0 ? pick(40) : 50'000,
                             random_cuts(static_cast<unsigned>(random())));
        }
        pair.pump();
        INFO(pair.client.events.failure << " / " << pair.server.events.failure);
        REQUIRE(pair.client.events.failures + pair.server.events.failures == 0);
        up.check_whole();
        down.check_whole();
        for (link_end* each : {&pair.client, &pair.server}) {
            CHECK_FALSE(each->end->exchanging());
            CHECK(each->end->data_allowed());
            CHECK(each->run.empty());
        }
        // How much a session says is a matter of its seed too; that it says something is not.
        CHECK(up.data_said > 0);
        CHECK(down.data_said > 0);
        said += up.data_said + down.data_said;
        CHECK(pair.client.end->counters().key_exchanges ==
              pair.server.end->counters().key_exchanges);
        exchanges += pair.client.end->counters().key_exchanges - 1;
    }
    CHECK(exchanges > 100);
    CHECK(said > 1500);
}

// ---- round trips ----

// Turns in which both ends speak and then both hear, until neither is in a key exchange.
unsigned crossings(transport_pair& pair) {
    unsigned count = 0;
    do {
        drain(*pair.client.end, pair.client.said);
        drain(*pair.server.end, pair.server.said);
        const byte_vector up = std::exchange(pair.client.said, {}),
                          down = std::exchange(pair.server.said, {});
        feed(*pair.server.end, pair.server.run, up);
        feed(*pair.client.end, pair.client.run, down);
        ++count;
        REQUIRE(count < 10);
    } while (pair.client.end->exchanging() || pair.server.end->exchanging());
    return count;
}

TEST_CASE("new keys cost one round trip, whoever begins, and no packet more than they must") {
    const auto kind = GENERATE(crypto::host_key_kind::ecdsa_p256, crypto::host_key_kind::ed25519);
    const bool guesses = GENERATE(true, false);
    const int who = GENERATE(0, 1, 2);
    INFO("begun by " << who << " (client, server, both)");
    transport_pair pair;
    pair.host_key = crypto::host_key::generate(kind);
    pair.client_settings.guess_key_exchange = guesses;
    pair.open_session();
    const auto before = pair.client.end->counters().packets_sent;
    if (who != 1) pair.client.end->start_rekey();
    if (who != 0) pair.server.end->start_rekey();
    CHECK(pair.client.end->exchanging() == (who != 1));
    // KEXINIT and ECDH_INIT there, KEXINIT, ECDH_REPLY and NEWKEYS back, NEWKEYS there: the third
    // crossing makes nobody wait. A server that begins needs one before them, and so does a client
    // that does not guess.
    const unsigned count = crossings(pair);
    if (who == 0) CHECK(count == (guesses ? 3 : 5));
    if (who == 1) CHECK(count == 4);
    if (who == 2) CHECK(count == (guesses ? 3 : 4));
    CHECK(pair.client.end->counters().packets_sent == before + 3);
    CHECK(pair.client.end->counters().key_exchanges == 2);
    CHECK(pair.client.events.failures + pair.server.events.failures == 0);
}

// ---- sessions whose one end is played by hand ----

constexpr std::string_view strict_both = "curve25519-sha256,kex-strict-c-v00@openssh.com";

// A client by hand, logged in or about to be.
struct bare_client : transport_pair {
    bare_client() {
        logins.add_user("user", crypto::secret_string("pass"));
        server_settings.key_exchanges = "curve25519-sha256";
        connect();
        peer = std::make_unique<bare_peer>(*server.end, "SSH-chisel-v3-client");
        bare_offer offer;
        offer.key_exchanges = strict_both;
        REQUIRE(peer->exchange_as_client(offer, true));
        byte_vector service;
        wire::writer(service).byte(5).string("ssh-userauth");
        peer->say(service);
        REQUIRE(number_of(peer->hear()) == message::service_accept);
    }
    void log_in() {
        byte_vector login;
        wire::writer(login).byte(50).string("user").string("ssh-connection").string("password");
        wire::writer(login).boolean(false).string("pass");
        peer->say(login);
    }
    void enter() {
        log_in();
        REQUIRE(number_of(peer->hear()) == message::userauth_success);
    }
    std::unique_ptr<bare_peer> peer;
};

// A server by hand that a client transport has its login under way to.
struct bare_server : transport_pair {
    explicit bare_server(std::string_view host_keys = "ecdsa-sha2-nistp256") {
        client_settings.key_exchanges = "curve25519-sha256";
        connect();
        peer = std::make_unique<bare_peer>(*client.end, "SSH-chisel-v3-server");
        offer.key_exchanges = "curve25519-sha256,kex-strict-s-v00@openssh.com";
        offer.host_keys = host_keys;
        REQUIRE(peer->exchange_as_server(offer, host_key, true));
        client_settings.guess_key_exchange = true;  // later; the first time it is not the matter
        offer.key_exchanges = "curve25519-sha256";
        REQUIRE(number_of(peer->hear()) == message::service_request);
        REQUIRE(number_of(peer->hear()) == message::userauth_request);
        byte_vector accept;
        wire::writer(accept).byte(6).string("ssh-userauth");
        peer->say(accept);
    }
    void let_in() {
        peer->say(message::userauth_success);
        REQUIRE(client.end->authenticated());
    }
    bare_offer offer;
    std::unique_ptr<bare_peer> peer;
};

bare_offer later_offer() {
    bare_offer offer;
    offer.key_exchanges = "curve25519-sha256";
    return offer;
}

TEST_CASE("a server's answer to the login stands before its KEXINIT, however soon that comes") {
    bare_client session;
    SECTION("by its limit") {
        session.server_settings.rekey_bytes = 1;
        session.log_in();
    }
    SECTION("by its owner") {
        session.log_in();
        session.server.end->start_rekey();
    }
    REQUIRE(number_of(session.peer->hear()) == message::userauth_success);
    CHECK(number_of(session.peer->hear()) == message::kexinit);
}

TEST_CASE("a client bears new keys within its login") {
    bare_server session;
    const byte_vector ours = session.offer.payload();
    session.peer->say(ours);
    REQUIRE(session.peer->finish_as_server(ours, session.host_key, true));
    session.let_in();
    CHECK(session.client.end->counters().key_exchanges == 2);
    CHECK(session.client.events.failures == 0);
}

TEST_CASE("a wrong guess in a later exchange is skipped, once") {
    bare_client session;
    session.enter();
    bare_offer offer = later_offer();
    offer.key_exchanges = "mlkem768x25519-sha256,curve25519-sha256";
    offer.follows = true;
    const byte_vector ours = offer.payload();
    session.peer->say(ours);
    byte_vector guess;
    wire::writer(guess).byte(30).string(byte_vector(1216));
    session.peer->say(guess);
    REQUIRE(session.peer->finish_as_client(ours, true, crypto::cipher::aes128_gcm));
    session.peer->say(ping_message());
    CHECK(session.server.events.messages.size() == 1);
    CHECK(session.server.events.failures == 0);
}

TEST_CASE("a client guesses again when its guess would have been right, and only then") {
    SECTION("the server has other lists: no guess") {
        bare_server session("ssh-ed25519,ecdsa-sha2-nistp256");
        session.let_in();
        session.client.end->start_rekey();
        const byte_vector theirs = session.peer->hear();
        kexinit offer;
        REQUIRE(parse(theirs, offer));
        CHECK_FALSE(offer.first_packet_follows);
        CHECK(session.peer->hear().empty());
    }
    SECTION("the server has changed its lists: the guess is made good") {
        bare_server session;
        session.let_in();
        session.client.end->start_rekey();
        const byte_vector theirs = session.peer->hear();
        kexinit offer;
        REQUIRE(parse(theirs, offer));
        CHECK(offer.first_packet_follows);
        REQUIRE(number_of(session.peer->hear()) == message::ecdh_init);
        session.offer.key_exchanges = "ecdh-sha2-nistp256,curve25519-sha256";
        session.peer->say(session.offer.payload());
        CHECK(number_of(session.peer->hear()) == message::ecdh_init);
        CHECK(session.client.events.failures == 0);
    }
}

TEST_CASE("a key exchange within another is none") {
    SECTION("two KEXINITs") {
        bare_client session;
        session.enter();
        session.peer->say(later_offer().payload());
        session.peer->say(later_offer().payload());
        CHECK(session.server.events.failures == 1);
    }
    SECTION("the next KEXINIT before our NEWKEYS could be read") {
        transport_pair pair;
        pair.open_session();
        pair.client.end->start_rekey();
        drain(*pair.client.end, pair.client.said);
        transport_pair::carry(pair.client, pair.server, whole());
        drain(*pair.server.end, pair.server.said);
        transport_pair::carry(pair.server, pair.client, whole());
        drain(*pair.client.end, pair.client.said);
        transport_pair::carry(pair.client, pair.server, whole());
        drain(*pair.server.end, pair.server.said);
        // A server that has changed its keys both ways although the client's NEWKEYS has not even
        // been sealed.
        transport_pair::carry(pair.server, pair.client, whole());
        REQUIRE(pair.client.end->exchanging());
        byte_vector packet(pair.server.end->sealed_size(later_offer().payload().size()));
        pair.server.end->seal({}, later_offer().payload(), packet.data());
        feed(*pair.client.end, pair.client.run, packet);
        CHECK(pair.client.events.failure == "a key exchange within another");
    }
}

TEST_CASE("a peer that has not seen our KEXINIT is heard, and one that has sent its own is not") {
    bare_client session;
    session.enter();
    session.server.end->start_rekey();
    for (unsigned at = 0; at < 100; ++at) session.peer->say(data_message(0, 1000));
    CHECK(session.server.events.messages.size() == 100);
    // Nothing is answered meanwhile.
    for (unsigned at = 0; at < 100; ++at) REQUIRE(session.server.end->send(ping_message(at)));
    SECTION("it goes on as it must, and is answered then") {
        const byte_vector ours = later_offer().payload();
        session.peer->say(ours);
        REQUIRE(session.peer->finish_as_client(ours, true, crypto::cipher::aes128_gcm));
        for (unsigned at = 0; at < 100; ++at) REQUIRE(session.peer->hear() == ping_message(at));
        CHECK(session.server.events.failures == 0);
        return;
    }
    REQUIRE(number_of(session.peer->hear()) == message::kexinit);
    CHECK(session.peer->hear().empty());
    SECTION("data behind its KEXINIT") {
        session.peer->say(later_offer().payload());
        session.peer->say(data_message(0, 1000));
        CHECK(session.server.events.failure == "message 94 within a key exchange");
        CHECK(number_of(session.peer->hear()) == message::disconnect);
    }
    SECTION("WINDOW_ADJUST behind its KEXINIT") {
        session.peer->say(later_offer().payload());
        session.peer->say(adjust_message(0, 1));
        CHECK(session.server.events.failure == "message 93 within a key exchange");
    }
}

TEST_CASE("a cipher's limit counts where it is the smaller one") {
    settings config;
    config.rekey_bytes = 2000;
    packet_layer packets(config, "SSH-2.0-x");
    byte_vector packet(4096);
    const byte_vector body(1000);
    packets.seal({}, body, packet.data());
    CHECK_FALSE(packets.keys_are_spent());
    packets.limit_keys(std::uint64_t{1} << 36);
    CHECK_FALSE(packets.keys_are_spent());
    packets.limit_keys(1000);
    CHECK(packets.keys_are_spent());
    packets.limit_keys(1001);
    CHECK_FALSE(packets.keys_are_spent());
    packets.seal({}, body, packet.data());
    CHECK(packets.keys_are_spent());
    packets.limit_keys(std::uint64_t{1} << 30);
    CHECK(packets.keys_are_spent());
}

// ---- what waits ----

TEST_CASE(
    "what waits for new keys is bounded, in order, and may be more than what waits otherwise") {
    transport_pair pair;
    pair.open_session();
    voice up(pair.client, pair.server);
    pair.client.end->start_rekey();
    const byte_vector large = ping_message(0, 1000);
    const std::size_t each = large.size() + 4;
    SECTION("up to its limit, and sealed before anything else may wait") {
        const std::size_t most = max_held_bytes / (ping_message(0, 1000).size() + 4);
        while (up.messages_said < most) up.tell(1000);
        CHECK(pair.client.end->control_pending());
        drain(*pair.client.end, pair.client.said);
        transport_pair::carry(pair.client, pair.server, whole());
        drain(*pair.server.end, pair.server.said);
        transport_pair::carry(pair.server, pair.client, whole());
        // New keys are there, and not all that waited fits one send: more may still be queued.
        while (pair.client.end->exchanging()) {
            byte_vector room(4096);
            const std::size_t size = pair.client.end->seal_control(room);
            REQUIRE(size > 0);
            pair.client.said.insert(pair.client.said.end(), room.begin(),
                                    room.begin() + static_cast<std::ptrdiff_t>(size));
            transport_pair::carry(pair.client, pair.server, whole());
            drain(*pair.server.end, pair.server.said);
            transport_pair::carry(pair.server, pair.client, whole());
        }
        for (unsigned at = 0; at < 50; ++at) up.tell();
        pair.pump();
        up.check_whole();
        CHECK(pair.client.events.failures == 0);
    }
    SECTION("beyond it the session ends") {
        std::size_t queued = 0;
        while (pair.client.end->send(large)) ++queued;
        CHECK(queued == max_held_bytes / each);
        CHECK(pair.client.events.failure.find("the peer does not read") != std::string::npos);
    }
    SECTION("and the usual limit holds again afterwards") {
        pair.pump();
        std::size_t queued = 0;
        while (pair.client.end->send(large)) ++queued;
        CHECK(queued == max_queued_bytes / each);
    }
}

TEST_CASE("credit for ten thousand channels waits for new keys, one message each", "[connection]") {
    constexpr std::uint32_t count = 10'000;
    const connection_limits limits{.max_channels = count, .window_max = 16384};
    station_pair pair;
    pair.begin(limits, 1u << 30, count);
    pair.exit.keeps = false;
    pair.exit.takes = false;
    for (std::uint32_t at = 0; at < count; ++at) {
        pair.entry.open();
        if (at % 1000 == 999) pair.settle();
    }
    const auto adjusts = [&pair] { return pair.exit.layer->counters().adjusts_sent; };
    // The exit has begun a key exchange that the entry does not know of, and goes on.
    pair.server.end->start_rekey();
    pair.exit.flush();
    const byte_vector kexinit = std::exchange(pair.server.said, {});
    REQUIRE_FALSE(kexinit.empty());
    const byte_vector piece(4096);
    for (unsigned round = 0; round < 3; ++round) {
        for (flow_record& flow : pair.entry.flows) {
            pair.entry.send(flow, piece);
            if (pair.entry.layer->queued_bytes() > 2u << 20) {
                pair.entry.flush(4u << 20);
                transport_pair::carry(pair.client, pair.server, whole());
            }
        }
        pair.entry.flush(4u << 20);
        transport_pair::carry(pair.client, pair.server, whole());
        // A quarter of each window was taken, three times over: each time an adjust is due.
        for (flow_record& flow : pair.exit.flows) flow.take_held();
        pair.exit.flush();
        CHECK_FALSE(pair.exit.layer->pending());  // or the session would spin
        CHECK(pair.server.said.empty());
        CHECK(adjusts() == 0);
    }
    feed(*pair.client.end, pair.client.run, kexinit);
    pair.settle();
    pair.check_peace();
    CHECK(adjusts() == count);
    for (const channel* c : pair.exit.layer->channels()) REQUIRE(c->receive_left == c->window);
    // In the other direction as well, and all channels go.
    for (flow_record& flow : pair.exit.flows) pair.exit.send(flow, bytes_view(piece).first(100));
    pair.settle();
    for (const flow_record& flow : pair.entry.flows) REQUIRE(flow.bytes == 100);
    pair.entry.layer->lose();
    pair.exit.layer->lose();
}

TEST_CASE("opens, refusals, EOF and CLOSE wait for new keys in their order", "[connection]") {
    station_pair pair;
    pair.begin();
    pair.exit.when_open = [&pair](channel& c, const channel_open& open) {
        if (as_text(open.rest) == "no")
            return pair.exit.layer->refuse(c, open_failure_reason::connect_failed, "no");
        pair.exit.accept(c);
    };
    flow_record& first = pair.entry.open();
    flow_record& second = pair.entry.open();
    pair.settle();
    pair.entry.send(first, pattern_bytes().at(0, 0, 5000));
    const int who = GENERATE(0, 1, 2);
    if (who != 1) pair.client.end->start_rekey();
    if (who != 0) pair.server.end->start_rekey();
    // All of it while the way is shut at one end or at both.
    pair.entry.layer->send_eof(*first.at);
    flow_record& refused = pair.entry.open("no");
    flow_record& third = pair.entry.open("yes");
    pair.entry.layer->request("ping", {});
    pair.entry.close(second);
    pair.exit.layer->request("ping", {});
    pair.exit.send(pair.exit.flows[0], pattern_bytes().at(1, 0, 5000));
    pair.exit.layer->send_eof(*pair.exit.flows[0].at);
    pair.settle(random_cuts(3));
    pair.check_peace();
    for (const flow_record* flow : {&first, &pair.exit.flows[0]}) {
        CHECK(flow->bytes == 5000);
        CHECK(flow->eofs == 1);
        CHECK(flow->after_end == 0);
    }
    CHECK(pair.exit.flows[1].closes == 1);
    CHECK(refused.refused == open_failure_reason::connect_failed);
    CHECK(third.confirmed == 1);
    CHECK(pair.entry.replies == std::vector<std::string>{"yes pong"});
    CHECK(pair.exit.replies == std::vector<std::string>{"yes pong"});
    CHECK(pair.client.end->counters().key_exchanges == 2);
    pair.entry.close(first);
    pair.entry.close(third);
    pair.settle();
    pair.entry.check_empty();
    pair.exit.check_empty();
}

}  // namespace
}  // namespace burin::ssh
