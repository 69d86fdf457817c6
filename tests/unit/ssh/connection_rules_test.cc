// What no peer may do (RFC 4254; docs/wire.md section 8.8): each broken rule is named, once, and
// ends the conversation.
#include "tests/catch.hh"
#include "tests/unit/ssh/hand_played.hh"

namespace burin::ssh {
namespace {

TEST_CASE("a broken rule is named once and ends the conversation", "[connection]") {
    hand_played b;
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
        b.exit.takes = false;
        flow_record& flow = b.opened(0);
        while (flow.at->receive_left > 0)
            b.say(data_message(0, std::min(flow.at->receive_left, 32768u)));
        CHECK(b.exit.violations.empty());
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
        b.exit.open();
        b.heard();
        b.say(confirmation(0, 1));
        CHECK(b.exit.violations.empty());
        b.breaks(confirmation(0, 1), "unexpected channel confirmation");
    }
    SECTION("confirmed twice after it was given up") {
        flow_record& flow = b.exit.open();
        b.exit.abort(flow);
        b.heard();
        const std::uint32_t theirs = GENERATE(1u, ~0u);
        b.say(confirmation(0, theirs));
        CHECK(numbers(b.heard()) == order{97});
        b.breaks(confirmation(0, theirs), "unexpected channel confirmation");
    }
    SECTION("refused after it was confirmed") {
        b.exit.open();
        b.say(confirmation(0, 1));
        b.heard();
        b.breaks(failure_message(0), "unexpected channel failure");
    }
    SECTION("a confirmation of the peer's own channel") {
        b.opened(0);
        b.breaks(confirmation(0, 1), "unexpected channel confirmation");
    }
    SECTION("confirmed with an impossible maximum packet") {
        b.exit.open();
        b.heard();
        const std::uint32_t max_packet = GENERATE(0u, 8u, 0x80000001u);
        b.breaks(confirmation(0, 1, 1000, max_packet),
                 "channel confirmation with an invalid maximum packet");
    }
    SECTION("on a channel that is not open yet") {
        flow_record& flow = b.exit.open();
        b.heard();
        const bool given_up = GENERATE(false, true);
        if (given_up) b.exit.abort(flow);
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
        b.exit.accepts = false;
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
    }
}

TEST_CASE("numbers that nobody knows are left to the transport", "[connection]") {
    hand_played b;
    b.opened(0);
    for (int number : {83, 89, 101, 127}) b.say(byte_vector(5, static_cast<std::byte>(number)));
    CHECK(b.heard().empty());  // silence towards a chisel peer
    byte_vector nothing;
    build_channel_success(nothing, 4);
    b.say(nothing);
    CHECK(b.exit.violations.empty());
}

}  // namespace
}  // namespace burin::ssh
