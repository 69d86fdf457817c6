// Flags as chisel takes them (docs/wire.md sections 10 to 10.3). The parser belongs to the program,
// not to a library, so it is compiled in here.
#include "tools/command_line.cc"

#include "tests/catch.hh"

using namespace burin;
using namespace burin::tools;

namespace {

using words = std::vector<std::string>;

engine::server_settings server(const words& arguments, const environment& env = {}) {
    auto c = parse_server(arguments, env);
    CAPTURE(c.error);
    REQUIRE(c.error.empty());
    REQUIRE(c.help.empty());
    return std::move(c.settings);
}
engine::client_settings client(const words& arguments, const environment& env = {}) {
    auto c = parse_client(arguments, env);
    CAPTURE(c.error);
    REQUIRE(c.error.empty());
    return std::move(c.settings);
}

}  // namespace

TEST_CASE("defaults are chisel's") {
    auto s = server({});
    CHECK(s.host == "0.0.0.0");
    CHECK(s.port == 8080);
    CHECK(s.keepalive == 25 * ring::second);
    CHECK(s.session().ping_timeout == 25 * ring::second);
    CHECK(s.workers == 1);
    CHECK_FALSE(s.verbose);
    CHECK(s.login_timeout == 30 * ring::second);
    CHECK(s.login_delay == ring::second);
    CHECK(s.config_timeout == 10 * ring::second);
    CHECK(s.dial_timeout == 30 * ring::second);
    CHECK(s.session().exchange_timeout == 30 * ring::second);
    CHECK(s.rekey_bytes == std::uint64_t{1} << 36);
    auto c = client({"example.com", "3000"});
    CHECK(c.max_retry_count == -1);
    CHECK(c.min_retry_interval == ring::second);
    CHECK(c.max_retry_interval == 300 * ring::second);
    CHECK(c.connect_timeout == 45 * ring::second);
    CHECK(c.session_wait == 35 * ring::second);
    CHECK(c.server == "example.com");
    REQUIRE(c.remotes.size() == 1);
    CHECK(c.remotes[0].text() == "3000=>3000");
    CHECK_FALSE(c.random_mask);
    CHECK(c.send_zero_copy == engine::link_options::zero_copy::off);
}

TEST_CASE("flags are spelled as Go's are") {
    for (const words& w : {words{"--port", "9"}, words{"-port", "9"}, words{"--port=9"},
                           words{"-port=9"}, words{"-p", "9"}, words{"-p=9"}, words{"--p", "9"},
                           words{"-p", "7", "--port", "9"}, words{"--port", "7", "--port", "9"}}) {
        CAPTURE(w);
        CHECK(server(w).port == 9);
    }
    CHECK(server({"-v"}).verbose);
    CHECK(server({"--v"}).verbose);
    CHECK(server({"-v=true"}).verbose);
    CHECK_FALSE(server({"-v=false"}).verbose);
    CHECK_FALSE(server({"-v=0"}).verbose);
    CHECK(server({"--auth", "-v:--port"}).auth.view() == "-v:--port");
    CHECK(server({"--auth=a:b=c"}).auth.view() == "a:b=c");
    CHECK(server({"--auth", ""}).auth.empty());
    CHECK(server({"--host="}).host == "0.0.0.0");
    CHECK(server({"--rekey-limit", "64K"}).rekey_bytes == 64u << 10);
    CHECK(server({}).window_max == 64u << 20);
    CHECK(server({"--window-max", "1G"}).session().limits.window_max == 1u << 30);
    CHECK(client({"--window-max=64K", "url", "1"}).session().limits.window_max == 64u << 10);
    CHECK(client({"--rekey-limit=1GB", "url", "1"}).rekey_bytes == 1'000'000'000);
    CHECK(server({"--memory", "1G", "--max-channels", "7", "--workers=3"}).memory_bytes ==
          1u << 30);
    CHECK(server({}).ciphers.empty());
    CHECK(client({"--ciphers", "aes256-gcm@openssh.com,aes128-ctr", "url", "1"}).ciphers ==
          "aes256-gcm@openssh.com,aes128-ctr");
    CHECK(server({}).congestion.empty());
    CHECK(server({"--congestion", "bbr"}).congestion == "bbr");
    CHECK(client({"--congestion=cubic", "url", "1"}).congestion == "cubic");
    CHECK(server({}).processors.empty());
    CHECK(server({"--cpu-affinity", "4,0-2", "--workers=3"}).worker().processors ==
          std::vector<unsigned>{4, 0, 1, 2});
    CHECK(client({"--cpu-affinity=7", "url", "1"}).worker().processors == std::vector<unsigned>{7});
    // Before and behind the other arguments.
    auto c =
        client({"-v", "url", "--max-retry-count", "-1", "3000", "--keepalive=0", "--", "4000"});
    CHECK(c.verbose);
    CHECK(c.keepalive == 0);
    CHECK(c.remotes.size() == 2);
}

TEST_CASE("secrets are overwritten where others could read them") {
    std::vector<std::string> given{"burin",     "server", "--auth",       "u:one", "-key=two",
                                   "--keyfile", "file",   "-keyfile",     "ck-AB", "--header",
                                   "A: three",  "--host", "--keyfile=ck", "--",    "--auth=four"};
    std::vector<std::string> variables{"AUTH=u:five", "CHISEL_KEY=six", "CHISEL_KEY_FILE=ck-CD",
                                       "HOST=seven",  "AUTH",           "CHISEL_KEY="};
    std::vector<char*> arguments, environ_like;
    for (auto& each : given) arguments.push_back(each.data());
    for (auto& each : variables) environ_like.push_back(each.data());
    environ_like.push_back(nullptr);
    const std::vector<std::string> before = given;
    hide_secrets(arguments, environ_like.data());
    const auto zeros = [](std::size_t count) { return std::string(count, '\0'); };
    CHECK(given == std::vector<std::string>{"burin", "server", "--auth", zeros(5),
                                            "-key=" + zeros(3), "--keyfile", "file", "-keyfile",
                                            zeros(5), "--header", zeros(8), "--host",
                                            "--keyfile=ck", "--", "--auth=four"});
    CHECK(variables == std::vector<std::string>{"AUTH=" + zeros(6), "CHISEL_KEY=" + zeros(3),
                                                "CHISEL_KEY_FILE=" + zeros(5), "HOST=seven", "AUTH",
                                                "CHISEL_KEY="});
    // A flag without its value is told as a mistake later.
    char last[] = "--auth";
    char* alone[] = {last};
    hide_secrets(alone, &environ_like.back());
    CHECK(std::string(last) == "--auth");
    words copies{"--auth", "u:one"};
    environment env{{"AUTH", "u:five"}};
    wipe(copies, env);
    CHECK(copies[1] == zeros(5));
    CHECK(env["AUTH"] == zeros(6));
}

TEST_CASE("a mistake is told without what may be a secret") {
    CHECK(parse_server({"---auth=u:secret"}, {}).error.find("secret") == std::string::npos);
    CHECK(parse_server({"--auht=u:secret"}, {}).error.find("secret") == std::string::npos);
    CHECK(parse_server({"--auth", "secret"}, {}).error.find("secret") == std::string::npos);
    CHECK(parse_client({"--auth", "secret", "u", "1"}, {}).error.find("secret") ==
          std::string::npos);
}

TEST_CASE("the environment is the fallback") {
    environment env{{"HOST", "1.2.3.4"},
                    {"PORT", "81"},
                    {"AUTH", "u:p"},
                    {"CHISEL_KEY", "seed"},
                    {"CHISEL_KEY_FILE", "file"},
                    {"CHISEL_CONFIG_TIMEOUT", "3s"},
                    {"BURIN_LOGIN_DELAY", "20ms"},
                    {"CHISEL_DIAL_TIMEOUT", "4s"},
                    {"CHISEL_PING_TIMEOUT", "5s"},
                    {"CHISEL_WS_READ_LIMIT", "0"},
                    {"CHISEL_UDP_MAX_SIZE", "1400"},
                    {"CHISEL_UDP_DEADLINE", "5s"},
                    {"CHISEL_UDP_MAX_CONNS", "7"}};
    auto s = server({}, env);
    CHECK(s.host == "1.2.3.4");
    CHECK(s.port == 81);
    CHECK(s.auth.view() == "u:p");
    CHECK(s.key.view() == "seed");
    CHECK(s.keyfile.view() == "file");
    CHECK(s.config_timeout == 3 * ring::second);
    CHECK(s.login_delay == 20 * ring::millisecond);
    CHECK(server({}, {{"BURIN_LOGIN_DELAY", "0"}}).login_delay == 0);
    CHECK(server({}, {{"BURIN_LOGIN_DELAY", "-1s"}}).login_delay == ring::second);
    CHECK(s.worker().dial_timeout == 4 * ring::second);
    CHECK(s.session().ping_timeout == 5 * ring::second);
    CHECK(s.message_limit == 0);
    CHECK(s.worker().datagrams.max_bytes == 1400);
    CHECK(s.worker().datagrams.deadline == 5 * ring::second);
    CHECK(s.worker().datagrams.most_sources == 7);
    CHECK(parse_server({}, env).notes.empty());
    auto given =
        server({"--host", "h", "-p", "82", "--auth", "a:b", "--key", "k", "--keyfile", "f"}, env);
    CHECK(given.host == "h");
    CHECK(given.port == 82);
    CHECK(given.auth.view() == "a:b");
    CHECK(given.key.view() == "k");
    CHECK(given.keyfile.view() == "f");
    auto c = client({"u", "1"}, {{"AUTH", "u:p"},
                                 {"CHISEL_WS_TIMEOUT", "1m"},
                                 {"CHISEL_SSH_WAIT", "2s"},
                                 {"CHISEL_SSH_TIMEOUT", "7s"}});
    CHECK(c.auth.view() == "u:p");
    CHECK(c.connect_timeout == 60 * ring::second);
    CHECK(c.session_wait == 2 * ring::second);
    CHECK(c.handshake_timeout == 7 * ring::second);
    CHECK(c.session().exchange_timeout == 7 * ring::second);
    CHECK(c.steering);
    CHECK_FALSE(client({"u", "1"}, {{"BURIN_NO_STEERING", "1"}}).steering);
    // What cannot be read falls back silently.
    auto odd = client({"u", "1"}, {{"CHISEL_WS_TIMEOUT", "soon"},
                                   {"CHISEL_SSH_WAIT", "-1s"},
                                   {"CHISEL_WS_READ_LIMIT", "-5"},
                                   {"CHISEL_UDP_MAX_SIZE", "1k"},
                                   {"CHISEL_UDP_DEADLINE", "0"},
                                   {"CHISEL_UDP_MAX_CONNS", "0"},
                                   {"CHISEL_DIAL_TIMEOUT", "7"}});
    CHECK(odd.connect_timeout == 45 * ring::second);
    CHECK(odd.session_wait == 35 * ring::second);
    CHECK(odd.message_limit == http::websocket_reader::default_message_limit);
    CHECK(odd.dial_timeout == 30 * ring::second);
    CHECK(odd.datagrams.max_bytes == 9012);
    CHECK(odd.datagrams.deadline == 15 * ring::second);
    CHECK(odd.datagrams.most_sources == 100);
    // No datagram is larger, and each source is looked for in turn.
    auto large = client({"u", "53/udp"},
                        {{"CHISEL_UDP_MAX_SIZE", "1000000"}, {"CHISEL_UDP_MAX_CONNS", "1000000"}});
    CHECK(large.datagrams.max_bytes == 65507);
    CHECK(large.datagrams.most_sources == 1000);
    REQUIRE(large.remotes.size() == 1);
    CHECK(large.remotes[0].datagrams());
}

TEST_CASE("a deprecated --key says so, given as a flag") {
    auto c = parse_server({"--key", "x"}, {});
    REQUIRE(c.notes.size() == 2);
    CHECK(c.notes[0].starts_with("Option `--key` is deprecated"));
}

TEST_CASE("the client's own flags") {
    auto c = client({"--fingerprint", "abc=", "--header", "A: b", "-header=C:d", "--hostname", "h",
                     "--max-retry-count=3", "--max-retry-interval", "9s", "--min-retry-interval",
                     "10ms", "--ws-mask", "--send-zc", "http://x:1/p", "1:2", "[::1]:3:h:4"});
    CHECK(c.fingerprint == "abc=");
    CHECK(*c.headers.find("A") == "b");
    CHECK(*c.headers.find("C") == "d");
    CHECK(c.hostname == "h");
    CHECK(c.max_retry_count == 3);
    CHECK(c.max_retry_interval == 9 * ring::second);
    CHECK(c.min_retry_interval == 10 * ring::millisecond);
    CHECK(c.random_mask);
    CHECK(c.send_zero_copy == engine::link_options::zero_copy::wanted);
    CHECK(c.remotes.size() == 2);
    auto t = client({"--tun", "tun7", "--tun-addr", "10.9.0.1/24", "--route", "10.0.0.0/8",
                     "--route", "192.0.2.0/24", "--exclude", "10.1.0.0/16", "--exclude", "fd00::/8",
                     "--dns", "[fd00::53]:5353", "x"});
    CHECK(t.tun == "tun7");
    CHECK(t.tun_addresses == words{"10.9.0.1/24"});
    CHECK(t.routes == words{"10.0.0.0/8", "192.0.2.0/24"});
    CHECK(t.excludes == words{"10.1.0.0/16", "fd00::/8"});
    CHECK(t.dns == "[fd00::53]:5353");
    CHECK(t.tun_congestion == tun::congestion_control::cubic);
    CHECK(client({"--tun", "t", "--tun-addr", "10.9.0.1/24", "--tun-congestion", "bbr", "x"})
              .tun_congestion == tun::congestion_control::bbr);
    CHECK(t.remotes.empty());
    CHECK(client({"--min-retry-interval", "0", "x", "1"}).min_retry_interval ==
          100 * ring::millisecond);
}

TEST_CASE("what is wrong is told and ends the program with a status other than 0") {
    struct row {
        bool client;
        words arguments;
        std::string_view error;
    };
    const row rows[] = {
        {false, {"--bogus"}, "flag provided but not defined: -bogus"},
        {false, {"--port"}, "flag needs an argument: -port"},
        {false, {"---port"}, "bad flag syntax: ---port"},
        {false, {"-=x"}, "bad flag syntax: -"},
        {false, {"-v=maybe"}, "invalid boolean value \"maybe\" for -v: parse error"},
        {false, {"--port", "0"}, "invalid value \"0\" for flag -port"},
        {false, {"--port", "80x"}, "invalid value \"80x\" for flag -port"},
        {false, {"--workers", "0"}, "invalid value \"0\" for flag -workers"},
        {false, {"--workers", "1000"}, "invalid value \"1000\" for flag -workers"},
        {false,
         {"--cpu-affinity", "0,0"},
         "invalid value \"0,0\" for flag -cpu-affinity: a list of different CPUs is wanted"},
        {false,
         {"--cpu-affinity", "0-2", "--workers", "4"},
         "invalid value \"0-2\" for flag -cpu-affinity: 1 of 4 workers have none"},
        {false, {"--memory", "1M"}, "invalid value \"1M\" for flag -memory"},
        {false, {"--max-channels", "-1"}, "invalid value \"-1\" for flag -max-channels"},
        {false, {"--keepalive", "25"}, "invalid value \"25\" for flag -keepalive"},
        {false, {"--window-max", "63K"}, "invalid value \"63K\" for flag -window-max"},
        {true, {"--window-max", "1025M", "u", "1"}, "invalid value \"1025M\" for flag -window-max"},
        {true,
         {"--ciphers", "aes128-gcm@openssh.com,none", "u", "1"},
         "invalid value \"aes128-gcm@openssh.com,none\" for flag -ciphers: names out of "
         "aes128-gcm"},
        {false,
         {"--congestion", "../x"},
         "invalid value \"../x\" for flag -congestion: a name is wanted, as cubic or bbr"},
        {false, {"--rekey-limit", "63K"}, "invalid value \"63K\" for flag -rekey-limit"},
        {false, {"--rekey-limit", "1G 1h"}, "invalid value \"1G 1h\" for flag -rekey-limit"},
        {false, {"--auth", "nocolon"}, "invalid auth string, expected <user>:<pass>"},
        {false, {"--reverse"}, "--reverse is not available in this version of burin"},
        {false, {"extra"}, ""},
        {true, {}, "A server and least one remote is required"},
        {true, {"http://x"}, "A server and least one remote is required"},
        {true, {"x", "foo"}, "Failed to decode remote 'foo': Missing ports"},
        {true, {"x", "80", "a:b:c:d:e"}, "Failed to decode remote 'a:b:c:d:e': Invalid remote"},
        {true, {"x", "R:80"}, "Failed to decode remote 'R:80': reverse remotes are not available"},
        {true, {"x", "socks"}, "Failed to decode remote 'socks': SOCKS remotes are not available"},
        {true, {"x", "stdio:1"}, "Failed to decode remote 'stdio:1': stdio remotes are not"},
        {true,
         {"x", "5353/udp:1.1.1.1:53"},
         "Failed to decode remote '5353/udp:1.1.1.1:53': cross"},
        {true, {"ws://x", "80"}, "unsupported scheme in server URL 'ws://x'"},
        {true, {"https://x", "80"}, "https:// is not available in this version of burin"},
        {true, {"http://u:p@x", "80"}, "malformed ws or wss URL"},
        {true, {"--header", "nocolon", "x", "80"}, "Invalid header (nocolon)."},
        {true,
         {"--header", "Upgrade: x", "x", "80"},
         "websocket: duplicate header not allowed: Upgrade"},
        {true,
         {"--max-retry-count", "x", "x", "80"},
         "invalid value \"x\" for flag -max-retry-count"},
        {true,
         {"--route", "10.0.0.0/8", "x", "80"},
         "--tun-addr, --route, --exclude, --dns and --tun-congestion need --tun NAME"},
        {true,
         {"--exclude", "10.0.0.0/8", "x", "80"},
         "--tun-addr, --route, --exclude, --dns and --tun-congestion need --tun NAME"},
        {true,
         {"--dns", "10.0.0.1", "x", "80"},
         "--tun-addr, --route, --exclude, --dns and --tun-congestion need --tun NAME"},
        {true,
         {"--tun", "t", "--tun-addr", "10.0.0.1", "--exclude", "10.0.0.1/8", "x"},
         "--exclude: "},
        {true,
         {"--tun", "t", "--tun-addr", "10.0.0.1", "--dns", "name", "x"},
         "--dns: 'name' is not"},
        {true,
         {"--tun-congestion", "bbr", "x", "80"},
         "--tun-addr, --route, --exclude, --dns and --tun-congestion need --tun NAME"},
        {true,
         {"--tun", "t", "--tun-addr", "10.0.0.1/8", "--tun-congestion", "BBR", "x"},
         "invalid value \"BBR\" for flag -tun-congestion: cubic or bbr is wanted"},
        {true, {"--tun", "t", "x"}, "--tun needs --tun-addr"},
        {true, {"--tun", "t", "--tun-addr", "10.0.0.1", "--route", "10.0.0.1/8", "x"}, "--route: "},
        {true, {"--tun", "t", "--tun-addr", "nonsense", "x"}, "--tun-addr: "},
        {true, {"--sni", "x", "x", "80"}, "--sni is not available in this version of burin"},
    };
    for (const row& r : rows) {
        CAPTURE(r.arguments);
        std::string error;
        int status = 0;
        if (r.client) {
            auto c = parse_client(r.arguments, {});
            error = c.error;
            status = c.status;
        } else {
            auto c = parse_server(r.arguments, {});
            error = c.error;
            status = c.status;
        }
        CHECK_FALSE(error.empty());
        CHECK(error.substr(0, r.error.size()) == r.error);
        CHECK(status != 0);
    }
    // A secret is not repeated.
    CHECK(parse_server({"--auth", "s3cret"}, {}).error.find("s3cret") == std::string::npos);
}

TEST_CASE("help is asked for in four ways") {
    for (const char* word : {"--help", "-help", "-h", "--h"}) {
        auto c = parse_server({"--port", "9", word}, {});
        CHECK(c.help.find("--authorized-keys") != std::string::npos);
        CHECK(c.error.empty());
        CHECK(parse_client({word}, {}).help.find("--fingerprint") != std::string::npos);
    }
    CHECK(program_help().find("burin server") != std::string::npos);
}

TEST_CASE("--metrics takes an address and a port, and never the tunnel's") {
    CHECK(server({}).metrics.port == 0);
    struct {
        const char* text;
        const char* host;
        std::uint16_t port;
    } good[] = {{":9100", "127.0.0.1", 9100},
                {"127.0.0.1:1", "127.0.0.1", 1},
                {"0.0.0.0:65535", "0.0.0.0", 65535},
                {"[::1]:9100", "::1", 9100},
                {"gateway.lan:9100", "gateway.lan", 9100}};
    for (const auto& each : good) {
        CAPTURE(each.text);
        CHECK(server({"--metrics", each.text}).metrics.host == each.host);
        CHECK(client({"-metrics", each.text, "http://h", "80"}).metrics.port == each.port);
    }
    for (const char* bad : {"9100", "127.0.0.1", ":", "a:", ":0", ":65536", ":-1", ":9x",
                            "::1:9100", "[::1]", "[::1:9100", ":+9100", ": 9100"}) {
        CAPTURE(bad);
        auto c = parse_server({"--metrics", bad}, {});
        CHECK(
            c.error.starts_with("invalid value \"" + std::string(bad) + "\" for flag -metrics: "));
        CHECK(c.status == 1);
    }
    CHECK(parse_server({"--metrics", ":8080"}, {}).error ==
          "invalid value \":8080\" for flag -metrics: that is the port of the tunnel");
    CHECK(parse_server({"--metrics", ":8080", "--port", "8081"}, {}).error.empty());
    CHECK(parse_server({"--metrics", ":7000"}, {{"PORT", "7000"}}).status == 1);
}
