// Logging in (RFC 4252; docs/wire.md sections 5 and 11.2), a coroutine for each role.
//
// The client sends its password at once, without asking with `none` first, and only after the host
// key was verified: it starts then. The server takes one request after another; only the message
// due next is accepted.
#pragma once

#include <coroutine>
#include <cstdint>
#include <string_view>

#include "core/ssh/authentication_policy.hh"
#include "core/ssh/task.hh"
#include "core/ssh/transport_link.hh"

namespace burin::ssh {

// After so many wrong passwords or signatures the next one ends the connection, as in Go.
inline constexpr unsigned max_login_failures = 5;
// Requests of any kind on one connection, as in Go.
inline constexpr unsigned max_login_requests = 128;

class authentication {
  public:
    explicit authentication(transport_link& link) : _link(link) {}
    authentication(const authentication&) = delete;
    authentication& operator=(const authentication&) = delete;

    // `session_id` is what signatures cover; it outlives the login.
    void start(bytes_view session_id);
    bool started() const { return _started; }
    bool running() const { return _stage.running(); }
    // Takes a message of numbers 5 to 7 or 50 to 79; one that is not due ends the connection.
    void take(bytes_span payload);

    // A login waits for resume(); messages must not come meanwhile.
    bool held() const { return _held != nullptr; }
    void resume();

  private:
    // What a request came to. `refused` does not count as a failure: nothing was guessed.
    enum class verdict : std::uint8_t { accepted, key_accepted, refused, failed, malformed };
    // USERAUTH_REQUEST; views into it.
    struct request {
        std::string_view user;
        std::string_view service;
        std::string_view method;
        bytes_view rest;
    };
    struct hold {
        authentication& from;
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<> stage) const noexcept { from._held = stage; }
        void await_resume() const noexcept {}
    };

    task as_client();
    task as_server();
    bool waits_when_right(const request& asked) const;
    verdict judge(const request& asked, bytes_span payload);
    verdict judge_password(const request& asked, bytes_span payload) const;
    verdict judge_key(const request& asked, bytes_view payload);
    void take_ext_info(bytes_view payload);
    void accept(std::string_view user);

    transport_link& _link;
    inbox _inbox;
    task _stage;
    std::coroutine_handle<> _held;
    bytes_view _session_id;
    bool _started = false;
};

}  // namespace burin::ssh
