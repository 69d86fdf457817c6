#include "crypto/key_exchange.hh"

#include "crypto/host_key.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;
using burin::test::hex;
using burin::test::repeated;
using burin::test::unhex;

namespace {

constexpr std::string_view published_secret =
    "0000002100808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f";

}  // namespace

TEST_CASE("X25519 of RFC 7748", "[kex]") {
    auto alice = curve25519_key::from_private(
        unhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"));
    auto bob = curve25519_key::from_private(
        unhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"));
    REQUIRE(alice);
    REQUIRE(bob);
    CHECK(hex(alice->public_key()) ==
          "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    CHECK(hex(bob->public_key()) ==
          "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f");
    auto one = alice->agree(bob->public_key());
    auto other = bob->agree(alice->public_key());
    REQUIRE(one);
    REQUIRE(other);
    CHECK(hex(one->view()) == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    CHECK(hex(other->view()) == hex(one->view()));

    // Section 5.2: the second vector's point has its top bit set, which must be ignored.
    auto first = curve25519_key::from_private(
        unhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"));
    auto out =
        first->agree(unhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"));
    REQUIRE(out);
    CHECK(hex(out->view()) == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
    auto second = curve25519_key::from_private(
        unhex("4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d"));
    out = second->agree(unhex("e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493"));
    REQUIRE(out);
    CHECK(hex(out->view()) == "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957");
}

TEST_CASE("X25519 refuses wrong sizes and points of low order", "[kex]") {
    curve25519_key key = curve25519_key::generate();
    CHECK_FALSE(key.agree({}));
    CHECK_FALSE(key.agree(repeated(9, 31)));
    CHECK_FALSE(key.agree(repeated(9, 33)));
    CHECK_FALSE(curve25519_key::from_private(repeated(9, 31)));
    byte_vector one(32);
    one[0] = std::byte{1};
    // Points of order 1, 2, 4 and 8, and p, p + 1, p - 1.
    for (std::string_view point :
         {"0000000000000000000000000000000000000000000000000000000000000000",
          "0100000000000000000000000000000000000000000000000000000000000000",
          "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
          "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
          "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
          "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
          "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"}) {
        INFO(point);
        CHECK_FALSE(key.agree(unhex(point)));
    }
}

TEST_CASE("fresh pairs differ and agree", "[kex]") {
    curve25519_key a = curve25519_key::generate(), b = curve25519_key::generate();
    CHECK(a.public_key() != b.public_key());
    auto one = a.agree(b.public_key()), other = b.agree(a.public_key());
    REQUIRE(one);
    REQUIRE(other);
    CHECK(hex(one->view()) == hex(other->view()));
}

TEST_CASE("mpint of RFC 4251 section 5", "[kex]") {
    struct row {
        std::string_view magnitude, encoded;
    };
    for (row r : {row{"", "00000000"}, row{"0000", "00000000"},
                  row{"09a378f9b2e332a7", "0000000809a378f9b2e332a7"}, row{"80", "000000020080"},
                  row{"0080", "000000020080"}, row{"007f", "000000017f"}}) {
        byte_vector out;
        append_mpint(out, unhex(r.magnitude));
        CHECK(hex(out) == r.encoded);
        CHECK(hex(encode_mpint(unhex(r.magnitude)).view()) == r.encoded);
    }
    byte_vector counted;
    for (unsigned i = 0x80; i <= 0x9f; ++i) counted.push_back(static_cast<std::byte>(i));
    CHECK(hex(encode_mpint(counted).view()) == published_secret);
}

TEST_CASE("keys of docs/wire.md section 4.6", "[kex]") {
    byte_vector secret = unhex(published_secret), hash = repeated(0x11, 32);
    struct row {
        char letter;
        std::string_view octets;
    };
    const row rows[] = {{'A',
                         "c3056911a9b5dfbae538131dd0cf0aa7f9b4ab3ba8c6948aada40537a2590091"
                         "e5228bb18b45b09a1aef522cf7a626bb2a94dd97c2e3be8bec3cbe6b35ca251b"},
                        {'B',
                         "68588a21f46eb8b87f1f3dc58bbe2d761f7a410c0c83dafbb67c4b83cee593e0"
                         "a921980a9a37ddc21f045e440cd4269ee2796b897d0aafc8507dcb6b977e8350"},
                        {'C',
                         "3d5ec3e59423352ad71e485de513b2ea169ee3b3a2d45da47d04b94069d49f40"
                         "2304f8ed1808f20502a0038d695f338d8bff01b3ccae20423d541ca787d2281c"},
                        {'D',
                         "2b4316fc6bc27274b7f4b960f924bf644e0e767601b07cf7d073f575cdd09723"
                         "1924068346c6178a4c3f5c05e5700da473393654b2e26c648a0ce829a0bd549f"},
                        {'E',
                         "650e15ede6468104508e2adc8b58c01bdd5a302efb7a1b5c675a391cee02dbef"
                         "3d039e4e111bd020d734a828c83ae6a82372f50778c22ebbc1be3f1c3c5dd0f0"},
                        {'F',
                         "9ce39d1a70b0c0c33de607753822c73a0438385b580d5d92b6f9291a07887659"
                         "9e71e1e29d427b7f541a0605cdeceb66ae97059510f1dda96c0a685466187812"}};
    for (const row& r : rows)
        for (std::size_t size : {0, 1, 12, 31, 32, 33, 63, 64}) {
            byte_vector out(size);
            derive(secret, hash, hash, r.letter, out);
            CHECK(hex(out) == r.octets.substr(0, 2 * size));
        }
    // The third block hashes both before it.
    byte_vector long_one(96);
    derive(secret, hash, hash, 'A', long_one);
    byte_vector first(long_one.begin(), long_one.begin() + 64);
    sha256_digest third = sha256({secret, hash, first});
    CHECK(hex(bytes_view(long_one).subspan(64)) == hex(third));

    cipher_keys up =
        derive_keys(cipher::aes128_gcm, direction::client_to_server, secret, hash, hash);
    cipher_keys down =
        derive_keys(cipher::aes256_gcm, direction::server_to_client, secret, hash, hash);
    CHECK(hex(bytes_view(up.iv).first(12)) == rows[0].octets.substr(0, 24));
    CHECK(hex(bytes_view(up.key).first(16)) == rows[2].octets.substr(0, 32));
    CHECK(hex(bytes_view(up.key).subspan(16)) == std::string(96, '0'));
    CHECK(hex(bytes_view(down.iv).first(12)) == rows[1].octets.substr(0, 24));
    CHECK(hex(bytes_view(down.key).first(32)) == rows[3].octets.substr(0, 64));
    // The others take more, and a key for the MAC where one serves.
    const auto chacha =
        derive_keys(cipher::chacha20_poly1305, direction::client_to_server, secret, hash, hash);
    CHECK(hex(chacha.key) == rows[2].octets);
    CHECK(hex(chacha.iv) == std::string(32, '0'));
    const auto ctr = derive_keys({cipher::aes192_ctr, mac::hmac_sha2_256_etm},
                                 direction::server_to_client, secret, hash, hash);
    CHECK(hex(ctr.iv) == rows[1].octets.substr(0, 32));
    CHECK(hex(bytes_view(ctr.key).first(24)) == rows[3].octets.substr(0, 48));
    CHECK(hex(ctr.mac_key) == std::string(rows[5].octets.substr(0, 64)) + std::string(64, '0'));
    const auto long_mac = derive_keys({cipher::aes128_ctr, mac::hmac_sha2_512},
                                      direction::client_to_server, secret, hash, hash);
    CHECK(hex(long_mac.mac_key) == rows[4].octets);
}

TEST_CASE("exchange hashes of docs/wire.md section 4.6", "[kex]") {
    host_key key = host_key::from_seed("foobar");
    byte_vector client_kexinit = unhex("14aabb"), server_kexinit = unhex("14ccdd");
    byte_vector client_value = repeated(1, 32), server_value = repeated(2, 32);
    byte_vector secret = unhex(published_secret);
    exchange_transcript transcript{.client_version = as_bytes("SSH-chisel-v3-client"),
                                   .server_version = as_bytes("SSH-chisel-v3-server"),
                                   .client_kexinit = client_kexinit,
                                   .server_kexinit = server_kexinit,
                                   .host_key = key.blob(),
                                   .client_value = client_value,
                                   .server_value = server_value,
                                   .shared_secret = secret};
    CHECK(hex(exchange_hash(transcript)) ==
          "90f69cfba39356d581a254fb56dffd9c4d1fc1b773e9df7d54e686bb2d1dcf63");

    byte_vector large_client = repeated(1, 1216), large_server = repeated(2, 1120);
    byte_vector string_secret = unhex("00000020" + std::string(published_secret.substr(10)));
    transcript.client_value = large_client;
    transcript.server_value = large_server;
    transcript.shared_secret = string_secret;
    CHECK(hex(exchange_hash(transcript)) ==
          "aa407153841dc17f643f4a8921ffbf67e4c009897d9bb08647486fab00a263cd");
}
