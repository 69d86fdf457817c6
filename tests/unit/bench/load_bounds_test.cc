// What a far end of the load grants strangers, and what its near end says of one that does not.
#include "bench/load_client.hh"
#include "bench/load_server.hh"
#include "tests/catch.hh"

using namespace load;

namespace {

// Its threads run until the process ends, so it stays as well.
options far_end(const bounds& limits) {
    auto* set = new options;
    set->mode = "serve";
    set->port = "0";
    set->threads = 1;
    auto* running = new server(*set, limits);
    running->start();
    options ask;
    ask.port = std::to_string(running->port());
    ask.timeout = 60;
    return ask;
}

std::string failure(const options& ask) {
    try {
        run_round_trips(ask);
    } catch (const trouble& why) {
        return why.what();
    }
    return "";
}

}  // namespace

TEST_CASE("the load moves, comes back and connects, and is counted") {
    options ask = far_end({});
    for (const char* way : {"up", "down", "both"}) {
        ask.mode = way;
        ask.streams = 3;
        ask.bytes = 300'000;
        tally total;
        const bulk_result made = run_bulk(ask, total);
        CAPTURE(way, made.error);
        CHECK(made.ok());
        const std::uint64_t one = 3 * ask.bytes;
        CHECK(made.sent == (ask.mode == "down" ? 0 : one));
        CHECK(made.received == (ask.mode == "up" ? 0 : one));
        CHECK(made.slowest == made.fastest);
        CHECK(total.moved == made.bytes());
    }
    ask.count = 20;
    const trips there_and_back = run_round_trips(ask);
    CHECK(there_and_back.clean);
    CHECK(there_and_back.microseconds.size() == 20);
    ask.parallel = 4;
    const connects made = run_connects(ask);
    CHECK(made.failed == 0);
    CHECK(made.microseconds.size() == 20);
    // However short, one round trip is measured.
    ask.seconds = 1e-9;
    CHECK(run_round_trips(ask).microseconds.size() == 1);
}

TEST_CASE("a stream's time ends, however busy it is") {
    options ask = far_end({.life_seconds = 0.05});
    for (const char* way : {"up", "down"}) {
        ask.mode = way;
        ask.seconds = 1e6;
        tally total;
        const bulk_result made = run_bulk(ask, total);
        CHECK(made.failed == 1);
        CHECK(total.moved > 0);
        CHECK_FALSE(made.error.empty());
    }
}

TEST_CASE("strangers do not choose what is kept for them") {
    options ask = far_end({.each = {.most_seeds = 2, .echo_bytes = 16, .keeps_idle = false}});
    for (const std::uint64_t seed : {1, 2}) {
        ask.seed = seed;
        ask.count = 3;
        ask.size = 1000;
        CHECK(run_round_trips(ask).clean);
    }
    ask.seed = 3;
    CHECK(failure(ask).find("no answer from the far end") != std::string::npos);
}

TEST_CASE("a far end that is not there is told in words") {
    options ask = far_end({});
    ask.port = "1";
    CHECK(failure(ask).find("127.0.0.1 port 1: no answer") == 0);
    CHECK(failure(ask).find("Connection refused") != std::string::npos);
    ask.count = 5;
    const connects none = run_connects(ask);
    CHECK(none.failed == 5);
    CHECK(none.microseconds.empty());
    ask.host = "nowhere.invalid";
    CHECK(failure(ask).find("nowhere.invalid port 1: ") == 0);
}
