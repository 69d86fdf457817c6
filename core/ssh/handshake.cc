// The key exchange, from KEXINIT to NEWKEYS.
#include "core/ssh/handshake.hh"

#include <algorithm>
#include <utility>

#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "crypto/host_key.hh"
#include "crypto/public_key.hh"

namespace burin::ssh {
namespace {

// All messages that belong to the method, 30 to 49: one of them is what a wrong guess sent.
constexpr message_set any_of_method = ((message_set{1} << 50) - 1) & ~((message_set{1} << 30) - 1);

byte_vector ecdh_init(const crypto::key_offer& key) {
    byte_vector out;
    wire::writer(out).byte(static_cast<std::uint8_t>(message::ecdh_init)).string(key.value());
    return out;
}

}  // namespace

void handshake::start() {
    _stage = _link.side == role::client ? as_client() : as_server();
    _stage.start();
}

void handshake::take(bytes_span payload) {
    const message number = number_of(payload);
    if (!_inbox.awaits(number)) {
        _link.fail(disconnect_reason::protocol_error,
                   "message " + std::to_string(static_cast<unsigned>(number)) +
                       " is not due in the key exchange");
        return;
    }
    if (number == message::kexinit) _peer_exchanges = true;
    if (number == message::newkeys) _peer_exchanges = false;
    _inbox.deliver(payload);
}

task handshake::as_client() {
    proposal offered = ours();
    // The guess is for the method that we list first.
    const auto guessed = crypto::key_exchange_named(first_name(offered.key_exchanges));
    const bool guesses = first() && _link.config.guess_key_exchange && guessed;
    std::unique_ptr<crypto::key_offer> key;
    if (guesses) key = crypto::key_offer::make(*guessed);
    offered.first_packet_follows = guesses;
    offer(std::move(offered));
    if (guesses) _link.packets.queue_exchange(ecdh_init(*key));

    if (!take_offer(co_await _inbox.next(due(message::kexinit)))) co_return;
    if (!guesses || !_agreed.guess_right) {
        if (!guesses || *guessed != _agreed.method) key = crypto::key_offer::make(_agreed.method);
        _link.packets.queue_exchange(ecdh_init(*key));
    }
    if (_peer_guesses && !_agreed.guess_right) co_await _inbox.next(any_of_method);

    new_keys keys;
    {
        const bytes_view reply = co_await _inbox.next(due(message::ecdh_reply));
        wire::reader read(reply.subspan(1));
        const bytes_view host_key = read.string();
        const bytes_view server_value = read.string();
        const bytes_view signature = read.string();
        if (!read.done()) co_return malformed("ECDH_REPLY");
        const auto secret = key->finish(server_value);
        if (!secret) co_return malformed("ECDH_REPLY");
        const auto digest = hash(host_key, key->value(), server_value, secret->view());
        if (!verify_host(host_key, signature, digest)) co_return;
        if (!derive(keys, secret->view(), digest)) co_return;
    }
    key.reset();
    _link.packets.queue_newkeys(std::move(keys.sealer), rule());
    _secured = true;

    co_await _inbox.next(due(message::newkeys));
    _link.packets.use_opener(std::move(keys.opener), rule());
}

task handshake::as_server() {
    const bool first_exchange = first();
    _waits = waits_for_client();
    if (!_waits) offer(ours());
    {
        const bytes_view theirs = co_await _inbox.next(due(message::kexinit));
        if (std::exchange(_waits, false)) {
            kexinit client;
            if (!parse(theirs, client)) co_return malformed("KEXINIT");
            _ciphers = ciphers_towards(client, ours().ciphers);
            offer(ours());
        }
        if (!take_offer(theirs)) co_return;
    }
    if (_peer_guesses && !_agreed.guess_right) co_await _inbox.next(any_of_method);

    new_keys keys;
    {
        const bytes_view init = co_await _inbox.next(due(message::ecdh_init));
        wire::reader read(init.subspan(1));
        const bytes_view client_value = read.string();
        if (!read.done()) co_return malformed("ECDH_INIT");
        const auto made = crypto::answer_key_offer(_agreed.method, client_value);
        if (!made) co_return malformed("ECDH_INIT");
        const crypto::host_key& own = *_link.config.host_key;
        const auto digest = hash(own.blob(), client_value, made->value, made->secret.view());
        byte_vector reply;
        wire::writer(reply)
            .byte(static_cast<std::uint8_t>(message::ecdh_reply))
            .string(own.blob())
            .string(made->value)
            .string(own.sign(digest, _host_key_name));
        _link.packets.queue_exchange(reply);
        if (!derive(keys, made->secret.view(), digest)) co_return;
    }
    _link.packets.queue_newkeys(std::move(keys.sealer), rule());
    if (first_exchange && _peer_takes_ext_info) queue_ext_info();

    co_await _inbox.next(due(message::newkeys));
    _link.packets.use_opener(std::move(keys.opener), rule());
    _secured = true;
}

// Over WebSocket the lists go out at once, for a round trip less. A native client may list others
// before GCM, which only its own lists tell.
bool handshake::waits_for_client() const {
    return first() && _link.speaks == dialect::native;
}

void handshake::offer_now() {
    if (!std::exchange(_waits, false)) return;
    // Whoever waits for our lists has something other than chacha20.
    _ciphers = without_chacha(ours().ciphers);
    offer(ours());
}

proposal handshake::ours() const {
    // Later a client offers first what the server has: no other key would do.
    const std::string_view host_keys =
        _link.side == role::server ? _link.config.host_key->signature_algorithms() : _host_key_name;
    proposal out = own_proposal(_link.side, _link.config, host_keys);
    if (!_ciphers.empty()) out.ciphers = _ciphers;
    return out;
}

void handshake::offer(proposal offered) {
    _ours = own_kexinit(_link.side, first() ? exchange_turn::first : exchange_turn::later, offered);
    _link.packets.queue_exchange(_ours);
}

bool handshake::take_offer(bytes_view payload) {
    _theirs.assign(payload.begin(), payload.end());
    kexinit ours, theirs;
    parse(_ours, ours);
    if (!parse(_theirs, theirs)) {
        malformed("KEXINIT");
        return false;
    }
    const bool client = _link.side == role::client;
    const std::string why = agree(client ? ours : theirs, client ? theirs : ours, _agreed);
    if (!why.empty()) {
        _link.fail(disconnect_reason::key_exchange_failed, why);
        return false;
    }
    _peer_guesses = theirs.first_packet_follows;
    if (first()) {
        _strict = contains_name(theirs.key_exchanges, client ? strict_server : strict_client);
        _peer_takes_ext_info = contains_name(theirs.key_exchanges, ext_info_client);
    }
    _key_exchange_name = _agreed.key_exchange;
    _host_key_name = _agreed.host_key;
    return true;
}

bool handshake::verify_host(bytes_view host_key, bytes_view signature, bytes_view digest) {
    if (const char* problem = crypto::problem_of(host_key)) {
        _link.fail(disconnect_reason::key_exchange_failed,
                   std::string("ssh: handshake failed: the server's key: ") + problem);
        return false;
    }
    if (crypto::algorithm_of(signature) != _host_key_name ||
        !crypto::verify(host_key, signature, digest)) {
        _link.fail(disconnect_reason::key_exchange_failed,
                   "ssh: handshake failed: the server's signature is wrong");
        return false;
    }
    if (!first()) {
        // A rekeying proves the server that was checked before; another key is another server.
        if (std::ranges::equal(host_key, _host_key)) return true;
        _link.fail(disconnect_reason::host_key_not_verifiable,
                   "the server shows another key in rekeying");
        return false;
    }
    _fingerprint = crypto::fingerprint(host_key);
    const std::string& expected = _link.config.fingerprint;
    if (!expected.empty() && !crypto::check_fingerprint(expected, host_key)) {
        _link.fail(disconnect_reason::host_key_not_verifiable,
                   "ssh: handshake failed: Invalid fingerprint (" + _fingerprint + ")");
        return false;
    }
    _host_key.assign(host_key.begin(), host_key.end());
    return true;
}

crypto::sha256_digest handshake::hash(bytes_view host_key, bytes_view client_value,
                                      bytes_view server_value, bytes_view secret) const {
    const bool client = _link.side == role::client;
    const bytes_view own = as_bytes(own_version(_link.side, _link.speaks));
    const bytes_view peer = as_bytes(_link.peer_version);
    return crypto::exchange_hash({.client_version = client ? own : peer,
                                  .server_version = client ? peer : own,
                                  .client_kexinit = client ? _ours : _theirs,
                                  .server_kexinit = client ? _theirs : _ours,
                                  .host_key = host_key,
                                  .client_value = client_value,
                                  .server_value = server_value,
                                  .shared_secret = secret});
}

bool handshake::derive(new_keys& into, bytes_view secret, const crypto::sha256_digest& digest) {
    if (first()) {
        _session_id = digest;
        _has_session = true;
    }
    const auto to_server = crypto::derive_keys(
        _agreed.to_server, crypto::direction::client_to_server, secret, digest, _session_id);
    const auto to_client = crypto::derive_keys(
        _agreed.to_client, crypto::direction::server_to_client, secret, digest, _session_id);
    _link.packets.limit_keys(std::min(crypto::rekey_bytes(_agreed.to_server.kind),
                                      crypto::rekey_bytes(_agreed.to_client.kind)));
    const bool client = _link.side == role::client;
    into.sealer = client ? crypto::make_sealer(_agreed.to_server, to_server)
                         : crypto::make_sealer(_agreed.to_client, to_client);
    into.opener = client ? crypto::make_opener(_agreed.to_client, to_client)
                         : crypto::make_opener(_agreed.to_server, to_server);
    // Views into KEXINIT payloads that go now.
    _agreed.key_exchange = _agreed.host_key = {};
    _ours = {};
    _theirs = {};
    if (into.sealer && into.opener) return true;
    _link.fail(disconnect_reason::key_exchange_failed, "the cipher library refuses the new keys");
    return false;
}

void handshake::queue_ext_info() {
    byte_vector payload;
    wire::writer(payload)
        .byte(static_cast<std::uint8_t>(message::ext_info))
        .u32(2)
        .string("server-sig-algs")
        .string(crypto::verifiable_names)
        .string("ping@openssh.com")
        .string("0");
    _link.queue(payload);
}

void handshake::malformed(const char* what) {
    _link.fail(disconnect_reason::key_exchange_failed, std::string("malformed ") + what);
}

std::string handshake::algorithms() const {
    if (_key_exchange_name.empty()) return {};
    const std::string to_server = crypto::describe(_agreed.to_server);
    const std::string to_client = crypto::describe(_agreed.to_client);
    std::string out = _key_exchange_name + ", " + _host_key_name + ", " + to_server;
    if (to_server != to_client) out += " to the server, " + to_client + " to the client";
    if (_strict) out += ", strict";
    return out;
}

}  // namespace burin::ssh
