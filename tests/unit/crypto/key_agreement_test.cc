// The methods of key exchange, both halves, and P-256 against OpenSSL.
#include "crypto/key_agreement.hh"

#include <openssl/core_names.h>
#include <openssl/evp.h>

#include <memory>
#include <vector>

#include "crypto/digest.hh"
#include "crypto/key_exchange.hh"
#include "crypto/mlkem.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;
using burin::test::hex;
using burin::test::repeated;
using burin::test::unhex;

namespace {

std::vector<key_exchange_method> at_hand() {
    std::vector<key_exchange_method> out;
    for (key_exchange_method one :
         {key_exchange_method::mlkem768_x25519, key_exchange_method::curve25519,
          key_exchange_method::ecdh_nistp256})
        if (available(one)) out.push_back(one);
    return out;
}

}  // namespace

TEST_CASE("names of key exchanges", "[kex]") {
    CHECK(key_exchange_named("curve25519-sha256") == key_exchange_method::curve25519);
    CHECK(key_exchange_named("curve25519-sha256@libssh.org") == key_exchange_method::curve25519);
    CHECK(key_exchange_named("ecdh-sha2-nistp256") == key_exchange_method::ecdh_nistp256);
    for (std::string_view name : {"", "ext-info-c", "kex-strict-s-v00@openssh.com",
                                  "diffie-hellman-group14-sha256", "ecdh-sha2-nistp384"})
        CHECK_FALSE(key_exchange_named(name));
    const std::string without = "curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256";
    const bool mlkem = mlkem768::available();
    CHECK(key_exchange_names() == (mlkem ? "mlkem768x25519-sha256," + without : without));
    CHECK(key_exchange_named("mlkem768x25519-sha256").has_value() == mlkem);
    // OpenSSL has it from 3.5 on.
    CHECK(mlkem == (OPENSSL_version_major() > 3 || OPENSSL_version_minor() >= 5));
}

TEST_CASE("both halves of every method agree", "[kex]") {
    for (key_exchange_method method : at_hand())
        for (int i = 0; i < 8; ++i) {
            const auto offer = key_offer::make(method), other = key_offer::make(method);
            CHECK_FALSE(std::ranges::equal(offer->value(), other->value()));
            const auto answer = answer_key_offer(method, offer->value());
            REQUIRE(answer);
            const auto secret = offer->finish(answer->value);
            REQUIRE(secret);
            CHECK(hex(secret->view()) == hex(answer->secret.view()));
            const auto wrong = other->finish(answer->value);
            CHECK((!wrong || hex(wrong->view()) != hex(answer->secret.view())));
        }
}

TEST_CASE("values of a wrong shape are refused", "[kex]") {
    for (key_exchange_method method :
         {key_exchange_method::mlkem768_x25519, key_exchange_method::curve25519,
          key_exchange_method::ecdh_nistp256})
        for (std::size_t size : {0, 1, 31, 33, 64, 66, 1120, 1184, 1215, 1217, 4000}) {
            INFO(size);
            CHECK_FALSE(answer_key_offer(method, repeated(4, size)));
            if (!available(method) || size == 1120) continue;
            CHECK_FALSE(key_offer::make(method)->finish(repeated(4, size)));
        }
}

TEST_CASE("P-256: only points on the curve", "[kex]") {
    const auto offer = key_offer::make(key_exchange_method::ecdh_nistp256);
    byte_vector point(offer->value().begin(), offer->value().end());
    REQUIRE(point.size() == 65);
    const auto refused = [&offer](bytes_view value) {
        return !offer->finish(value) &&
               !answer_key_offer(key_exchange_method::ecdh_nistp256, value);
    };
    CHECK_FALSE(refused(point));
    for (std::size_t at : {0, 1, 33, 64}) {
        byte_vector off = point;
        off[at] ^= std::byte{1};
        CHECK(refused(off));
    }
    CHECK(refused(byte_vector(65)));
    byte_vector zero(65);
    zero[0] = std::byte{4};
    CHECK(refused(zero));
    // The compressed form, of the right length or of its own.
    point[0] = std::byte{2};
    CHECK(refused(point));
    point.resize(33);
    CHECK(refused(point));
}

TEST_CASE("P-256 as OpenSSL computes it", "[kex]") {
    // Some secrets begin with zeros, others with a high bit: the mpint must be right for all.
    for (int i = 0; i < 20; ++i) {
        const std::shared_ptr<EVP_PKEY> theirs(EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"),
                                               EVP_PKEY_free);
        REQUIRE(theirs);
        byte_vector point(65);
        std::size_t size = 0;
        EVP_PKEY_get_octet_string_param(theirs.get(), OSSL_PKEY_PARAM_PUB_KEY,
                                        reinterpret_cast<unsigned char*>(point.data()),
                                        point.size(), &size);
        const auto answer = answer_key_offer(key_exchange_method::ecdh_nistp256, point);
        REQUIRE(answer);

        const std::shared_ptr<EVP_PKEY> ours(EVP_PKEY_new(), EVP_PKEY_free);
        REQUIRE(EVP_PKEY_copy_parameters(ours.get(), theirs.get()) == 1);
        REQUIRE(EVP_PKEY_set1_encoded_public_key(
                    ours.get(), reinterpret_cast<const unsigned char*>(answer->value.data()),
                    answer->value.size()) == 1);
        const std::shared_ptr<EVP_PKEY_CTX> context(
            EVP_PKEY_CTX_new_from_pkey(nullptr, theirs.get(), nullptr), EVP_PKEY_CTX_free);
        byte_vector shared(32);
        size = shared.size();
        REQUIRE(EVP_PKEY_derive_init(context.get()) == 1);
        REQUIRE(EVP_PKEY_derive_set_peer(context.get(), ours.get()) == 1);
        REQUIRE(EVP_PKEY_derive(context.get(), reinterpret_cast<unsigned char*>(shared.data()),
                                &size) == 1);
        REQUIRE(size == 32);
        CHECK(hex(answer->secret.view()) == hex(encode_mpint(shared).view()));
    }
}

TEST_CASE("the hybrid's secret is a string of the hash of both", "[kex]") {
    const byte_vector first = repeated(1, 32), second = repeated(2, 32);
    byte_vector joined = first;
    joined.insert(joined.end(), second.begin(), second.end());
    CHECK(hex(hybrid_secret(first, second).view()) == "00000020" + hex(sha256(joined)));
    // The order counts, and nothing of a leading zero or a high bit is touched.
    CHECK(hex(hybrid_secret(second, first).view()) != hex(hybrid_secret(first, second).view()));
    CHECK(hybrid_secret(repeated(0, 32), repeated(0xff, 32)).size() == 36);
}

TEST_CASE("ML-KEM-768 alone, where OpenSSL has it", "[kex]") {
    if (!mlkem768::available()) {
        CHECK_FALSE(mlkem768::encapsulate(byte_vector(mlkem768::public_size)));
        return;
    }
    const mlkem768 key, other;
    REQUIRE(key.public_key().size() == mlkem768::public_size);
    auto made = mlkem768::encapsulate(key.public_key());
    REQUIRE(made);
    CHECK(made->ciphertext.size() == mlkem768::ciphertext_size);
    CHECK(hex(key.decapsulate(made->ciphertext)->view()) == hex(made->secret.view()));
    CHECK(hex(other.decapsulate(made->ciphertext)->view()) != hex(made->secret.view()));
    made->ciphertext[100] ^= std::byte{1};
    CHECK(hex(key.decapsulate(made->ciphertext)->view()) != hex(made->secret.view()));
    // Coefficients above the modulus (FIPS 203 section 7.2).
    CHECK_FALSE(mlkem768::encapsulate(repeated(0xff, mlkem768::public_size)));
}
