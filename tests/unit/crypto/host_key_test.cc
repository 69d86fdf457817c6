// Host keys: chisel's seeds, `ck-` texts and signatures, checked with OpenSSL as a second opinion.
#include "crypto/host_key.hh"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <memory>

#include "crypto/base64.hh"
#include "crypto/public_key.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;
using burin::test::hex;
using burin::test::unhex;

namespace {

const unsigned char* raw(bytes_view bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}

// OpenSSL's view of a P-256 or Ed25519 key blob.
std::shared_ptr<EVP_PKEY> openssl_key(const host_key& key) {
    EVP_PKEY* made = nullptr;
    if (key.kind() == host_key_kind::ed25519) {
        made = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, raw(key.blob().last(32)), 32);
    } else {
        std::shared_ptr<OSSL_PARAM_BLD> build(OSSL_PARAM_BLD_new(), OSSL_PARAM_BLD_free);
        OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
        OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                         key.blob().last(65).data(), 65);
        std::shared_ptr<OSSL_PARAM> params(OSSL_PARAM_BLD_to_param(build.get()), OSSL_PARAM_free);
        std::shared_ptr<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr),
                                              EVP_PKEY_CTX_free);
        EVP_PKEY_fromdata_init(context.get());
        EVP_PKEY_fromdata(context.get(), &made, EVP_PKEY_PUBLIC_KEY, params.get());
    }
    return {made, EVP_PKEY_free};
}

bool openssl_verifies(const host_key& key, bytes_view signature, bytes_view data) {
    wire::reader in(signature);
    if (in.text() != key.algorithm()) return false;
    bytes_view octets = in.string();
    std::vector<unsigned char> encoded;
    if (key.kind() == host_key_kind::ecdsa_p256) {
        wire::reader numbers(octets);
        bytes_view r = numbers.string(), s = numbers.string();
        std::shared_ptr<ECDSA_SIG> pair(ECDSA_SIG_new(), ECDSA_SIG_free);
        ECDSA_SIG_set0(pair.get(), BN_bin2bn(raw(r), static_cast<int>(r.size()), nullptr),
                       BN_bin2bn(raw(s), static_cast<int>(s.size()), nullptr));
        unsigned char* der = nullptr;
        int size = i2d_ECDSA_SIG(pair.get(), &der);
        encoded.assign(der, der + size);
        OPENSSL_free(der);
    } else {
        encoded.assign(raw(octets), raw(octets) + octets.size());
    }
    std::shared_ptr<EVP_PKEY> public_key = openssl_key(key);
    REQUIRE(public_key);
    std::shared_ptr<EVP_MD_CTX> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    const EVP_MD* digest = key.kind() == host_key_kind::ecdsa_p256 ? EVP_sha256() : nullptr;
    EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, public_key.get());
    return EVP_DigestVerify(context.get(), encoded.data(), encoded.size(), raw(data),
                            data.size()) == 1;
}

}  // namespace

TEST_CASE("chisel's seeds of docs/wire.md section 6.2", "[host_key]") {
    struct row {
        std::string_view seed, scalar, fingerprint;
    };
    for (row r :
         {row{"foobar", "e10e9f7737d4c7135506e77d330453dd854a50a81df331dd3ec4832ae0dd7e33",
              "OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw="},
          row{"chisel", "8f5dcaee59209e741189429fd52d703c3a7f29d24ca4993319c1ac8b2f9e3193",
              "Nx1l0BeMYTJwDLx/uZE54ed1KTlQJ/ao+DrNcIMTRyY="},
          row{"a", "0180c8239b3d3492ef05f3a1132039891d4b9a1b90b9a69d72d99a84b05b92e7",
              "xhdBTfpaI62qhrkAD4A7jh9NkyRGvOI3GYzAGSqOnps="},
          row{"hello world", "7a0ccb22970efecb4d58764358230be53197e754a96a64cdff847447aad712b2",
              "QCRL8TAP1+Lu75MxLDIWC7PSrKQZ15XWVf19LozMuXY="},
          row{"\xc3\xbc", "98fe37537007751ffd0ad9482b45194b2daefa5168e8a6b757b063506438649b",
              "MNdsqvPYtM+BSBR4M83VEHUVFzbKcZEebNsRqbjS+e8="}}) {
        INFO(r.seed);
        host_key key = host_key::from_seed(r.seed);
        CHECK(fingerprint(key.blob()) == r.fingerprint);
        auto same = host_key::from_private(host_key_kind::ecdsa_p256, unhex(r.scalar));
        REQUIRE(same);
        CHECK(hex(same->blob()) == hex(key.blob()));
        // d itself stands in the `ck-` form, behind seven octets.
        auto der = from_base64(std::string_view(key.to_ck()).substr(3), base64_padding::unpadded);
        REQUIRE(der);
        CHECK(hex(bytes_view(*der).subspan(7, 32)) == r.scalar);
        CHECK(openssl_verifies(key, key.sign(as_bytes("H")), as_bytes("H")));
    }
}

TEST_CASE("all forms of the key of seed foobar", "[host_key]") {
    host_key key = host_key::from_seed("foobar");
    CHECK(key.algorithm() == "ecdsa-sha2-nistp256");
    CHECK(key.blob().size() == 104);
    CHECK(hex(key.blob()) ==
          "0000001365636473612d736861322d6e69737470323536000000086e697374703235360000004104"
          "ee250087183b26a28d82ae979a2028c7f134d82d62e944fcf77af22e03711b66"
          "a5fd893b075a441e1d5be5dacb7b848ad20d238f573a46716a93ff4d63e2b787");
    CHECK(fingerprint_md5(key.blob()) == "ed:f2:cf:3c:56:49:c8:98:3c:a0:4c:1e:01:1d:fb:fc");
    constexpr std::string_view ck =
        "ck-MHcCAQEEIOEOn3c31McTVQbnfTMEU92FSlCoHfMx3T7Egyrg3X4zoAoGCCqGSM49AwEHoUQDQgAE7iUAhxg7"
        "JqKNgq6XmiAox/E02C1i6UT893ryLgNxG2al/Yk7B1pEHh1b5drLe4SK0g0jj1c6RnFqk/9NY+K3hw";
    CHECK(key.to_ck() == ck);
    for (std::string text :
         {std::string(ck), std::string(ck) + "\n", "  " + std::string(ck) + "\r\n"}) {
        host_key_reading reading = parse_host_key(text);
        REQUIRE(reading.key);
        CHECK(reading.error.empty());
        CHECK(hex(reading.key->blob()) == hex(key.blob()));
    }
    // An inline key where a file name could stand.
    CHECK(load_host_key(std::string(ck)).key);
}

TEST_CASE("signatures hold for another library and for verify()", "[host_key]") {
    for (host_key_kind kind : {host_key_kind::ecdsa_p256, host_key_kind::ed25519})
        // Often enough to meet r and s with a sign octet and with leading zeros.
        for (int i = 0; i < 40; ++i) {
            host_key key = host_key::generate(kind);
            byte_vector data =
                test::repeated(static_cast<unsigned>(i), static_cast<std::size_t>(i));
            byte_vector signature = key.sign(data);
            REQUIRE(algorithm_of(key.blob()) == key.algorithm());
            REQUIRE(verifiable(key.algorithm()));
            REQUIRE(openssl_verifies(key, signature, data));
            REQUIRE(verify(key.blob(), signature, data));
            data.push_back(std::byte{0});
            REQUIRE_FALSE(verify(key.blob(), signature, data));
            REQUIRE_FALSE(openssl_verifies(key, signature, data));
        }
}

TEST_CASE("Ed25519 of RFC 8032 section 7.1, test 2", "[host_key]") {
    auto key = host_key::from_private(
        host_key_kind::ed25519,
        unhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"));
    REQUIRE(key);
    CHECK(key->algorithm() == "ssh-ed25519");
    CHECK(hex(key->blob()) ==
          "0000000b7373682d65643235353139000000203d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0"
          "cd55f12af4660c");
    CHECK(hex(key->sign(unhex("72"))) ==
          "0000000b7373682d656432353531390000004092a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3"
          "762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00");
    CHECK(key->to_ck().empty());
}

TEST_CASE("scalars outside 1..n-1 are no keys", "[host_key]") {
    auto p256 = [](std::string_view scalar) {
        return host_key::from_private(host_key_kind::ecdsa_p256, unhex(scalar)).has_value();
    };
    CHECK_FALSE(p256("0000000000000000000000000000000000000000000000000000000000000000"));
    CHECK(p256("0000000000000000000000000000000000000000000000000000000000000001"));
    CHECK(p256("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550"));
    CHECK_FALSE(p256("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551"));
    CHECK_FALSE(p256("ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"));
    CHECK_FALSE(p256("01"));
    CHECK_FALSE(host_key::from_private(host_key_kind::ed25519, test::repeated(1, 31)));
}

TEST_CASE("random keys differ", "[host_key]") {
    CHECK(host_key::generate().kind() == host_key_kind::ecdsa_p256);
    CHECK(hex(host_key::generate().blob()) != hex(host_key::generate().blob()));
}
