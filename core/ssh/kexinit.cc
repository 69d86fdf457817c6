// KEXINIT: the lists of docs/wire.md section 4.2, cut down to what is implemented here.
#include "core/ssh/kexinit.hh"

#include <array>

#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "crypto/random.hh"

namespace burin::ssh {
namespace {

constexpr std::string_view own_key_exchanges = "curve25519-sha256,curve25519-sha256@libssh.org";
// P-256 first: it is what chisel's servers have, and what makes a guess right.
constexpr std::string_view verifiable_host_keys =
    "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,ssh-ed25519";
constexpr std::string_view own_macs = "hmac-sha2-256-etm@openssh.com,hmac-sha2-256";

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

byte_vector own_kexinit(role side, exchange_turn turn, std::string_view ciphers,
                        std::string_view host_key, bool first_packet_follows) {
    std::string key_exchanges(own_key_exchanges);
    if (turn == exchange_turn::first && side == role::client) {
        key_exchanges.append(",").append(ext_info_client).append(",").append(strict_client);
    } else if (turn == exchange_turn::first) {
        key_exchanges.append(",").append(strict_server);
    }
    kexinit offer;
    offer.key_exchanges = key_exchanges;
    const std::string host_keys = side == role::client ? client_host_keys(host_key) : "";
    offer.host_keys = side == role::client ? std::string_view(host_keys) : host_key;
    offer.ciphers_to_server = offer.ciphers_to_client = ciphers;
    offer.macs_to_server = offer.macs_to_client = own_macs;
    offer.compressions_to_server = offer.compressions_to_client = "none";
    offer.first_packet_follows = first_packet_follows;
    byte_vector out;
    build(out, offer);
    return out;
}

std::string agree(const kexinit& client, const kexinit& server, agreement& into) {
    into.key_exchange = first_common_name(client.key_exchanges, server.key_exchanges);
    if (into.key_exchange.empty()) {
        return nothing_common("key exchange", client.key_exchanges, server.key_exchanges);
    }
    into.host_key = first_common_name(client.host_keys, server.host_keys);
    if (into.host_key.empty()) {
        return nothing_common("host key", client.host_keys, server.host_keys);
    }
    const auto to_server = first_common_name(client.ciphers_to_server, server.ciphers_to_server);
    const auto to_client = first_common_name(client.ciphers_to_client, server.ciphers_to_client);
    const auto cipher_to_server = crypto::cipher_named(to_server);
    const auto cipher_to_client = crypto::cipher_named(to_client);
    if (!cipher_to_server) {
        return nothing_common("cipher", client.ciphers_to_server, server.ciphers_to_server);
    }
    if (!cipher_to_client) {
        return nothing_common("cipher", client.ciphers_to_client, server.ciphers_to_client);
    }
    into.to_server = *cipher_to_server;
    into.to_client = *cipher_to_client;
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
