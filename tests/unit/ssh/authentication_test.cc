// Who gets in: {nothing, users, keys, both} configured, over both protocols, with every kind of
// request; and what happens to who does not.
#include "core/ssh/authentication.hh"

#include "core/ssh/messages.hh"
#include "tests/catch.hh"
#include "tests/unit/ssh/bare_peer.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {
namespace {

byte_vector login(std::string_view user, std::string_view method) {
    byte_vector out;
    wire::writer(out).byte(50).string(user).string("ssh-connection").string(method);
    return out;
}
byte_vector password_login(std::string_view user, std::string_view password) {
    byte_vector out = login(user, "password");
    wire::writer(out).boolean(false).string(password);
    return out;
}
byte_vector key_query(std::string_view user, const crypto::host_key& key) {
    byte_vector out = login(user, "publickey");
    wire::writer(out).boolean(false).string(key.algorithm()).string(key.blob());
    return out;
}
byte_vector key_login(std::string_view user, const crypto::host_key& key, bytes_view session) {
    byte_vector out = login(user, "publickey");
    wire::writer(out).boolean(true).string(key.algorithm()).string(key.blob());
    byte_vector covered;
    wire::writer(covered).string(session).raw(out);
    wire::writer(out).string(key.sign(covered));
    return out;
}

// A server with a login going on: SERVICE_ACCEPT has come.
struct login_door : transport_pair {
    explicit login_door(dialect speaks) {
        server_settings.logins = &logins;
        speaking = speaks;
    }
    void open() {
        connect(speaking);
        client_side = std::make_unique<bare_peer>(
            *server.end, speaking == dialect::chisel ? "SSH-chisel-v3-client" : "SSH-2.0-OpenSSH");
        REQUIRE(client_side->exchange_as_client({}, false));
        byte_vector service;
        wire::writer(service).byte(5).string("ssh-userauth");
        client_side->say(service);
        REQUIRE(number_of(client_side->hear()) == message::service_accept);
    }
    byte_vector ask(bytes_view request) {
        client_side->say(request);
        return client_side->hear();
    }
    dialect speaking;
    std::unique_ptr<bare_peer> client_side;
};

std::string methods_of(bytes_view failure) {
    wire::reader read(failure.subspan(1));
    const std::string methods(read.text());
    CHECK_FALSE(read.boolean());
    CHECK(read.done());
    return methods;
}

TEST_CASE("the matrix: what is configured, the protocol, what is shown") {
    const auto speaks = GENERATE(dialect::chisel, dialect::native);
    const bool users = GENERATE(false, true);
    const bool keys = GENERATE(false, true);
    INFO("native " << (speaks == dialect::native) << ", users " << users << ", keys " << keys);
    const auto known = crypto::host_key::generate(crypto::host_key_kind::ed25519);
    const auto known_ecdsa = crypto::host_key::from_seed("known");
    const auto stranger = crypto::host_key::generate(crypto::host_key_kind::ed25519);

    login_door door(speaks);
    if (users) door.logins.add_user("user", crypto::secret_string("pass"));
    if (keys) {
        const auto copy = [](const crypto::host_key& key) {
            return authorized_key{{key.blob().begin(), key.blob().end()}, ""};
        };
        door.logins.add_keys({copy(known), copy(known_ecdsa)});
    }
    const bool open = !users && !keys;
    if (open && speaks == dialect::native) {
        door.connect(speaks);
        bare_peer peer(*door.server.end, "SSH-2.0-OpenSSH_9.2p1");
        CHECK(door.server.events.failures == 0);
        peer.say_line();
        CHECK(door.server.events.failure ==
              "native SSH is refused: it needs --auth or --authorized-keys");
        CHECK(number_of(peer.hear()) == message::disconnect);
        CHECK(peer.peer_line().starts_with("SSH-2.0-burin_"));
        return;
    }
    const std::string listed = users && keys ? "publickey,password"
                               : keys        ? "publickey"
                                             : "password";
    const auto check = [&](std::string_view name, bool lets_in, auto&& make) {
        INFO(name);
        login_door fresh(speaks);
        fresh.server_settings.logins = &door.logins;
        fresh.open();
        const byte_vector answer = fresh.ask(make(*fresh.client_side));
        if (lets_in) {
            CHECK(answer == byte_vector{std::byte{52}});
            CHECK(fresh.server.events.logins == 1);
            CHECK(fresh.server.end->data_allowed());
        } else {
            REQUIRE(number_of(answer) == message::userauth_failure);
            CHECK(methods_of(answer) == listed);
            CHECK(fresh.server.events.logins == 0);
            CHECK_FALSE(fresh.server.end->data_allowed());
        }
    };
    check("none", open, [](bare_peer&) { return login("user", "none"); });
    check("right password", users || open,
          [](bare_peer&) { return password_login("user", "pass"); });
    check("wrong password", open, [](bare_peer&) { return password_login("user", "Pass"); });
    check("wrong user", open, [](bare_peer&) { return password_login("user2", "pass"); });
    check("empty", open, [](bare_peer&) { return password_login("", ""); });
    check("known key", keys || open,
          [&](bare_peer& peer) { return key_login("any", known, peer.session_id()); });
    check("known P-256 key", keys || open,
          [&](bare_peer& peer) { return key_login("any", known_ecdsa, peer.session_id()); });
    check("stranger's key", open,
          [&](bare_peer& peer) { return key_login("any", stranger, peer.session_id()); });
    check("known key, another session", false,
          [&](bare_peer&) { return key_login("any", known, byte_vector(32)); });
    check("unknown method", false,
          [](bare_peer&) { return login("user", "keyboard-interactive"); });
}

TEST_CASE("a key may be asked for before it is used") {
    login_door door(dialect::native);
    const auto known = crypto::host_key::generate(crypto::host_key_kind::ed25519);
    const auto stranger = crypto::host_key::generate(crypto::host_key_kind::ed25519);
    door.logins.add_keys({{{known.blob().begin(), known.blob().end()}, ""}});
    door.open();
    CHECK(number_of(door.ask(login("me", "none"))) == message::userauth_failure);
    // An agent full of other keys is no attack.
    for (int at = 0; at < 20; ++at) {
        CHECK(number_of(door.ask(key_query("me", stranger))) == message::userauth_failure);
    }
    const byte_vector answer = door.ask(key_query("me", known));
    REQUIRE(number_of(answer) == message::userauth_pk_ok);
    wire::reader read(bytes_view(answer).subspan(1));
    CHECK(read.text() == "ssh-ed25519");
    CHECK(std::ranges::equal(read.string(), known.blob()));
    CHECK(read.done());
    CHECK(door.server.events.logins == 0);
    const byte_vector last = door.ask(key_login("me", known, door.client_side->session_id()));
    CHECK(number_of(last) == message::userauth_success);
    CHECK(door.server.events.user == "me");
    CHECK(door.server.events.refused.empty());
}

TEST_CASE("the sixth wrong password is answered with DISCONNECT") {
    login_door door(dialect::chisel);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    CHECK(number_of(door.ask(login("user", "none"))) == message::userauth_failure);
    for (int at = 0; at < 5; ++at) {
        const byte_vector answer = door.ask(password_login("us\ner", "wrong"));
        CHECK(number_of(answer) == message::userauth_failure);
    }
    CHECK(door.server.events.failures == 0);
    const byte_vector answer = door.ask(password_login("user", "wrong"));
    REQUIRE(number_of(answer) == message::disconnect);
    wire::reader read(bytes_view(answer).subspan(1));
    CHECK(read.u32() == 2);
    CHECK(read.text() == "too many authentication failures");
    CHECK(door.server.events.failure == "too many authentication failures");
    REQUIRE(door.server.events.refused.size() == 6);
    CHECK(door.server.events.refused[0] == "us\\x0aer password 1");
    CHECK(door.server.events.refused[5] == "user password 6");
}

TEST_CASE("a right password after five wrong ones is right") {
    login_door door(dialect::chisel);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    for (int at = 0; at < 5; ++at) door.ask(password_login("user", ""));
    CHECK(number_of(door.ask(password_login("user", "pass"))) == message::userauth_success);
}

TEST_CASE("requests have an end") {
    login_door door(dialect::native);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    for (unsigned at = 1; at < max_login_requests; ++at) {
        REQUIRE(number_of(door.ask(login("user", "none"))) == message::userauth_failure);
    }
    door.ask(login("user", "none"));
    CHECK(door.server.events.failure == "too many authentication attempts");
}

TEST_CASE("malformed logins and messages that are not due end the connection") {
    login_door door(dialect::chisel);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    byte_vector payload;
    SECTION("password change") {
        payload = login("user", "password");
        wire::writer(payload).boolean(true).string("pass").string("new");
    }
    SECTION("something behind the password") {
        payload = password_login("user", "pass");
        payload.push_back({});
    }
    SECTION("a password longer than its request") {
        payload = login("user", "password");
        wire::writer(payload).boolean(false).u32(1000).byte('p');
    }
    SECTION("another service") {
        wire::writer(payload).byte(50).string("user").string("shell").string("none");
    }
    SECTION("cut off") {
        payload = login("user", "password");
    }
    SECTION("EXT_INFO now") {
        wire::writer(payload).byte(7).u32(0);
    }
    SECTION("service again") {
        wire::writer(payload).byte(5).string("ssh-userauth");
    }
    SECTION("global request") {
        build(payload, global_request{"config", true, {}});
    }
    SECTION("ping") {
        wire::writer(payload).byte(192).string("x");
    }
    SECTION("unknown number") {
        payload.push_back(std::byte{150});
    }
    SECTION("rekeying") {
        payload = bare_offer().payload();
    }
    door.client_side->say(payload);
    CHECK(door.server.events.failures == 1);
    CHECK(door.server.events.logins == 0);
    CHECK(door.server.events.messages.empty());
}

TEST_CASE("the owner may delay the answer to a wrong password") {
    login_door door(dialect::native);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    door.server.events.answer = login_answer::later;
    CHECK(door.ask(password_login("user", "wrong")).empty());
    CHECK(door.ask(password_login("user", "pass")).empty());
    CHECK(door.server.events.logins == 0);
    door.server.end->resume_login();
    CHECK(number_of(door.client_side->hear()) == message::userauth_failure);
    door.client_side->give({});
    CHECK(number_of(door.client_side->hear()) == message::userauth_success);
    CHECK(door.server.events.refused.size() == 1);
}

TEST_CASE("the owner may delay the answer to a right password, and what follows it waits too") {
    login_door door(dialect::native);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    door.server.events.answer_right = login_answer::later;
    CHECK(door.ask(password_login("user", "pass")).empty());
    byte_vector behind;
    build(behind, global_request{"keepalive@openssh.com", true, {}});
    door.client_side->say(behind);
    CHECK(door.server.events.right == 1);
    CHECK(door.server.events.logins == 0);
    CHECK_FALSE(door.server.end->authenticated());
    door.server.end->resume_login();
    CHECK(door.server.events.user == "user");
    CHECK(number_of(door.client_side->hear()) == message::userauth_success);
    CHECK(door.server.events.messages.empty());
    door.client_side->give({});
    CHECK(door.server.events.messages.size() == 1);
}

TEST_CASE("where everybody is let in no login waits, and `none` never does") {
    login_door door(dialect::chisel);
    door.open();
    door.server.events.answer_right = login_answer::later;
    CHECK(number_of(door.ask(password_login("user", "anything"))) == message::userauth_success);
    CHECK(door.server.events.right == 0);
}

TEST_CASE("before the login little waits for a peer that does not read") {
    login_door door(dialect::chisel);
    door.open();
    byte_vector blob, query = login("user", "publickey");
    wire::writer(blob).string("ssh-ed25519").string(byte_vector(5000));
    wire::writer(query).boolean(false).string("ssh-ed25519").string(blob);
    unsigned asked = 0;
    for (; asked < 10 && door.server.events.failures == 0; ++asked) door.client_side->say(query);
    CHECK(asked == 1 + max_early_queued_bytes / (query.size() - 30));
    CHECK(door.server.end->failed());
}

TEST_CASE("a transport may go while its login is held") {
    login_door door(dialect::native);
    door.logins.add_user("user", crypto::secret_string("pass"));
    door.open();
    door.server.events.answer = login_answer::later;
    door.ask(password_login("user", "wrong"));
    door.server.end.reset();
    CHECK(door.server.events.failures == 0);
}

TEST_CASE("our client: in with the right password, out with Go's words with a wrong one") {
    transport_pair pair;
    pair.logins.add_user("user", crypto::secret_string("pass:word"));
    SECTION("right") {
        pair.give_password("user", "pass:word");
        pair.open_session();
        CHECK(pair.server.events.user == "user");
        CHECK(pair.client.events.logins == 1);
    }
    SECTION("wrong, with more sent behind it") {
        pair.client.events.when_secured = [&pair] {
            byte_vector payload;
            build(payload, global_request{"config", true, {}});
            pair.client.end->send(payload);
        };
        pair.give_password("user", "pass");
        pair.open_session();
        CHECK(pair.client.events.failure ==
              "ssh: handshake failed: ssh: unable to authenticate, attempted methods [none "
              "password], no supported methods remain");
        CHECK(pair.server.events.refused.size() == 1);
        CHECK(pair.server.events.messages.empty());
    }
    SECTION("none at all towards an open server") {
        login_policy nobody;
        pair.server_settings.logins = &nobody;
        pair.open_session();
        CHECK(pair.client.events.logins == 1);
    }
}

}  // namespace
}  // namespace burin::ssh
