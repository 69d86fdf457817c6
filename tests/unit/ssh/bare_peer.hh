// An SSH peer written a second time, straight from docs/wire.md, with none of core/ssh's machines:
// it says whatever a test wants it to, in either role, and shows what a transport answers.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "core/ssh/messages.hh"
#include "core/ssh/transport.hh"
#include "crypto/host_key.hh"
#include "crypto/key_exchange.hh"
#include "crypto/packet_cipher.hh"
#include "tests/unit/ssh/recorder.hh"

namespace burin::ssh {

// The lists that a peer offers; those of an old Go peer (docs/wire.md section 4.2) by default.
struct bare_offer {
    std::string key_exchanges = "curve25519-sha256@libssh.org";
    std::string host_keys = "ssh-rsa,ecdsa-sha2-nistp256,ssh-ed25519";
    std::string ciphers = "aes128-gcm@openssh.com,chacha20-poly1305@openssh.com,aes128-ctr";
    std::string macs = "hmac-sha2-256-etm@openssh.com";
    bool follows = false;

    byte_vector payload() const {
        byte_vector out{static_cast<std::byte>(message::kexinit)};
        out.resize(17);
        wire::writer write(out);
        write.string(key_exchanges).string(host_keys).string(ciphers).string(ciphers);
        write.string(macs).string(macs);
        write.string("none").string("none").string("").string("").boolean(follows).u32(0);
        return out;
    }
};

class bare_peer {
  public:
    bare_peer(transport& other, std::string line)
        : _other(other), _line(std::move(line)), _buffer(4096) {
        _sealer = crypto::make_sealer(crypto::cipher::none, {});
        _opener = crypto::make_opener(crypto::cipher::none, {});
    }

    void say_line() { give(as_bytes(_line + "\r\n")); }
    virtual ~bare_peer() = default;
    virtual void give(bytes_view raw) { feed(_other, _run, raw); }
    void say(bytes_view payload) {
        byte_vector packet(_sealer->sealed_size(payload.size()));
        _sealer->seal(_sent++, {}, payload, packet.data());
        give(packet);
    }
    void say(message number) {
        const std::byte one[] = {static_cast<std::byte>(number)};
        say(one);
    }

    // The next message of the other end; empty when it is silent.
    byte_vector hear() {
        drain(_other, _heard);
        if (_peer_line.empty()) {
            const auto text = as_text(_heard);
            const std::size_t end = text.find("\r\n");
            if (end == std::string_view::npos) return {};
            _peer_line = text.substr(0, end);
            _heard.erase(_heard.begin(), _heard.begin() + static_cast<std::ptrdiff_t>(end + 2));
        }
        const auto got = _opener->open(_received, _heard);
        if (got.state != crypto::packet_opener::opened::status::complete) return {};
        ++_received;
        byte_vector out(got.payload.begin(), got.payload.end());
        _heard.erase(_heard.begin(), _heard.begin() + static_cast<std::ptrdiff_t>(got.wire_bytes));
        return out;
    }
    const std::string& peer_line() const { return _peer_line; }

    // The whole first key exchange as a client, towards a server transport. `strict` as agreed.
    bool exchange_as_client(const bare_offer& offer, bool strict,
                            crypto::cipher kind = crypto::cipher::aes128_gcm) {
        const byte_vector ours = offer.payload();
        say_line();
        say(ours);
        return finish_as_client(ours, strict, kind);
    }
    bool finish_as_client(bytes_view ours, bool strict, crypto::cipher kind) {
        const byte_vector theirs = hear();
        const auto key = crypto::curve25519_key::generate();
        byte_vector init;
        wire::writer(init).byte(30).string(key.public_key());
        say(init);
        const byte_vector reply = hear();
        if (number_of(theirs) != message::kexinit || number_of(reply) != message::ecdh_reply) {
            return false;
        }
        wire::reader read(bytes_view(reply).subspan(1));
        const bytes_view host_key = read.string();
        const bytes_view value = read.string();
        const auto secret = crypto::encode_mpint(key.agree(value)->view());
        const auto hash =
            crypto::exchange_hash({as_bytes(_line), as_bytes(_peer_line), ours, theirs, host_key,
                                   key.public_key(), value, secret.view()});
        return change_keys(role::client, kind, secret.view(), hash, strict);
    }
    // The same as a server, towards a client transport.
    bool exchange_as_server(const bare_offer& offer, const crypto::host_key& host_key,
                            bool strict) {
        const byte_vector ours = offer.payload();
        say_line();
        say(ours);
        return finish_as_server(ours, host_key, strict);
    }
    bool finish_as_server(bytes_view ours, const crypto::host_key& host_key, bool strict) {
        const byte_vector theirs = hear();
        byte_vector init = hear();
        // A guess for another method than ours is skipped (RFC 4253 section 7.1).
        if (number_of(init) == message::ecdh_init && init.size() != 1 + 4 + 32) init = hear();
        if (number_of(init) != message::ecdh_init) return false;
        wire::reader read(bytes_view(init).subspan(1));
        const bytes_view value = read.string();
        const auto key = crypto::curve25519_key::generate();
        const auto agreed = key.agree(value);
        if (!agreed) return false;
        const auto secret = crypto::encode_mpint(agreed->view());
        const auto hash =
            crypto::exchange_hash({as_bytes(_peer_line), as_bytes(_line), theirs, ours,
                                   host_key.blob(), value, key.public_key(), secret.view()});
        byte_vector reply;
        wire::writer(reply)
            .byte(31)
            .string(host_key.blob())
            .string(key.public_key())
            .string(host_key.sign(hash));
        say(reply);
        return change_keys(role::server, crypto::cipher::aes128_gcm, secret.view(), hash, strict);
    }

    bytes_view session_id() const { return _session_id; }

  private:
    bool change_keys(role side, crypto::cipher kind, bytes_view secret,
                     const crypto::sha256_digest& hash, bool strict) {
        if (!std::exchange(_has_session, true)) _session_id = hash;
        const auto up = crypto::derive_keys(kind, crypto::direction::client_to_server, secret, hash,
                                            _session_id);
        const auto down = crypto::derive_keys(kind, crypto::direction::server_to_client, secret,
                                              hash, _session_id);
        say(message::newkeys);
        _sealer = crypto::make_sealer(kind, side == role::client ? up : down);
        if (strict) _sent = 0;
        if (number_of(hear()) != message::newkeys) return false;
        _opener = crypto::make_opener(kind, side == role::client ? down : up);
        if (strict) _received = 0;
        return true;
    }

    transport& _other;
    std::string _line, _peer_line;
    byte_vector _run, _heard, _buffer;
    std::unique_ptr<crypto::packet_sealer> _sealer;
    std::unique_ptr<crypto::packet_opener> _opener;
    std::uint32_t _sent = 0, _received = 0;
    crypto::sha256_digest _session_id{};
    bool _has_session = false;  // a later exchange changes the keys alone
};

}  // namespace burin::ssh
