// Both ends of a transport in one process, for the tests of core/ssh: what each end was told, and
// two byte streams between them that are cut wherever a test says.
#pragma once

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/ssh/authentication_policy.hh"
#include "core/ssh/transport.hh"
#include "crypto/host_key.hh"
#include "crypto/wire.hh"

namespace burin::ssh {

struct recorder : transport_events {
    void on_secured() override {
        ++secured;
        if (when_secured) when_secured();
    }
    void on_authenticated(std::string_view who) override {
        ++logins;
        user = who;
    }
    void on_message(bytes_span payload) override {
        messages.emplace_back(payload.begin(), payload.end());
        bytes += payload.size();
        if (when_message) when_message(messages.back());
        if (!keep) messages.clear();
    }
    void on_failure(std::string_view why) override {
        ++failures;
        failure = why;
    }
    login_answer on_login_failure(std::string_view who, std::string_view method,
                                  unsigned attempt) override {
        refused.push_back(std::string(who) + " " + std::string(method) + " " +
                          std::to_string(attempt));
        return answer;
    }
    login_answer on_login_right() override {
        ++right;
        return answer_right;
    }
    void on_log(log_level, std::string_view text) override { log.emplace_back(text); }

    unsigned secured = 0, logins = 0, failures = 0;
    std::string user, failure;
    std::vector<byte_vector> messages;
    std::size_t bytes = 0;
    bool keep = true;
    std::vector<std::string> refused, log;
    login_answer answer = login_answer::now, answer_right = login_answer::now;
    unsigned right = 0;
    std::function<void()> when_secured;
    std::function<void(const byte_vector&)> when_message;
};

// Everything a transport has to say now, in rooms of the given size.
inline void drain(transport& from, byte_vector& into, std::size_t room = 4096) {
    byte_vector space(room);
    while (from.control_pending()) {
        const std::size_t size = from.seal_control(space);
        if (size == 0) break;
        into.insert(into.end(), space.begin(), space.begin() + static_cast<std::ptrdiff_t>(size));
    }
}

// Gives a transport some more of what its peer said; it keeps what it does not take.
inline void feed(transport& to, byte_vector& run, bytes_view more) {
    run.insert(run.end(), more.begin(), more.end());
    const std::size_t taken = to.receive(run);
    run.erase(run.begin(), run.begin() + static_cast<std::ptrdiff_t>(taken));
}

// How many bytes of the stream arrive next.
using cutter = std::function<std::size_t(std::size_t left)>;
inline cutter whole() {
    return [](std::size_t left) { return left; };
}
inline cutter one_byte() {
    return [](std::size_t) { return std::size_t{1}; };
}
inline cutter random_cuts(unsigned seed) {
    return [random = std::mt19937(seed)](std::size_t left) mutable {
        const std::size_t most = random() % 4 == 0 ? 3 : 1500;
        return std::min<std::size_t>(left, 1 + random() % most);
    };
}

struct link_end {
    recorder events;
    std::unique_ptr<transport> end;
    byte_vector said;  // sealed, on its way to the other end
    byte_vector run;   // arrived, not taken yet
};

struct transport_pair {
    transport_pair() : host_key(crypto::host_key::from_seed("foobar")) {
        server_settings.host_key = &host_key;
        server_settings.logins = &logins;
    }
    void connect(dialect speaks = dialect::chisel) {
        client.end =
            std::make_unique<transport>(client_settings, role::client, speaks, client.events);
        server.end =
            std::make_unique<transport>(server_settings, role::server, speaks, server.events);
    }
    // Carries bytes until both ends are silent.
    void pump(const cutter& cut = whole()) {
        for (;;) {
            drain(*client.end, client.said);
            drain(*server.end, server.said);
            if (client.said.empty() && server.said.empty()) return;
            carry(client, server, cut);
            carry(server, client, cut);
        }
    }
    static void carry(link_end& from, link_end& to, const cutter& cut) {
        std::size_t at = 0;
        while (at < from.said.size()) {
            const std::size_t size = cut(from.said.size() - at);
            feed(*to.end, to.run, bytes_view(from.said).subspan(at, size));
            at += size;
        }
        from.said.clear();
    }
    void give_password(std::string_view user, std::string_view password) {
        client_settings.user = user;
        client_settings.password = crypto::secret_string(password);
    }
    void open_session() {
        connect();
        pump();
    }

    crypto::host_key host_key;
    login_policy logins;
    settings client_settings, server_settings;
    link_end client, server;
};

}  // namespace burin::ssh
