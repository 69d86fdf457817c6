// KEXINIT: the lists of docs/wire.md section 4.2, but for what is broken (SHA-1, CBC) or slow
// (finite-field Diffie-Hellman).
#include "core/ssh/kexinit.hh"

#include <algorithm>
#include <array>

#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "crypto/random.hh"

namespace burin::ssh {
namespace {

constexpr std::string_view known_ciphers =
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr,"
    "aes192-ctr,aes256-ctr";
constexpr std::string_view known_macs =
    "hmac-sha2-256-etm@openssh.com,hmac-sha2-512-etm@openssh.com,hmac-sha2-256,hmac-sha2-512";
// P-256 first: it is what chisel's servers have, and what makes a guess right.
constexpr std::string_view verifiable_host_keys =
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,ssh-ed25519,rsa-sha2-512,"
    "rsa-sha2-256";

bool is_gcm(std::string_view cipher) {
    return cipher.ends_with("-gcm@openssh.com");
}

// The names of a list that `keep` wants.
template <class Keep>
std::string filtered(std::string_view list, Keep keep) {
    std::string out;
    while (!list.empty()) {
        const std::string_view name = first_name(list);
        list.remove_prefix(std::min(list.size(), name.size() + 1));
        if (keep(name)) out.append(out.empty() ? "" : ",").append(name);
    }
    return out;
}

std::string nothing_common(std::string_view what, std::string_view client,
                           std::string_view server) {
    return "no common " + std::string(what) + ": client offers " + printable(client, 400) +
           "; server offers " + printable(server, 400);
}

// All that we can verify, `first` in front.
std::string client_host_keys(std::string_view first) {
    std::string out(first);
    for (std::string_view left = verifiable_host_keys; !left.empty();) {
        const std::string_view name = first_name(left);
        left.remove_prefix(std::min(left.size(), name.size() + 1));
        if (name != first) out.append(out.empty() ? "" : ",").append(name);
    }
    return out;
}

// What both have for one direction; the sentence that `agree` returns.
std::string agree_direction(std::string_view client_ciphers, std::string_view server_ciphers,
                            std::string_view client_macs, std::string_view server_macs,
                            crypto::protection& into) {
    const auto kind = crypto::cipher_named(first_common_name(client_ciphers, server_ciphers));
    if (!kind || *kind == crypto::cipher::none) {
        return nothing_common("cipher", client_ciphers, server_ciphers);
    }
    into = {*kind};
    // A cipher that brings its own makes the MACs meaningless, whatever they say.
    if (crypto::authenticates(*kind)) return {};
    const auto integrity = crypto::mac_named(first_common_name(client_macs, server_macs));
    if (!integrity) return nothing_common("MAC", client_macs, server_macs);
    into = {*kind, *integrity};
    return {};
}

}  // namespace

bool parse(bytes_view payload, kexinit& into) {
    constexpr std::size_t behind_cookie = 1 + 16;
    if (number_of(payload) != message::kexinit || payload.size() < behind_cookie) return false;
    wire::reader read(payload.subspan(behind_cookie));
    into.key_exchanges = read.text();
    into.host_keys = read.text();
    into.ciphers_to_server = read.text();
    into.ciphers_to_client = read.text();
    into.macs_to_server = read.text();
    into.macs_to_client = read.text();
    into.compressions_to_server = read.text();
    into.compressions_to_client = read.text();
    into.languages_to_server = read.text();
    into.languages_to_client = read.text();
    into.first_packet_follows = read.boolean();
    read.u32();
    return read.done();
}

void build(byte_vector& out, const kexinit& from) {
    std::array<std::byte, 16> cookie;
    crypto::fill_random(cookie);
    wire::writer(out)
        .byte(static_cast<std::uint8_t>(message::kexinit))
        .raw(cookie)
        .string(from.key_exchanges)
        .string(from.host_keys)
        .string(from.ciphers_to_server)
        .string(from.ciphers_to_client)
        .string(from.macs_to_server)
        .string(from.macs_to_client)
        .string(from.compressions_to_server)
        .string(from.compressions_to_client)
        .string(from.languages_to_server)
        .string(from.languages_to_client)
        .boolean(from.first_packet_follows)
        .u32(0);
}

proposal own_proposal(role side, const settings& config, std::string_view host_keys) {
    const auto chosen = [](const std::string& asked, std::string_view all) {
        return std::string(asked.empty() ? all : asked);
    };
    return {
        .key_exchanges = chosen(config.key_exchanges, crypto::key_exchange_names()),
        .host_keys = side == role::client ? client_host_keys(host_keys) : std::string(host_keys),
        .ciphers = chosen(config.ciphers, known_ciphers),
        .macs = chosen(config.macs, known_macs)};
}

std::string_view implemented_ciphers() noexcept {
    return known_ciphers;
}

bool sound_cipher_list(std::string_view list) {
    while (true) {
        const std::string_view name = first_name(list);
        if (!contains_name(known_ciphers, name)) return false;
        if (name.size() == list.size()) return true;
        list.remove_prefix(name.size() + 1);
        if (contains_name(list, name)) return false;
    }
}

std::string ciphers_towards(const kexinit& client, std::string_view ours) {
    const std::string gcm = filtered(ours, [](std::string_view name) { return is_gcm(name); });
    const bool both = !first_common_name(client.ciphers_to_server, gcm).empty() &&
                      !first_common_name(client.ciphers_to_client, gcm).empty();
    return both ? gcm : std::string(ours);
}

std::string without_chacha(std::string_view ciphers) {
    return filtered(ciphers, [](std::string_view name) {
        return name != crypto::name_of(crypto::cipher::chacha20_poly1305);
    });
}

byte_vector own_kexinit(role side, exchange_turn turn, const proposal& offered) {
    std::string key_exchanges = offered.key_exchanges;
    if (turn == exchange_turn::first && side == role::client) {
        key_exchanges.append(",").append(ext_info_client).append(",").append(strict_client);
    } else if (turn == exchange_turn::first) {
        key_exchanges.append(",").append(strict_server);
    }
    kexinit offer;
    offer.key_exchanges = key_exchanges;
    offer.host_keys = offered.host_keys;
    offer.ciphers_to_server = offer.ciphers_to_client = offered.ciphers;
    offer.macs_to_server = offer.macs_to_client = offered.macs;
    offer.compressions_to_server = offer.compressions_to_client = "none";
    offer.first_packet_follows = offered.first_packet_follows;
    byte_vector out;
    build(out, offer);
    return out;
}

std::string agree(const kexinit& client, const kexinit& server, agreement& into) {
    into.key_exchange = first_common_name(client.key_exchanges, server.key_exchanges);
    const auto method = crypto::key_exchange_named(into.key_exchange);
    if (!method) {
        return nothing_common("key exchange", client.key_exchanges, server.key_exchanges);
    }
    into.method = *method;
    into.host_key = first_common_name(client.host_keys, server.host_keys);
    if (into.host_key.empty()) {
        return nothing_common("host key", client.host_keys, server.host_keys);
    }
    std::string why = agree_direction(client.ciphers_to_server, server.ciphers_to_server,
                                      client.macs_to_server, server.macs_to_server, into.to_server);
    if (!why.empty()) return why;
    why = agree_direction(client.ciphers_to_client, server.ciphers_to_client, client.macs_to_client,
                          server.macs_to_client, into.to_client);
    if (!why.empty()) return why;
    if (!contains_name(client.compressions_to_server, "none") ||
        !contains_name(client.compressions_to_client, "none") ||
        !contains_name(server.compressions_to_server, "none") ||
        !contains_name(server.compressions_to_client, "none")) {
        return nothing_common("compression", client.compressions_to_server,
                              server.compressions_to_server);
    }
    into.guess_right = first_name(client.key_exchanges) == first_name(server.key_exchanges) &&
                       first_name(client.host_keys) == first_name(server.host_keys);
    return {};
}

}  // namespace burin::ssh
