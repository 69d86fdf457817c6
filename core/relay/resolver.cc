#include "core/relay/resolver.hh"

#include <ares.h>
#include <poll.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "ring/shortage.hh"

namespace burin::relay {
namespace {

// Changes whenever the file is written or replaced.
std::uint64_t stamp_of(const std::string& path) noexcept {
    struct stat now;
    if (stat(path.c_str(), &now) != 0) return 0;
    auto mix = [](std::uint64_t sum, auto part) {
        return (sum ^ static_cast<std::uint64_t>(part)) * 0x100000001b3u;
    };
    std::uint64_t sum = mix(0xcbf29ce484222325u, now.st_ino);
    sum = mix(sum, now.st_size);
    sum = mix(sum, now.st_mtim.tv_sec);
    return mix(sum, now.st_mtim.tv_nsec) | 1;
}

// Close to what Go's isDomainName() lets through to a server: printable, no empty label, none above
// 63 bytes, 254 in all. A final dot is not a label.
bool plausible(std::string_view host) noexcept {
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.empty() || host.size() > 253) return false;
    std::size_t label = 0;
    for (char c : host) {
        auto byte = static_cast<unsigned char>(c);
        if (byte <= ' ' || byte >= 127 || (c == '.' && label == 0)) return false;
        label = c == '.' ? 0 : label + 1;
        if (label > 63) return false;
    }
    return label > 0;
}

// RFC 6761 section 6.3: such names are this machine whatever any file or server says. Answering
// them here also saves reading /etc/hosts for the name that is dialled most, and c-ares 1.18 loses
// memory where that file does not have it.
bool is_localhost(std::string_view host) noexcept {
    constexpr std::string_view name = "localhost";
    if (host.ends_with('.')) host.remove_suffix(1);
    if (host.size() < name.size()) return false;
    if (host.size() > name.size() && host[host.size() - name.size() - 1] != '.') return false;
    return strncasecmp(host.data() + host.size() - name.size(), name.data(), name.size()) == 0;
}

lookup_error meaning(int status) noexcept {
    switch (status) {
        case ARES_ENODATA:
        case ARES_ENOTFOUND:
        case ARES_ENONAME:
        case ARES_EBADNAME:
        case ARES_EBADSTR: return lookup_error::no_such_host;
        case ARES_ETIMEOUT: return lookup_error::timeout;
        case ARES_ENOMEM: return lookup_error::out_of_memory;
        // Of a server that failed c-ares of Debian 12 says the same as of one that is not there.
        default: return lookup_error::misbehaving;
    }
}

std::string_view words(lookup_error error) noexcept {
    switch (error) {
        case lookup_error::none: return "";
        case lookup_error::no_such_host: return "no such host";
        case lookup_error::timeout: return "i/o timeout";
        case lookup_error::misbehaving: return "server misbehaving";
        case lookup_error::out_of_memory: return "cannot allocate memory";
        case lookup_error::no_descriptors: return "too many open files";
    }
    return "";
}

}  // namespace

struct lookup::query {
    relay::resolver& resolver;
    relay::resolver::generation& asked;
    lookup* who;  // nothing once cancelled
    std::uint16_t port;
    std::string host;
};

void lookup::cancel() noexcept {
    if (_query != nullptr) _query->who = nullptr;
    _query = nullptr;
}

void lookup::answer(lookup_error error, std::string_view host) noexcept {
    _query = nullptr;
    _error = error;
    _text.clear();
    if (error != lookup_error::none)
        _text.append("lookup ").append(host).append(": ").append(words(error));
    _done(_owner, *this);
}

// A socket of c-ares and the one-shot poll on it. c-ares closes the socket when it likes; the poll
// is cancelled then, and the watch stays until the ring gave both back.
struct resolver::watch {
    watch(relay::resolver& r, generation& g, int fd) : resolver(r), asked(&g), socket(fd) {}

    bool idle() const noexcept { return !poll.in_flight && !cancel.in_flight; }
    void want(std::uint32_t events) noexcept {
        wanted = events;
        if (!poll.in_flight) {
            if (wanted != 0) arm();
        } else if (wanted != armed && !cancel.in_flight) {
            resolver._ring.cancel(cancel, poll);
        }
    }
    void arm() noexcept {
        armed = wanted;
        resolver._ring.poll(poll, socket, wanted);
    }
    void on_poll(ring::completion) noexcept;
    void on_cancelled(ring::completion c) noexcept {
        if (ring::cancel_failed(c) && poll.in_flight && wanted != armed)
            return resolver._ring.cancel(cancel, poll);
        resolver.sweep();
    }

    relay::resolver& resolver;
    generation* asked;  // nothing once c-ares has closed the socket
    int socket;
    std::uint32_t wanted = 0, armed = 0;  // POLLIN, POLLOUT
    bool busy = false;
    ring::member_op<&watch::on_poll> poll{this};
    ring::member_op<&watch::on_cancelled> cancel{this};
};

// A c-ares channel: one reading of the configuration.
struct resolver::generation {
    explicit generation(relay::resolver& r);
    ~generation() {
        ++resolver._depth;
        ares_destroy(channel);
        --resolver._depth;
    }

    void on_timer(ring::microseconds_t) noexcept { process(ARES_SOCKET_BAD, ARES_SOCKET_BAD); }
    void process(int readable, int writable) noexcept {
        ++resolver._depth;
        ares_process_fd(channel, readable, writable);
        --resolver._depth;
        keep_time();
        resolver.sweep();
    }
    // c-ares says how long until its next timeout; zero when nothing waits.
    void keep_time() noexcept {
        timeval left;
        if (ares_timeout(channel, nullptr, &left) == nullptr) {
            timer.disarm();
            return;
        }
        auto wait = static_cast<ring::microseconds_t>(left.tv_sec) * ring::second +
                    static_cast<ring::microseconds_t>(left.tv_usec);
        resolver._timers.arm(timer, ring::monotonic_now() + wait);
    }
    void on_state(int socket, bool readable, bool writable) noexcept;

    // Sockets are made here, so that prepare() sees each with its destination, and because c-ares
    // of Debian 12 does not bind to an interface without failing loudly for a plain user.
    int make_socket(int family, int type, int protocol) noexcept {
        const int fd = ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
        no_descriptors = fd < 0 && no_descriptor(errno);
        return fd;
    }
    int connect(int socket, const sockaddr* address, socklen_t bytes) noexcept {
        if (resolver._settings.prepare) {
            auto to = endpoint::from(address, bytes);
            int error = to ? resolver._settings.prepare(socket, *to) : EAFNOSUPPORT;
            if (error != 0) {
                errno = error;
                return -1;
            }
        }
        return ::connect(socket, address, bytes);
    }

    relay::resolver& resolver;
    ares_channel channel = nullptr;
    std::uint32_t pending = 0;
    bool no_descriptors = false;  // when a socket was wanted last
    ring::member_timer<&generation::on_timer> timer{this};
};

namespace {

template <class T>
T& self(void* data) noexcept {
    return *static_cast<T*>(data);
}

}  // namespace

resolver::generation::generation(relay::resolver& r) : resolver(r) {
    ares_options options{};
    options.timeout = static_cast<int>(r._settings.try_timeout / ring::millisecond);
    options.tries = static_cast<int>(r._settings.tries);
    options.resolvconf_path = r._settings.configuration.data();  // copied by c-ares
    options.sock_state_cb_data = this;
    options.sock_state_cb = [](void* data, ares_socket_t socket, int readable, int writable) {
        self<generation>(data).on_state(socket, readable != 0, writable != 0);
    };
    int status = ares_init_options(
        &channel, &options,
        ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_RESOLVCONF | ARES_OPT_SOCK_STATE_CB);
    if (status != ARES_SUCCESS)
        throw std::runtime_error(std::string("cannot start the name resolver: ") +
                                 ares_strerror(status));
    static const ares_socket_functions functions = {
        .asocket = [](int family, int type, int protocol, void* data) -> ares_socket_t {
            return self<generation>(data).make_socket(family, type, protocol);
        },
        .aclose = [](ares_socket_t socket, void*) -> int { return ::close(socket); },
        .aconnect = [](ares_socket_t socket, const sockaddr* address, ares_socklen_t bytes,
                       void* data) -> int {
            return self<generation>(data).connect(socket, address, bytes);
        },
        .arecvfrom = [](ares_socket_t socket, void* into, std::size_t bytes, int flags,
                        sockaddr* from, ares_socklen_t* size, void*) -> ares_ssize_t {
            return ::recvfrom(socket, into, bytes, flags, from, size);
        },
        .asendv = [](ares_socket_t socket, const iovec* parts, int count, void*) -> ares_ssize_t {
            msghdr message{};
            message.msg_iov = const_cast<iovec*>(parts);
            message.msg_iovlen = static_cast<std::size_t>(count);
            return ::sendmsg(socket, &message, MSG_NOSIGNAL);
        },
    };
    // Later versions of c-ares prefer another form, which Debian 12's does not have.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    ares_set_socket_functions(channel, &functions, this);
#pragma GCC diagnostic pop
    if (r._settings.servers.empty()) return;
    status = ares_set_servers_ports_csv(channel, r._settings.servers.c_str());
    if (status == ARES_SUCCESS) return;
    ares_destroy(channel);
    throw std::runtime_error("cannot use the name servers '" + r._settings.servers +
                             "': " + ares_strerror(status));
}

void resolver::generation::on_state(int socket, bool readable, bool writable) noexcept {
    auto& watches = resolver._watches;
    auto at = std::find_if(watches.begin(), watches.end(),
                           [&](const auto& w) { return w->asked == this && w->socket == socket; });
    std::uint32_t events =
        (readable ? std::uint32_t{POLLIN} : 0u) | (writable ? std::uint32_t{POLLOUT} : 0u);
    if (at == watches.end()) {
        if (events == 0) return;
        watches.push_back(std::make_unique<watch>(resolver, *this, socket));
        at = std::prev(watches.end());
    }
    watch& found = **at;
    if (resolver._closing) return;
    // Nothing wanted: c-ares closes the socket after this call.
    if (events == 0) found.asked = nullptr;
    found.want(events);
}

void resolver::watch::on_poll(ring::completion c) noexcept {
    if (asked == nullptr) {
        resolver.sweep();
        return;
    }
    if (c.result < 0) {  // cancelled, because other events are wanted now
        if (wanted != 0) arm();
        return;
    }
    auto events = static_cast<std::uint32_t>(c.result);
    constexpr std::uint32_t trouble = POLLERR | POLLHUP;  // shows at a read as well as at a write
    armed = 0;
    busy = true;  // or sweep() would take it from under this function
    asked->process((events & (POLLIN | trouble)) != 0 ? socket : ARES_SOCKET_BAD,
                   (events & (POLLOUT | trouble)) != 0 ? socket : ARES_SOCKET_BAD);
    busy = false;
    if (asked != nullptr && wanted != 0 && !poll.in_flight) arm();
    resolver.sweep();
}

resolver::resolver(ring::ring& r, ring::timer_wheel& timers, resolver_settings settings)
    : _ring(r), _timers(timers), _settings(std::move(settings)) {
    static const int started = ares_library_init(ARES_LIB_INIT_ALL);
    if (started != ARES_SUCCESS)
        throw std::runtime_error(std::string("cannot start c-ares: ") + ares_strerror(started));
    _stamp = stamp_of(_settings.configuration);
    _checked = ring::monotonic_now();
    _generations.push_back(std::make_unique<generation>(*this));
}

resolver::~resolver() {
    _closing = true;
    _generations.clear();
}

void resolver::follow_configuration() {
    ring::microseconds_t now = ring::monotonic_now();
    if (now - _checked < _settings.check_interval) return;
    _checked = now;
    std::uint64_t stamp = stamp_of(_settings.configuration);
    if (stamp == _stamp) return;
    _stamp = stamp;
    try {
        _generations.push_back(std::make_unique<generation>(*this));
    } catch (const std::runtime_error&) {
        // A file that cannot be read now: what was known before still answers.
    }
}

void resolver::resolve(lookup& who, std::string_view host, std::uint16_t port) noexcept {
    who.cancel();
    who._addresses.clear();
    if (auto literal = endpoint::literal(host, port)) {
        who._addresses.push_back(*literal);
        who.answer(lookup_error::none, host);
        return;
    }
    if (!plausible(host)) {
        who.answer(lookup_error::no_such_host, host);
        return;
    }
    if (is_localhost(host)) {
        // IPv4 first: more servers listen there, and a refusal then reads as people expect it.
        who._addresses = {*endpoint::literal("127.0.0.1", port), *endpoint::literal("::1", port)};
        who.answer(lookup_error::none, host);
        return;
    }
    follow_configuration();
    generation& asked = *_generations.back();
    auto* query = new lookup::query{*this, asked, &who, port, std::string(host)};
    who._query = query;
    ++_pending;
    ++asked.pending;
    ares_addrinfo_hints hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    // CARES_HOSTS may name another file than /etc/hosts; where it does not, c-ares 1.34 takes the
    // flag for a reason to read neither.
    const bool other_hosts = std::getenv("CARES_HOSTS") != nullptr;
    hints.ai_flags = other_hosts ? ARES_AI_ENVHOSTS : 0;
    ++_depth;
    ares_getaddrinfo(asked.channel, query->host.c_str(), nullptr, &hints, on_answer, query);
    --_depth;
    asked.keep_time();
    sweep();
}

void resolver::on_answer(void* argument, int status, int, ares_addrinfo* found) noexcept {
    std::unique_ptr<lookup::query> query(static_cast<lookup::query*>(argument));
    --query->resolver._pending;
    --query->asked.pending;
    lookup* who = query->who;
    if (who != nullptr && !query->resolver._closing) {
        lookup_error error = lookup_error::none;
        if (status != ARES_SUCCESS) {
            error = meaning(status);
            // c-ares takes a socket that is not to be had for a server that is not there.
            if (error == lookup_error::misbehaving && query->asked.no_descriptors)
                error = lookup_error::no_descriptors;
        } else {
            for (auto* node = found->nodes; node != nullptr; node = node->ai_next) {
                auto one = endpoint::from(node->ai_addr, node->ai_addrlen);
                if (!one) continue;
                one->set_port(query->port);
                auto& all = who->_addresses;
                if (std::find(all.begin(), all.end(), *one) == all.end()) all.push_back(*one);
            }
            if (who->_addresses.empty()) error = lookup_error::no_such_host;
        }
        if (found != nullptr) ares_freeaddrinfo(found);
        who->answer(error, query->host);
        return;
    }
    if (who != nullptr) who->_query = nullptr;
    if (found != nullptr) ares_freeaddrinfo(found);
}

void resolver::sweep() noexcept {
    if (_depth != 0 || _closing) return;
    for (std::size_t i = 0; i + 1 < _generations.size();) {
        if (_generations[i]->pending == 0)
            _generations.erase(_generations.begin() + static_cast<std::ptrdiff_t>(i));
        else
            ++i;
    }
    std::erase_if(_watches,
                  [](const auto& w) { return w->asked == nullptr && w->idle() && !w->busy; });
}

}  // namespace burin::relay
