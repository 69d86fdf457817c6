#include "core/ssh/authorized_keys.hh"

#include "core/ssh/authentication_policy.hh"
#include "crypto/base64.hh"
#include "crypto/host_key.hh"
#include "tests/catch.hh"

namespace burin::ssh {
namespace {

std::string line_of(const crypto::host_key& key) {
    return std::string(key.algorithm()) + " " + crypto::base64(key.blob());
}

TEST_CASE("authorized_keys: keys are taken, options and nonsense refuse their line") {
    const auto ecdsa = crypto::host_key::from_seed("foobar");
    const auto ed25519 = crypto::host_key::generate(crypto::host_key_kind::ed25519);
    const std::string good = line_of(ed25519);
    const std::string text = "# comment\n\n  \t\r\n" + good + " me@here and there\r\n" +  // 4
                             "\t " + line_of(ecdsa) + "\n" +                              // 5
                             "command=\"echo \\\"a b\\\" ssh-rsa x\" " + good + "\n" +    // 6
                             "no-pty,from=\"10.0.0.0/8\" " + good + "\n" +                // 7
                             "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQC7 x\n" +             // 8
                             "ssh-ed25519 AAAA!\n" +                                      // 9
                             "ssh-ed25519 " + crypto::base64(ecdsa.blob()) + "\n" +       // 10
                             "ecdsa-sha2-nistp256\n" +                                    // 11
                             "nonsense\n" +                                               // 12
                             good.substr(0, good.size() - 4) + "\n" +                     // 13
                             "restrict\x1b " + good;                                      // 14
    const auto got = parse_authorized_keys(text);
    REQUIRE(got.keys.size() == 2);
    CHECK(std::equal(got.keys[0].blob.begin(), got.keys[0].blob.end(), ed25519.blob().begin()));
    CHECK(got.keys[0].comment == "me@here and there");
    CHECK(std::equal(got.keys[1].blob.begin(), got.keys[1].blob.end(), ecdsa.blob().begin()));
    REQUIRE(got.notes.size() == 9);
    CHECK(got.notes[0] == "line 6 ignored: option 'command' is not implemented");
    CHECK(got.notes[1] == "line 7 ignored: option 'no-pty' is not implemented");
    CHECK(got.notes[2] == "line 8 ignored: the key is damaged");
    CHECK(got.notes[3] == "line 9 ignored: the key is damaged");
    CHECK(got.notes[4] == "line 10 ignored: the key is damaged");
    CHECK(got.notes[5] == "line 11 ignored: the key is damaged");
    CHECK(got.notes[6] == "line 12 ignored: neither a key type nor options followed by one");
    CHECK(got.notes[7] == "line 13 ignored: the key is damaged");
    CHECK(got.notes[8] == "line 14 ignored: option 'restrict\\x1b' is not implemented");
}

TEST_CASE("authorized_keys: RSA within its bounds") {
    const auto line = [](std::size_t bits) {
        byte_vector blob, modulus(bits / 8 + 1, std::byte{0xc1});
        modulus[0] = std::byte{0};
        wire::writer(blob).string("ssh-rsa").string(as_bytes("\1\1")).string(modulus);
        return "ssh-rsa " + crypto::base64(blob) + "\n";
    };
    const auto got = parse_authorized_keys(line(2048) + line(1024) + line(16384) + line(16392) +
                                           "ssh-dss AAAAB3NzaC1kc3M= x\n");
    REQUIRE(got.keys.size() == 2);
    REQUIRE(got.notes.size() == 3);
    CHECK(got.notes[0] == "line 2 ignored: an RSA key must have 2048 to 16384 bits");
    CHECK(got.notes[1] == "line 4 ignored: an RSA key must have 2048 to 16384 bits");
    CHECK(got.notes[2] == "line 5 ignored: key type ssh-dss is not implemented");
}

TEST_CASE("authorized_keys: nothing in it is nothing, and closes nevertheless") {
    CHECK(parse_authorized_keys("").keys.empty());
    login_policy logins;
    CHECK(logins.open());
    logins.add_keys({});
    CHECK_FALSE(logins.open());
    CHECK_FALSE(logins.knows({}));
    CHECK_FALSE(logins.password_is_right("", ""));
}

TEST_CASE("passwords match as a whole, with their own user") {
    login_policy logins;
    logins.add_user("a", crypto::secret_string("one"));
    logins.add_user("b", crypto::secret_string("two"));
    logins.add_user("c", crypto::secret_string(""));
    CHECK(logins.password_is_right("a", "one"));
    CHECK(logins.password_is_right("b", "two"));
    CHECK(logins.password_is_right("c", ""));
    CHECK_FALSE(logins.password_is_right("a", "two"));
    CHECK_FALSE(logins.password_is_right("a", ""));
    CHECK_FALSE(logins.password_is_right("a", "onee"));
    CHECK_FALSE(logins.password_is_right("", ""));
    CHECK_FALSE(logins.password_is_right("A", "one"));
    CHECK(logins.methods() == "password");
}

}  // namespace
}  // namespace burin::ssh
