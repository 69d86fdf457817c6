// Signatures of peers, made by OpenSSH and OpenSSL, and fingerprints as a person types them.
#include "crypto/public_key.hh"

#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>

#include <iostream>
#include <memory>
#include <vector>

#include "crypto/host_key.hh"
#include "crypto/key_exchange.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;

namespace {

struct signed_data {
    byte_vector blob, signature;
};

byte_vector octets_of(const BIGNUM* number) {
    byte_vector out(static_cast<std::size_t>(BN_num_bytes(number)));
    BN_bn2bin(number, reinterpret_cast<unsigned char*>(out.data()));
    return out;
}

// An ECDSA key of any curve and its signature over `data`, all by OpenSSL.
signed_data sign_by_openssl(const char* group, const char* name, const EVP_MD* digest,
                            bytes_view data) {
    std::shared_ptr<EVP_PKEY> key(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", group), EVP_PKEY_free);
    REQUIRE(key);
    std::size_t size = 0;
    EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_PUB_KEY, nullptr, 0, &size);
    byte_vector point(size);
    EVP_PKEY_get_octet_string_param(key.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                    reinterpret_cast<unsigned char*>(point.data()), size, &size);
    std::shared_ptr<EVP_MD_CTX> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    EVP_DigestSignInit(context.get(), nullptr, digest, nullptr, key.get());
    std::vector<unsigned char> der(200);
    std::size_t der_size = der.size();
    REQUIRE(EVP_DigestSign(context.get(), der.data(), &der_size,
                           reinterpret_cast<const unsigned char*>(data.data()), data.size()) == 1);
    const unsigned char* at = der.data();
    std::shared_ptr<ECDSA_SIG> pair(d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der_size)),
                                    ECDSA_SIG_free);
    std::string algorithm = std::string("ecdsa-sha2-") + name;
    signed_data out;
    wire::writer(out.blob).string(algorithm).string(name).string(point);
    byte_vector numbers;
    append_mpint(numbers, octets_of(ECDSA_SIG_get0_r(pair.get())));
    append_mpint(numbers, octets_of(ECDSA_SIG_get0_s(pair.get())));
    wire::writer(out.signature).string(algorithm).string(numbers);
    return out;
}

}  // namespace

TEST_CASE("ECDSA of all three curves by another library", "[public_key]") {
    struct row {
        const char *group, *name;
        const EVP_MD* digest;
    };
    bytes_view data = as_bytes("the exchange hash");
    for (row r : {row{"P-256", "nistp256", EVP_sha256()}, row{"P-384", "nistp384", EVP_sha384()},
                  row{"P-521", "nistp521", EVP_sha512()}}) {
        INFO(r.name);
        for (int i = 0; i < 10; ++i) {
            signed_data made = sign_by_openssl(r.group, r.name, r.digest, data);
            REQUIRE(verifiable(algorithm_of(made.blob)));
            REQUIRE(verify(made.blob, made.signature, data));
            REQUIRE_FALSE(verify(made.blob, made.signature, as_bytes("another exchange hash")));
            signed_data other = sign_by_openssl(r.group, r.name, r.digest, data);
            REQUIRE_FALSE(verify(other.blob, made.signature, data));
        }
    }
}

TEST_CASE("types that nobody here verifies", "[public_key]") {
    for (std::string_view name : {"", "ssh-rsa", "ssh-dss", "ecdsa-sha2-nistp256 ",
                                  "ecdsa-sha2-nistp256-cert-v01@openssh.com"})
        CHECK_FALSE(verifiable(name));
    CHECK(key_type_of("rsa-sha2-256") == "ssh-rsa");
    CHECK(key_type_of("ssh-ed25519") == "ssh-ed25519");
    CHECK(key_type_of("ssh-rsa").empty());
    CHECK(known_key_type("ssh-rsa"));
    CHECK_FALSE(known_key_type("rsa-sha2-512"));
    CHECK_FALSE(known_key_type(""));
    CHECK(algorithm_of({}).empty());
    CHECK(algorithm_of(test::unhex("0000000b737368")).empty());
}

TEST_CASE("malformed keys and signatures are just wrong", "[public_key]") {
    std::uint64_t seed = test::fresh_seed();
    std::cout << "public_key_test: BURIN_TEST_SEED=" << seed << '\n';
    INFO("BURIN_TEST_SEED=" << seed);
    test::source random(seed);
    bytes_view data = as_bytes("data");
    for (host_key_kind kind : {host_key_kind::ecdsa_p256, host_key_kind::ed25519}) {
        host_key key = host_key::generate(kind);
        byte_vector blob(key.blob().begin(), key.blob().end());
        byte_vector signature = key.sign(data);
        REQUIRE(verify(blob, signature, data));
        for (std::size_t size = 0; size < blob.size(); ++size)
            CHECK_FALSE(verify(bytes_view(blob).first(size), signature, data));
        for (std::size_t size = 0; size < signature.size(); ++size)
            CHECK_FALSE(verify(blob, bytes_view(signature).first(size), data));
        for (byte_vector* one : {&blob, &signature}) {
            one->push_back(std::byte{0});
            CHECK_FALSE(verify(blob, signature, data));
            one->pop_back();
            for (std::size_t i = 0; i < one->size(); ++i) {
                auto change = static_cast<std::byte>(1 + random.below(255));
                (*one)[i] ^= change;
                CHECK_FALSE(verify(blob, signature, data));
                (*one)[i] ^= change;
            }
        }
        // Of the other kind, or with numbers that are zero, negative or too long.
        host_key other = host_key::generate(
            kind == host_key_kind::ed25519 ? host_key_kind::ecdsa_p256 : host_key_kind::ed25519);
        CHECK_FALSE(verify(blob, other.sign(data), data));
        CHECK_FALSE(verify(other.blob(), signature, data));
        // The right octets under the other kind's name.
        wire::reader in(signature);
        in.string();
        byte_vector renamed;
        wire::writer(renamed).string(other.algorithm()).string(in.string());
        CHECK_FALSE(verify(blob, renamed, data));
    }
    host_key key = host_key::generate();
    auto with_numbers = [&](bytes_view r, bytes_view s) {
        byte_vector numbers, signature;
        wire::writer(numbers).string(r).string(s);
        wire::writer(signature).string(key.algorithm()).string(numbers);
        return verify(key.blob(), signature, data);
    };
    byte_vector one = test::repeated(1, 1), negative = test::repeated(0xff, 32),
                longer = test::repeated(1, 33), zero = test::repeated(0, 1);
    CHECK_FALSE(with_numbers({}, {}));
    CHECK_FALSE(with_numbers(zero, zero));
    CHECK_FALSE(with_numbers(one, zero));
    CHECK_FALSE(with_numbers(negative, one));
    CHECK_FALSE(with_numbers(longer, one));
    CHECK_FALSE(with_numbers(one, one));

    // A point that is not on the curve.
    byte_vector off_curve(key.blob().begin(), key.blob().end());
    off_curve.back() ^= std::byte{1};
    CHECK_FALSE(verify(off_curve, key.sign(data), data));
}

TEST_CASE("fingerprint checks of docs/wire.md section 6.4", "[public_key]") {
    host_key key = host_key::from_seed("foobar");
    bytes_view blob = key.blob();
    const std::string sha = "OHclTPr2X1+S7CdRWW7dLFP7SwgtZy6jub2UmnpbTXw=";
    const std::string md5 = "ed:f2:cf:3c:56:49:c8:98:3c:a0:4c:1e:01:1d:fb:fc";
    for (fingerprint_rule rule : {fingerprint_rule::exact, fingerprint_rule::md5_prefix}) {
        CHECK(check_fingerprint(sha, blob, rule));
        CHECK(check_fingerprint(md5, blob, rule));
        // A shorter base64 text, another key's, another case, an empty value, more than there is.
        CHECK_FALSE(check_fingerprint(sha.substr(0, 40), blob, rule));
        CHECK_FALSE(check_fingerprint("OHcl", blob, rule));
        CHECK_FALSE(check_fingerprint("Nx1l0BeMYTJwDLx/uZE54ed1KTlQJ/ao+DrNcIMTRyY=", blob, rule));
        CHECK_FALSE(check_fingerprint("", blob, rule));
        CHECK_FALSE(check_fingerprint(md5 + ":00", blob, rule));
        CHECK_FALSE(
            check_fingerprint("ED:F2:CF:3C:56:49:C8:98:3C:A0:4C:1E:01:1D:FB:FC", blob, rule));
        CHECK_FALSE(check_fingerprint("ed:f3", blob, rule));
        CHECK_FALSE(check_fingerprint("SHA256:" + sha, blob, rule));
        // OpenSSH's unpadded form does not decode as padded base64, so it is an MD5 form, wrongly.
        CHECK_FALSE(check_fingerprint(sha.substr(0, 43), blob, rule));
    }
    for (std::size_t size = 1; size < md5.size(); ++size) {
        std::string prefix = md5.substr(0, size);
        CHECK_FALSE(check_fingerprint(prefix, blob));
        CHECK(check_fingerprint(prefix, blob, fingerprint_rule::md5_prefix));
    }
}
