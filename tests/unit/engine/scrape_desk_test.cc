// Scrapers under a clock of the test's: how many, how long, how often.
#include "core/engine/scrape_desk.hh"

#include "tests/catch.hh"

using namespace burin;
using namespace burin::engine;

namespace {

constexpr std::string_view ask = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

struct desk_bench {
    scrape_limits limits;
    scrape_desk desk{limits};
    ring::microseconds_t now = 1000 * ring::second;

    void say(int id, std::string_view text) { desk.received(id, as_bytes(text), now); }
    void arrive(int id) { desk.arrived(id, now); }
    // A scraper that asks at once.
    void scrape(int id) {
        arrive(id);
        say(id, ask);
    }
    void answer(std::string_view text = "a 1\n") {
        REQUIRE(desk.wants_numbers(now));
        desk.begin(now);
        desk.numbers(text);
    }
    std::string take_all(int id) {
        std::string all(desk.to_send(id));
        desk.sent(id, all.size());
        return all;
    }
    std::vector<int> gone_after(ring::microseconds_t time) {
        now += time;
        desk.advance(now);
        return desk.take_gone();
    }
};

}  // namespace

TEST_CASE("a scrape from its request to its close") {
    desk_bench b;
    CHECK_FALSE(b.desk.next());
    b.arrive(7);
    CHECK(b.desk.next() == b.now + b.limits.request);
    CHECK_FALSE(b.desk.wants_numbers(b.now));
    b.say(7, ask.substr(0, 10));
    b.say(7, ask.substr(10));
    CHECK(b.desk.to_send(7).empty());
    b.answer();
    const std::string_view whole = b.desk.to_send(7);
    CHECK(whole.ends_with("\r\n\r\na 1\n"));
    CHECK_FALSE(b.desk.to_shut(7));
    const std::size_t all = whole.size();
    b.desk.sent(7, 10);
    CHECK(b.desk.to_send(7).size() == all - 10);
    b.desk.sent(7, all - 10);
    CHECK(b.desk.to_send(7).empty());
    CHECK(b.desk.to_shut(7));
    CHECK_FALSE(b.desk.to_shut(7));
    CHECK(b.desk.to_read(7));
    CHECK(b.desk.take_gone().empty());
    b.say(7, "what comes behind it is thrown away");
    b.desk.received(7, {}, b.now);
    CHECK(b.desk.take_gone() == std::vector<int>{7});
    CHECK(b.desk.take_gone().empty());
    CHECK(b.desk.counters().answered == 1);
    CHECK(b.desk.counters().cut_off == 0);
    CHECK(b.desk.connections() == 0);
}

TEST_CASE("one that shuts its side still gets its answer, and is closed with it") {
    desk_bench b;
    b.scrape(1);
    b.desk.received(1, {}, b.now);
    CHECK_FALSE(b.desk.to_read(1));
    CHECK(b.desk.take_gone().empty());
    b.answer();
    CHECK(b.take_all(1).starts_with("HTTP/1.1 200 OK\r\n"));
    CHECK(b.desk.take_gone() == std::vector<int>{1});
    b.arrive(2);
    b.say(2, "GET /me");
    b.desk.received(2, {}, b.now);
    CHECK(b.desk.take_gone() == std::vector<int>{2});
}

TEST_CASE("a request that is not done within its time ends, byte by byte or silent") {
    desk_bench b;
    b.arrive(1);
    b.arrive(2);
    for (ring::microseconds_t past = 0; past + ring::second < b.limits.request;
         past += ring::second) {
        CHECK(b.gone_after(ring::second).empty());
        b.say(2, "G");  // does not buy time
    }
    CHECK(b.gone_after(ring::second - 1).empty());
    CHECK(b.gone_after(1) == std::vector<int>{1, 2});
    CHECK(b.desk.counters().cut_off == 2);
}

TEST_CASE("an answer that is not taken within its time ends, and so does one that never closes") {
    desk_bench b;
    b.scrape(1);
    b.scrape(2);
    b.answer(std::string(100'000, 'x'));
    b.desk.sent(1, 5);
    b.take_all(2);
    CHECK(b.gone_after(b.limits.answer - 1).empty());
    b.desk.sent(1, 5);
    CHECK(b.gone_after(1) == std::vector<int>{1, 2});
    CHECK(b.desk.counters().answered == 1);
    CHECK(b.desk.counters().cut_off == 1);
}

TEST_CASE("when there are as many as may be, the oldest makes room") {
    desk_bench b;
    const int most = static_cast<int>(b.limits.connections);
    for (int id = 0; id < most; ++id) b.arrive(id);
    CHECK(b.desk.take_gone().empty());
    b.scrape(100);
    CHECK(b.desk.take_gone() == std::vector<int>{0});
    CHECK(b.desk.connections() == b.limits.connections);
    b.answer();
    CHECK(b.take_all(100).starts_with("HTTP/1.1 200 OK\r\n"));
    for (int id = 1000; id < 1500; ++id) b.arrive(id);
    CHECK(b.desk.take_gone().size() == 500);
    CHECK(b.desk.connections() == b.limits.connections);
}

TEST_CASE("a head is bounded, however it comes") {
    desk_bench b;
    b.arrive(1);
    b.say(1, "GET /metrics HTTP/1.1\r\n");
    const std::string field = "X: " + std::string(1000, 'y') + "\r\n";
    int said = 0;
    for (; b.desk.to_send(1).empty() && said < 100; ++said) b.say(1, field);
    CHECK(said <= 17);
    CHECK(b.take_all(1).starts_with("HTTP/1.1 431 "));
    CHECK(b.desk.counters().refused == 1);
    CHECK_FALSE(b.desk.wants_numbers(b.now));
}

TEST_CASE("numbers are taken for all who wait, and ten times a second at most") {
    desk_bench b;
    b.scrape(1);
    b.scrape(2);
    REQUIRE(b.desk.wants_numbers(b.now));
    b.desk.begin(b.now);
    CHECK_FALSE(b.desk.wants_numbers(b.now));
    b.scrape(3);  // too late for these
    b.now += 5 * ring::millisecond;
    CHECK_FALSE(b.desk.wants_numbers(b.now));
    b.desk.numbers("a 1\n");
    CHECK(b.take_all(1).ends_with("\r\n\r\na 1\n"));
    CHECK(b.take_all(2).ends_with("\r\n\r\na 1\n"));
    CHECK(b.desk.to_send(3).empty());
    CHECK_FALSE(b.desk.wants_numbers(b.now));
    CHECK(b.desk.next() == b.now + 95 * ring::millisecond);
    b.now += 95 * ring::millisecond - 1;
    CHECK_FALSE(b.desk.wants_numbers(b.now));
    b.now += 1;
    b.answer("a 2\n");
    CHECK(b.take_all(3).ends_with("\r\n\r\na 2\n"));
}

TEST_CASE("workers that do not tell in time are told of, and the next question is another") {
    desk_bench b;
    b.scrape(1);
    b.desk.begin(b.now);
    CHECK(b.desk.next() == b.now + b.limits.numbers);
    b.now += b.limits.numbers - 1;
    CHECK_FALSE(b.desk.overdue(b.now));
    b.now += 1;
    REQUIRE(b.desk.overdue(b.now));
    b.desk.no_numbers("a worker does not answer");
    CHECK(b.take_all(1).starts_with("HTTP/1.1 503 "));
    CHECK_FALSE(b.desk.overdue(b.now));
    CHECK(b.desk.counters().without_numbers == 1);
    b.scrape(2);
    b.answer();
    CHECK(b.take_all(2).starts_with("HTTP/1.1 200 OK\r\n"));
}

TEST_CASE("one that breaks is gone, whatever it was at, and unknown ones are nobody") {
    desk_bench b;
    b.arrive(1);
    b.scrape(2);
    b.desk.begin(b.now);
    b.desk.broken(1);
    b.desk.broken(2);
    b.desk.numbers("a 1\n");
    CHECK(b.desk.take_gone() == std::vector<int>{1, 2});
    b.desk.broken(1);
    b.say(2, ask);
    b.desk.sent(2, 5);
    CHECK(b.desk.to_send(2).empty());
    CHECK_FALSE(b.desk.to_shut(2));
    CHECK(b.desk.take_gone().empty());
}
