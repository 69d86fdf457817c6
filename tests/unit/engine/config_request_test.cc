// The config request byte for byte (docs/wire.md section 7).
#include "core/engine/config_request.hh"

#include "tests/catch.hh"

using namespace burin::engine;

namespace {

remote parsed(std::string_view text) {
    return parse_remote(text).value.value();
}

}  // namespace

TEST_CASE("the JSON is the one that Go's encoder writes") {
    CHECK(write_config({"1.11.5", {parsed("R:2222:localhost:22")}}) ==
          R"({"Version":"1.11.5","Remotes":[{"LocalHost":"0.0.0.0","LocalPort":"2222",)"
          R"("LocalProto":"tcp","RemoteHost":"localhost","RemotePort":"22","RemoteProto":"tcp",)"
          R"("Socks":false,"Reverse":true,"Stdio":false}]})");
    CHECK(write_config({"0.1.0", {}}) == R"({"Version":"0.1.0","Remotes":null})");
    std::string two = write_config({"x", {parsed("3000"), parsed("socks")}});
    CHECK(two.find(R"("Stdio":false},{"LocalHost":"127.0.0.1","LocalPort":"1080")") !=
          std::string::npos);
    CHECK(two.find(R"("RemoteHost":"","RemotePort":"","RemoteProto":"tcp","Socks":true)") !=
          std::string::npos);
}

TEST_CASE("strings are escaped as Go escapes them") {
    struct row {
        std::string_view text, written;
    };
    const row rows[] = {
        {"<a>&b", R"(\u003ca\u003e\u0026b)"},
        {"\"\\", R"(\"\\)"},
        {"\n\r\t", R"(\n\r\t)"},
        {"\x01\x1f\x7f", "\\u0001\\u001f\x7f"},
        {"\u2028\u2029", R"(\u2028\u2029)"},
        {"\u00fc\u20ac\U0001f600", "\u00fc\u20ac\U0001f600"},
        {"a\xff"
         "b",
         "a\\ufffdb"},
        {"\xe2\x80", R"(\ufffd\ufffd)"},
        {"\xed\xa0\x80", R"(\ufffd\ufffd\ufffd)"},
        {"\xc0\xaf", R"(\ufffd\ufffd)"},
    };
    for (const row& r : rows) {
        CAPTURE(r.written);
        CHECK(write_config({std::string(r.text), {}}) ==
              R"({"Version":")" + std::string(r.written) + R"(","Remotes":null})");
    }
}

TEST_CASE("what was written is read back") {
    config_request sent{"1.12.0",
                        {parsed("R:[::]:3000:[::1]:3000"), parsed("53/udp"), parsed("socks"),
                         parsed("stdio:<host>:22")}};
    auto got = parse_config(write_config(sent));
    REQUIRE(got);
    CHECK(got->version == sent.version);
    CHECK(got->remotes == sent.remotes);
}

TEST_CASE("the reader is as tolerant as Go's decoder, and no more") {
    for (std::string_view text :
         {"{}", "null", R"({"Remotes":null})", R"({"Remotes":[]})", R"({"extra":{"a":[1]}})",
          R"({"Version":null,"Remotes":[null,{}]})", " {\"version\" : \"1\" }\n"}) {
        CAPTURE(text);
        CHECK(parse_config(text));
    }
    auto odd = parse_config(
        R"({"VERSION":"7","remotes":[{"localport":"1","SOCKS":true,"unknown":5,"Reverse":null}]})");
    REQUIRE(odd);
    CHECK(odd->version == "7");
    REQUIRE(odd->remotes.size() == 1);
    CHECK(odd->remotes[0].local_port == "1");
    CHECK(odd->remotes[0].socks);
    CHECK_FALSE(odd->remotes[0].reverse);
    for (std::string_view text :
         {"", "{", "[]", "5", "\"x\"", "{} {}", R"({"Version":5})", R"({"Remotes":{}})",
          R"({"Remotes":[5]})", R"({"Remotes":[{"LocalPort":22}]})",
          R"({"Remotes":[{"Socks":"yes"}]})", R"({'Version':'x'})", "{\"Version\":\"\xff\"}"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_config(text));
    }
    std::string many = R"({"Remotes":[)";
    for (int i = 0; i < 10'000; ++i) many += "{},";
    CHECK(parse_config(many + "{}]}") == std::nullopt);
    many.pop_back();
    CHECK(parse_config(many + "]}"));
    CHECK_FALSE(parse_config(std::string(200'000, '[')));
}

TEST_CASE("versions that differ are told, and what they mean for the end of a stream") {
    CHECK(version_difference("1.11.5", "0.1.0") ==
          "Client version (1.11.5) differs from server version (0.1.0)");
    CHECK(version_difference("v1", "1").empty());
    CHECK(version_difference("", "1").empty());
    CHECK(version_difference("0.0.0-src", "1").empty());
    CHECK(version_difference("1\n2", "1").find('\n') == std::string::npos);
    for (std::string_view old : {"1.9.1", "1.11.7", "v1.11.0", "1.7", "0.0.0-src", "", "dev"})
        CHECK_FALSE(ends_streams_by_eof(old));
    for (std::string_view fresh : {"1.12.0", "v1.12", "1.13.2", "2.0.0"})
        CHECK(ends_streams_by_eof(fresh));
}

TEST_CASE("configs of any bytes neither crash nor hang") {
    std::string good = write_config({"1", {parsed("3000"), parsed("R:socks")}});
    for (std::size_t i = 0; i < good.size(); ++i) {
        CHECK_FALSE(parse_config(std::string_view(good).substr(0, i)));
        for (char c : {'\0', '"', '{', '\\', '\xff'}) {
            std::string bad = good;
            bad[i] = c;
            parse_config(bad);
        }
    }
}
