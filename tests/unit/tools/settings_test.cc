#include "tools/bench/settings.hh"

#include "tests/catch.hh"
#include "tools/bench/progress.hh"

using namespace burin::tools::bench;

namespace {

using words = std::vector<std::string>;

settings right(const words& arguments) {
    const command c = parse(arguments);
    CAPTURE(c.error);
    REQUIRE(c.error.empty());
    REQUIRE(c.help.empty());
    return c.chosen;
}

}  // namespace

TEST_CASE("alone, through tunnels, serving or drawing anew") {
    CHECK(right({}).what == settings::mode::alone);
    const settings quick = right({"--quick", "--seconds", "0.2", "--out", "x"});
    CHECK(quick.seconds == 0.2);
    CHECK(quick.pairs == 1);
    CHECK(quick.out == "x");
    const settings served = right({"serve"});
    CHECK(served.what == settings::mode::serve);
    CHECK(served.host == "127.0.0.1");
    CHECK(right({"serve", "7001"}).host == "127.0.0.1");
    CHECK(right({"serve", "0.0.0.0:7001"}).host == "0.0.0.0");
    CHECK(right({"serve", "[::]:0"}).host == "::");
    CHECK(right({"render", "r.json"}).input == "r.json");

    const settings two =
        right({"7000", "a=b=[fd00::1]:70", "--pid", "a=b=12,13", "--pid", "7000=9", "--direct",
               "far:71", "--only", "idle,loaded", "--streams", "16,1,16"});
    REQUIRE(two.targets.size() == 2);
    CHECK(two.targets[0].name == "7000");
    CHECK(two.targets[0].host == "127.0.0.1");
    CHECK(two.targets[0].processes == std::vector<pid_t>{9});
    CHECK(two.targets[1].name == "a=b");
    CHECK(two.targets[1].host == "fd00::1");
    CHECK(two.targets[1].port == "70");
    CHECK(two.targets[1].processes == std::vector<pid_t>{12, 13});
    CHECK(two.direct.at(0).host == "far");
    CHECK(two.streams == std::vector<unsigned>{1, 16});
    CHECK(two.wants("idle"));
    CHECK_FALSE(two.wants("throughput"));
    CHECK(right({"--server-flags", "--workers 2  -v"}).server_flags ==
          words{"--workers", "2", "-v"});
}

TEST_CASE("what cannot be meant is refused") {
    for (const words& bad : std::vector<words>{{"--frobnicate"},
                                               {"--seconds", "0"},
                                               {"--seconds", "nan"},
                                               {"--seconds", "x"},
                                               {"--pairs", "0"},
                                               {"--pairs", "101"},
                                               {"--pairs", "1.5"},

                                               {"--streams", "1,,2"},
                                               {"--streams", "0"},
                                               {"--streams", "99999"},
                                               {"--streams", "1,2,3,4,5,6,7"},
                                               {"--only", "speed"},
                                               {"host:port"},
                                               {"host:70000"},
                                               {"host:-1"},
                                               {"host:0"},
                                               {":70"},
                                               {"fd00::1:70"},
                                               {"a\n=host:70"},
                                               {"\xFF=host:70"},
                                               {std::string(300, 'x') + "=host:70"},
                                               {"=host:70"},
                                               {"h\x1b:70"},
                                               {"1", "1"},
                                               {"a=1", "a=2"},
                                               {"1", "2", "3", "4", "5", "6", "7"},
                                               {"--direct", "h:1"},
                                               {"--pid", "1"},
                                               {"1", "--pid", "x"},
                                               {"1", "--pid", "0"},
                                               {"1", "--pid", "-5"},
                                               {"1", "--pid", "b=5"},
                                               {"1", "2", "--pid", "5"},
                                               {"1", "--direct", "x"},
                                               {"no tunnel=1", "--direct", "h:2"},
                                               {"serve", "1", "2"},
                                               {"serve", "x"},
                                               {"serve", "--connections", "0"},
                                               {"render"},
                                               {"1", "--server-flags", "-v"},
                                               {"--out"},
                                               {"--out", ""},
                                               {"--timeout", "0"}}) {
        const command c = parse(bad);
        CAPTURE(bad);
        CHECK_FALSE(c.error.empty());
        CHECK(c.error.find('\x1b') == std::string::npos);
    }
    CHECK_FALSE(parse({"--help"}).help.empty());
}

TEST_CASE("how far it is") {
    CHECK(counter_text(7, 112) == "[  7/112] ");
    CHECK(clock_text(65.4) == "1:05");
    CHECK(clock_text(-3) == "0:00");
    CHECK(bar_text(0.5, 8) == "####....");
    CHECK(bar_text(1.5, 4) == "####");
    CHECK(bar_text(-1, 4) == "....");
}
