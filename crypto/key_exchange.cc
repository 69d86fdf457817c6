#include "crypto/key_exchange.hh"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/curve25519.h>

#include <algorithm>
#include <cstring>

#include "crypto/invariant.hh"
#include "crypto/random.hh"

namespace burin::crypto {
namespace {

::byte* raw(std::byte* at) {
    return reinterpret_cast<::byte*>(at);
}
const ::byte* raw(const std::byte* at) {
    return reinterpret_cast<const ::byte*>(at);
}

constexpr int point_size = static_cast<int>(curve25519_key::size);

bytes_view without_leading_zeros(bytes_view magnitude) {
    while (!magnitude.empty() && magnitude[0] == std::byte{0}) magnitude = magnitude.subspan(1);
    return magnitude;
}

// A leading zero octet keeps the number from looking negative.
std::size_t sign_octet(bytes_view stripped) {
    return !stripped.empty() && (stripped[0] & std::byte{0x80}) != std::byte{0} ? 1 : 0;
}

}  // namespace

curve25519_key::curve25519_key(bytes_view scalar) : _scalar(scalar) {
    // RFC 7748 section 5; the library refuses a scalar that is not clamped.
    bytes_span octets = _scalar.span();
    octets[0] &= std::byte{248};
    octets[31] &= std::byte{127};
    octets[31] |= std::byte{64};
    must_be(wc_curve25519_make_pub(point_size, raw(_public.data()), point_size,
                                   raw(_scalar.view().data())),
            0, "curve25519 public key");
}

curve25519_key curve25519_key::generate() {
    secret_bytes scalar(size);
    fill_random(scalar.span());
    return curve25519_key(scalar.view());
}

std::optional<curve25519_key> curve25519_key::from_private(bytes_view scalar) {
    if (scalar.size() != size) return {};
    return curve25519_key(scalar);
}

std::optional<secret_bytes> curve25519_key::agree(bytes_view peer) const {
    if (peer.size() != size) return {};
    secret_bytes shared(size);
    if (wc_curve25519_generic(point_size, raw(shared.span().data()), point_size,
                              raw(_scalar.view().data()), point_size, raw(peer.data())) != 0)
        return {};
    static constexpr std::array<std::byte, size> zero{};
    if (constant_time_equal(shared.view(), zero)) return {};
    return shared;
}

void append_mpint(byte_vector& out, bytes_view magnitude) {
    bytes_view stripped = without_leading_zeros(magnitude);
    std::size_t extra = sign_octet(stripped);
    wire::writer writer(out);
    writer.u32(static_cast<std::uint32_t>(stripped.size() + extra));
    if (extra) writer.byte(0);
    writer.raw(stripped);
}

secret_bytes encode_mpint(bytes_view magnitude) {
    bytes_view stripped = without_leading_zeros(magnitude);
    std::size_t extra = sign_octet(stripped);
    secret_bytes out(4 + extra + stripped.size());
    std::byte* at = out.span().data();
    store_u32(at, static_cast<std::uint32_t>(extra + stripped.size()));
    if (!stripped.empty()) std::memcpy(at + 4 + extra, stripped.data(), stripped.size());
    return out;
}

sha256_digest exchange_hash(const exchange_transcript& transcript) noexcept {
    const bytes_view strings[] = {transcript.client_version, transcript.server_version,
                                  transcript.client_kexinit, transcript.server_kexinit,
                                  transcript.host_key,       transcript.client_value,
                                  transcript.server_value};
    std::byte sizes[7][4];
    for (std::size_t i = 0; i < 7; ++i)
        store_u32(sizes[i], static_cast<std::uint32_t>(strings[i].size()));
    return sha256({sizes[0], strings[0], sizes[1], strings[1], sizes[2], strings[2], sizes[3],
                   strings[3], sizes[4], strings[4], sizes[5], strings[5], sizes[6], strings[6],
                   transcript.shared_secret});
}

void derive(bytes_view shared_secret, bytes_view hash, bytes_view session_id, char letter,
            bytes_span out) noexcept {
    const std::byte letter_octet[] = {static_cast<std::byte>(letter)};
    sha256_digest block = sha256({shared_secret, hash, letter_octet, session_id});
    std::size_t done = 0;
    while (true) {
        std::size_t size = std::min(block.size(), out.size() - done);
        if (size) std::memcpy(out.data() + done, block.data(), size);
        done += size;
        if (done == out.size()) break;
        // All that came so far lies in `out`, in whole blocks.
        block = sha256({shared_secret, hash, out.first(done)});
    }
    wipe(block);
}

cipher_keys derive_keys(protection how, direction way, bytes_view shared_secret, bytes_view hash,
                        bytes_view session_id) noexcept {
    bool to_server = way == direction::client_to_server;
    cipher_keys keys;
    derive(shared_secret, hash, session_id, to_server ? 'A' : 'B',
           bytes_span(keys.iv).first(iv_size(how.kind)));
    derive(shared_secret, hash, session_id, to_server ? 'C' : 'D',
           bytes_span(keys.key).first(key_size(how.kind)));
    derive(shared_secret, hash, session_id, to_server ? 'E' : 'F',
           bytes_span(keys.mac_key).first(mac_size(how.integrity)));
    return keys;
}

}  // namespace burin::crypto
