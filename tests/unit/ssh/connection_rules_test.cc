// What no peer may do (RFC 4254; docs/wire.md section 8.8): each broken rule is named, once, and
// ends the conversation.
#include "tests/catch.hh"
#include "tests/unit/ssh/hand_played.hh"

namespace burin::ssh {
namespace {

TEST_CASE("a broken rule is named once and ends the conversation, in both roles", "[connection]") {
    hand_played b({}, 64u << 20, GENERATE(role::server, role::client));
    const auto unknown = "message for a channel that is not open";
    SECTION("too much in one packet") {
        b.opened(0);
        b.breaks(data_message(0, 32769), "incoming packet exceeds maximum payload size");
    }
    SECTION("too much extended data in one packet") {
        b.opened(0);
        b.breaks(extended_message(0, 32769), "incoming packet exceeds maximum payload size");
    }
    SECTION("more than the window") {
        b.own.takes = false;
        flow_record& flow = b.opened(0);
        while (flow.at->receive_left > 0)
            b.say(data_message(0, std::min(flow.at->receive_left, 32768u)));
        CHECK(b.own.violations.empty());
        SECTION("data") {
            b.breaks(data_message(0, 1), "remote side wrote too much");
        }
        SECTION("extended") {
            b.breaks(extended_message(0, 1), "remote side wrote too much");
        }
    }
    SECTION("a length that is not the packet's") {
        b.opened(0);
        byte_vector message = data_message(0, 100);
        SECTION("too short") {
            message.resize(message.size() - 1);
        }
        SECTION("too long") {
            message.push_back({});
        }
        b.breaks(message, "channel data whose length disagrees with its packet");
    }
    SECTION("no length at all") {
        b.opened(0);
        byte_vector message = data_message(0, 0);
        message.resize(8);
        b.breaks(message, "malformed channel data");
    }
    SECTION("unknown ids") {
        b.opened(0);
        const std::uint32_t id = GENERATE(1u, 1000u, ~0u);
        SECTION("data") {
            b.breaks(data_message(id, 1), unknown);
        }
        SECTION("adjust") {
            b.breaks(adjust_message(id, 1), unknown);
        }
        SECTION("eof") {
            b.breaks(eof_message(id), unknown);
        }
        SECTION("close") {
            b.breaks(close_message(id), unknown);
        }
        SECTION("extended") {
            b.breaks(extended_message(id, 1), unknown);
        }
        SECTION("confirmation") {
            b.breaks(confirmation(id, 1), unknown);
        }
        SECTION("failure") {
            b.breaks(failure_message(id), unknown);
        }
        SECTION("reply to a request") {
            b.breaks(reply_message(id), unknown);
        }
    }
    SECTION("ids of channels that are gone") {
        b.opened(0);
        b.say(close_message(0));
        b.heard();
        SECTION("data") {
            b.breaks(data_message(0, 1), unknown);
        }
        SECTION("close") {
            b.breaks(close_message(0), unknown);
        }
    }
    SECTION("after EOF") {
        b.opened(0);
        b.say(eof_message(0));
        SECTION("data") {
            b.breaks(data_message(0, 1), "data after EOF");
        }
        SECTION("extended") {
            b.breaks(extended_message(0, 1), "data after EOF");
        }
    }
    SECTION("confirmed twice") {
        b.own.open();
        b.heard();
        b.say(confirmation(0, 1));
        CHECK(b.own.violations.empty());
        b.breaks(confirmation(0, 1), "unexpected channel confirmation");
    }
    SECTION("confirmed twice after it was given up") {
        flow_record& flow = b.own.open();
        b.own.abort(flow);
        b.heard();
        const std::uint32_t theirs = GENERATE(1u, ~0u);
        b.say(confirmation(0, theirs));
        CHECK(numbers(b.heard()) == order{97});
        b.breaks(confirmation(0, theirs), "unexpected channel confirmation");
    }
    SECTION("refused after it was confirmed") {
        b.own.open();
        b.say(confirmation(0, 1));
        b.heard();
        b.breaks(failure_message(0), "unexpected channel failure");
    }
    SECTION("a confirmation of the peer's own channel") {
        b.opened(0);
        b.breaks(confirmation(0, 1), "unexpected channel confirmation");
    }
    SECTION("confirmed with an impossible maximum packet") {
        b.own.open();
        b.heard();
        const std::uint32_t max_packet = GENERATE(0u, 8u, 0x80000001u);
        b.breaks(confirmation(0, 1, 1000, max_packet),
                 "channel confirmation with an invalid maximum packet");
    }
    SECTION("on a channel that is not open yet") {
        flow_record& flow = b.own.open();
        b.heard();
        const bool given_up = GENERATE(false, true);
        if (given_up) b.own.abort(flow);
        SECTION("data") {
            b.breaks(data_message(0, 1), "data on a channel that is not open");
        }
        SECTION("extended") {
            b.breaks(extended_message(0, 1), "data on a channel that is not open");
        }
        SECTION("adjust") {
            b.breaks(adjust_message(0, 1), "window adjust on a channel that is not open");
        }
        SECTION("eof") {
            b.breaks(eof_message(0), "EOF on a channel that is not open");
        }
        SECTION("close") {
            b.breaks(close_message(0), "CLOSE on a channel that is not open");
        }
    }
    SECTION("on a channel that we have not answered") {
        b.own.accepts = false;
        b.say(open_message(0));
        SECTION("data") {
            b.breaks(data_message(0, 1), "data on a channel that is not open");
        }
        SECTION("close") {
            b.breaks(close_message(0), "CLOSE on a channel that is not open");
        }
    }
    SECTION("messages cut short") {
        b.opened(0);
        auto cut = [](byte_vector message) {
            message.pop_back();
            return message;
        };
        SECTION("eof") {
            b.breaks(cut(eof_message(0)), "malformed EOF");
        }
        SECTION("close") {
            b.breaks(cut(close_message(0)), "malformed CLOSE");
        }
        SECTION("adjust") {
            b.breaks(cut(adjust_message(0, 1)), "malformed window adjust");
        }
        SECTION("open") {
            byte_vector message = open_message(1);
            message.resize(10);
            b.breaks(message, "malformed channel open");
        }
        SECTION("confirmation") {
            b.breaks(cut(confirmation(0, 1)), "malformed channel confirmation");
        }
        SECTION("failure") {
            b.breaks(cut(failure_message(0)), "malformed channel failure");
        }
        SECTION("extended") {
            b.breaks(cut(extended_message(0, 5)), "malformed extended data");
        }
        SECTION("global request") {
            b.breaks(cut(built(global_request{"ping", true, {}})), "malformed global request");
        }
        SECTION("channel request") {
            b.breaks(cut(built(channel_request{0, "exec", true, {}})), "malformed channel request");
        }
        SECTION("channel request for nobody") {
            b.breaks(cut(built(channel_request{77, "exec", true, {}})),
                     "malformed channel request");
        }
        SECTION("reply to a request") {
            b.breaks(cut(reply_message(0)), "malformed reply to a channel request");
        }
    }
    SECTION("something behind messages of fixed length") {
        b.opened(0);
        auto longer = [](byte_vector message) {
            message.push_back({});
            return message;
        };
        SECTION("eof") {
            b.breaks(longer(eof_message(0)), "malformed EOF");
        }
        SECTION("close") {
            b.breaks(longer(close_message(0)), "malformed CLOSE");
        }
        SECTION("adjust") {
            b.breaks(longer(adjust_message(0, 1)), "malformed window adjust");
        }
        SECTION("failure") {
            b.breaks(longer(failure_message(0)), "malformed channel failure");
        }
        SECTION("extended") {
            b.breaks(longer(extended_message(0, 5)), "malformed extended data");
        }
    }
    SECTION("more credit than a window holds") {
        b.opened(0, 0xfffffff0u);
        b.say(adjust_message(0, 15));
        b.breaks(adjust_message(0, 1), "window adjust beyond 2^32-1");
    }
    SECTION("after the peer's own CLOSE") {
        b.opened(0);
        b.say(close_message(0));
        b.heard();
        SECTION("eof") {
            b.breaks(eof_message(0), unknown);
        }
        SECTION("adjust") {
            b.breaks(adjust_message(0, 1), unknown);
        }
    }
    SECTION("an open that was refused is answered again") {
        b.own.open();
        b.heard();
        b.say(failure_message(0));
        SECTION("by a failure") {
            b.breaks(failure_message(0), unknown);
        }
        SECTION("by a confirmation") {
            b.breaks(confirmation(0, 1), unknown);
        }
    }
    SECTION("over the window of a channel that we have closed") {
        flow_record& flow = b.opened(0);
        const std::uint32_t window = flow.at->receive_left;
        b.own.close(flow);
        CHECK(numbers(b.heard()) == order{97});
        for (std::uint32_t left = window; left > 0;) {
            const std::uint32_t size = std::min(left, 32768u);
            b.say(data_message(0, size));
            left -= size;
        }
        CHECK(b.own.violations.empty());
        b.breaks(data_message(0, 1), "remote side wrote too much");
    }
}

TEST_CASE("a broken rule ends every channel of its connection, as lost", "[connection]") {
    hand_played b({}, 64u << 20, GENERATE(role::server, role::client));
    for (std::uint32_t id = 0; id < 3; ++id) b.opened(id);
    b.say(data_message(77, 1));
    CHECK(b.own.violations.size() == 1);
    b.layer->lose();  // what the session does when it was told
    for (const flow_record& flow : b.own.flows) {
        CHECK(flow.closes == 1);
        CHECK(flow.cause == close_cause::lost);
    }
    b.own.check_empty();
}

// What RFC 4254 and docs/wire.md let pass, or answer with a refusal.
TEST_CASE("what is strange but allowed ends nothing, in both roles", "[connection]") {
    hand_played b({.max_channels = 4}, 64u << 20, GENERATE(role::server, role::client));
    SECTION("an id of the peer's that is in use") {
        flow_record& first = b.opened(7);
        flow_record& second = b.opened(7);
        b.say(data_message(0, 5));
        b.say(data_message(1, 6));
        CHECK(first.bytes == 5);
        CHECK(second.bytes == 6);
    }
    SECTION("too many channels") {
        for (std::uint32_t id = 0; id < 4; ++id) b.opened(id);
        b.say(open_message(4));
        const auto heard = b.heard();
        REQUIRE(numbers(heard) == order{92});
        CHECK(load_u32(heard[0].data() + 5) == 4);
    }
    SECTION("an impossible maximum packet") {
        for (const std::uint32_t most : {0u, 8u, 0x80000001u, ~0u}) {
            b.say(open_message(1, 1000, most));
            CHECK(numbers(b.heard()) == order{92});
        }
    }
    SECTION("a window of nothing") {
        flow_record& flow = b.opened(1, 0);
        CHECK(b.layer->sendable(*flow.at) == 0);
        b.say(adjust_message(0, 0));
        b.say(adjust_message(0, 9));
        CHECK(b.layer->sendable(*flow.at) == 9);
    }
    SECTION("EOF twice, and credit behind it") {
        flow_record& flow = b.opened(1);
        b.say(eof_message(0));
        b.say(eof_message(0));
        b.say(adjust_message(0, 9));
        CHECK(flow.eofs == 1);
    }
    SECTION("requests of channels that are not there, and replies nobody asked for") {
        b.opened(1);
        b.say(built(channel_request{77, "exec", true, {}}));
        b.say(reply_message(0));
        CHECK(b.heard().empty());
    }
    SECTION("empty data") {
        CHECK(b.opened(1).bytes == 0);
        b.say(data_message(0, 0));
        b.say(extended_message(0, 0));
        CHECK(b.heard().empty());
    }
    CHECK(b.own.violations.empty());
    b.check_peace();
}

TEST_CASE("numbers that nobody knows are left to the transport", "[connection]") {
    hand_played b;
    b.opened(0);
    for (int number : {83, 89, 101, 127}) b.say(byte_vector(5, static_cast<std::byte>(number)));
    CHECK(b.heard().empty());  // silence towards a chisel peer
    CHECK(b.own.violations.empty());
}

}  // namespace
}  // namespace burin::ssh
