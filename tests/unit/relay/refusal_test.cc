// What a refusal means, for a SYN and for a datagram.
#include "core/relay/refusal.hh"

#include <cerrno>
#include <string>

#include "core/relay/dialer.hh"
#include "tests/catch.hh"

using namespace burin;
using namespace burin::relay;

TEST_CASE("the words that our own server uses mean what their errno means") {
    using reason = ssh::open_failure_reason;
    auto of = [](int error) {
        return refusal_of(reason::connect_failed,
                          "dial tcp 192.0.2.1:80: connect: " + errno_words(error));
    };
    CHECK(of(ECONNREFUSED) == refusal::refused);
    CHECK(of(ECONNRESET) == refusal::refused);
    for (int error : {EHOSTUNREACH, EHOSTDOWN, ENETUNREACH, ENETDOWN, EACCES, EPERM}) {
        CAPTURE(error);
        CHECK(of(error) == refusal_of(error));
        CHECK(of(error) != refusal::silent);
        CHECK(of(error) != refusal::refused);
    }
    for (int error : {ETIMEDOUT, EMFILE, ENFILE, EADDRNOTAVAIL, ENOBUFS, ENOMEM, EAGAIN, EINVAL}) {
        CAPTURE(error);
        CHECK(of(error) == refusal::silent);
        CHECK(refusal_of(error) == refusal::silent);
    }
    CHECK(refusal_of(ECONNREFUSED) == refusal::refused);
    CHECK(refusal_of(0) == refusal::silent);
}

TEST_CASE("a refusal that is no failed dial is told from one by its reason") {
    using reason = ssh::open_failure_reason;
    CHECK(refusal_of(reason::prohibited, "no route to host") == refusal::prohibited);
    CHECK(refusal_of(reason::shortage, "") == refusal::silent);
    CHECK(refusal_of(reason::unknown_type, "") == refusal::refused);
    CHECK(refusal_of(reason::connect_failed, "") == refusal::refused);
    CHECK(refusal_of(static_cast<reason>(77), "\xff: i/o timeout") == refusal::silent);
}
