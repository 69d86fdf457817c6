#include "crypto/key_agreement.hh"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/ecc.h>

#include <cstring>

#include "crypto/digest.hh"
#include "crypto/key_exchange.hh"
#include "crypto/mlkem.hh"
#include "crypto/random.hh"
#include "crypto/wolf_keys.hh"

namespace burin::crypto {
namespace {

struct known_name {
    std::string_view name;
    key_exchange_method method;
};
constexpr known_name known_names[] = {
    {"mlkem768x25519-sha256", key_exchange_method::mlkem768_x25519},
    {"curve25519-sha256", key_exchange_method::curve25519},
    {"curve25519-sha256@libssh.org", key_exchange_method::curve25519},
    {"ecdh-sha2-nistp256", key_exchange_method::ecdh_nistp256}};

// An ephemeral P-256 pair.
class p256_key {
  public:
    static constexpr std::size_t field = 32, point = 1 + 2 * field;

    p256_key() : _public(point) {
        must_be(wc_ecc_make_key_ex(thread_rng(), field, _key.get(), ECC_SECP256R1), 0, "P-256 key");
        // The library blinds what it does with the private half.
        must_be(wc_ecc_set_rng(_key.get(), thread_rng()), 0, "P-256 key");
        word32 size = point;
        must_be(wc_ecc_export_x963(_key.get(), wolf_octets(_public.data()), &size), 0,
                "P-256 public key");
    }
    const byte_vector& public_key() const { return _public; }

    // The x coordinate, as an mpint. Nothing when the peer's value is not an uncompressed point on
    // the curve (RFC 5656 section 4).
    std::optional<secret_bytes> agree(bytes_view peer) const {
        if (peer.size() != point || peer[0] != std::byte{4}) return {};
        wolf_ecc other;
        if (wc_ecc_import_x963_ex(wolf_octets(peer.data()), point, other.get(), ECC_SECP256R1) !=
                0 ||
            wc_ecc_check_key(other.get()) != 0)
            return {};
        secret_bytes shared(field);
        word32 size = field;
        if (wc_ecc_shared_secret(_key.get(), other.get(), wolf_octets(shared.span().data()),
                                 &size) != 0 ||
            size != field)
            return {};
        return encode_mpint(shared.view());
    }

  private:
    // The library's calls take the key writable.
    mutable wolf_ecc _key;
    byte_vector _public;
};

class curve25519_offer final : public key_offer {
  public:
    bytes_view value() const override { return _key.public_key(); }
    std::optional<secret_bytes> finish(bytes_view server_value) const override {
        const auto shared = _key.agree(server_value);
        if (!shared) return {};
        return encode_mpint(shared->view());
    }

  private:
    curve25519_key _key = curve25519_key::generate();
};

class p256_offer final : public key_offer {
  public:
    bytes_view value() const override { return _key.public_key(); }
    std::optional<secret_bytes> finish(bytes_view server_value) const override {
        return _key.agree(server_value);
    }

  private:
    p256_key _key;
};

class hybrid_offer final : public key_offer {
  public:
    hybrid_offer() { wire::writer(_value).raw(_mlkem.public_key()).raw(_curve.public_key()); }
    bytes_view value() const override { return _value; }
    std::optional<secret_bytes> finish(bytes_view server_value) const override {
        if (server_value.size() != mlkem768::ciphertext_size + curve25519_key::size) return {};
        const auto first = _mlkem.decapsulate(server_value.first(mlkem768::ciphertext_size));
        const auto second = _curve.agree(server_value.last(curve25519_key::size));
        if (!first || !second) return {};
        return hybrid_secret(first->view(), second->view());
    }

  private:
    mlkem768 _mlkem;
    curve25519_key _curve = curve25519_key::generate();
    byte_vector _value;
};

std::optional<key_answer> answer_hybrid(bytes_view client_value) {
    if (client_value.size() != mlkem768::public_size + curve25519_key::size) return {};
    auto enclosed = mlkem768::encapsulate(client_value.first(mlkem768::public_size));
    const auto key = curve25519_key::generate();
    const auto shared = key.agree(client_value.last(curve25519_key::size));
    if (!enclosed || !shared) return {};
    key_answer out;
    wire::writer(out.value).raw(enclosed->ciphertext).raw(key.public_key());
    out.secret = hybrid_secret(enclosed->secret.view(), shared->view());
    return out;
}

}  // namespace

std::optional<key_exchange_method> key_exchange_named(std::string_view name) {
    for (const known_name& known : known_names)
        if (name == known.name && available(known.method)) return known.method;
    return {};
}

bool available(key_exchange_method method) {
    return method != key_exchange_method::mlkem768_x25519 || mlkem768::available();
}

const std::string& key_exchange_names() {
    static const std::string names = [] {
        std::string out;
        for (const known_name& known : known_names) {
            if (!available(known.method)) continue;
            out.append(out.empty() ? "" : ",").append(known.name);
        }
        return out;
    }();
    return names;
}

std::unique_ptr<key_offer> key_offer::make(key_exchange_method method) {
    switch (method) {
        case key_exchange_method::mlkem768_x25519: return std::make_unique<hybrid_offer>();
        case key_exchange_method::curve25519: return std::make_unique<curve25519_offer>();
        case key_exchange_method::ecdh_nistp256: return std::make_unique<p256_offer>();
    }
    return nullptr;
}

std::optional<key_answer> answer_key_offer(key_exchange_method method, bytes_view client_value) {
    switch (method) {
        case key_exchange_method::mlkem768_x25519: return answer_hybrid(client_value);
        case key_exchange_method::curve25519: {
            const auto key = curve25519_key::generate();
            const auto shared = key.agree(client_value);
            if (!shared) return {};
            const auto& value = key.public_key();
            return key_answer{{value.begin(), value.end()}, encode_mpint(shared->view())};
        }
        case key_exchange_method::ecdh_nistp256: {
            const p256_key key;
            auto shared = key.agree(client_value);
            if (!shared) return {};
            return key_answer{key.public_key(), std::move(*shared)};
        }
    }
    return {};
}

secret_bytes hybrid_secret(bytes_view mlkem_secret, bytes_view x25519_secret) {
    sha256_digest hash = sha256({mlkem_secret, x25519_secret});
    secret_bytes out(4 + hash.size());
    store_u32(out.span().data(), static_cast<std::uint32_t>(hash.size()));
    std::memcpy(out.span().data() + 4, hash.data(), hash.size());
    wipe(hash);
    return out;
}

}  // namespace burin::crypto
