// A worker with sessions of a server, whose clients are played by hand over socket pairs.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "core/engine/config_request.hh"
#include "core/engine/log.hh"
#include "core/engine/server_session.hh"
#include "core/engine/supervisor.hh"
#include "core/http/upgrade.hh"
#include "core/http/websocket.hh"
#include "core/ssh/authentication_policy.hh"
#include "core/ssh/messages.hh"
#include "core/ssh/transport.hh"
#include "crypto/host_key.hh"
#include "tests/catch.hh"

using namespace burin;

namespace {

constexpr int patience_ms = 20'000;

// One server of one worker.
struct house {
    explicit house(const engine::worker_options& options = {}) : worker(0, options) {
        engine::block_signals();
        policy.add_user("", crypto::secret_string(""));
        shared.early.push_back(std::make_unique<engine::strangers>(
            engine::stranger_limits{.connections = 1000, .bytes = 10u << 20}));
        shared.log = &log;
        shared.transport.host_key = &key;
        shared.transport.logins = &policy;
        worker.start();
    }
    ~house() {
        worker.stop();
        worker.join();
    }
    // The client's end of a connection that was just accepted.
    int connect() {
        int pair[2];
        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
        worker.post([this, fd = pair[0]](engine::worker& w) {
            engine::server_session::start(w, shared, fd, {});
        });
        return pair[1];
    }

    engine::logger log{open("/dev/null", O_WRONLY | O_CLOEXEC)};
    engine::server_settings settings;
    crypto::host_key key = crypto::host_key::from_seed("house");
    ssh::login_policy policy;
    engine::server_shared shared{settings};
    engine::worker worker;
};

// A client of our own kind, played by hand.
class guest final : public ssh::transport_events {
  public:
    explicit guest(int descriptor) : _descriptor(descriptor) {
        const std::array<std::byte, 16> nonce{};
        http::upgrade_request request =
            http::build_request(http::parse_url("127.0.0.1"), {}, nonce);
        write(as_bytes(request.bytes));
        std::string head;
        while (!head.ends_with("\r\n\r\n")) {
            char c;
            REQUIRE(readable());
            REQUIRE(recv(_descriptor, &c, 1, 0) == 1);
            head += c;
        }
        REQUIRE(head.find("101") != head.npos);
        _transport = std::make_unique<ssh::transport>(_settings, ssh::role::client,
                                                      ssh::dialect::chisel, *this);
        say({});
        while (!_transport->authenticated()) REQUIRE(hear());
        byte_vector config;
        const std::string text = engine::write_config({BURIN_VERSION, {}});
        build(config, ssh::global_request{"config", true, as_bytes(text)});
        ask(config);
    }
    ~guest() override { ::close(_descriptor); }

    // Sends a message and waits for one; false when none came.
    bool answered(bytes_view message) {
        const std::size_t before = messages.size();
        say(message);
        while (messages.size() == before)
            if (!hear()) return false;
        return true;
    }
    void ask(bytes_view message) { REQUIRE(answered(message)); }
    // As much of a message as that, sealed; the rest comes with finish().
    void begin(bytes_view message, std::size_t bytes) {
        _cut = framed(message);
        write(bytes_view(_cut).first(bytes));
        _cut.erase(_cut.begin(), _cut.begin() + static_cast<std::ptrdiff_t>(bytes));
    }
    bool finish() {
        const std::size_t before = messages.size();
        write(_cut);
        while (messages.size() == before)
            if (!hear()) return false;
        return true;
    }
    void say(bytes_view message) { write(framed(message)); }
    // Takes what comes; false when nothing does, or the end.
    bool hear() {
        if (!readable()) return false;
        const std::size_t old = _raw.size();
        _raw.resize(old + 65536);
        const ssize_t got = recv(_descriptor, _raw.data() + old, 65536, 0);
        _raw.resize(old + static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
        if (got <= 0) {
            ended = true;
            return false;
        }
        // Frames out, payload into the run.
        std::size_t at = 0;
        for (;;) {
            const auto u8 = [&](std::size_t i) { return static_cast<std::size_t>(_raw[at + i]); };
            if (_raw.size() - at < 2) break;
            std::size_t size = u8(1) & 0x7f, header = 2;
            if (size == 126) header = 4;
            if (size == 127) header = 10;
            if (_raw.size() - at < header) break;
            if (header > 2) {
                size = 0;
                for (std::size_t i = 2; i < header; ++i) size = size << 8 | u8(i);
            }
            if (_raw.size() - at < header + size) break;
            _run.insert(_run.end(), _raw.begin() + static_cast<std::ptrdiff_t>(at + header),
                        _raw.begin() + static_cast<std::ptrdiff_t>(at + header + size));
            at += header + size;
        }
        _raw.erase(_raw.begin(), _raw.begin() + static_cast<std::ptrdiff_t>(at));
        const std::size_t taken = _transport->receive(_run);
        _run.erase(_run.begin(), _run.begin() + static_cast<std::ptrdiff_t>(taken));
        say({});
        return true;
    }
    bool readable() const {
        pollfd p{_descriptor, POLLIN, 0};
        return poll(&p, 1, patience_ms) == 1;
    }

    void on_authenticated(std::string_view) override {}
    void on_message(bytes_span payload) override {
        messages.emplace_back(payload.begin(), payload.end());
    }
    void on_failure(std::string_view why) override {
        if (!may_fail) FAIL(std::string(why));
        failure = why;
    }

    std::vector<byte_vector> messages;
    bool ended = false, may_fail = false;
    std::string failure;

  private:
    byte_vector framed(bytes_view message) {
        if (!message.empty()) REQUIRE(_transport->send(message));
        byte_vector sealed(65536);
        std::size_t size = 0;
        while (_transport->control_pending())
            size += _transport->seal_control(bytes_span(sealed).subspan(size));
        if (size == 0) return {};
        byte_vector out(http::max_frame_header);
        out.resize(http::write_frame_header(out.data(), http::opcode::binary, size, true));
        out.insert(out.end(), sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(size));
        return out;
    }
    void write(bytes_view bytes) {
        if (bytes.empty()) return;
        REQUIRE(send(_descriptor, bytes.data(), bytes.size(), MSG_NOSIGNAL) ==
                static_cast<ssize_t>(bytes.size()));
    }
    int _descriptor;
    ssh::settings _settings;
    std::unique_ptr<ssh::transport> _transport;
    byte_vector _raw, _run, _cut;
};

byte_vector ping() {
    byte_vector message;
    build(message, ssh::global_request{"ping", true, {}});
    return message;
}

}  // namespace

// Every session whose last packet is cut waits for its rest; none may wait for another's.
TEST_CASE("any number of sessions may have a packet cut", "[session]") {
    house h;
    std::vector<std::unique_ptr<guest>> guests;
    for (int i = 0; i < 140; ++i) guests.push_back(std::make_unique<guest>(h.connect()));
    guest bystander(h.connect());
    for (auto& g : guests) g->begin(ping(), 20);
    CHECK(bystander.answered(ping()));
    unsigned answers = 0;
    for (auto& g : guests) {
        if (!g->finish()) break;
        ++answers;
    }
    CHECK(answers == guests.size());
}

TEST_CASE("a stranger that does not read is not read from either", "[session]") {
    house h;
    const int fd = h.connect();
    std::string requests;
    while (requests.size() < 60'000) requests += "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    requests.resize(requests.size() / 33 * 33);
    std::size_t taken = 0, at = 0;
    constexpr std::size_t enough = 16u << 20;
    while (taken < enough) {
        pollfd p{fd, POLLOUT, 0};
        if (poll(&p, 1, 1000) != 1) break;
        const ssize_t got =
            send(fd, requests.data() + at, requests.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (got < 0 && errno != EAGAIN) break;
        if (got <= 0) continue;
        taken += static_cast<std::size_t>(got);
        at = (at + static_cast<std::size_t>(got)) % requests.size();
    }
    ::close(fd);
    INFO("taken: " << taken);
    CHECK(taken < enough);
}

// What a slow destination still has to take keeps neither the session's connection nor its peer.
TEST_CASE("a session that ends lets go of its connection at once", "[session]") {
    house h;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    const int least = 4096;
    setsockopt(listener, SOL_SOCKET, SO_RCVBUF, &least, sizeof least);
    REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&at), size) == 0);
    REQUIRE(listen(listener, 10) == 0);
    REQUIRE(getsockname(listener, reinterpret_cast<sockaddr*>(&at), &size) == 0);

    guest g(h.connect());
    std::vector<byte_vector> seen;
    // Flows enough to fill the sockets' buffers: the rest waits in the server.
    for (std::uint32_t id = 0; id < 1; ++id) {
        byte_vector message;
        ssh::channel_open open;
        open.type = "chisel";
        open.sender = id;
        open.window = 1 << 20;
        open.max_packet = 32768;
        const std::string target = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
        open.rest = as_bytes(target);
        build(message, open);
        g.ask(message);
        REQUIRE(ssh::number_of(g.messages.back()) == ssh::message::channel_open_confirmation);
        const std::uint32_t remote = load_u32(g.messages.back().data() + 5);
        std::uint64_t window = load_u32(g.messages.back().data() + 9);
        const int program = accept(listener, nullptr, nullptr);
        REQUIRE(program >= 0);
        // Until the window is used up and no more is given: the destination is full.
        std::size_t looked = g.messages.size();
        for (;;) {
            while (window >= 16384) {
                byte_vector data(ssh::data_header_bytes + 16384);
                const auto head = ssh::make_data_header(remote, 16384);
                std::copy(head.begin(), head.end(), data.begin());
                g.say(data);
                window -= 16384;
            }
            pollfd p{-1, 0, 0};
            poll(&p, 0, 50);
            g.say(ping());
            if (!g.hear()) break;
            bool more = false;
            for (; looked < g.messages.size(); ++looked)
                if (ssh::number_of(g.messages[looked]) == ssh::message::channel_window_adjust) {
                    window += load_u32(g.messages[looked].data() + 5);
                    more = true;
                }
            if (!more && window < 16384) break;
        }
        byte_vector end;
        ssh::build_eof(end, remote);
        g.say(end);
        end.clear();
        ssh::build_close(end, remote);
        g.say(end);
    }
    // A message for a channel that there is not: the server says so and ends the session.
    g.may_fail = true;
    byte_vector wrong;
    ssh::build_eof(wrong, 77);
    g.say(wrong);
    while (g.hear()) {
    }
    CHECK(g.ended);
    CHECK(g.failure == "ssh: disconnect, reason 2: message for a channel that is not open");
    ::close(listener);
}

TEST_CASE("strangers that do not read keep no arena", "[session]") {
    house h;
    std::string requests;
    while (requests.size() < 60'000) requests += "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    std::vector<int> strangers;
    for (int i = 0; i < 20; ++i) strangers.push_back(h.connect());
    for (const int fd : strangers) {
        const int bytes = 4096;
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        // All is said, or the server has stopped reading.
        for (std::size_t sent = 0, at = 0; sent < 20 * requests.size();) {
            pollfd p{fd, POLLOUT, 0};
            if (poll(&p, 1, 100) != 1) break;
            const ssize_t got =
                send(fd, requests.data() + at, requests.size() - at, MSG_NOSIGNAL | MSG_DONTWAIT);
            if (got < 0 && errno != EAGAIN) break;
            if (got <= 0) continue;
            sent += static_cast<std::size_t>(got);
            at = (at + static_cast<std::size_t>(got)) % requests.size();
        }
    }
    std::promise<std::uint32_t> used;
    h.worker.post([&](engine::worker& w) { used.set_value(w.arenas().in_use()); });
    CHECK(used.get_future().get() <= 1);
    guest late(h.connect());
    CHECK(late.answered(ping()));
    for (const int fd : strangers) ::close(fd);
}

// Destinations that never answer: a listener whose queue is full drops SYNs.
TEST_CASE("dials are bounded of a session and in all, and may be taken back", "[session]") {
    house h({.max_channels = 40});  // 30 of a session, 35 in all
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof at;
    auto* address = reinterpret_cast<sockaddr*>(&at);
    REQUIRE(bind(listener, address, size) == 0);
    REQUIRE(listen(listener, 0) == 0);
    REQUIRE(getsockname(listener, address, &size) == 0);
    std::vector<int> fillers;
    for (int i = 0; i < 8; ++i) {
        fillers.push_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        (void)!connect(fillers.back(), address, size);
    }
    const std::string target = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    auto open = [&](guest& g, std::uint32_t id) {
        byte_vector message;
        ssh::channel_open asked;
        asked.type = "chisel";
        asked.sender = id;
        asked.window = 1 << 20;
        asked.max_packet = 32768;
        asked.rest = as_bytes(target);
        build(message, asked);
        g.say(message);
    };
    // Everything that was answered up to a ping: the numbers of the channels, by reason.
    auto refusals = [](guest& g, ssh::open_failure_reason reason) {
        g.messages.clear();
        g.say(ping());
        std::vector<std::uint32_t> ids;
        for (std::size_t looked = 0;;) {
            for (; looked < g.messages.size(); ++looked) {
                const byte_vector& m = g.messages[looked];
                if (ssh::number_of(m) == ssh::message::request_success) return ids;
                REQUIRE(ssh::number_of(m) == ssh::message::channel_open_failure);
                if (load_u32(m.data() + 5) == static_cast<std::uint32_t>(reason))
                    ids.push_back(load_u32(m.data() + 1));
            }
            REQUIRE(g.hear());
        }
    };
    constexpr auto shortage = ssh::open_failure_reason::shortage;
    constexpr auto failed = ssh::open_failure_reason::connect_failed;
    using ids = std::vector<std::uint32_t>;
    guest first(h.connect()), second(h.connect());
    for (std::uint32_t id = 0; id < 33; ++id) open(first, id);
    CHECK(refusals(first, shortage) == ids{30, 31, 32});
    for (std::uint32_t id = 0; id < 7; ++id) open(second, id);
    CHECK(refusals(second, shortage) == ids{5, 6});
    // Taken back, they are answered at once and make room.
    for (std::uint32_t id : {3u, 0u, 7u}) {
        byte_vector message, rest(4);
        store_u32(rest.data(), id);
        build(message, ssh::global_request{ssh::cancel_open_name, false, rest});
        first.say(message);
    }
    CHECK(refusals(first, failed) == ids{3, 0, 7});
    for (std::uint32_t id = 20; id < 24; ++id) open(second, id);
    CHECK(refusals(second, shortage) == ids{23});
    for (int fd : fillers) ::close(fd);
    ::close(listener);
}

TEST_CASE("an echo channel is for who was told of it, and one a session", "[session]") {
    const auto ask_for_channel = [](guest& g) {
        byte_vector message;
        ssh::channel_open open;
        open.type = "echo@burin";
        open.window = 1 << 20;
        open.max_packet = 32768;
        build(message, open);
        g.ask(message);
        return g.messages.back();
    };
    const auto reason = [](const byte_vector& message) {
        ssh::channel_open_failure failure;
        REQUIRE(parse(message, failure));
        return failure.reason;
    };
    {
        house h;  // has no ICMP socket
        guest g(h.connect());
        CHECK(reason(ask_for_channel(g)) == ssh::open_failure_reason::unknown_type);
    }
    std::string why;
    house h;
    h.shared.echoes = engine::open_echo_services(1, why);
    if (h.shared.echoes.empty()) {
        WARN("skipped: " << why);
        return;
    }
    for (int session = 0; session < 2; ++session) {
        guest g(h.connect());
        const byte_vector answer = ask_for_channel(g);
        REQUIRE(ssh::number_of(answer) == ssh::message::channel_open_confirmation);
        CHECK(reason(ask_for_channel(g)) == ssh::open_failure_reason::shortage);
        // The example of docs/wire.md section 13.2, to this machine itself.
        const std::uint8_t request[] = {0, 11, 4, 0, 0, 0, 1, 127, 0, 0, 1, 0xaa, 0xbb};
        const std::uint8_t reply[] = {0, 7, 128, 0, 0, 0, 1, 0xaa, 0xbb};
        const auto head = ssh::make_data_header(load_u32(answer.data() + 5), sizeof request);
        byte_vector data(head.begin(), head.end());
        for (const std::uint8_t octet : request) data.push_back(std::byte{octet});
        g.ask(data);
        byte_vector wanted;
        for (const std::uint8_t octet : reply) wanted.push_back(std::byte{octet});
        const byte_vector& got = g.messages.back();
        REQUIRE(ssh::number_of(got) == ssh::message::channel_data);
        CHECK(byte_vector(got.begin() + ssh::data_header_bytes, got.end()) == wanted);
    }
}
