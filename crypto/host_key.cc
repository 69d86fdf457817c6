#include "crypto/host_key.hh"

#include <openssl/bn.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <utility>

#include "crypto/base64.hh"
#include "crypto/digest.hh"
#include "crypto/ecdsa_curve.hh"
#include "crypto/key_exchange.hh"
#include "crypto/random.hh"
#include "crypto/wolf_keys.hh"

namespace burin::crypto {
namespace {

constexpr std::size_t secret_size = 32;
constexpr std::size_t ed25519_public_size = 32;
constexpr std::size_t ed25519_signature_size = 64;

constexpr std::string_view ed25519_name = "ssh-ed25519";

// n, the order of P-256 (SEC 2 section 2.4.2).
constexpr std::array<unsigned char, secret_size> p256_order = {
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51};

struct free_bignum {
    void operator()(BIGNUM* number) const { BN_clear_free(number); }
    void operator()(BN_CTX* context) const { BN_CTX_free(context); }
};
using bignum = std::unique_ptr<BIGNUM, free_bignum>;

bignum bignum_of(const void* octets, std::size_t size) {
    return bignum(
        BN_bin2bn(static_cast<const unsigned char*>(octets), static_cast<int>(size), nullptr));
}

// Null for a kind that is not ECDSA.
const ecdsa_curve* curve_of(host_key_kind kind) {
    switch (kind) {
        case host_key_kind::ecdsa_p256: return &ecdsa_curves[0];
        case host_key_kind::ecdsa_p384: return &ecdsa_curves[1];
        case host_key_kind::ecdsa_p521: return &ecdsa_curves[2];
        case host_key_kind::ed25519:
        case host_key_kind::rsa: break;
    }
    return nullptr;
}

// 1..n-1.
bool valid_scalar(const ecdsa_curve& on, bytes_view scalar) {
    if (scalar.size() != on.field) return false;
    const ecc_set_type* parameters = wc_ecc_get_curve_params(wc_ecc_get_curve_idx(on.id));
    if (!parameters) library_failed("curve");
    BIGNUM* read = nullptr;
    BN_hex2bn(&read, parameters->order);
    const bignum order(read), number = bignum_of(scalar.data(), scalar.size());
    if (!order || !number) library_failed("out of memory");
    return !BN_is_zero(number.get()) && BN_cmp(number.get(), order.get()) < 0;
}

byte_vector ecdsa_blob(const ecdsa_curve& on, bytes_view scalar) {
    wolf_ecc key;
    must_be(wc_ecc_import_private_key_ex(wolf_octets(scalar.data()), wolf_size(on.field), nullptr,
                                         0, key.get(), on.id),
            0, "ECDSA private key");
    must_be(wc_ecc_make_pub_ex(key.get(), nullptr, thread_rng()), 0, "ECDSA public key");
    byte_vector point(on.point());
    word32 size = wolf_size(point.size());
    must_be(wc_ecc_export_x963(key.get(), wolf_octets(point.data()), &size), 0, "ECDSA public key");
    byte_vector blob;
    wire::writer(blob).string(on.algorithm).string(on.name).string(point);
    return blob;
}

byte_vector ed25519_blob(bytes_view seed) {
    wolf_ed25519 key;
    must_be(wc_ed25519_import_private_only(wolf_octets(seed.data()), secret_size, key.get()), 0,
            "Ed25519 private key");
    std::array<std::byte, ed25519_public_size> point;
    must_be(wc_ed25519_make_public(key.get(), wolf_octets(point.data()), ed25519_public_size), 0,
            "Ed25519 public key");
    byte_vector blob;
    wire::writer(blob).string(ed25519_name).string(point);
    return blob;
}

// The public octets end either blob.
bytes_view public_octets(bytes_view blob, std::size_t size) {
    return blob.last(size);
}

byte_vector sign_ecdsa(const ecdsa_curve& on, bytes_view secret, bytes_view blob, bytes_view data) {
    wolf_ecc key;
    bytes_view point = public_octets(blob, on.point());
    must_be(wc_ecc_import_private_key_ex(wolf_octets(secret.data()), wolf_size(on.field),
                                         wolf_octets(point.data()), wolf_size(point.size()),
                                         key.get(), on.id),
            0, "ECDSA private key");
    const ecdsa_digest digest(on, data);
    std::array<::byte, ECC_MAX_SIG_SIZE> der;
    word32 der_size = wolf_size(der.size());
    must_be(wc_ecc_sign_hash(wolf_octets(digest.view().data()), wolf_size(digest.view().size()),
                             der.data(), &der_size, thread_rng(), key.get()),
            0, "ECDSA signature");
    std::array<std::byte, longest_field + 1> r, s;
    word32 r_size = wolf_size(r.size()), s_size = wolf_size(s.size());
    must_be(wc_ecc_sig_to_rs(der.data(), der_size, wolf_octets(r.data()), &r_size,
                             wolf_octets(s.data()), &s_size),
            0, "ECDSA signature");
    byte_vector signature;
    append_mpint(signature, bytes_view(r).first(r_size));
    append_mpint(signature, bytes_view(s).first(s_size));
    return signature;
}

byte_vector sign_ed25519(bytes_view secret, bytes_view blob, bytes_view data) {
    wolf_ed25519 key;
    bytes_view point = public_octets(blob, ed25519_public_size);
    must_be(
        wc_ed25519_import_private_key(wolf_octets(secret.data()), secret_size,
                                      wolf_octets(point.data()), ed25519_public_size, key.get()),
        0, "Ed25519 private key");
    byte_vector signature(ed25519_signature_size);
    word32 size = ed25519_signature_size;
    must_be(wc_ed25519_sign_msg(wolf_message(data), wolf_size(data.size()),
                                wolf_octets(signature.data()), &size, key.get()),
            0, "Ed25519 signature");
    return signature;
}

}  // namespace

host_key::host_key(host_key_kind kind, bytes_view secret, byte_vector blob)
    : _kind(kind), _secret(secret), _blob(std::move(blob)) {}

host_key::host_key(rsa_private_key key)
    : _kind(host_key_kind::rsa),
      _blob(key.blob().begin(), key.blob().end()),
      _rsa(std::move(key)) {}

host_key host_key::generate(host_key_kind kind) {
    if (kind == host_key_kind::rsa) library_failed("no RSA keys are made here");
    const ecdsa_curve* curve = curve_of(kind);
    secret_bytes secret(curve ? curve->field : secret_size);
    // A number of so many bits is below n but for one in 2^32; take the next one then. P-521 has
    // one bit in its first octet.
    do {
        fill_random(secret.span());
        if (kind == host_key_kind::ecdsa_p521) secret.span()[0] &= std::byte{1};
    } while (curve && !valid_scalar(*curve, secret.view()));
    return *from_private(kind, secret.view());
}

host_key host_key::from_seed(std::string_view seed) {
    // Chisel stretches the seed with 2048 hashes and then draws a stream from it; the key is made
    // of the stream's first 40 octets as FIPS 186-3 B.4.1 would from random ones.
    constexpr int stretches = 2048;
    secret_bytes next(as_bytes(seed));
    for (int i = 0; i < stretches; ++i) {
        sha512_digest hash = sha512(next.view());
        next = secret_bytes(bytes_view(hash).first<32>());
        wipe(hash);
    }
    secret_bytes stream(40);
    for (std::size_t done = 0; done < stream.size();) {
        sha512_digest hash = sha512(next.view());
        std::size_t size = std::min<std::size_t>(32, stream.size() - done);
        std::memcpy(stream.span().data() + done, hash.data() + 32, size);
        done += size;
        next = secret_bytes(bytes_view(hash).first<32>());
        wipe(hash);
    }
    // d = stream mod (n - 1) + 1
    bignum number = bignum_of(stream.view().data(), stream.size());
    bignum order = bignum_of(p256_order.data(), p256_order.size());
    std::unique_ptr<BN_CTX, free_bignum> context(BN_CTX_new());
    bignum scalar(BN_new());
    if (!number || !order || !context || !scalar) library_failed("out of memory");
    must_be(BN_sub_word(order.get(), 1), 1, "seed");
    must_be(BN_mod(scalar.get(), number.get(), order.get(), context.get()), 1, "seed");
    must_be(BN_add_word(scalar.get(), 1), 1, "seed");
    secret_bytes secret(secret_size);
    must_be(BN_bn2binpad(scalar.get(), reinterpret_cast<unsigned char*>(secret.span().data()),
                         secret_size),
            secret_size, "seed");
    return *from_private(host_key_kind::ecdsa_p256, secret.view());
}

std::optional<host_key> host_key::from_private(host_key_kind kind, bytes_view secret) {
    if (const ecdsa_curve* curve = curve_of(kind)) {
        if (!valid_scalar(*curve, secret)) return {};
        return host_key(kind, secret, ecdsa_blob(*curve, secret));
    }
    if (kind != host_key_kind::ed25519 || secret.size() != secret_size) return {};
    return host_key(kind, secret, ed25519_blob(secret));
}

std::string_view host_key::algorithm() const {
    if (_kind == host_key_kind::rsa) return rsa_type;
    const ecdsa_curve* curve = curve_of(_kind);
    return curve ? curve->algorithm : ed25519_name;
}

std::string_view host_key::signature_algorithms() const {
    return _kind == host_key_kind::rsa ? "rsa-sha2-512,rsa-sha2-256" : algorithm();
}

byte_vector host_key::sign(bytes_view data, std::string_view with) const {
    if (with.empty()) with = _rsa ? rsa_sha2_512 : algorithm();
    const ecdsa_curve* curve = curve_of(_kind);
    byte_vector signature = _rsa    ? _rsa->sign(with, data)
                            : curve ? sign_ecdsa(*curve, _secret.view(), _blob, data)
                                    : sign_ed25519(_secret.view(), _blob, data);
    if (signature.empty()) library_failed("host key signature");
    byte_vector blob;
    wire::writer(blob).string(with).string(signature);
    return blob;
}

std::string host_key::to_ck() const {
    if (_kind != host_key_kind::ecdsa_p256) return {};
    // SEC1 ECPrivateKey (docs/wire.md section 6.3): every length is fixed, so the DER is these
    // octets around d and the point.
    constexpr unsigned char before_secret[] = {0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20};
    constexpr unsigned char before_point[] = {0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                              0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42, 0x00};
    byte_vector der;
    der.reserve(121);
    wire::writer(der)
        .raw(std::as_bytes(std::span(before_secret)))
        .raw(_secret.view())
        .raw(std::as_bytes(std::span(before_point)))
        .raw(public_octets(_blob, ecdsa_curves[0].point()));
    std::string text = "ck-" + base64(der, base64_padding::unpadded);
    wipe(der);
    return text;
}

}  // namespace burin::crypto
