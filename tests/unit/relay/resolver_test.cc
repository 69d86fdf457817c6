// Names to addresses over a real ring, asked of a DNS server on loopback.
#include "core/relay/resolver.hh"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "tests/catch.hh"
#include "tests/unit/relay/loop.hh"
#include "tests/unit/relay/name_server.hh"

using namespace burin::relay;
namespace ring = burin::ring;

namespace {

struct asker {
    void on_answer(lookup&) noexcept { ++answers; }
    std::vector<std::string> texts() const {
        std::vector<std::string> all;
        for (const endpoint& one : question.addresses()) all.push_back(one.text());
        std::sort(all.begin(), all.end());
        return all;
    }
    int answers = 0;
    member_lookup<&asker::on_answer> question{this};
};

std::map<std::string, zone_entry> zone() {
    return {
        {"both.test", {.v4 = {"192.0.2.1", "192.0.2.2"}, .v6 = {"2001:db8::1"}}},
        {"four.test", {.v4 = {"127.0.0.1"}}},
        {"six.test", {.v6 = {"::1"}}},
        {"empty.test", {}},
        {"broken.test", {.rcode = 2}},
        {"refused.test", {.rcode = 5}},
        {"silent.test", {.silent = true}},
        {"large.test", {.v4 = {"192.0.2.7"}, .truncated = true}},
        {"garbage.test", {.garbage = true}},
    };
}

resolver_settings asking(const name_server& server, ring::microseconds_t patience = ring::second) {
    return {.servers = server.servers(), .try_timeout = patience, .tries = 2};
}

}  // namespace

TEST_CASE("endpoints are read and written as Go does", "[endpoint]") {
    CHECK(endpoint().text() == "0.0.0.0:0");
    CHECK(endpoint::literal("127.0.0.1", 80)->text() == "127.0.0.1:80");
    CHECK(endpoint::literal("::1", 65535)->text() == "[::1]:65535");
    CHECK(endpoint::literal("2001:DB8::1", 1)->text() == "[2001:db8::1]:1");
    CHECK(endpoint::literal("fe80::1%lo", 22)->text() == "[fe80::1%lo]:22");
    CHECK(endpoint::literal("fe80::1%1", 22)->text() == "[fe80::1%lo]:22");
    for (const char* bad : {"", "name", "1.2.3", "127.1", "0x7f000001", "[::1]", "fe80::1%", "%lo",
                            "fe80::1%none-such", "127.0.0.1%lo", "1.2.3.4 "}) {
        INFO(bad);
        CHECK_FALSE(endpoint::literal(bad, 1));
    }
    CHECK(endpoint::literal("127.9.9.9", 1)->loopback());
    CHECK(endpoint::literal("::1", 1)->loopback());
    CHECK_FALSE(endpoint::literal("128.0.0.1", 1)->loopback());
    endpoint v6 = *endpoint::literal("fe80::1%lo", 22);
    CHECK(endpoint::from(v6.address(), v6.bytes()) == v6);
    CHECK_FALSE(endpoint::from(v6.address(), v6.bytes() - 1));
    CHECK_FALSE(*endpoint::literal("::1", 1) == *endpoint::literal("::1", 2));
    CHECK_FALSE(*endpoint::literal("::1", 1) == *endpoint::literal("127.0.0.1", 1));
}

TEST_CASE("literals are answered at once and ask nobody", "[resolver]") {
    name_server server(zone());
    loop world;
    resolver names(world.ring, world.timers, asking(server));
    asker one;
    names.resolve(one.question, "192.0.2.9", 443);
    CHECK(one.answers == 1);
    CHECK(one.question.error() == lookup_error::none);
    CHECK(one.texts() == std::vector<std::string>{"192.0.2.9:443"});
    names.resolve(one.question, "2001:db8::9", 443);
    CHECK(one.texts() == std::vector<std::string>{"[2001:db8::9]:443"});
    CHECK(one.answers == 2);
    CHECK(names.pending() == 0);
    CHECK(server.questions() == 0);
}

TEST_CASE("names give all their addresses with the port", "[resolver]") {
    name_server server(zone());
    loop world;
    resolver names(world.ring, world.timers, asking(server));
    asker both, four, six, large;
    names.resolve(both.question, "both.test", 80);
    names.resolve(four.question, "four.test", 81);
    names.resolve(six.question, "six.test.", 82);
    names.resolve(large.question, "large.test", 83);
    CHECK(both.question.pending());
    REQUIRE(world.until(
        [&] { return both.answers + four.answers + six.answers + large.answers == 4; }));
    CHECK(both.texts() ==
          std::vector<std::string>{"192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"});
    CHECK(four.texts() == std::vector<std::string>{"127.0.0.1:81"});
    CHECK(six.texts() == std::vector<std::string>{"[::1]:82"});
    CHECK(large.texts() == std::vector<std::string>{"192.0.2.7:83"});
    CHECK(server.by_tcp() > 0);
    CHECK(both.question.text().empty());
    CHECK_FALSE(both.question.pending());
    CHECK(names.pending() == 0);
    CHECK(world.drain());
}

TEST_CASE("the hosts file and localhost need no server", "[resolver]") {
    name_server server(zone());
    std::string path = "/tmp/burin-hosts-" + std::to_string(getpid());
    std::ofstream(path) << "192.0.2.33 printer.lan printer\n2001:db8::33 printer.lan\n";
    setenv("CARES_HOSTS", path.c_str(), 1);
    loop world;
    resolver names(world.ring, world.timers, asking(server));
    asker one, local;
    names.resolve(one.question, "printer.lan", 9100);
    names.resolve(local.question, "localhost", 1);
    REQUIRE(world.until([&] { return one.answers + local.answers == 2; }));
    unsetenv("CARES_HOSTS");
    unlink(path.c_str());
    CHECK(one.texts() == std::vector<std::string>{"192.0.2.33:9100", "[2001:db8::33]:9100"});
    CHECK(local.texts() == std::vector<std::string>{"127.0.0.1:1", "[::1]:1"});
    for (const char* name : {"LocalHost.", "a.localhost"}) {
        names.resolve(local.question, name, 1);
        CHECK(local.texts() == std::vector<std::string>{"127.0.0.1:1", "[::1]:1"});
    }
    CHECK(server.questions() == 0);
}

TEST_CASE("a changed configuration is followed", "[resolver]") {
    name_server server({{"host.one.test", {.v4 = {"10.0.0.1"}}},
                        {"host.two.test", {.v4 = {"10.0.0.2"}}},
                        {"slow.two.test", {.silent = true}},
                        {"slow", {.silent = true}}});
    std::string path = "/tmp/burin-resolv-" + std::to_string(getpid());
    std::size_t before = open_descriptors();
    {
        std::ofstream(path) << "search one.test\n";
        loop world;
        resolver_settings settings = asking(server, 400 * ring::millisecond);
        settings.configuration = path;
        settings.check_interval = 0;
        resolver names(world.ring, world.timers, settings);
        auto ask = [&] {
            asker one;
            names.resolve(one.question, "host", 1);
            REQUIRE(world.until([&] { return one.answers == 1; }));
            return one.texts();
        };
        CHECK(ask() == std::vector<std::string>{"10.0.0.1:1"});
        std::ofstream(path) << "search two.test # replaced\n";
        CHECK(ask() == std::vector<std::string>{"10.0.0.2:1"});
        // A question under way ends with the configuration that it began with.
        asker slow;
        names.resolve(slow.question, "slow", 1);
        unlink(path.c_str());
        std::ofstream(path) << "search one.test\n";
        CHECK(ask() == std::vector<std::string>{"10.0.0.1:1"});
        REQUIRE(world.until([&] { return slow.answers == 1; }));
        CHECK(slow.question.error() == lookup_error::timeout);
        // No file any more: what c-ares makes of that still answers.
        unlink(path.c_str());
        asker last;
        names.resolve(last.question, "host.two.test", 1);
        REQUIRE(world.until([&] { return last.answers == 1; }));
        CHECK(last.texts() == std::vector<std::string>{"10.0.0.2:1"});
        CHECK(world.drain());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a name that cannot be resolved says why in Go's words", "[resolver]") {
    name_server server(zone());
    loop world;
    resolver names(world.ring, world.timers, asking(server));
    resolver impatient(world.ring, world.timers, asking(server, 50 * ring::millisecond));
    auto ask = [&](const std::string& host) {
        asker one;
        (host == "silent.test" ? impatient : names).resolve(one.question, host, 1);
        REQUIRE(world.until([&] { return one.answers == 1; }));
        CHECK(one.question.addresses().empty());
        return std::pair(one.question.error(), one.question.text());
    };
    using answer = std::pair<lookup_error, std::string>;
    CHECK(ask("missing.test") ==
          answer(lookup_error::no_such_host, "lookup missing.test: no such host"));
    CHECK(ask("empty.test") ==
          answer(lookup_error::no_such_host, "lookup empty.test: no such host"));
    CHECK(ask("broken.test") ==
          answer(lookup_error::misbehaving, "lookup broken.test: server misbehaving"));
    CHECK(ask("refused.test").first == lookup_error::misbehaving);
    CHECK(ask("silent.test") == answer(lookup_error::timeout, "lookup silent.test: i/o timeout"));
    CHECK(ask("garbage.test").first != lookup_error::none);

    unsigned before = server.questions();
    for (const std::string& none :
         {std::string(""), std::string("."), std::string(".test"), std::string("a..test"),
          std::string("a b"), std::string("a\0b", 3), std::string("\xc3\xa9.test"),
          std::string(64, 'a') + ".test", std::string(300, 'a')})
        CHECK(ask(none) == answer(lookup_error::no_such_host, "lookup " + none + ": no such host"));
    CHECK(server.questions() == before);
    CHECK(names.pending() == 0);
    CHECK(world.drain());
}

TEST_CASE("a server that is not there fails the question", "[resolver]") {
    std::string nowhere;
    {
        name_server closing({});
        nowhere = closing.servers();
    }
    loop world;
    resolver names(world.ring, world.timers,
                   {.servers = nowhere, .try_timeout = 50 * ring::millisecond});
    asker one;
    names.resolve(one.question, "four.test", 1);
    REQUIRE(world.until([&] { return one.answers == 1; }));
    // c-ares asks for both families: one refusal may be told to the wrong one, which then times
    // out.
    bool known = one.question.error() == lookup_error::misbehaving ||
                 one.question.error() == lookup_error::timeout;
    CHECK(known);
}

TEST_CASE("bad servers are refused at the start", "[resolver]") {
    loop world;
    CHECK_THROWS_AS(resolver(world.ring, world.timers, {.servers = "not-an-address"}),
                    std::runtime_error);
}

TEST_CASE("lookups die and are cancelled at any time", "[resolver]") {
    name_server server(zone());
    std::size_t before = open_descriptors();
    {
        loop world;
        resolver names(world.ring, world.timers, asking(server));
        asker kept;
        {
            asker dying, cancelled;
            names.resolve(dying.question, "both.test", 1);
            names.resolve(cancelled.question, "four.test", 1);
            names.resolve(kept.question, "six.test", 1);
            cancelled.question.cancel();
            CHECK_FALSE(cancelled.question.pending());
            // Asking again replaces the question.
            names.resolve(kept.question, "four.test", 2);
            REQUIRE(world.until([&] { return kept.answers == 1; }));
            CHECK(cancelled.answers == 0);
            names.resolve(dying.question, "silent.test", 1);
        }
        CHECK(kept.texts() == std::vector<std::string>{"127.0.0.1:2"});
        CHECK(world.until([&] { return names.pending() == 0; }));
        CHECK(world.drain());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("a resolver ends with questions on their way", "[resolver]") {
    name_server server(zone());
    std::size_t before = open_descriptors();
    asker one, two;
    {
        loop world;
        auto names = std::make_unique<resolver>(world.ring, world.timers, asking(server));
        names->resolve(one.question, "silent.test", 1);
        names->resolve(two.question, "both.test", 1);
        world.turn(0);
        names.reset();
    }
    CHECK(one.answers == 0);
    CHECK_FALSE(one.question.pending());
    CHECK_FALSE(two.question.pending());
    CHECK(open_descriptors() == before);
}

TEST_CASE("an answer may ask the next question", "[resolver]") {
    name_server server(zone());
    loop world;
    resolver names(world.ring, world.timers, asking(server));
    struct chain {
        resolver& names;
        int left = 20;
        void on_answer(lookup& l) noexcept {
            if (--left > 0) names.resolve(l, left % 2 == 0 ? "four.test" : "127.0.0.1", 1);
        }
        member_lookup<&chain::on_answer> question{this};
    } one{names};
    names.resolve(one.question, "six.test", 1);
    REQUIRE(world.until([&] { return one.left == 0; }));
    CHECK(world.drain());
}

TEST_CASE("many questions at once all find their answer", "[resolver]") {
    constexpr int count = 500;
    // Appended: GCC 12 warns of literal + temporary (its bug 105651).
    auto name = [](int i) { return std::string("n").append(std::to_string(i)).append(".test"); };
    auto address = [](int i) {
        return std::string("10.0.")
            .append(std::to_string(i / 250))
            .append(".")
            .append(std::to_string(i % 250));
    };
    std::map<std::string, zone_entry> many;
    for (int i = 0; i < count; ++i) many[name(i)].v4 = {address(i)};
    name_server server(many);
    std::size_t before = open_descriptors();
    {
        loop world;
        resolver_settings settings = asking(server);
        settings.tries = 6;  // a burst of a thousand datagrams may not fit the server's queue
        resolver names(world.ring, world.timers, settings);
        std::vector<std::unique_ptr<asker>> all;
        for (int i = 0; i < count; ++i) {
            all.push_back(std::make_unique<asker>());
            names.resolve(all.back()->question, name(i), 7);
        }
        REQUIRE(world.until([&] { return names.pending() == 0; }));
        for (int i = 0; i < count; ++i) {
            auto& one = *all[static_cast<std::size_t>(i)];
            CHECK(one.texts() == std::vector<std::string>{address(i).append(":7")});
        }
        CHECK(world.drain());
    }
    CHECK(open_descriptors() == before);
}

TEST_CASE("sockets to name servers are prepared", "[resolver]") {
    name_server server(zone());
    loop world;
    std::vector<std::string> seen;
    int answer = 0;
    resolver_settings settings = asking(server);
    settings.prepare = [&](int descriptor, const endpoint& to) {
        CHECK((fcntl(descriptor, F_GETFD) & FD_CLOEXEC) != 0);
        seen.push_back(to.text());
        return answer;
    };
    resolver names(world.ring, world.timers, settings);
    asker one;
    names.resolve(one.question, "four.test", 1);
    REQUIRE(world.until([&] { return one.answers == 1; }));
    CHECK(std::count(seen.begin(), seen.end(), server.servers()) >= 1);
    answer = ENETUNREACH;
    names.resolve(one.question, "both.test", 1);
    REQUIRE(world.until([&] { return one.answers == 2; }));
    CHECK(one.question.error() != lookup_error::none);
}
