// The key exchange (RFC 4253 section 7, RFC 8731; docs/wire.md sections 4.2-4.4, 4.7): a coroutine
// for each role, run once when the connection begins and again for every rekeying, by whichever
// side starts it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/ssh/kexinit.hh"
#include "core/ssh/task.hh"
#include "core/ssh/transport_link.hh"
#include "crypto/digest.hh"
#include "crypto/key_exchange.hh"
#include "crypto/packet_cipher.hh"

namespace burin::ssh {

// Whose KEXINIT came first. A guess is for who does not know the peer's yet.
enum class exchange_begun : std::uint8_t { here, by_peer };

class handshake {
  public:
    explicit handshake(transport_link& link) : _link(link) {}
    handshake(const handshake&) = delete;
    handshake& operator=(const handshake&) = delete;

    // Queues our KEXINIT and waits for the peer's; as the server of a native client, in the first
    // exchange, the other way round. Not while running().
    void start(exchange_begun);
    bool running() const { return _stage.running(); }
    // Server: queues our KEXINIT if it waits for the client's. Nothing happens otherwise.
    void offer_now();
    // From the peer's KEXINIT to its NEWKEYS: it may send nothing else in between.
    bool peer_exchanges() const { return _peer_exchanges; }
    // Takes a message of the key exchange (numbers 20 to 49); one that is not due ends the
    // connection.
    void take(bytes_span payload);

    // Our NEWKEYS of the first exchange is queued and, as a client, the host key is verified; as a
    // server, the peer's NEWKEYS has come as well.
    bool secured() const { return _secured; }
    bool first() const { return !_has_session; }
    bool strict() const { return _strict; }
    bytes_view session_id() const { return _has_session ? bytes_view(_session_id) : bytes_view{}; }
    const std::string& host_fingerprint() const { return _fingerprint; }
    std::string algorithms() const;
    // Of both KEXINIT messages, while an exchange needs them.
    std::size_t held_bytes() const { return _ours.capacity() + _theirs.capacity(); }

  private:
    // What both sides derive, until it is in use.
    struct new_keys {
        std::unique_ptr<crypto::packet_sealer> sealer;
        std::unique_ptr<crypto::packet_opener> opener;
    };
    task as_client(exchange_begun);
    task as_server();

    bool waits_for_client() const;
    void offer(proposal offered);
    proposal ours() const;
    bool take_offer(bytes_view payload);
    bool verify_host(bytes_view host_key, bytes_view signature, bytes_view hash);
    crypto::sha256_digest hash(bytes_view host_key, bytes_view client_value,
                               bytes_view server_value, bytes_view secret) const;
    bool derive(new_keys& into, bytes_view secret, const crypto::sha256_digest& hash);
    void queue_ext_info();
    void malformed(const char* what);
    sequence_rule rule() const {
        return _strict ? sequence_rule::restarts : sequence_rule::runs_on;
    }

    transport_link& _link;
    inbox _inbox;
    task _stage;
    crypto::sha256_digest _session_id{};
    bool _has_session = false;
    bool _secured = false;
    bool _strict = false;
    bool _peer_exchanges = false;
    // Of the exchange that runs.
    byte_vector _ours, _theirs;
    bool _waits = false;  // our KEXINIT is not queued yet
    // Server: what the client's first lists left of the ciphers; empty before they came.
    std::string _ciphers;
    bool _peer_guesses = false;
    bool _peer_takes_ext_info = false;
    agreement _agreed;
    // Of the last exchange.
    bool _guess_fits = false;  // the same lists again, and a guess is right
    std::string _key_exchange_name, _host_key_name;
    byte_vector _host_key;
    std::string _fingerprint;
};

}  // namespace burin::ssh
