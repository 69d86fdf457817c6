// The way from two version lines to a session, between two transports and against a bare peer.
#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "crypto/key_agreement.hh"
#include "crypto/public_key.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/bare_peer.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {
namespace {

byte_vector request(std::string_view name) {
    byte_vector out;
    build(out, global_request{name, true, as_bytes("{}")});
    return out;
}

void check_session(transport_pair& pair, const std::string& cipher) {
    INFO(pair.client.events.failure << " / " << pair.server.events.failure);
    REQUIRE(pair.client.end->authenticated());
    REQUIRE(pair.server.end->authenticated());
    for (link_end* each : {&pair.client, &pair.server}) {
        CHECK(each->events.secured == 1);
        CHECK(each->events.logins == 1);
        CHECK(each->events.failures == 0);
        CHECK(each->end->data_allowed());
        CHECK(each->run.empty());
        // What both list first: ML-KEM where the library has it.
        const std::string method(crypto::available(crypto::key_exchange_method::mlkem768_x25519)
                                     ? "mlkem768x25519-sha256, "
                                     : "curve25519-sha256, ");
        CHECK(each->end->algorithms().starts_with(method));
        CHECK(each->end->algorithms().find(cipher + ", strict") != std::string::npos);
    }
    CHECK(pair.client.end->peer_version() == "SSH-chisel-v3-server");
    CHECK(pair.server.end->peer_version() == "SSH-chisel-v3-client");
    CHECK(pair.client.end->session_id().size() == 32);
    CHECK(std::ranges::equal(pair.client.end->session_id(), pair.server.end->session_id()));

    // Messages both ways, under the negotiated keys.
    REQUIRE(pair.client.end->send(request("config")));
    byte_vector packet(pair.server.end->sealed_size(data_header_bytes + 5));
    const auto head = make_data_header(0, 5);
    CHECK(pair.server.end->seal(head, as_bytes("hello"), packet.data()) == packet.size());
    feed(*pair.client.end, pair.client.run, packet);
    pair.pump();
    REQUIRE(pair.server.events.messages.size() == 1);
    CHECK(pair.server.events.messages[0] == request("config"));
    REQUIRE(pair.client.events.messages.size() == 1);
    channel_data got;
    REQUIRE(parse(pair.client.events.messages[0], got));
    CHECK(as_text(got.data) == "hello");
}

TEST_CASE("a session comes up however the bytes are cut, with both ciphers") {
    const auto seed = GENERATE(1u, 2u, 3u, 4u, 5u, 6u);
    const std::string cipher =
        GENERATE(as<std::string>{}, "aes128-gcm@openssh.com", "aes256-gcm@openssh.com");
    INFO("cuts: seed " << seed << " (1: whole, 2: single bytes), " << cipher);
    transport_pair pair;
    pair.client_settings.ciphers = cipher;
    pair.client_settings.guess_key_exchange = seed % 2 == 0;
    pair.connect();
    pair.pump(seed == 1 ? whole() : seed == 2 ? one_byte() : random_cuts(seed));
    check_session(pair, cipher);
}

TEST_CASE("a guess is used when it is right and skipped when it is not") {
    transport_pair pair;
    pair.client_settings.guess_key_exchange = true;
    bool right = true;
    SECTION("right: P-256") {}
    SECTION("wrong: Ed25519") {
        right = false;
        pair.host_key = crypto::host_key::generate(crypto::host_key_kind::ed25519);
    }
    pair.connect();
    pair.pump();
    check_session(pair, "aes128-gcm@openssh.com");
    // KEXINIT, ECDH_INIT, NEWKEYS, SERVICE_REQUEST, USERAUTH_REQUEST, `config`.
    CHECK(pair.client.end->counters().packets_sent == (right ? 6 : 7));
    CHECK(pair.client.end->peer_fingerprint() == crypto::fingerprint(pair.host_key.blob()));
}

TEST_CASE("a guessing client is logged in two round trips after the lines crossed") {
    transport_pair pair;
    pair.client_settings.guess_key_exchange = true;
    pair.connect();
    // Both speak at once; then the server answers what the client said, and so on.
    unsigned flights = 0;
    drain(*pair.server.end, pair.server.said);
    for (; !pair.client.end->authenticated() && flights < 10; ++flights) {
        drain(*pair.client.end, pair.client.said);
        transport_pair::carry(pair.client, pair.server, whole());
        drain(*pair.server.end, pair.server.said);
        transport_pair::carry(pair.server, pair.client, whole());
    }
    CHECK(flights == 2);
}

TEST_CASE("a client may send everything right behind its login") {
    transport_pair pair;
    pair.client.events.when_secured = [&pair] {
        CHECK_FALSE(pair.client.end->authenticated());
        CHECK_FALSE(pair.client.end->data_allowed());
        CHECK(pair.client.end->send(request("config")));
        CHECK(pair.client.end->send(request("ping")));
    };
    pair.connect();
    CHECK_FALSE(pair.client.end->send(request("early")));
    pair.pump(random_cuts(7));
    REQUIRE(pair.server.events.messages.size() == 2);
    CHECK(pair.server.events.messages[0] == request("config"));
    CHECK(pair.client.events.failures == 0);
}

TEST_CASE("the server speaks first of all, without waiting") {
    transport_pair pair;
    pair.connect();
    drain(*pair.server.end, pair.server.said);
    CHECK(as_text(pair.server.said).substr(0, 22) == "SSH-chisel-v3-server\r\n");
    CHECK(pair.server.said.size() > 200);
    CHECK_FALSE(pair.server.end->send(request("config")));
}

TEST_CASE("the fingerprint decides before any password leaves") {
    transport_pair pair;
    pair.give_password("user", "secretpassword");
    pair.logins.add_user("user", crypto::secret_string("secretpassword"));
    std::string failure;
    SECTION("right SHA-256") {
        pair.client_settings.fingerprint = "OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw=";
    }
    SECTION("right MD5") {
        pair.client_settings.fingerprint = "ed:f2:cf:3c:56:49:c8:98:3c:a0:4c:1e:01:1d:fb:fc";
    }
    SECTION("wrong") {
        pair.client_settings.fingerprint = "Nx1l0BeMYTJwDLx/uZE54ed1KTlQJ/ao+DrNcIMTRyY=";
        failure =
            "ssh: handshake failed: Invalid fingerprint "
            "(OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw=)";
    }
    SECTION("MD5 prefix") {
        pair.client_settings.fingerprint = "ed:f2";
        failure =
            "ssh: handshake failed: Invalid fingerprint "
            "(OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw=)";
    }
    pair.connect();
    pair.pump();
    CHECK(pair.client.events.failure == failure);
    CHECK(pair.client.events.failures == (failure.empty() ? 0 : 1));
    CHECK(pair.server.end->authenticated() == failure.empty());
    if (!failure.empty()) {
        // KEXINIT, ECDH_INIT, DISCONNECT: nothing of the login was even queued.
        CHECK(pair.client.end->counters().packets_sent == 3);
        CHECK(pair.client.events.secured == 0);
        CHECK(pair.server.events.failure.find("ssh: disconnect, reason 9") != std::string::npos);
        CHECK(pair.server.events.refused.empty());
    }
}

TEST_CASE("a forged signature ends the client before its login") {
    transport_pair pair;
    pair.connect();
    bare_peer server(*pair.client.end, "SSH-chisel-v3-server");
    const byte_vector ours = bare_offer().payload();
    server.say_line();
    server.say(ours);
    server.hear();
    REQUIRE(number_of(server.hear()) == message::ecdh_init);
    byte_vector reply;
    wire::writer(reply)
        .byte(31)
        .string(pair.host_key.blob())
        .string(crypto::curve25519_key::generate().public_key())
        .string(pair.host_key.sign(as_bytes("something else")));
    server.say(reply);
    CHECK(pair.client.events.failure.find("signature is wrong") != std::string::npos);
    CHECK(pair.client.events.secured == 0);
    CHECK(pair.client.end->counters().packets_sent == 2);
}

TEST_CASE("old peers: no strict key exchange, no EXT_INFO, sequence numbers run on") {
    transport_pair pair;
    pair.connect();
    SECTION("old client") {
        bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
        REQUIRE(client.exchange_as_client({}, false));
        byte_vector service;
        wire::writer(service).byte(5).string("ssh-userauth");
        client.say(service);
        CHECK(number_of(client.hear()) == message::service_accept);
        CHECK(pair.server.end->algorithms() ==
              "curve25519-sha256@libssh.org, ecdsa-sha2-nistp256, aes128-gcm@openssh.com");
    }
    SECTION("IGNORE and DEBUG pass within an exchange that is not strict") {
        bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
        const byte_vector ours = bare_offer().payload();
        client.say_line();
        client.say(ours);
        byte_vector ignore;
        wire::writer(ignore).byte(2).string("padding");
        client.say(ignore);
        CHECK(client.finish_as_client(ours, false, crypto::cipher::aes128_gcm));
        client.say(ignore);
        CHECK(pair.server.events.failures == 0);
    }
    SECTION("old server") {
        bare_peer server(*pair.client.end, "SSH-chisel-v3-server");
        REQUIRE(server.exchange_as_server({}, pair.host_key, false));
        CHECK(number_of(server.hear()) == message::service_request);
        CHECK(number_of(server.hear()) == message::userauth_request);
        CHECK(pair.client.events.secured == 1);
    }
}

TEST_CASE("EXT_INFO is the server's first sealed packet, and only for who asks") {
    transport_pair pair;
    pair.connect();
    bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
    bare_offer offer;
    offer.key_exchanges = "curve25519-sha256,ext-info-c,kex-strict-c-v00@openssh.com";
    REQUIRE(client.exchange_as_client(offer, true));
    const byte_vector got = client.hear();
    REQUIRE(number_of(got) == message::ext_info);
    wire::reader read(bytes_view(got).subspan(1));
    CHECK(read.u32() == 2);
    CHECK(read.text() == "server-sig-algs");
    CHECK(contains_name(read.text(), "ssh-ed25519"));
    CHECK(read.text() == "ping@openssh.com");
    CHECK(read.text() == "0");
    CHECK(read.done());
}

TEST_CASE("a client takes EXT_INFO with unknown entries, before and within its login") {
    transport_pair pair;
    pair.connect();
    bare_peer server(*pair.client.end, "SSH-chisel-v3-server");
    bare_offer offer;
    offer.key_exchanges = "curve25519-sha256,kex-strict-s-v00@openssh.com";
    REQUIRE(server.exchange_as_server(offer, pair.host_key, true));
    byte_vector info, accept;
    wire::writer(info).byte(7).u32(1).string("unknown@example.com").string("x");
    wire::writer(accept).byte(6).string("ssh-userauth");
    server.say(info);
    server.say(accept);
    server.say(info);
    SECTION("and then it is in") {
        server.say(message::userauth_success);
        CHECK(pair.client.end->authenticated());
    }
    SECTION("but not for ever") {
        server.say(info);
        CHECK(pair.client.events.failures == 1);
    }
}

// What a server refuses, and how it says so; each case begins with a KEXINIT that asks for strict
// key exchange.
TEST_CASE("strict key exchange tolerates nothing but what is due") {
    transport_pair pair;
    pair.connect();
    bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
    bare_offer offer;
    offer.key_exchanges = "curve25519-sha256,kex-strict-c-v00@openssh.com";
    byte_vector ignore;
    wire::writer(ignore).byte(2).string("");
    client.say_line();
    SECTION("IGNORE before KEXINIT") {
        client.say(ignore);
    }
    SECTION("IGNORE behind KEXINIT") {
        client.say(offer.payload());
        client.say(ignore);
    }
    SECTION("DEBUG behind KEXINIT") {
        client.say(offer.payload());
        client.say(message::debug);
    }
    SECTION("a second KEXINIT") {
        client.say(offer.payload());
        client.say(offer.payload());
    }
    SECTION("NEWKEYS instead of ECDH_INIT") {
        client.say(offer.payload());
        client.say(message::newkeys);
    }
    SECTION("login instead of ECDH_INIT") {
        client.say(offer.payload());
        client.say(message::service_request);
    }
    SECTION("an ECDH_INIT that is too short") {
        client.say(offer.payload());
        byte_vector init;
        wire::writer(init).byte(30).string("0123");
        client.say(init);
    }
    SECTION("a point of small order") {
        client.say(offer.payload());
        byte_vector init;
        wire::writer(init).byte(30).string(byte_vector(32));
        client.say(init);
    }
    SECTION("KEXINIT with something behind it") {
        byte_vector payload = offer.payload();
        payload.push_back({});
        client.say(payload);
    }
    SECTION("nothing in common") {
        offer.ciphers = "3des-cbc";
        client.say(offer.payload());
    }
    CHECK(pair.server.events.failures == 1);
    CHECK(pair.server.end->failed());
    CHECK_FALSE(pair.server.end->authenticated());
    REQUIRE(number_of(client.hear()) == message::kexinit);
    CHECK(number_of(client.hear()) == message::disconnect);
    // Whatever comes now is taken and forgotten.
    byte_vector run(100);
    CHECK(pair.server.end->receive(run) == run.size());
    CHECK(pair.server.events.failures == 1);
}

TEST_CASE("a wrong guess of a client is skipped, once") {
    transport_pair pair;
    pair.connect();
    bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
    bare_offer offer;
    offer.key_exchanges = "sntrup761x25519-sha512,curve25519-sha256,kex-strict-c-v00@openssh.com";
    offer.follows = true;
    const byte_vector ours = offer.payload();
    client.say_line();
    client.say(ours);
    byte_vector guess;
    wire::writer(guess).byte(30).string(byte_vector(1216));
    client.say(guess);
    CHECK(client.finish_as_client(ours, true, crypto::cipher::aes128_gcm));
    CHECK(pair.server.events.secured == 1);
}

TEST_CASE("what is not SSH is refused without an answer") {
    transport_pair pair;
    pair.connect();
    byte_vector run;
    SECTION("HTTP") {
        feed(*pair.server.end, run, as_bytes("GET / HTTP/1.1\r\n\r\n"));
    }
    SECTION("a line without end") {
        const std::string text = "SSH-" + std::string(300, 'x');
        feed(*pair.server.end, run, as_bytes(text));
    }
    SECTION("a line without end, byte by byte") {
        const std::string text = "SSH-" + std::string(251, '\x1b');
        for (const char letter : text) {
            CHECK_FALSE(pair.server.end->failed());
            feed(*pair.server.end, run, as_bytes(std::string_view(&letter, 1)));
        }
    }
    CHECK(pair.server.events.failures == 1);
    CHECK(pair.server.events.failure.find('\x1b') == std::string::npos);
    drain(*pair.server.end, pair.server.said);
    CHECK(as_text(pair.server.said).find("SSH-chisel-v3-server") == 0);
}

TEST_CASE("before the login packets are small") {
    transport_pair pair;
    pair.connect();
    byte_vector run;
    feed(*pair.server.end, run, as_bytes("SSH-chisel-v3-client\r\n"));
    byte_vector length(4);
    store_u32(length.data(), 35001);
    SECTION("just too much is refused before it arrives") {
        feed(*pair.server.end, run, length);
        CHECK(pair.server.events.failures == 1);
    }
    SECTION("the most is waited for") {
        store_u32(length.data(), 34996);
        feed(*pair.server.end, run, length);
        CHECK(pair.server.events.failures == 0);
        CHECK(pair.server.end->wanted() == 35000);
    }
}

TEST_CASE("a damaged packet ends the session") {
    transport_pair pair;
    pair.open_session();
    byte_vector packet(pair.client.end->sealed_size(100));
    pair.client.end->seal({}, byte_vector(100, std::byte{94}), packet.data());
    packet[50] ^= std::byte{1};
    feed(*pair.server.end, pair.server.run, packet);
    CHECK(pair.server.events.failures == 1);
    CHECK(pair.server.events.messages.empty());
}

}  // namespace
}  // namespace burin::ssh
