// Public keys as the peer shows them: signatures by host keys (client) and by users' keys (server),
// and fingerprints in chisel's two forms (docs/wire.md sections 4.4, 6.4, 11.2).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::crypto {

// The name inside a key blob or a signature; empty when it is neither.
std::string_view algorithm_of(bytes_view blob);

// The algorithms of signatures that verify() knows, as server-sig-algs names them.
inline constexpr std::string_view verifiable_names =
    "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,rsa-sha2-512,"
    "rsa-sha2-256";
bool verifiable(std::string_view algorithm);
// The key type that such an algorithm belongs to: ssh-rsa for rsa-sha2-256 and rsa-sha2-512
// (RFC 8332), for the others the same name. Empty for an algorithm that is not verifiable: ssh-rsa
// is a key type, and as a signature, with SHA-1, refused.
std::string_view key_type_of(std::string_view algorithm);
// A key type with a verifiable signature.
bool known_key_type(std::string_view type);

// Why a key is refused whatever it signs (RSA of 2048 to 16384 bits is taken), a fixed text; null
// when nothing is known against it.
const char* problem_of(bytes_view blob);

// True only if `blob` is a well-formed key of a known type and `signature` (string algorithm,
// string signature) is one of that very type over `data`; where a type has several algorithms, the
// caller compares the signature's with what was agreed. Any malformed input is just false.
bool verify(bytes_view blob, bytes_view signature, bytes_view data);

// SHA-256 over the blob in padded base64: the 44 characters that chisel prints.
std::string fingerprint(bytes_view blob);
// The legacy form: lower-case hex pairs of MD5, joined by ':'.
std::string fingerprint_md5(bytes_view blob);

// `exact` is chisel 1.12: all of the value must match, and the MD5 form needs all 16 octets.
// `md5_prefix` also takes any non-empty prefix of the MD5 form, as chisel up to 1.11 does; about
// one key in 256 passes for a prefix of two characters.
enum class fingerprint_rule : std::uint8_t { exact, md5_prefix };

// A value that decodes as base64 is compared with fingerprint(), any other with fingerprint_md5();
// in constant time. An empty value never matches: who wants no check does not ask.
bool check_fingerprint(std::string_view expected, bytes_view blob,
                       fingerprint_rule rule = fingerprint_rule::exact);

}  // namespace burin::crypto
