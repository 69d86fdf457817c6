// RSA keys: signatures both ways with OpenSSL as the other side, bounds, and what is refused.
#include "crypto/rsa_key.hh"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <memory>

#include "crypto/host_key.hh"
#include "crypto/key_exchange.hh"
#include "crypto/public_key.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;

namespace {

byte_vector parameter(EVP_PKEY* key, const char* name) {
    BIGNUM* taken = nullptr;
    REQUIRE(EVP_PKEY_get_bn_param(key, name, &taken) == 1);
    byte_vector out(static_cast<std::size_t>(BN_num_bytes(taken)));
    BN_bn2bin(taken, reinterpret_cast<unsigned char*>(out.data()));
    BN_free(taken);
    return out;
}

byte_vector blob_of(bytes_view e, bytes_view n) {
    byte_vector out;
    wire::writer(out).string(rsa_type);
    append_mpint(out, e);
    append_mpint(out, n);
    return out;
}

// One key for all tests: making one takes a tenth of a second.
EVP_PKEY* shared_key() {
    static const std::shared_ptr<EVP_PKEY> key(EVP_RSA_gen(2048), EVP_PKEY_free);
    REQUIRE(key);
    return key.get();
}

rsa_private_key adopted(EVP_PKEY* key) {
    EVP_PKEY_up_ref(key);
    const char* problem = nullptr;
    auto out = rsa_private_key::adopt(rsa_handle(key), problem);
    REQUIRE(out);
    REQUIRE(problem == nullptr);
    return std::move(*out);
}

byte_vector signature_blob(std::string_view algorithm, bytes_view octets) {
    byte_vector out;
    wire::writer(out).string(algorithm).string(octets);
    return out;
}

byte_vector sign_by_openssl(EVP_PKEY* key, const EVP_MD* digest, bytes_view data) {
    const std::shared_ptr<EVP_MD_CTX> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    byte_vector out(static_cast<std::size_t>(EVP_PKEY_get_size(key)));
    std::size_t size = out.size();
    REQUIRE(EVP_DigestSignInit(context.get(), nullptr, digest, nullptr, key) == 1);
    REQUIRE(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                           reinterpret_cast<const unsigned char*>(data.data()), data.size()) == 1);
    out.resize(size);
    return out;
}

}  // namespace

TEST_CASE("RSA signatures of OpenSSL, and the two names they may bear", "[rsa]") {
    EVP_PKEY* key = shared_key();
    const byte_vector blob =
        blob_of(parameter(key, OSSL_PKEY_PARAM_RSA_E), parameter(key, OSSL_PKEY_PARAM_RSA_N));
    const bytes_view data = as_bytes("the exchange hash");
    CHECK(problem_of(blob) == nullptr);
    CHECK(algorithm_of(blob) == "ssh-rsa");
    const byte_vector by_256 = sign_by_openssl(key, EVP_sha256(), data);
    const byte_vector by_512 = sign_by_openssl(key, EVP_sha512(), data);
    CHECK(verify(blob, signature_blob(rsa_sha2_256, by_256), data));
    CHECK(verify(blob, signature_blob(rsa_sha2_512, by_512), data));
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_512, by_256), data));
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, by_512), data));
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, by_256), as_bytes("another")));
    // SHA-1, by its name and as itself.
    const byte_vector by_sha1 = sign_by_openssl(key, EVP_sha1(), data);
    CHECK_FALSE(verify(blob, signature_blob("ssh-rsa", by_sha1), data));
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, by_sha1), data));
    CHECK_FALSE(verify(blob, signature_blob("ssh-ed25519", by_256), data));
    // Octets changed, missing and too many.
    for (std::size_t at : {0, 100, 255}) {
        byte_vector changed = by_256;
        changed[at] ^= std::byte{1};
        CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, changed), data));
    }
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, {}), data));
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, bytes_view(by_256).first(255)), data));
    byte_vector longer = by_256;
    longer.insert(longer.begin(), std::byte{0});
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, longer), data));
}

TEST_CASE("a signature may lack its leading zeros", "[rsa]") {
    EVP_PKEY* key = shared_key();
    const rsa_private_key own = adopted(key);
    // One signature in 256 begins with a zero.
    for (unsigned i = 0; i < 20000; ++i) {
        const std::string text = "data " + std::to_string(i);
        byte_vector octets = own.sign(rsa_sha2_256, as_bytes(text));
        REQUIRE(octets.size() == 256);
        if (octets[0] != std::byte{0}) continue;
        octets.erase(octets.begin());
        CHECK(rsa_verify(own.blob(), rsa_sha2_256, octets, as_bytes(text)));
        return;
    }
    FAIL("no signature began with a zero");
}

TEST_CASE("a host key of RSA signs under both names", "[rsa]") {
    const host_key key(adopted(shared_key()));
    CHECK(key.kind() == host_key_kind::rsa);
    CHECK(key.algorithm() == "ssh-rsa");
    CHECK(key.signature_algorithms() == "rsa-sha2-512,rsa-sha2-256");
    CHECK(key.to_ck().empty());
    const bytes_view data = as_bytes("H");
    for (std::string_view name : {rsa_sha2_256, rsa_sha2_512}) {
        const byte_vector signature = key.sign(data, name);
        CHECK(algorithm_of(signature) == name);
        CHECK(verify(key.blob(), signature, data));
        CHECK_FALSE(verify(key.blob(), signature, as_bytes("h")));
    }
    CHECK(algorithm_of(key.sign(data)) == rsa_sha2_512);
}

TEST_CASE("RSA keys have bounds", "[rsa]") {
    const byte_vector e = test::unhex("010001");
    const auto modulus = [](std::size_t bits) {
        byte_vector out((bits + 7) / 8, std::byte{0xff});
        out[0] = static_cast<std::byte>(0xff >> (8 * out.size() - bits));
        return out;
    };
    for (std::size_t bits : {2048, 2049, 3072, 4096, 16384})
        CHECK(problem_of(blob_of(e, modulus(bits))) == nullptr);
    for (std::size_t bits : {8, 512, 1024, 2047, 16385, 32768})
        CHECK(std::string_view(problem_of(blob_of(e, modulus(bits)))) == rsa_out_of_bounds);
    for (std::string_view exponent : {"01", "02", "010000", "010000000000000001"})
        CHECK(problem_of(blob_of(test::unhex(exponent), modulus(2048))) != nullptr);
    CHECK(problem_of(blob_of({}, modulus(2048))) != nullptr);
    CHECK(problem_of(blob_of(e, {})) != nullptr);
    const byte_vector good = blob_of(e, modulus(2048));
    for (std::size_t size = 11; size < good.size(); ++size)
        CHECK(problem_of(bytes_view(good).first(size)) != nullptr);
    byte_vector more = good;
    more.push_back({});
    CHECK(problem_of(more) != nullptr);
    byte_vector negative;
    wire::writer(negative).string(rsa_type).string(e).string(modulus(2048));
    CHECK(problem_of(negative) != nullptr);

    // A key that is too short is refused whatever it signs.
    const std::shared_ptr<EVP_PKEY> weak(EVP_RSA_gen(1024), EVP_PKEY_free);
    REQUIRE(weak);
    const byte_vector blob = blob_of(parameter(weak.get(), OSSL_PKEY_PARAM_RSA_E),
                                     parameter(weak.get(), OSSL_PKEY_PARAM_RSA_N));
    const bytes_view data = as_bytes("data");
    const byte_vector signature = sign_by_openssl(weak.get(), EVP_sha256(), data);
    CHECK_FALSE(verify(blob, signature_blob(rsa_sha2_256, signature), data));
    const char* problem = nullptr;
    EVP_PKEY_up_ref(weak.get());
    CHECK_FALSE(rsa_private_key::adopt(rsa_handle(weak.get()), problem));
    CHECK(std::string_view(problem) == rsa_out_of_bounds);
}

TEST_CASE("an RSA key from its parts", "[rsa]") {
    EVP_PKEY* key = shared_key();
    const byte_vector n = parameter(key, OSSL_PKEY_PARAM_RSA_N),
                      e = parameter(key, OSSL_PKEY_PARAM_RSA_E),
                      d = parameter(key, OSSL_PKEY_PARAM_RSA_D),
                      p = parameter(key, OSSL_PKEY_PARAM_RSA_FACTOR1),
                      q = parameter(key, OSSL_PKEY_PARAM_RSA_FACTOR2),
                      q_inverse = parameter(key, OSSL_PKEY_PARAM_RSA_COEFFICIENT1);
    // As mpints hold them: with a sign octet where the first bit is set.
    const auto signed_form = [](bytes_view number) {
        byte_vector out;
        append_mpint(out, number);
        return byte_vector(out.begin() + 4, out.end());
    };
    const byte_vector all[] = {signed_form(n), signed_form(e), signed_form(d),
                               signed_form(p), signed_form(q), signed_form(q_inverse)};
    const char* problem = nullptr;
    const auto made =
        rsa_private_key::from_parts({all[0], all[1], all[2], all[3], all[4], all[5]}, problem);
    REQUIRE(made);
    const bytes_view data = as_bytes("data");
    CHECK(rsa_verify(adopted(key).blob(), rsa_sha2_256, made->sign(rsa_sha2_256, data), data));
    // Any part that belongs to no such key, or is none.
    for (std::size_t part = 0; part < 6; ++part)
        for (int how = 0; how < 4; ++how) {
            INFO("part " << part << " spoiled in way " << how);
            byte_vector changed = all[part];
            if (how == 0) changed.back() ^= std::byte{2};
            if (how == 1) changed = {};
            if (how == 2) changed.insert(changed.begin(), std::byte{0x80});
            if (how == 3) changed = byte_vector{std::byte{1}};
            bytes_view parts[6];
            for (std::size_t i = 0; i < 6; ++i) parts[i] = all[i];
            parts[part] = changed;
            const auto spoiled = rsa_private_key::from_parts(
                {parts[0], parts[1], parts[2], parts[3], parts[4], parts[5]}, problem);
            if (spoiled) {
                // OpenSSL repairs what the factors got wrong by the whole exponent.
                CHECK((part >= 3));
                CHECK(rsa_verify(made->blob(), rsa_sha2_256, spoiled->sign(rsa_sha2_256, data),
                                 data));
            } else {
                CHECK(problem != nullptr);
            }
        }
}
