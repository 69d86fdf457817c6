// How a connection ends.
#include "core/ssh/transport_link.hh"

#include "core/ssh/messages.hh"

namespace burin::ssh {

bool transport_link::queue(bytes_view payload) {
    if (ended) return false;
    const bool early = side == role::server && !authenticated;
    const std::size_t most = packets.holding() ? max_held_bytes : max_queued_bytes;
    if (packets.queue(payload, early ? max_early_queued_bytes : most)) return true;
    fail_silently("the peer does not read: too many messages wait to be sent to it");
    return false;
}

void transport_link::fail(disconnect_reason reason, std::string_view why, std::string_view told) {
    if (ended) return;
    disconnect(static_cast<std::uint32_t>(reason), told);
    events.on_failure(why);
}

void transport_link::fail_silently(std::string_view why) {
    if (ended) return;
    ended = true;
    events.on_failure(why);
}

void transport_link::disconnect(std::uint32_t reason, std::string_view told) {
    if (ended) return;
    ended = true;
    byte_vector payload;
    wire::writer(payload)
        .byte(static_cast<std::uint8_t>(message::disconnect))
        .u32(reason)
        .string(told)
        .string("en");
    packets.queue_last(payload);
}

}  // namespace burin::ssh
