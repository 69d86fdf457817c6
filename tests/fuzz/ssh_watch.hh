// The owner of a transport in a fuzz target: holds it to what core/ssh/transport.hh promises its
// owner.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "core/ssh/messages.hh"
#include "core/ssh/transport.hh"
#include "tests/fuzz/target.hh"

namespace fuzz {

inline bool fits_a_line(std::string_view text) {
    return std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

struct watcher : burin::ssh::transport_events {
    void on_secured() override { check(++secured == 1 && failures == 0, "secured once"); }
    void on_authenticated(std::string_view) override {
        check(++logins == 1 && failures == 0, "logged in once");
    }
    void on_message(bytes_span payload) override {
        check(logins == 1 && failures == 0, "messages come after the login, before the end");
        check(!payload.empty(), "a message is not empty");
        const auto number = static_cast<unsigned>(payload[0]);
        check((number >= 80 && number <= 127) || burin::ssh::is_early(burin::ssh::message(number)),
              "only messages of the connection come this way");
        ++messages;
        last.assign(payload.begin(), payload.end());
    }
    void on_failure(std::string_view why) override {
        check(++failures == 1 && !why.empty(), "a connection fails once, and for a reason");
        check(fits_a_line(why), "why it failed fits a line");
    }
    burin::ssh::login_answer on_login_failure(std::string_view user, std::string_view method,
                                              unsigned attempt) override {
        check(fits_a_line(user) && fits_a_line(method), "names of strangers are escaped");
        check(attempt == ++refused && logins == 0, "refusals are counted");
        return answer;
    }
    void on_log(burin::ssh::log_level, std::string_view text) override {
        check(fits_a_line(text), "what is logged fits a line");
    }

    unsigned secured = 0, logins = 0, failures = 0, refused = 0;
    std::uint64_t messages = 0;
    byte_vector last;
    burin::ssh::login_answer answer = burin::ssh::login_answer::now;
};

// What holds between any two calls.
inline void check_transport(const burin::ssh::transport& end, const watcher& seen) {
    using namespace burin::ssh;
    check(seen.failures == 0 || end.failed(), "a failure is the end");
    check(end.authenticated() == (seen.logins == 1), "who logged in is told");
    const std::size_t most = end.authenticated() ? max_packet_bytes : max_early_packet_bytes;
    check(end.wanted() <= most + 20, "no packet is longer than its limit");
    check(!end.failed() || !end.data_allowed(), "nothing is sealed after the end");
    check(fits_a_line(end.algorithms()), "names of algorithms are known ones");
    check(end.session_id().empty() == end.algorithms().empty() || end.session_id().empty(),
          "a session has agreed on something");
    check(seen.secured == 0 || end.session_id().size() == 32, "who is secured has a session");
    check(end.peer_version().size() < 255, "a version line is short");
    check(end.peer_fingerprint().empty() ||
              (end.side() == role::client && end.peer_fingerprint().size() == 44),
          "a client sees the host's key");
    check(end.counters().key_exchanges >= seen.logins, "keys come before the login");
}

}  // namespace fuzz
