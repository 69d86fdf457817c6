#include "core/ssh/names.hh"

#include "core/ssh/kexinit.hh"
#include "core/ssh/version_line.hh"
#include "tests/catch.hh"

namespace burin::ssh {
namespace {

TEST_CASE("the client's order decides what is common") {
    CHECK(first_common_name("a,b,c", "c,b") == "b");
    CHECK(first_common_name("a", "b").empty());
    CHECK(first_common_name("", "a").empty());
    CHECK(first_common_name(",,a", ",a") == "a");
    CHECK(first_common_name("ab", "a,b").empty());
    CHECK(first_name("x,y") == "x");
    CHECK(first_name("").empty());
    CHECK(contains_name("a,bc", "bc"));
    CHECK_FALSE(contains_name("a,bc", "b"));
}

TEST_CASE("peer bytes are escaped for the log") {
    CHECK(printable("user \"x\"") == "user \"x\"");
    CHECK(printable("a\nb\x1b[31m\\\xc3") == "a\\x0ab\\x1b[31m\\x5c\\xc3");
    CHECK(printable("abcdef", 3) == "abc...");
}

TEST_CASE("version lines") {
    using status = version_reading::status;
    const auto read = [](std::string_view text, dialect speaks) {
        return read_version(as_bytes(text), speaks);
    };
    for (const char* end : {"\n", "\r\n"}) {
        const std::string text = "SSH-chisel-v3-client extra comment" + std::string(end) + "more";
        const auto got = read(text, dialect::chisel);
        REQUIRE(got.state == status::complete);
        CHECK(got.line == "SSH-chisel-v3-client extra comment");
        CHECK(got.taken == text.size() - 4);
        for (std::size_t size = 0; size < text.size() - 4; ++size) {
            CHECK(read(std::string_view(text).substr(0, size), dialect::chisel).state ==
                  status::need_more);
        }
    }
    CHECK(read("GET / HTTP/1.1\r\n", dialect::chisel).state == status::broken);
    CHECK(read("G", dialect::chisel).state == status::broken);
    CHECK(read("hello\nSSH-2.0-x\n", dialect::native).state == status::broken);
    CHECK(read("SSH-chisel-v3-client\n", dialect::native).state == status::broken);
    CHECK(read("SSH-1.5-old\n", dialect::native).state == status::broken);
    CHECK(read("SSH-2.0-OpenSSH_9.2p1 Debian\r\n", dialect::native).state == status::complete);
    CHECK(read("SSH-1.99-x\n", dialect::native).state == status::complete);
    CHECK(read("SSH\n", dialect::chisel).state == status::broken);
    CHECK(read(std::string_view("SSH-\0x\n", 7), dialect::chisel).state == status::complete);

    const std::string longest = "SSH-2.0-" + std::string(245, 'x') + "\r\n";
    REQUIRE(longest.size() == max_version_line_bytes);
    CHECK(read(longest, dialect::native).state == status::complete);
    CHECK(read("SSH-2.0-" + std::string(247, 'x'), dialect::native).state == status::broken);
    CHECK(read("SSH-2.0-" + std::string(246, 'x'), dialect::native).state == status::need_more);

    CHECK(own_version(role::client, dialect::chisel) == "SSH-chisel-v3-client");
    CHECK(own_version(role::server, dialect::chisel) == "SSH-chisel-v3-server");
    CHECK(own_version(role::server, dialect::native).starts_with("SSH-2.0-burin_"));
}

TEST_CASE("KEXINIT: pseudo-names in the first one only, exact parsing") {
    settings config;
    config.key_exchanges = "curve25519-sha256,curve25519-sha256@libssh.org";
    config.ciphers = "aes128-gcm@openssh.com";
    for (const role side : {role::client, role::server}) {
        proposal offered = own_proposal(side, config, "ssh-ed25519");
        const auto later = own_kexinit(side, exchange_turn::later, offered);
        offered.first_packet_follows = true;
        const auto first = own_kexinit(side, exchange_turn::first, offered);
        kexinit got, rekey, other;
        REQUIRE(parse(first, got));
        REQUIRE(parse(later, rekey));
        CHECK(contains_name(got.key_exchanges, ext_info_client) == (side == role::client));
        CHECK(contains_name(got.key_exchanges, strict_client) == (side == role::client));
        CHECK(contains_name(got.key_exchanges, strict_server) == (side == role::server));
        CHECK(rekey.key_exchanges == "curve25519-sha256,curve25519-sha256@libssh.org");
        CHECK(got.first_packet_follows);
        CHECK_FALSE(rekey.first_packet_follows);
        CHECK_FALSE(got.macs_to_server.empty());
        for (std::size_t size = 0; size < first.size(); ++size) {
            CHECK_FALSE(parse(bytes_view(first).first(size), other));
        }
        CHECK(!std::equal(first.begin() + 1, first.begin() + 17, later.begin() + 1));
    }
}

TEST_CASE("lists of ciphers that a person may give") {
    CHECK(sound_cipher_list(implemented_ciphers()));
    for (const char* list :
         {"aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com,aes128-ctr"}) {
        CAPTURE(list);
        CHECK(sound_cipher_list(list));
    }
    for (const char* list :
         {"", ",", "aes128-ctr,", ",aes128-ctr", "aes128-ctr,,aes256-ctr", "none", "aes128-gcm",
          "aes128-ctr,aes128-ctr", "aes128-ctr aes256-ctr"}) {
        CAPTURE(list);
        CHECK_FALSE(sound_cipher_list(list));
    }
}

TEST_CASE("KEXINIT: what two offers agree on") {
    kexinit client, server;
    client.key_exchanges = "mlkem768x25519-sha256,curve25519-sha256,ext-info-c";
    server.key_exchanges = "curve25519-sha256,curve25519-sha256@libssh.org";
    client.host_keys = server.host_keys = "ecdsa-sha2-nistp256";
    client.ciphers_to_server = client.ciphers_to_client =
        "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com,aes128-gcm@openssh.com";
    server.ciphers_to_server = server.ciphers_to_client =
        "aes128-gcm@openssh.com,aes256-gcm@openssh.com";
    client.compressions_to_server = client.compressions_to_client = "none,zlib@openssh.com";
    server.compressions_to_server = server.compressions_to_client = "none";
    agreement got;
    REQUIRE(agree(client, server, got).empty());
    CHECK(got.key_exchange == "curve25519-sha256");
    CHECK(got.to_server == crypto::cipher::aes256_gcm);
    CHECK_FALSE(got.guess_right);
    client.key_exchanges = "curve25519-sha256";
    REQUIRE(agree(client, server, got).empty());
    CHECK(got.guess_right);

    client.ciphers_to_client = "aes128-ctr\n";
    const std::string why = agree(client, server, got);
    CHECK(why.find("no common cipher") == 0);
    CHECK(why.find('\n') == std::string::npos);
    client.host_keys = "ssh-rsa";
    CHECK(agree(client, server, got).find("no common host key") == 0);
    client.key_exchanges = "ecdh-sha2-nistp256";
    CHECK(agree(client, server, got).find("no common key exchange") == 0);
    // A name that both have, and that is no method.
    client.key_exchanges = "kex-strict-s-v00@openssh.com";
    server.key_exchanges = "curve25519-sha256,kex-strict-s-v00@openssh.com";
    CHECK(agree(client, server, got).find("no common key exchange") == 0);
}

TEST_CASE("KEXINIT: a MAC for ctr, and for nothing else") {
    kexinit client, server;
    client.key_exchanges = server.key_exchanges = "ecdh-sha2-nistp256";
    client.host_keys = server.host_keys = "rsa-sha2-256";
    client.compressions_to_server = client.compressions_to_client = "none";
    server.compressions_to_server = server.compressions_to_client = "none";
    const proposal all = own_proposal(role::server, {}, "");
    server.ciphers_to_server = server.ciphers_to_client = all.ciphers;
    server.macs_to_server = server.macs_to_client = all.macs;
    client.ciphers_to_server = "aes192-ctr,aes128-gcm@openssh.com";
    client.ciphers_to_client = "chacha20-poly1305@openssh.com";
    client.macs_to_server = "umac-128-etm@openssh.com,hmac-sha2-512,hmac-sha2-256-etm@openssh.com";
    // chacha20 brings its own: what this says does not matter.
    client.macs_to_client = "hmac-md5";
    agreement got;
    REQUIRE(agree(client, server, got).empty());
    CHECK(got.method == crypto::key_exchange_method::ecdh_nistp256);
    CHECK(got.to_server ==
          crypto::protection(crypto::cipher::aes192_ctr, crypto::mac::hmac_sha2_512));
    CHECK(got.to_client == crypto::cipher::chacha20_poly1305);
    client.macs_to_server = "hmac-sha1";
    CHECK(agree(client, server, got).find("no common MAC: client offers hmac-sha1;") == 0);
    client.ciphers_to_server = "none";
    server.ciphers_to_server = "none";
    CHECK(agree(client, server, got).find("no common cipher") == 0);
}

TEST_CASE("KEXINIT: what is offered, and what of it towards whom") {
    const proposal client = own_proposal(role::client, {}, "");
    const proposal server = own_proposal(role::server, {}, "ssh-ed25519");
    CHECK(client.ciphers ==
          "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,"
          "aes192-ctr,aes256-ctr");
    CHECK(server.ciphers == client.ciphers);
    CHECK(first_name(client.macs) == "hmac-sha2-256-etm@openssh.com");
    CHECK(first_name(client.host_keys) == "ecdsa-sha2-nistp256");
    CHECK(contains_name(client.host_keys, "rsa-sha2-512"));
    CHECK_FALSE(contains_name(client.host_keys, "ssh-rsa"));
    CHECK(server.host_keys == "ssh-ed25519");
    // A client that knows the server's lists that one first, and all the others behind it.
    const proposal later = own_proposal(role::client, {}, "rsa-sha2-256");
    CHECK(later.host_keys.starts_with("rsa-sha2-256,ecdsa-sha2-nistp256,"));
    CHECK(later.host_keys.size() == client.host_keys.size());
    CHECK(server.key_exchanges == crypto::key_exchange_names());

    kexinit peer;
    const std::string all = server.ciphers;
    const std::string gcm = "aes128-gcm@openssh.com,aes256-gcm@openssh.com";
    const auto towards = [&peer](std::string_view up, std::string_view down,
                                 std::string_view ours) {
        peer.ciphers_to_server = up;
        peer.ciphers_to_client = down;
        return ciphers_towards(peer, ours);
    };
    const std::string openssh = "chacha20-poly1305@openssh.com,aes128-ctr,aes256-gcm@openssh.com";
    const std::string dropbear = "chacha20-poly1305@openssh.com,aes128-ctr,aes256-ctr";
    CHECK(towards(openssh, openssh, all) == gcm);
    CHECK(towards(dropbear, dropbear, all) == all);
    // One direction without GCM keeps what it needs.
    CHECK(towards(openssh, "chacha20-poly1305@openssh.com", all) == all);
    CHECK(towards("", "", all) == all);
    // GCM that we do not offer is no reason.
    CHECK(towards(openssh, openssh, "chacha20-poly1305@openssh.com") ==
          "chacha20-poly1305@openssh.com");
    CHECK(towards(openssh, openssh, "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com") ==
          "chacha20-poly1305@openssh.com,aes128-gcm@openssh.com");
    CHECK(towards(openssh, openssh, "chacha20-poly1305@openssh.com,aes256-gcm@openssh.com") ==
          "aes256-gcm@openssh.com");
}

}  // namespace
}  // namespace burin::ssh
