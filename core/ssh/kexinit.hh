// KEXINIT (RFC 4253 section 7.1; docs/wire.md section 4.2): what each side offers, and what follows
// from both offers.
#pragma once

#include <string>
#include <string_view>

#include "core/ssh/transport.hh"
#include "crypto/key_agreement.hh"
#include "crypto/packet_cipher.hh"
#include "crypto/wire.hh"

namespace burin::ssh {

// The pseudo-names that a first KEXINIT carries among its key exchanges.
inline constexpr std::string_view ext_info_client = "ext-info-c";
inline constexpr std::string_view strict_client = "kex-strict-c-v00@openssh.com";
inline constexpr std::string_view strict_server = "kex-strict-s-v00@openssh.com";

// Name-lists in the order of the wire. Views: into the payload parsed, or into texts of the
// builder's.
struct kexinit {
    std::string_view key_exchanges;
    std::string_view host_keys;
    std::string_view ciphers_to_server;
    std::string_view ciphers_to_client;
    std::string_view macs_to_server;
    std::string_view macs_to_client;
    std::string_view compressions_to_server;
    std::string_view compressions_to_client;
    std::string_view languages_to_server;
    std::string_view languages_to_client;
    bool first_packet_follows = false;
};

// Exact, as all parsers: the whole payload, number included.
bool parse(bytes_view payload, kexinit& into);
// Appends the payload, with a fresh random cookie.
void build(byte_vector& out, const kexinit&);

// Whether this is the exchange that makes the session: only it carries the pseudo-names.
enum class exchange_turn { first, later };

// What one side offers, in its order. MACs serve beside ctr ciphers only.
struct proposal {
    std::string key_exchanges;
    // A server's: the names of the signatures that its key makes.
    std::string host_keys;
    std::string ciphers;
    std::string macs;
    bool first_packet_follows = false;
};

// All that is implemented and at hand, narrowed by the settings. `host_keys`: the names of the
// server's own signatures; a client offers all that it can verify, and this one, if there is one,
// first. GCM comes first: it is the fastest, and Go's clients list it first as well.
proposal own_proposal(role side, const settings& config, std::string_view host_keys);

// The names of all ciphers that are implemented, the fastest first.
std::string_view implemented_ciphers() noexcept;
// Whether a list, as `settings::ciphers` takes it, has one name at least, and none twice or
// unknown.
bool sound_cipher_list(std::string_view list);

// What a server offers a client whose lists it has seen: GCM alone, when both have that for each
// direction. OpenSSH's clients list chacha20-poly1305 first, and up to 9.x ctr before GCM; but GCM
// is several times as fast, and its keys last for 64 GiB instead of chacha20's 1 GiB (docs/wire.md
// section 11.1).
std::string ciphers_towards(const kexinit& client, std::string_view ours);
std::string without_chacha(std::string_view ciphers);

// Our KEXINIT payload.
byte_vector own_kexinit(role side, exchange_turn turn, const proposal& offered);

struct agreement {
    std::string_view key_exchange;
    crypto::key_exchange_method method{};
    std::string_view host_key;
    crypto::protection to_server;
    crypto::protection to_client;
    // A packet sent after either KEXINIT on a guess counts (RFC 4253 section 7: the first key
    // exchange and the first host key of both lists are the same).
    bool guess_right = false;
};

// Empty when both agree; else what they have no common name for, in one escaped sentence.
std::string agree(const kexinit& client, const kexinit& server, agreement& into);

}  // namespace burin::ssh
