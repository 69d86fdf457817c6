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
    const std::string ciphers = "aes128-gcm@openssh.com";
    for (const role side : {role::client, role::server}) {
        const auto first = own_kexinit(side, exchange_turn::first, ciphers, "ssh-ed25519", true);
        const auto later = own_kexinit(side, exchange_turn::later, ciphers, "ssh-ed25519", false);
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
}

}  // namespace
}  // namespace burin::ssh
