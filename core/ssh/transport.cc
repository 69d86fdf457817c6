// The transport: what arrives is told apart here and goes to the key exchange, to the login or, by
// far most often, straight to the owner.
#include "core/ssh/transport.hh"

#include <algorithm>

#include "core/ssh/authentication.hh"
#include "core/ssh/handshake.hh"
#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "core/ssh/transport_link.hh"
#include "core/ssh/version_line.hh"

namespace burin::ssh {
namespace {

constexpr std::string_view native_needs_login =
    "native SSH is refused: it needs --auth or --authorized-keys";

}  // namespace

class transport::machine {
  public:
    machine(const settings& config, role side, dialect speaks, transport_events& events)
        : link(config, side, speaks, events), keys(link), login(link) {
        // Refused below, once it is known that the peer speaks SSH.
        if (!refuses_native()) keys.start(exchange_begun::here);
    }

    std::size_t receive(bytes_span run);
    // From the first KEXINIT until both NEWKEYS are where they belong.
    bool exchanging() const { return keys.running() || link.packets.closed(); }
    bool may_rekey() const { return link.authenticated && !link.ended && !exchanging(); }
    // Our KEXINIT stands behind what was queued before it: a server's USERAUTH_SUCCESS above all,
    // because clients (OpenSSH's) cannot bear new keys within the login.
    bool rekey_due() const {
        return may_rekey() && (_rekey_wanted || link.packets.keys_are_spent()) &&
               link.packets.ordinary_empty();
    }
    void rekey_if_due() {
        if (!rekey_due()) return;
        _rekey_wanted = false;
        keys.start(exchange_begun::here);
    }
    // The owner, and a client whose login is on its way, may send connection messages.
    bool talks() const {
        return !link.ended &&
               (link.authenticated || (link.side == role::client && login.started()));
    }
    void refuse_unknown();
    void offer_now() {
        if (!link.ended) keys.offer_now();
    }
    void start_rekey() {
        if (!may_rekey()) return;
        _rekey_wanted = true;
        rekey_if_due();
    }

    transport_link link;
    handshake keys;
    authentication login;
    // Of the packet that the last run began but did not hold, in all; 0: not known.
    std::size_t wanted = 0;

  private:
    bool refuses_native() const {
        return link.speaks == dialect::native && link.side == role::server &&
               link.config.logins->open();
    }
    std::size_t take_version(bytes_view run);
    void deliver(bytes_span payload);
    void deliver_early(bytes_span payload);
    void take_key_exchange(bytes_span payload);
    bool take_generic(bytes_span payload);
    void take_ping(bytes_view payload);

    bool _rekey_wanted = false;
};

std::size_t transport::machine::receive(bytes_span run) {
    std::size_t taken = 0;
    if (link.peer_version.empty() && !link.ended) {
        taken = take_version(run);
        if (link.peer_version.empty() && !link.ended) return 0;
    }
    wanted = 0;
    using status = crypto::packet_opener::opened::status;
    while (!link.ended && !login.held()) {
        const auto got = link.packets.open(run.subspan(taken));
        if (got.state == status::need_more) {
            wanted = got.wire_bytes;
            break;
        }
        if (got.state == status::broken) {
            link.fail(disconnect_reason::mac_error,
                      std::string("broken packet: ") + (got.rule ? got.rule : "not to be opened"));
            break;
        }
        taken += got.wire_bytes;
        if (got.payload.empty()) {
            link.fail(disconnect_reason::protocol_error, "broken packet: it is empty");
            break;
        }
        deliver(got.payload);
    }
    rekey_if_due();
    return link.ended ? run.size() : taken;
}

std::size_t transport::machine::take_version(bytes_view run) {
    const version_reading got = read_version(run, link.speaks);
    if (got.state == version_reading::status::broken) {
        link.fail_silently(std::string(got.rule) + ": " + printable(got.line, 64));
        return 0;
    }
    if (got.state == version_reading::status::need_more) return 0;
    link.peer_version = got.line;
    if (refuses_native()) {
        link.fail(disconnect_reason::no_more_methods, native_needs_login,
                  "this server lets nobody in over native SSH");
    }
    return got.taken;
}

void transport::machine::deliver(bytes_span payload) {
    const auto number = static_cast<unsigned>(number_of(payload));
    if (link.authenticated && !keys.peer_exchanges() && number >= 80 && number <= 127) {
        link.events.on_message(payload);
    } else {
        deliver_early(payload);
    }
}

// Everything but the connection protocol after the login.
void transport::machine::deliver_early(bytes_span payload) {
    const auto number = static_cast<unsigned>(number_of(payload));
    const bool in_key_exchange = number >= 20 && number <= 49;
    const bool of_login = (number >= 5 && number <= 7) || (number >= 50 && number <= 79);

    // Before the first keys only the key exchange may speak, and it speaks first: with strict key
    // exchange all else is an attack (docs/wire.md section 4.3), without it generic messages pass
    // once the peer's KEXINIT has come.
    if (in_key_exchange) return take_key_exchange(payload);
    const bool first_keys = link.packets.counters.key_exchanges == 0;
    if (number == static_cast<unsigned>(message::disconnect)) {
        take_generic(payload);
    } else if (first_keys && (keys.strict() || !keys.peer_exchanges())) {
        link.fail(disconnect_reason::protocol_error,
                  "message " + std::to_string(number) + " in the first key exchange");
    } else if (take_generic(payload)) {
        return;
    } else if (keys.peer_exchanges()) {
        link.fail(disconnect_reason::protocol_error,
                  "message " + std::to_string(number) + " within a key exchange");
    } else if (of_login && login.running()) {
        login.take(payload);
    } else if (!link.authenticated) {
        link.fail(disconnect_reason::protocol_error,
                  "message " + std::to_string(number) + " before the login");
    } else if (number == static_cast<unsigned>(message::ping)) {
        take_ping(payload);
    } else if (link.speaks == dialect::chisel && is_early(number_of(payload))) {
        link.events.on_message(payload);
    } else if (number != static_cast<unsigned>(message::pong)) {
        refuse_unknown();
    }
}

void transport::machine::refuse_unknown() {
    if (link.packets.counters.unknown++ == 0) {
        link.events.on_log(log_level::debug, "the peer sent a message that is not known here");
    }
    if (link.speaks == dialect::chisel) return;
    byte_vector answer;
    wire::writer(answer)
        .byte(static_cast<std::uint8_t>(message::unimplemented))
        .u32(link.packets.last_received());
    link.queue(answer);
}

void transport::machine::take_key_exchange(bytes_span payload) {
    if (number_of(payload) == message::kexinit && !keys.running()) {
        // A peer that begins the next one before our NEWKEYS is on its way has not ended the last.
        if (exchanging()) {
            return link.fail(disconnect_reason::protocol_error, "a key exchange within another");
        }
        // Strangers do not make a server sign again and again.
        if (!link.authenticated && link.side == role::server) {
            return link.fail(disconnect_reason::protocol_error, "rekeying before the login");
        }
        _rekey_wanted = false;
        keys.start(exchange_begun::by_peer);
    }
    const bool was_secured = keys.secured();
    keys.take(payload);
    if (was_secured || !keys.secured() || link.ended) return;
    // The login is queued before the owner may queue anything behind it.
    login.start(keys.session_id());
    if (!link.ended) link.events.on_secured();
}

// DISCONNECT, IGNORE, UNIMPLEMENTED and DEBUG (RFC 4253 section 11).
bool transport::machine::take_generic(bytes_span payload) {
    wire::reader read(payload.subspan(1));
    switch (number_of(payload)) {
        case message::disconnect: {
            const std::uint32_t reason = read.u32();
            // Go's words for it.
            std::string why =
                "ssh: disconnect, reason " + std::to_string(reason) + ": " + printable(read.text());
            if (!link.authenticated) why = "ssh: handshake failed: " + why;
            link.fail_silently(why);
            return true;
        }
        case message::ignore: return true;
        case message::unimplemented:
            link.events.on_log(log_level::debug, "the peer does not know packet " +
                                                     std::to_string(read.u32()) + " of ours");
            return true;
        case message::debug:
            read.boolean();
            link.events.on_log(log_level::debug, "the peer says: " + printable(read.text()));
            return true;
        default: return false;
    }
}

void transport::machine::take_ping(bytes_view payload) {
    wire::reader read(payload.subspan(1));
    read.string();
    if (!read.done()) return link.fail(disconnect_reason::protocol_error, "malformed PING");
    byte_vector answer;
    answer.reserve(payload.size());
    wire::writer(answer).byte(static_cast<std::uint8_t>(message::pong)).raw(payload.subspan(1));
    link.queue(answer);
}

transport::transport(const settings& config, role side, dialect speaks, transport_events& events)
    : _machine(std::make_unique<machine>(config, side, speaks, events)) {}

transport::~transport() = default;

std::size_t transport::receive(bytes_span run) noexcept {
    return _machine->receive(run);
}

std::size_t transport::wanted() const noexcept {
    return _machine->wanted;
}

bool transport::send(bytes_view payload) {
    return !payload.empty() && _machine->talks() && _machine->link.queue(payload);
}

bool transport::control_pending() const noexcept {
    return _machine->link.packets.pending() || _machine->rekey_due();
}

std::size_t transport::seal_control(bytes_span room) noexcept {
    _machine->rekey_if_due();
    return _machine->link.packets.seal_queued(room);
}

bool transport::data_allowed() const noexcept {
    const packet_layer& packets = _machine->link.packets;
    if (packets.closed() || !_machine->talks()) return false;
    return _machine->link.authenticated || packets.ordinary_empty();
}

std::size_t transport::sealed_size(std::size_t payload) const noexcept {
    return _machine->link.packets.sealed_size(payload);
}

std::size_t transport::seal(bytes_view head, bytes_view body, std::byte* out) noexcept {
    return _machine->link.packets.seal(head, body, out);
}

void transport::offer_now() {
    _machine->offer_now();
}

void transport::start_rekey() {
    _machine->start_rekey();
}

bool transport::exchanging() const noexcept {
    return _machine->exchanging();
}

void transport::disconnect(std::uint32_t reason, std::string_view text) {
    _machine->link.disconnect(reason, text);
}

void transport::refuse_unknown() {
    _machine->refuse_unknown();
}

void transport::resume_login() {
    _machine->login.resume();
}

bool transport::failed() const noexcept {
    return _machine->link.ended;
}
bool transport::authenticated() const noexcept {
    return _machine->link.authenticated;
}
bool transport::is_native() const noexcept {
    return _machine->link.speaks == dialect::native;
}
role transport::side() const noexcept {
    return _machine->link.side;
}
bytes_view transport::session_id() const noexcept {
    return _machine->keys.session_id();
}
std::string_view transport::peer_version() const noexcept {
    return _machine->link.peer_version;
}
std::string_view transport::peer_fingerprint() const noexcept {
    return _machine->keys.host_fingerprint();
}
std::string transport::algorithms() const {
    return _machine->keys.algorithms();
}
const transport_counters& transport::counters() const noexcept {
    return _machine->link.packets.counters;
}
std::size_t transport::next_control_bytes() const noexcept {
    return _machine->link.packets.next_queued_size();
}

std::size_t transport::held_bytes() const noexcept {
    return _machine->link.packets.held_bytes() + _machine->keys.held_bytes();
}

}  // namespace burin::ssh
