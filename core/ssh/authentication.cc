// Logging in.
#include "core/ssh/authentication.hh"

#include "core/ssh/messages.hh"
#include "core/ssh/names.hh"
#include "crypto/public_key.hh"
#include "crypto/secret.hh"

namespace burin::ssh {
namespace {

constexpr std::string_view login_service = "ssh-userauth";
constexpr std::string_view tunnel_service = "ssh-connection";

byte_vector service_message(message number) {
    byte_vector out;
    wire::writer(out).byte(static_cast<std::uint8_t>(number)).string(login_service);
    return out;
}

// The bytes of a view into a payload, writable again; an empty one may point nowhere.
bytes_span inside(bytes_span payload, bytes_view view) {
    if (view.empty()) return {};
    return payload.subspan(static_cast<std::size_t>(view.data() - payload.data()), view.size());
}

}  // namespace

void authentication::start(bytes_view session_id) {
    _session_id = session_id;
    _started = true;
    _stage = _link.side == role::client ? as_client() : as_server();
    _stage.start();
}

void authentication::take(bytes_span payload) {
    const message number = number_of(payload);
    if (_inbox.awaits(number)) return _inbox.deliver(payload);
    _link.fail(
        disconnect_reason::protocol_error,
        "message " + std::to_string(static_cast<unsigned>(number)) + " is not due in the login");
}

void authentication::resume() {
    if (_held) std::exchange(_held, nullptr).resume();
}

task authentication::as_client() {
    _link.queue(service_message(message::service_request));
    {
        // The queue copies the request and wipes its copy; this one is wiped here.
        const std::string_view password = _link.config.password.view();
        byte_vector login;
        login.reserve(64 + _link.config.user.size() + password.size());
        wire::writer(login)
            .byte(static_cast<std::uint8_t>(message::userauth_request))
            .string(_link.config.user)
            .string(tunnel_service)
            .string("password")
            .boolean(false)
            .string(password);
        _link.queue(login);
        crypto::wipe(login);
    }

    bytes_span got = co_await _inbox.next(due(message::service_accept, message::ext_info));
    if (number_of(got) == message::ext_info) {
        take_ext_info(got);
        got = co_await _inbox.next(due(message::service_accept));
    }
    {
        wire::reader read(got.subspan(1));
        const std::string_view service = read.text();
        if (!read.done())
            co_return _link.fail(disconnect_reason::protocol_error, "malformed SERVICE_ACCEPT");
        if (service != login_service) {
            co_return _link.fail(disconnect_reason::protocol_error,
                                 "service '" + printable(service, 64) + "' was not asked for");
        }
    }

    constexpr message_set answers =
        due(message::userauth_success, message::userauth_failure, message::userauth_banner);
    got = co_await _inbox.next(answers | due(message::ext_info));
    bool informed = false;
    while (number_of(got) == message::userauth_banner || number_of(got) == message::ext_info) {
        if (number_of(got) == message::ext_info) {
            take_ext_info(got);
            informed = true;
        }
        got = co_await _inbox.next(informed ? answers : answers | due(message::ext_info));
    }
    if (number_of(got) == message::userauth_success) co_return accept(_link.config.user);
    // Go's words, because people search for them.
    _link.fail(disconnect_reason::no_more_methods,
               "ssh: handshake failed: ssh: unable to authenticate, attempted methods "
               "[none password], no supported methods remain",
               "no supported methods remain");
}

task authentication::as_server() {
    bytes_span got = co_await _inbox.next(due(message::service_request, message::ext_info));
    if (number_of(got) == message::ext_info) {
        take_ext_info(got);
        got = co_await _inbox.next(due(message::service_request));
    }
    {
        wire::reader read(got.subspan(1));
        const std::string_view service = read.text();
        if (!read.done())
            co_return _link.fail(disconnect_reason::protocol_error, "malformed SERVICE_REQUEST");
        if (service != login_service) {
            co_return _link.fail(disconnect_reason::service_not_available,
                                 "service '" + printable(service) + "' is not ssh-userauth");
        }
    }
    _link.queue(service_message(message::service_accept));

    unsigned failures = 0;
    for (unsigned requests = 0; requests < max_login_requests; ++requests) {
        got = co_await _inbox.next(due(message::userauth_request));
        wire::reader read(got.subspan(1));
        request asked;
        asked.user = read.text();
        asked.service = read.text();
        asked.method = read.text();
        asked.rest = read.rest();
        const verdict found = read.ok() ? judge(asked, got) : verdict::malformed;
        if (found == verdict::accepted) {
            const std::string user(asked.user);  // the message may go while the login waits
            if (waits_when_right(asked) && _link.events.on_login_right() == login_answer::later)
                co_await hold{*this};
            co_return accept(user);
        }
        if (found == verdict::key_accepted) continue;
        if (found == verdict::malformed) {
            co_return _link.fail(disconnect_reason::protocol_error, "malformed USERAUTH_REQUEST");
        }
        if (found == verdict::failed) {
            ++failures;
            const auto answer = _link.events.on_login_failure(printable(asked.user),
                                                              printable(asked.method), failures);
            if (answer == login_answer::later) co_await hold{*this};
            if (failures > max_login_failures) {
                co_return _link.fail(disconnect_reason::protocol_error,
                                     "too many authentication failures");
            }
        }
        byte_vector refusal;
        wire::writer(refusal)
            .byte(static_cast<std::uint8_t>(message::userauth_failure))
            .string(_link.config.logins->methods())
            .boolean(false);
        _link.queue(refusal);
    }
    _link.fail(disconnect_reason::protocol_error, "too many authentication attempts");
}

// Where everybody is let in there is nothing to guess.
bool authentication::waits_when_right(const request& asked) const {
    return !_link.config.logins->open() && asked.method != "none";
}

authentication::verdict authentication::judge(const request& asked, bytes_span payload) {
    if (asked.service != tunnel_service) return verdict::malformed;
    const login_policy& logins = *_link.config.logins;
    if (asked.method == "none") {
        if (!asked.rest.empty()) return verdict::malformed;
        // Go's server refuses `none` even when it lets everyone in; its client takes this.
        return logins.open() ? verdict::accepted : verdict::refused;
    }
    if (asked.method == "password") return judge_password(asked, payload);
    if (asked.method == "publickey") return judge_key(asked, payload);
    return verdict::refused;
}

authentication::verdict authentication::judge_password(const request& asked,
                                                       bytes_span payload) const {
    wire::reader read(asked.rest);
    // True would ask to change the password.
    const bool changes = read.boolean();
    const std::string_view password = read.text();
    const bool sound = read.done() && !changes;
    const login_policy& logins = *_link.config.logins;
    const bool right = sound && (logins.open() || logins.password_is_right(asked.user, password));
    // In a request that is not sound, too, passwords may stand.
    crypto::wipe(inside(payload, asked.rest));
    if (!sound) return verdict::malformed;
    return right ? verdict::accepted : verdict::failed;
}

authentication::verdict authentication::judge_key(const request& asked, bytes_view payload) {
    wire::reader read(asked.rest);
    const bool is_signed = read.boolean();
    const std::string_view algorithm = read.text();
    const bytes_view blob = read.string();
    const bytes_view signature = is_signed ? read.string() : bytes_view{};
    if (!read.done()) return verdict::malformed;
    const login_policy& logins = *_link.config.logins;
    const bool usable = crypto::verifiable(algorithm) &&
                        crypto::algorithm_of(blob) == crypto::key_type_of(algorithm) &&
                        !crypto::problem_of(blob);
    if (!usable || !(logins.open() || logins.knows(blob))) return verdict::refused;

    if (!is_signed) {
        byte_vector answer;
        wire::writer(answer)
            .byte(static_cast<std::uint8_t>(message::userauth_pk_ok))
            .string(algorithm)
            .string(blob);
        _link.queue(answer);
        return verdict::key_accepted;
    }
    // RFC 4252 section 7: the session, then the request as it stands in front of the signature.
    byte_vector covered;
    wire::writer(covered)
        .string(_session_id)
        .raw(payload.first(payload.size() - sizeof(std::uint32_t) - signature.size()));
    // A key of RSA signs in two ways; it must be the one that the request names (RFC 8332 section
    // 3.2).
    const bool right =
        crypto::algorithm_of(signature) == algorithm && crypto::verify(blob, signature, covered);
    return right ? verdict::accepted : verdict::failed;
}

void authentication::take_ext_info(bytes_view payload) {
    wire::reader read(payload.subspan(1));
    const std::uint32_t count = read.u32();
    std::string names;
    for (std::uint32_t at = 0; at < count && read.ok(); ++at) {
        const std::string_view name = read.text();
        read.string();
        if (names.size() < 256) names += (at == 0 ? "" : ", ") + printable(name, 64);
    }
    if (!read.done()) {
        return _link.fail(disconnect_reason::protocol_error, "malformed EXT_INFO");
    }
    _link.events.on_log(log_level::debug, "extensions of the peer: " + names);
}

void authentication::accept(std::string_view user) {
    if (_link.side == role::server) {
        constexpr std::byte success[] = {static_cast<std::byte>(message::userauth_success)};
        _link.queue(success);
    }
    if (_link.ended) return;
    _link.authenticated = true;
    _link.packets.limit_packets(max_packet_bytes);
    _link.events.on_authenticated(user);
}

}  // namespace burin::ssh
