#include "crypto/mlkem.hh"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "crypto/invariant.hh"
#include "crypto/packet_frame.hh"

namespace burin::crypto {
namespace {

constexpr const char* algorithm = "ML-KEM-768";

struct free_context {
    void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using owned_context = std::unique_ptr<EVP_PKEY_CTX, free_context>;

bool fetched() {
    EVP_KEM* kem = EVP_KEM_fetch(nullptr, algorithm, nullptr);
    EVP_KEYMGMT* keys = EVP_KEYMGMT_fetch(nullptr, algorithm, nullptr);
    const bool both = kem && keys;
    EVP_KEM_free(kem);
    EVP_KEYMGMT_free(keys);
    ERR_clear_error();
    return both;
}

}  // namespace

void mlkem768::free_key::operator()(evp_pkey_st* key) const {
    EVP_PKEY_free(key);
}

bool mlkem768::available() {
    static const bool there = fetched();
    return there;
}

mlkem768::mlkem768() : _public(public_size) {
    const owned_context context(EVP_PKEY_CTX_new_from_name(nullptr, algorithm, nullptr));
    EVP_PKEY* made = nullptr;
    if (!context || EVP_PKEY_keygen_init(context.get()) != 1 ||
        EVP_PKEY_generate(context.get(), &made) != 1)
        library_failed("ML-KEM-768 key");
    _key.reset(made);
    std::size_t size = 0;
    must_be(EVP_PKEY_get_octet_string_param(made, OSSL_PKEY_PARAM_PUB_KEY, octets(_public.data()),
                                            _public.size(), &size),
            1, "ML-KEM-768 public key");
    if (size != public_size) library_failed("ML-KEM-768 public key");
}

std::optional<secret_bytes> mlkem768::decapsulate(bytes_view ciphertext) const {
    if (ciphertext.size() != ciphertext_size) return {};
    const owned_context context(EVP_PKEY_CTX_new_from_pkey(nullptr, _key.get(), nullptr));
    secret_bytes secret(secret_size);
    std::size_t size = secret_size;
    if (!context || EVP_PKEY_decapsulate_init(context.get(), nullptr) != 1 ||
        EVP_PKEY_decapsulate(context.get(), octets(secret.span().data()), &size,
                             octets(ciphertext.data()), ciphertext.size()) != 1 ||
        size != secret_size) {
        ERR_clear_error();
        return {};
    }
    return secret;
}

std::optional<mlkem768::enclosed> mlkem768::encapsulate(bytes_view public_key) {
    if (public_key.size() != public_size || !available()) return {};
    const std::unique_ptr<evp_pkey_st, free_key> key(EVP_PKEY_new_raw_public_key_ex(
        nullptr, algorithm, nullptr, octets(public_key.data()), public_key.size()));
    const owned_context context(key ? EVP_PKEY_CTX_new_from_pkey(nullptr, key.get(), nullptr)
                                    : nullptr);
    enclosed out{byte_vector(ciphertext_size), secret_bytes(secret_size)};
    std::size_t ciphertext = ciphertext_size, secret = secret_size;
    if (!context || EVP_PKEY_encapsulate_init(context.get(), nullptr) != 1 ||
        EVP_PKEY_encapsulate(context.get(), octets(out.ciphertext.data()), &ciphertext,
                             octets(out.secret.span().data()), &secret) != 1 ||
        ciphertext != ciphertext_size || secret != secret_size) {
        ERR_clear_error();
        return {};
    }
    return out;
}

}  // namespace burin::crypto
