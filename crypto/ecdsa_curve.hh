// The curves of ECDSA keys, each with its digest (RFC 5656 section 6.2.1). For the sources of this
// room only.
#pragma once

#include <algorithm>
#include <array>
#include <string_view>

#include "crypto/digest.hh"
#include "crypto/wolf_keys.hh"

namespace burin::crypto {

struct ecdsa_curve {
    std::string_view algorithm;
    // In key blobs, and in OpenSSL.
    std::string_view name;
    const char* openssl_name;
    // wolfCrypt's.
    int id;
    // Octets of a coordinate and of the private scalar.
    std::size_t field;

    // `04`, then both coordinates.
    constexpr std::size_t point() const { return 1 + 2 * field; }
};

inline constexpr std::array<ecdsa_curve, 3> ecdsa_curves{
    {{"ecdsa-sha2-nistp256", "nistp256", "prime256v1", ECC_SECP256R1, 32},
     {"ecdsa-sha2-nistp384", "nistp384", "secp384r1", ECC_SECP384R1, 48},
     {"ecdsa-sha2-nistp521", "nistp521", "secp521r1", ECC_SECP521R1, 66}}};
inline constexpr std::size_t longest_field = 66;

// Null for an algorithm that is none of them.
inline const ecdsa_curve* ecdsa_curve_of(std::string_view algorithm) {
    const auto found = std::ranges::find(ecdsa_curves, algorithm, &ecdsa_curve::algorithm);
    return found == ecdsa_curves.end() ? nullptr : found;
}

// The digest that is signed.
class ecdsa_digest {
  public:
    ecdsa_digest(const ecdsa_curve& on, bytes_view data) {
        if (on.field == 32)
            keep(sha256(data));
        else if (on.field == 48)
            keep(sha384(data));
        else
            keep(sha512(data));
    }
    bytes_view view() const { return bytes_view(_octets).first(_size); }

  private:
    template <class Digest>
    void keep(const Digest& made) {
        std::copy(made.begin(), made.end(), _octets.begin());
        _size = made.size();
    }
    sha512_digest _octets{};
    std::size_t _size = 0;
};

}  // namespace burin::crypto
