// Every algorithm between two transports, and what is agreed on with whom.
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "core/ssh/kexinit.hh"
#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "crypto/public_key.hh"
#include "crypto/rsa_key.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/bare_peer.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {
namespace {

// Made once: it takes a tenth of a second.
const crypto::host_key& rsa_host_key() {
    static const crypto::host_key key = [] {
        const char* problem = nullptr;
        auto made = crypto::rsa_private_key::adopt(crypto::rsa_handle(EVP_RSA_gen(2048)), problem);
        REQUIRE(made);
        return crypto::host_key(std::move(*made));
    }();
    return key;
}

byte_vector request(std::size_t size) {
    const std::string text(size, 'x');
    byte_vector out;
    build(out, global_request{"data", false, as_bytes(text)});
    return out;
}

// Messages of many sizes both ways, before and after a second key exchange.
void check_traffic(transport_pair& pair) {
    INFO(pair.client.events.failure << " / " << pair.server.events.failure);
    REQUIRE(pair.client.end->authenticated());
    REQUIRE(pair.server.end->authenticated());
    const auto both_ways = [&pair] {
        pair.client.events.messages.clear();
        pair.server.events.messages.clear();
        for (std::size_t size : {0, 1, 7, 100, 2000, 3000}) {
            REQUIRE(pair.client.end->send(request(size)));
            REQUIRE(pair.server.end->send(request(size)));
        }
        pair.pump(random_cuts(5));
        for (link_end* each : {&pair.client, &pair.server}) {
            REQUIRE(each->events.messages.size() == 6);
            CHECK(each->events.messages[1] == request(1));
            CHECK(each->events.messages[5] == request(3000));
            CHECK(each->events.failures == 0);
        }
    };
    both_ways();
    const auto before = pair.client.end->counters().key_exchanges;
    pair.server.end->start_rekey();
    pair.pump();
    CHECK(pair.client.end->counters().key_exchanges == before + 1);
    both_ways();
}

TEST_CASE("every cipher with every MAC carries a session, over rekeying too") {
    const proposal all = own_proposal(role::client, {}, "");
    std::string ciphers = all.ciphers;
    while (!ciphers.empty()) {
        const std::string cipher(first_name(ciphers));
        ciphers.erase(0, cipher.size() + 1);
        std::string macs = cipher.ends_with("-ctr") ? all.macs : "hmac-sha2-256";
        while (!macs.empty()) {
            const std::string mac(first_name(macs));
            macs.erase(0, mac.size() + 1);
            INFO(cipher << " " << mac);
            transport_pair pair;
            pair.client_settings.ciphers = cipher;
            pair.client_settings.macs = mac;
            pair.connect();
            pair.pump(random_cuts(3));
            check_traffic(pair);
            const std::string expected = cipher.ends_with("-ctr") ? cipher + "+" + mac : cipher;
            CHECK(pair.server.end->algorithms().find(", " + expected + ", strict") !=
                  std::string::npos);
        }
    }
}

TEST_CASE("each direction has a cipher and a MAC of its own") {
    transport_pair pair;
    pair.connect();
    bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
    byte_vector payload{static_cast<std::byte>(message::kexinit)};
    payload.resize(17);
    wire::writer write(payload);
    write.string("curve25519-sha256").string("ecdsa-sha2-nistp256");
    write.string("aes256-ctr").string("chacha20-poly1305@openssh.com");
    write.string("hmac-sha2-512").string("").string("none").string("none");
    write.string("").string("").boolean(false).u32(0);
    client.say_line();
    client.say(payload);
    CHECK(pair.server.events.failures == 0);
    CHECK(pair.server.end->algorithms() ==
          "curve25519-sha256, ecdsa-sha2-nistp256, aes256-ctr+hmac-sha2-512 to the server, "
          "chacha20-poly1305@openssh.com to the client");
}

TEST_CASE("every key exchange, guessed and not") {
    std::string names = crypto::key_exchange_names();
    while (!names.empty()) {
        const std::string name(first_name(names));
        names.erase(0, name.size() + 1);
        for (const bool guesses : {false, true})
            for (const bool right : {false, true}) {
                INFO(name << ", guesses " << guesses << ", right " << right);
                transport_pair pair;
                pair.client_settings.key_exchanges = name;
                pair.client_settings.guess_key_exchange = guesses;
                // A server that lists another one first makes the guess wrong.
                pair.server_settings.key_exchanges = right ? name : "nobody-knows-it," + name;
                pair.connect();
                pair.pump(random_cuts(11));
                check_traffic(pair);
                CHECK(pair.client.end->algorithms().find(name + ", ") == 0);
            }
    }
}

TEST_CASE("every kind of host key") {
    using crypto::host_key_kind;
    const auto kind =
        GENERATE(host_key_kind::ecdsa_p256, host_key_kind::ecdsa_p384, host_key_kind::ecdsa_p521,
                 host_key_kind::ed25519, host_key_kind::rsa);
    const bool rsa = kind == host_key_kind::rsa;
    const auto made = crypto::host_key::generate(rsa ? host_key_kind::ed25519 : kind);
    const crypto::host_key& key = rsa ? rsa_host_key() : made;
    transport_pair pair;
    pair.server_settings.host_key = &key;
    pair.client_settings.fingerprint = crypto::fingerprint(key.blob());
    pair.connect();
    pair.pump();
    check_traffic(pair);
    const std::string shown(rsa ? "rsa-sha2-512" : key.algorithm());
    CHECK(pair.client.end->algorithms().find(", " + shown + ", ") != std::string::npos);
}

TEST_CASE("an RSA host key: the client's order of its two names, and never SHA-1") {
    transport_pair pair;
    pair.server_settings.host_key = &rsa_host_key();
    pair.connect();
    bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
    bare_offer offer;
    SECTION("both") {
        offer.host_keys = "ssh-ed25519,rsa-sha2-256,rsa-sha2-512,ssh-rsa";
        REQUIRE(client.exchange_as_client(offer, false));
        CHECK(pair.server.end->algorithms().find(", rsa-sha2-256, ") != std::string::npos);
    }
    SECTION("an old client of SHA-1 alone") {
        offer.host_keys = "ssh-rsa";
        client.say_line();
        client.say(offer.payload());
        CHECK(pair.server.events.failure.find("no common host key") == 0);
    }
}

TEST_CASE("a server's RSA key that signs in another way than agreed is refused") {
    transport_pair pair;
    pair.connect();
    bare_peer server(*pair.client.end, "SSH-chisel-v3-server");
    bare_offer offer;
    offer.host_keys = "rsa-sha2-256";
    const byte_vector ours = offer.payload();
    server.say_line();
    server.say(ours);
    const byte_vector theirs = server.hear();
    const byte_vector init = server.hear();
    wire::reader read(bytes_view(init).subspan(1));
    const bytes_view value = read.string();
    const auto key = crypto::curve25519_key::generate();
    const auto secret = crypto::encode_mpint(key.agree(value)->view());
    const auto hash = crypto::exchange_hash(
        {as_bytes("SSH-chisel-v3-client"), as_bytes("SSH-chisel-v3-server"), theirs, ours,
         rsa_host_key().blob(), value, key.public_key(), secret.view()});
    const bool agreed = GENERATE(true, false);
    byte_vector reply;
    wire::writer(reply)
        .byte(31)
        .string(rsa_host_key().blob())
        .string(key.public_key())
        .string(rsa_host_key().sign(hash, agreed ? "rsa-sha2-256" : "rsa-sha2-512"));
    server.say(reply);
    CHECK(pair.client.events.secured == (agreed ? 1 : 0));
    if (!agreed) {
        CHECK(pair.client.events.failure.find("signature is wrong") != std::string::npos);
    }
}

TEST_CASE("native: the server waits for the client's lists, and takes GCM where that is offered") {
    transport_pair pair;
    pair.logins.add_user("user", crypto::secret_string("word"));
    pair.connect(dialect::native);
    // Only its line, so far.
    drain(*pair.server.end, pair.server.said);
    const std::string said(as_text(pair.server.said));
    CHECK(said.find("\r\n") == said.size() - 2);
    bare_offer offer;
    std::string expected = "aes128-gcm@openssh.com";
    SECTION("OpenSSH's order from 10.0 on") {
        offer.ciphers =
            "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com,"
            "aes128-ctr";
    }
    SECTION("and before") {
        offer.ciphers =
            "chacha20-poly1305@openssh.com,aes128-ctr,aes128-gcm@openssh.com,"
            "aes256-gcm@openssh.com";
    }
    SECTION("256 alone") {
        offer.ciphers = "aes128-ctr,chacha20-poly1305@openssh.com,aes256-gcm@openssh.com";
        expected = "aes256-gcm@openssh.com";
    }
    SECTION("no GCM") {
        offer.ciphers = "chacha20-poly1305@openssh.com,aes128-ctr";
        expected = "chacha20-poly1305@openssh.com";
    }
    bare_peer client(*pair.server.end, "SSH-2.0-OpenSSH_9.2p1");
    client.give(as_bytes("SSH-2.0-OpenSSH_9.2p1\r\n"));
    CHECK_FALSE(pair.server.end->control_pending());
    client.say(offer.payload());
    CHECK(pair.server.end->control_pending());
    CHECK(pair.server.end->algorithms().find(", " + expected) != std::string::npos);
    CHECK(pair.server.events.failures == 0);
}

TEST_CASE("native: a client that waits for our lists gets them unseen, once") {
    transport_pair pair;
    pair.logins.add_user("user", crypto::secret_string("word"));
    pair.connect(dialect::native);
    bare_peer client(*pair.server.end, "SSH-2.0-libssh-0.6.3");
    client.say_line();
    CHECK(client.hear().empty());
    pair.server.end->offer_now();
    pair.server.end->offer_now();
    const byte_vector theirs = client.hear();
    kexinit offered;
    REQUIRE(parse(theirs, offered));
    CHECK(first_name(offered.ciphers_to_server) == "aes128-gcm@openssh.com");
    CHECK_FALSE(contains_name(offered.ciphers_to_client, "chacha20-poly1305@openssh.com"));
    CHECK(client.hear().empty());
    bare_offer offer;
    offer.ciphers = "chacha20-poly1305@openssh.com,aes128-ctr";
    client.say(offer.payload());
    CHECK(pair.server.end->algorithms().find(", aes128-ctr+") != std::string::npos);
    pair.server.end->offer_now();
    CHECK(client.hear().empty());
    CHECK(pair.server.events.failures == 0);
}

TEST_CASE("native: what was left out stays out when the server begins a key exchange") {
    transport_pair pair;
    pair.give_password("user", "word");
    pair.logins.add_user("user", crypto::secret_string("word"));
    pair.client_settings.ciphers =
        "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com,aes256-gcm@openssh.com";
    pair.connect(dialect::native);
    pair.pump();
    check_traffic(pair);
    for (const link_end* each : {&pair.client, &pair.server}) {
        CHECK(each->end->algorithms().find(", aes128-gcm@openssh.com, ") != std::string::npos);
        CHECK(each->end->counters().key_exchanges == 2);
    }
}

TEST_CASE("over WebSocket the lists go out at once, and Go's order gives GCM") {
    transport_pair pair;
    pair.connect();
    drain(*pair.server.end, pair.server.said);
    CHECK(pair.server.said.size() > 200);
    pair.server.said.clear();
    bare_offer offer;
    // docs/wire.md section 4.2: of today, and of 1.7 and 1.8.
    offer.ciphers = GENERATE(
        as<std::string>{},
        "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr",
        "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,aes192-ctr,aes256-ctr");
    bare_peer client(*pair.server.end, "SSH-chisel-v3-client");
    client.say_line();
    client.say(offer.payload());
    CHECK(pair.server.end->algorithms().find(", aes128-gcm@openssh.com") != std::string::npos);
}

TEST_CASE("users' RSA keys: both signatures, and only the one that the request names") {
    const crypto::host_key& key = rsa_host_key();
    transport_pair pair;
    pair.logins.add_keys({{{key.blob().begin(), key.blob().end()}, ""}});
    pair.connect(dialect::native);
    bare_peer client(*pair.server.end, "SSH-2.0-OpenSSH_9.2p1");
    REQUIRE(client.exchange_as_client({}, false));
    byte_vector service;
    wire::writer(service).byte(5).string("ssh-userauth");
    client.say(service);
    REQUIRE(number_of(client.hear()) == message::service_accept);
    const auto ask = [&](std::string_view algorithm, std::string_view signed_with) {
        byte_vector out;
        wire::writer(out).byte(50).string("any").string("ssh-connection").string("publickey");
        wire::writer(out).boolean(!signed_with.empty()).string(algorithm).string(key.blob());
        if (!signed_with.empty()) {
            byte_vector covered;
            wire::writer(covered).string(client.session_id()).raw(out);
            wire::writer(out).string(key.sign(covered, signed_with));
        }
        client.say(out);
        return client.hear();
    };
    for (std::string_view name : {"rsa-sha2-256", "rsa-sha2-512"}) {
        const byte_vector answer = ask(name, {});
        REQUIRE(number_of(answer) == message::userauth_pk_ok);
        wire::reader read(bytes_view(answer).subspan(1));
        CHECK(read.text() == name);
    }
    CHECK(number_of(ask("ssh-rsa", {})) == message::userauth_failure);
    CHECK(number_of(ask("ssh-rsa", "rsa-sha2-256")) == message::userauth_failure);
    CHECK(number_of(ask("ssh-ed25519", {})) == message::userauth_failure);
    CHECK(pair.server.events.refused.empty());
    CHECK(number_of(ask("rsa-sha2-256", "rsa-sha2-512")) == message::userauth_failure);
    CHECK(pair.server.events.refused.size() == 1);
    CHECK(pair.server.events.logins == 0);
    const std::string last = GENERATE(as<std::string>{}, "rsa-sha2-256", "rsa-sha2-512");
    CHECK(number_of(ask(last, last)) == message::userauth_success);
}

}  // namespace
}  // namespace burin::ssh
