#include "crypto/public_key.hh"

#include <algorithm>
#include <array>
#include <span>

#include "crypto/base64.hh"
#include "crypto/digest.hh"
#include "crypto/ecdsa_curve.hh"
#include "crypto/rsa_key.hh"
#include "crypto/secret.hh"
#include "crypto/wolf_keys.hh"

namespace burin::crypto {
namespace {

constexpr std::string_view ed25519_name = "ssh-ed25519";

// A positive mpint as octets without leading zeros; empty when it is zero, negative or too long.
bytes_view positive(bytes_view mpint, std::size_t most) {
    if (mpint.empty() || (mpint[0] & std::byte{0x80}) != std::byte{0}) return {};
    while (!mpint.empty() && mpint[0] == std::byte{0}) mpint = mpint.subspan(1);
    return mpint.size() <= most ? mpint : bytes_view{};
}

bool verify_ecdsa(const ecdsa_curve& on, wire::reader key_fields, bytes_view signature,
                  bytes_view data) {
    if (key_fields.text() != on.name) return false;
    bytes_view point = key_fields.string();
    if (!key_fields.done() || point.size() != on.point() || point[0] != std::byte{4}) return false;
    wire::reader numbers(signature);
    bytes_view r = positive(numbers.string(), on.field);
    bytes_view s = positive(numbers.string(), on.field);
    if (!numbers.done() || r.empty() || s.empty()) return false;

    wolf_ecc key;
    if (wc_ecc_import_x963_ex(wolf_octets(point.data()), wolf_size(point.size()), key.get(),
                              on.id) != 0 ||
        wc_ecc_check_key(key.get()) != 0)
        return false;
    // Two integers and a sequence around them, each with up to five octets of head.
    std::array<::byte, 2 * longest_field + 16> der;
    word32 der_size = wolf_size(der.size());
    if (wc_ecc_rs_raw_to_sig(wolf_octets(r.data()), wolf_size(r.size()), wolf_octets(s.data()),
                             wolf_size(s.size()), der.data(), &der_size) != 0)
        return false;
    const ecdsa_digest digest(on, data);
    int good = 0;
    return wc_ecc_verify_hash(der.data(), der_size, wolf_octets(digest.view().data()),
                              wolf_size(digest.view().size()), &good, key.get()) == 0 &&
           good == 1;
}

bool verify_ed25519(wire::reader key_fields, bytes_view signature, bytes_view data) {
    bytes_view point = key_fields.string();
    if (!key_fields.done() || point.size() != 32 || signature.size() != 64) return false;
    wolf_ed25519 key;
    if (wc_ed25519_import_public(wolf_octets(point.data()), wolf_size(point.size()), key.get()) !=
        0)
        return false;
    int good = 0;
    return wc_ed25519_verify_msg(wolf_octets(signature.data()), wolf_size(signature.size()),
                                 wolf_message(data), wolf_size(data.size()), &good,
                                 key.get()) == 0 &&
           good == 1;
}

}  // namespace

std::string_view algorithm_of(bytes_view blob) {
    wire::reader in(blob);
    std::string_view name = in.text();
    return in.ok() ? name : std::string_view{};
}

std::string_view key_type_of(std::string_view algorithm) {
    if (algorithm == rsa_sha2_256 || algorithm == rsa_sha2_512) return rsa_type;
    if (algorithm == ed25519_name || ecdsa_curve_of(algorithm)) return algorithm;
    return {};
}

bool verifiable(std::string_view algorithm) {
    return !key_type_of(algorithm).empty();
}

bool known_key_type(std::string_view type) {
    return type == rsa_type || (verifiable(type) && key_type_of(type) == type);
}

const char* problem_of(bytes_view blob) {
    return algorithm_of(blob) == rsa_type ? rsa_problem(blob) : nullptr;
}

bool verify(bytes_view blob, bytes_view signature, bytes_view data) {
    wire::reader key_fields(blob);
    std::string_view type = key_fields.text();
    wire::reader in(signature);
    std::string_view signed_with = in.text();
    bytes_view octets = in.string();
    if (!key_fields.ok() || !in.done() || type.empty() || key_type_of(signed_with) != type)
        return false;
    if (type == rsa_type) return rsa_verify(blob, signed_with, octets, data);
    if (type == ed25519_name) return verify_ed25519(key_fields, octets, data);
    const ecdsa_curve* curve = ecdsa_curve_of(type);
    return curve && verify_ecdsa(*curve, key_fields, octets, data);
}

std::string fingerprint(bytes_view blob) {
    return base64(sha256(blob));
}

std::string fingerprint_md5(bytes_view blob) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (std::byte octet : md5(blob)) {
        if (!out.empty()) out.push_back(':');
        out.push_back(digits[std::to_integer<unsigned>(octet >> 4)]);
        out.push_back(digits[std::to_integer<unsigned>(octet & std::byte{15})]);
    }
    return out;
}

bool check_fingerprint(std::string_view expected, bytes_view blob, fingerprint_rule rule) {
    if (expected.empty()) return false;
    if (from_base64(expected))
        return constant_time_equal(as_bytes(expected), as_bytes(fingerprint(blob)));
    std::string actual = fingerprint_md5(blob);
    std::string_view compared = actual;
    if (rule == fingerprint_rule::md5_prefix) compared = compared.substr(0, expected.size());
    return constant_time_equal(as_bytes(expected), as_bytes(compared));
}

}  // namespace burin::crypto
