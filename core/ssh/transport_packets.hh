// The packet layer of one transport: keys, sequence numbers and the order of what goes out
// (RFC 4253 sections 6, 7.3 and 9; docs/wire.md sections 4.3, 4.5, 4.7).
//
// Two queues feed the sealer. Messages of a key exchange go first. All others wait from the moment
// our KEXINIT is queued until our NEWKEYS is sealed, because nothing else may stand between those.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>

#include "core/ssh/transport.hh"
#include "core/ssh/transport_queue.hh"
#include "crypto/packet_cipher.hh"
#include "crypto/wire.hh"

namespace burin::ssh {

// Strict key exchange starts a direction's sequence numbers again at every NEWKEYS.
enum class sequence_rule : std::uint8_t { runs_on, restarts };

class packet_layer {
  public:
    packet_layer(const settings& config, std::string_view version);

    // KEXINIT closes the way for ordinary messages. False: more than the limit would wait.
    bool queue_exchange(bytes_view payload);
    bool queue(bytes_view payload, std::size_t limit = max_queued_bytes);
    // Queues NEWKEYS; the sealer takes over behind it and opens the way again.
    void queue_newkeys(std::unique_ptr<crypto::packet_sealer> next, sequence_rule rule);
    // Queues a last message where the peer will read it, even within a key exchange.
    void queue_last(bytes_view payload);

    bool pending() const noexcept {
        return _version_due || !_exchange.empty() || (!_closed && !_ordinary.empty());
    }
    std::size_t seal_queued(bytes_span room) noexcept;
    // Sealed size of the message that is next; 0: none.
    std::size_t next_queued_size() const noexcept {
        if (!_exchange.empty()) return _sealer->sealed_size(_exchange.front().size());
        if (_closed || _ordinary.empty()) return 0;
        return _sealer->sealed_size(_ordinary.front().size());
    }
    // Nothing that was queued stands before the next data packet's place in the order.
    bool ordinary_empty() const noexcept { return _ordinary.empty(); }
    // Between our KEXINIT and our NEWKEYS.
    bool closed() const noexcept { return _closed; }
    // Ordinary messages had to wait for new keys, and some of them still do.
    bool holding() const noexcept { return _closed || _held; }

    std::size_t sealed_size(std::size_t payload) const noexcept {
        return _sealer->sealed_size(payload);
    }
    std::size_t seal(bytes_view head, bytes_view body, std::byte* out) noexcept;

    crypto::packet_opener::opened open(bytes_span in) noexcept;
    // Number of the packet opened last, as UNIMPLEMENTED names it.
    std::uint32_t last_received() const noexcept { return _receive.sequence - 1; }
    void use_opener(std::unique_ptr<crypto::packet_opener> next, sequence_rule rule);
    void limit_packets(std::size_t bytes) noexcept;

    // What the ciphers agreed on may carry with one key, in a direction.
    void limit_keys(std::uint64_t bytes) noexcept { _most_bytes = bytes; }
    // Of the queues.
    std::size_t held_bytes() const noexcept {
        return _exchange.held_bytes() + _ordinary.held_bytes();
    }

    // A direction has carried what one set of keys may (docs/wire.md section 4.7).
    bool keys_are_spent() const noexcept {
        const std::uint64_t most = std::min(_config.rekey_bytes, _most_bytes);
        return _send.bytes >= most || _receive.bytes >= most ||
               _send.packets >= _config.rekey_packets || _receive.packets >= _config.rekey_packets;
    }

    transport_counters counters;

  private:
    // Since the present keys of a direction came into use.
    struct direction {
        std::uint32_t sequence = 0;
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
    };
    static void renew(direction& way, sequence_rule rule);

    std::unique_ptr<crypto::packet_sealer> _sealer;
    std::unique_ptr<crypto::packet_opener> _opener;
    direction _send;
    direction _receive;
    const settings& _config;
    message_queue _exchange;
    message_queue _ordinary;
    bool _closed = false;
    bool _held = false;
    bool _version_due = true;
    std::uint32_t _max_packet = max_early_packet_bytes;
    std::uint64_t _most_bytes = ~std::uint64_t{0};
    std::string_view _version;
    std::unique_ptr<crypto::packet_sealer> _next_sealer;
    sequence_rule _next_rule = sequence_rule::runs_on;
};

}  // namespace burin::ssh
