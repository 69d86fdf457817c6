#include "core/relay/echo_pinger.hh"

#include <fmt/format.h>

#include <utility>

#include "core/relay/echo_exit.hh"

namespace burin::relay {

namespace {
constexpr std::uint32_t on_the_wire = 0xffff;  // of a number
static_assert(echo_pinger::table::place_bits <= 16);
}  // namespace

echo_pinger::echo_pinger(context& c, echo_pinger_owner& owner, echo_descriptors at)
    : _owner(owner),
      _v4(c, *this, std::move(at.v4), AF_INET),
      _v6(c, *this, std::move(at.v6), AF_INET6) {}

echo_socket* echo_pinger::socket_for(const tun::flow_address& to) noexcept {
    echo_socket& s = to.is_v4() ? _v4 : _v6;
    return s.exists() ? &s : nullptr;
}

void echo_pinger::told(std::uint16_t sequence, const tun::flow_address& about,
                       echo_message::kind what, bytes_view data) noexcept {
    const request* r = _waiting.find(sequence, on_the_wire);
    if (r == nullptr || !(r->to == about)) {
        ++_counters.late;
        return;
    }
    r->of->tell(sequence, *r, what, data);
}

void echo_pinger::on_echo_reply(std::uint16_t sequence, const tun::flow_address& from,
                                bytes_view data) noexcept {
    told(sequence, from, echo_message::kind::answered, data);
}

void echo_pinger::on_echo_error(std::uint16_t sequence, const tun::flow_address& to,
                                echo_message::kind what) noexcept {
    told(sequence, to, what, {});
}

void echo_pinger::stop() noexcept {
    _v4.stop();
    _v6.stop();
}

void echo_pinger::on_echo_socket_stopped() noexcept {
    if (!_v4.stopped() || !_v6.stopped() || std::exchange(_told, true)) return;
    _owner.on_pinger_stopped();
}

void echo_pinger::report(std::string& into, std::string_view name) const {
    const echo_pinger_counters& c = _counters;
    const echo_socket_counters &a = _v4.counters(), &b = _v6.counters();
    into += fmt::format(
        "{}: requests={} sent={} answered={} refused={} timed-out={} waiting={} limited={} "
        "not-allowed={} evicted={} too-many={} no-window={} late={} again={} socket-full={} "
        "send-errors={} strange={}\n",
        name, c.requests, a.sent + b.sent, c.answered, c.refused, c.timed_out, _waiting.size(),
        c.limited, c.not_allowed, c.evicted, c.too_many, c.no_window, c.late, a.again + b.again,
        a.socket_full + b.socket_full, a.send_errors + b.send_errors, a.strange + b.strange);
}

}  // namespace burin::relay
