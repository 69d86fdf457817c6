// KEXINIT (RFC 4253 section 7.1; docs/wire.md section 4.2): what each side offers, and what follows
// from both offers.
#pragma once

#include <string>
#include <string_view>

#include "core/ssh/transport.hh"
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

// Our KEXINIT payload. `host_key` is the name of the server's own key; a client offers all it can
// verify, and that name, if there is one, first. Only what is implemented is offered; the MACs
// never serve, because every cipher brings its own, but a peer's parser may want some.
byte_vector own_kexinit(role side, exchange_turn turn, std::string_view ciphers,
                        std::string_view host_key, bool first_packet_follows);

struct agreement {
    std::string_view key_exchange;
    std::string_view host_key;
    crypto::cipher to_server = crypto::cipher::none;
    crypto::cipher to_client = crypto::cipher::none;
    // A packet sent after either KEXINIT on a guess counts (RFC 4253 section 7: the first key
    // exchange and the first host key of both lists are the same).
    bool guess_right = false;
};

// Empty when both agree; else what they have no common name for, in one escaped sentence.
std::string agree(const kexinit& client, const kexinit& server, agreement& into);

}  // namespace burin::ssh
