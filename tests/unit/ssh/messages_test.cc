#include "core/ssh/messages.hh"

#include "tests/catch.hh"

namespace burin::ssh {
namespace {

// What a builder wrote parses; every shorter payload, and one more byte where nothing may follow,
// does not.
template <class Message>
void check_exact(const Message& from, Message& into, bool has_rest) {
    byte_vector payload;
    build(payload, from);
    REQUIRE(parse(payload, into));
    Message other;
    for (std::size_t size = 0; size < payload.size(); ++size) {
        if (has_rest && size + 4 >= payload.size()) continue;
        CHECK_FALSE(parse(bytes_view(payload).first(size), other));
    }
    payload.push_back(std::byte{0});
    CHECK(parse(payload, other) == has_rest);
    payload[0] = std::byte{127};
    CHECK_FALSE(parse(payload, other));
}

TEST_CASE("channel messages are parsed exactly as they were built") {
    const auto rest = as_bytes("rest");
    SECTION("global request") {
        global_request got;
        check_exact({"config", true, rest}, got, true);
        byte_vector payload;
        build(payload, global_request{"config", true, rest});
        REQUIRE(parse(payload, got));
        CHECK(got.name == "config");
        CHECK(got.want_reply);
        CHECK(as_text(got.rest) == "rest");
    }
    SECTION("open") {
        byte_vector payload;
        channel_open got;
        check_exact({"chisel", 7, 2097152, 32768, rest}, got, true);
        build(payload, channel_open{"chisel", 7, 2097152, 32768, as_bytes("example.com:80")});
        REQUIRE(parse(payload, got));
        CHECK(got.type == "chisel");
        CHECK(got.sender == 7);
        CHECK(got.window == 2097152);
        CHECK(got.max_packet == 32768);
        CHECK(as_text(got.rest) == "example.com:80");
    }
    SECTION("confirmation") {
        channel_open_confirmation got;
        check_exact({1, 2, 3, 4, rest}, got, true);
    }
    SECTION("failure") {
        byte_vector payload;
        channel_open_failure got;
        check_exact({5, open_failure_reason::connect_failed, "refused", "en"}, got, false);
        build(payload, channel_open_failure{5, open_failure_reason::connect_failed, "refused"});
        REQUIRE(parse(payload, got));
        CHECK(got.reason == open_failure_reason::connect_failed);
        CHECK(got.text == "refused");
        CHECK(got.language == "en");
    }
    SECTION("window adjust") {
        channel_window_adjust got;
        check_exact({0xfffffffe, 0x80000000}, got, false);
    }
    SECTION("request") {
        channel_request got;
        check_exact({9, "keepalive@openssh.com", true, rest}, got, true);
    }
}

TEST_CASE("data: a header written apart makes a message whose length must be right") {
    const auto head = make_data_header(0x01020304, 5);
    byte_vector payload(head.begin(), head.end());
    wire::writer(payload).raw(as_bytes("hello"));
    // docs/wire.md section 4.6, with another channel.
    CHECK(payload.size() == 14);
    channel_data got;
    REQUIRE(parse(payload, got));
    CHECK(got.recipient == 0x01020304);
    CHECK(as_text(got.data) == "hello");
    payload.pop_back();
    CHECK_FALSE(parse(payload, got));
    payload.resize(15);
    CHECK_FALSE(parse(payload, got));
}

TEST_CASE("messages that only name a channel") {
    byte_vector payload;
    std::uint32_t channel = 0;
    SECTION("eof") {
        build_eof(payload, 3);
    }
    SECTION("close") {
        build_close(payload, 3);
    }
    SECTION("success") {
        build_channel_success(payload, 3);
    }
    SECTION("failure") {
        build_channel_failure(payload, 3);
    }
    REQUIRE(parse_recipient(payload, channel));
    CHECK(channel == 3);
    payload.push_back(std::byte{0});
    CHECK_FALSE(parse_recipient(payload, channel));
    payload.resize(4);
    CHECK_FALSE(parse_recipient(payload, channel));
    CHECK_FALSE(parse_recipient({}, channel));
}

TEST_CASE("replies to global requests carry bare bytes") {
    byte_vector payload;
    build_request_success(payload, {});
    CHECK(payload == byte_vector{std::byte{81}});
    payload.clear();
    build_request_failure(payload, as_bytes("no"));
    CHECK(as_text(payload) == "Rno");
}

}  // namespace
}  // namespace burin::ssh
