#include "crypto/rsa_key.hh"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <array>
#include <initializer_list>
#include <utility>
#include <vector>

#include "crypto/invariant.hh"
#include "crypto/key_exchange.hh"

namespace burin::crypto {
namespace {

constexpr const char* damaged = "the key is damaged";

struct free_openssl {
    void operator()(BIGNUM* number) const { BN_clear_free(number); }
    void operator()(BN_CTX* context) const { BN_CTX_free(context); }
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
    void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
template <class T>
using owned = std::unique_ptr<T, free_openssl>;

const unsigned char* raw(bytes_view bytes) {
    return reinterpret_cast<const unsigned char*>(bytes.data());
}
unsigned char* raw(bytes_span bytes) {
    return reinterpret_cast<unsigned char*>(bytes.data());
}

owned<BIGNUM> number(bytes_view magnitude) {
    owned<BIGNUM> out(BN_bin2bn(raw(magnitude), static_cast<int>(magnitude.size()), nullptr));
    if (!out) library_failed("out of memory");
    return out;
}

// e and n of a blob, without leading zeros; empty where they are not positive numbers.
struct public_parts {
    bytes_view e, n;
};
bytes_view positive(bytes_view mpint) {
    if (mpint.empty() || (mpint[0] & std::byte{0x80}) != std::byte{0}) return {};
    while (!mpint.empty() && mpint[0] == std::byte{0}) mpint = mpint.subspan(1);
    return mpint;
}
std::optional<public_parts> read(bytes_view blob) {
    wire::reader in(blob);
    if (in.text() != rsa_type) return {};
    public_parts out;
    out.e = positive(in.string());
    out.n = positive(in.string());
    if (!in.done() || out.e.empty() || out.n.empty()) return {};
    return out;
}

std::size_t bits(bytes_view magnitude) {
    std::size_t count = 8 * magnitude.size();
    for (unsigned top = std::to_integer<unsigned>(magnitude[0]); top < 0x80; top <<= 1) --count;
    return count;
}

const char* problem_with(const public_parts& key) {
    const std::size_t size = bits(key.n);
    if (size < min_rsa_bits || size > max_rsa_bits) return rsa_out_of_bounds;
    // Larger exponents serve nobody, and OpenSSL refuses them with long moduli.
    const bool odd = (key.e.back() & std::byte{1}) != std::byte{0};
    if (!odd || key.e.size() > 8 || bits(key.e) < 2)
        return "an RSA key's exponent must be odd, of 2 to 64 bits";
    return nullptr;
}

// A key of named numbers. Their octets are in native order, as OpenSSL's parameters want them, and
// are wiped.
struct named_number {
    const char* name;
    const BIGNUM* value;
};
rsa_handle make_key(std::initializer_list<named_number> numbers, int selection) {
    std::vector<secret_bytes> octets;
    std::vector<OSSL_PARAM> parameters;
    octets.reserve(numbers.size());
    for (const named_number& one : numbers) {
        const int size = BN_num_bytes(one.value);
        octets.emplace_back(static_cast<std::size_t>(size));
        if (size == 0 || BN_bn2nativepad(one.value, raw(octets.back().span()), size) != size)
            return nullptr;
        parameters.push_back(OSSL_PARAM_construct_BN(one.name, raw(octets.back().span()),
                                                     static_cast<std::size_t>(size)));
    }
    parameters.push_back(OSSL_PARAM_construct_end());
    const owned<EVP_PKEY_CTX> context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
    EVP_PKEY* key = nullptr;
    if (!context || EVP_PKEY_fromdata_init(context.get()) != 1 ||
        EVP_PKEY_fromdata(context.get(), &key, selection, parameters.data()) != 1)
        key = nullptr;
    ERR_clear_error();
    return rsa_handle(key);
}

const EVP_MD* digest_of(std::string_view algorithm) {
    if (algorithm == rsa_sha2_256) return EVP_sha256();
    if (algorithm == rsa_sha2_512) return EVP_sha512();
    return nullptr;
}

}  // namespace

void free_rsa::operator()(evp_pkey_st* key) const {
    EVP_PKEY_free(key);
}

const char* rsa_problem(bytes_view blob) {
    const auto key = read(blob);
    return key ? problem_with(*key) : damaged;
}

bool rsa_verify(bytes_view blob, std::string_view algorithm, bytes_view signature,
                bytes_view data) {
    const auto parts = read(blob);
    const EVP_MD* digest = digest_of(algorithm);
    if (!parts || problem_with(*parts) || !digest || signature.size() > parts->n.size())
        return false;
    // Some signers leave leading zeros out, as OpenSSH tolerates too.
    byte_vector padded(parts->n.size() - signature.size());
    padded.insert(padded.end(), signature.begin(), signature.end());
    const auto n = number(parts->n), e = number(parts->e);
    const rsa_handle key = make_key(
        {{OSSL_PKEY_PARAM_RSA_N, n.get()}, {OSSL_PKEY_PARAM_RSA_E, e.get()}}, EVP_PKEY_PUBLIC_KEY);
    const owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
    const bool good =
        key && context &&
        EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key.get()) == 1 &&
        EVP_DigestVerify(context.get(), raw(bytes_view(padded)), padded.size(), raw(data),
                         data.size()) == 1;
    ERR_clear_error();
    return good;
}

rsa_private_key::rsa_private_key(rsa_handle key, byte_vector blob)
    : _key(std::move(key)), _blob(std::move(blob)) {}

std::optional<rsa_private_key> rsa_private_key::adopt(rsa_handle key, const char*& problem) {
    byte_vector blob;
    wire::writer(blob).string(rsa_type);
    for (const char* name : {OSSL_PKEY_PARAM_RSA_E, OSSL_PKEY_PARAM_RSA_N}) {
        BIGNUM* taken = nullptr;
        problem = damaged;
        if (EVP_PKEY_get_bn_param(key.get(), name, &taken) != 1) return {};
        const owned<BIGNUM> value(taken);
        byte_vector octets(static_cast<std::size_t>(BN_num_bytes(value.get())));
        BN_bn2bin(value.get(), raw(bytes_span(octets)));
        append_mpint(blob, octets);
    }
    problem = rsa_problem(blob);
    if (problem) return {};
    // A private half that belongs to another public one shows here, not at the first client.
    rsa_private_key out(std::move(key), std::move(blob));
    const bytes_view probe = as_bytes("probe");
    const byte_vector signature = out.sign(rsa_sha2_256, probe);
    if (signature.empty() || !rsa_verify(out.blob(), rsa_sha2_256, signature, probe)) {
        problem = damaged;
        return {};
    }
    return out;
}

std::optional<rsa_private_key> rsa_private_key::from_parts(const parts& from,
                                                           const char*& problem) {
    problem = damaged;
    std::array<bytes_view, 6> octets = {from.n, from.e, from.d, from.p, from.q, from.q_inverse};
    for (bytes_view& one : octets) {
        one = positive(one);
        if (one.empty()) return {};
    }
    if (bits(octets[0]) > max_rsa_bits || bits(octets[0]) < min_rsa_bits) {
        problem = rsa_out_of_bounds;
        return {};
    }
    for (bytes_view one : octets)
        if (one.size() > octets[0].size()) return {};
    const auto n = number(octets[0]), e = number(octets[1]), d = number(octets[2]),
               p = number(octets[3]), q = number(octets[4]), q_inverse = number(octets[5]);
    const owned<BN_CTX> context(BN_CTX_secure_new());
    // d modulo p - 1 and q - 1, which the file leaves out.
    const owned<BIGNUM> at_p(BN_new()), at_q(BN_new()), p_less(BN_dup(p.get())),
        q_less(BN_dup(q.get()));
    if (!context || !at_p || !at_q || !p_less || !q_less) library_failed("out of memory");
    BN_set_flags(d.get(), BN_FLG_CONSTTIME);
    if (BN_sub_word(p_less.get(), 1) != 1 || BN_sub_word(q_less.get(), 1) != 1 ||
        BN_is_zero(p_less.get()) || BN_is_zero(q_less.get()) ||
        BN_mod(at_p.get(), d.get(), p_less.get(), context.get()) != 1 ||
        BN_mod(at_q.get(), d.get(), q_less.get(), context.get()) != 1) {
        ERR_clear_error();
        return {};
    }
    rsa_handle key = make_key({{OSSL_PKEY_PARAM_RSA_N, n.get()},
                               {OSSL_PKEY_PARAM_RSA_E, e.get()},
                               {OSSL_PKEY_PARAM_RSA_D, d.get()},
                               {OSSL_PKEY_PARAM_RSA_FACTOR1, p.get()},
                               {OSSL_PKEY_PARAM_RSA_FACTOR2, q.get()},
                               {OSSL_PKEY_PARAM_RSA_EXPONENT1, at_p.get()},
                               {OSSL_PKEY_PARAM_RSA_EXPONENT2, at_q.get()},
                               {OSSL_PKEY_PARAM_RSA_COEFFICIENT1, q_inverse.get()}},
                              EVP_PKEY_KEYPAIR);
    if (!key) return {};
    return adopt(std::move(key), problem);
}

byte_vector rsa_private_key::sign(std::string_view algorithm, bytes_view data) const {
    const EVP_MD* digest = digest_of(algorithm);
    const owned<EVP_MD_CTX> context(EVP_MD_CTX_new());
    if (!digest || !context) library_failed("RSA signature");
    byte_vector out(static_cast<std::size_t>(EVP_PKEY_get_size(_key.get())));
    std::size_t size = out.size();
    // A key that was adopted has signed before; a broken one in a file comes here only once.
    if (EVP_DigestSignInit(context.get(), nullptr, digest, nullptr, _key.get()) != 1 ||
        EVP_DigestSign(context.get(), raw(bytes_span(out)), &size, raw(data), data.size()) != 1) {
        ERR_clear_error();
        return {};
    }
    out.resize(size);
    return out;
}

}  // namespace burin::crypto
