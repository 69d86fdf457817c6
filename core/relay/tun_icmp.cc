#include "core/relay/tun_icmp.hh"

#include "tun/fragments.hh"

namespace burin::relay {

void tun_icmp::send(const tun::icmp_message& message, const ring::buffer& holder) noexcept {
    const auto size = static_cast<std::uint32_t>(message.rest.size());
    const tun::payload_slice slice = _blocks.slice(message.rest, holder);
    if (slice.size() != size) return;  // memory was refused
    tun::fragment_cutter cutter(message.header, size, _mtu, _next_id++);
    tun::header_buffer header;
    std::uint32_t from = 0, bytes = 0;
    while (cutter.next(header, from, bytes)) {
        const tun::payload_piece piece{slice.data() + from, bytes, slice.holder()};
        if (!_writer.write(header.bytes(), std::span(&piece, bytes > 0 ? 1 : 0))) return;
    }
}

void tun_icmp::tell(const tun::parsed_frame& cause, tun::icmp_error what, std::uint32_t mtu,
                    const ring::buffer& holder, tun::time_us now) noexcept {
    tun::icmp_message message;
    if (_responder.error(message, cause, what, mtu, now)) send(message, holder);
}

void tun_icmp::answer_echo(const tun::parsed_frame& request, const ring::buffer& holder,
                           tun::time_us now) noexcept {
    tun::icmp_message message;
    if (_responder.echo_reply(message, request, now)) send(message, holder);
}

void tun_icmp::pass_echo(const tun::echo_stub& request, bytes_view data,
                         const ring::buffer& holder) noexcept {
    tun::icmp_message message;
    request.write_reply(message, data);
    send(message, holder);
}

}  // namespace burin::relay
