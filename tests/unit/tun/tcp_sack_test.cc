// Selective acknowledgement as the receiver gives it: the option's octets, the list, the flow.
#include "tun/tcp_sack.hh"

#include "tests/catch.hh"
#include "tests/unit/tun/tcp_stage.hh"
#include "tun/tcp.hh"

using namespace burin;
using namespace burin::tun;

namespace {

using blocks = std::vector<std::pair<std::uint32_t, std::uint32_t>>;

blocks said_by(const sack_list& list, std::uint32_t next) {
    std::array<sack_block, most_sack_blocks> out;
    const std::size_t count = list.list(sequence(next), out);
    blocks all;
    for (std::size_t i = 0; i < count; ++i) {
        all.emplace_back(out[i].start.value(), out[i].end.value());
    }
    return all;
}

}  // namespace

TEST_CASE("the SACK option, octet by octet (RFC 2018 section 3)") {
    const std::array<sack_block, 2> told{
        {{sequence(0x01020304), sequence(0x01020404)}, {sequence(0xfffffff0), sequence(0x10)}}};
    std::array<std::byte, 20> wire{};
    REQUIRE(write_sack(wire.data(), told) == wire.data() + 20);
    const std::uint8_t expected[] = {1, 1, 5,    18,   1,    2,    3, 4, 1, 2,
                                     4, 4, 0xff, 0xff, 0xff, 0xf0, 0, 0, 0, 0x10};
    for (std::size_t i = 0; i < wire.size(); ++i) {
        REQUIRE(static_cast<std::uint8_t>(wire[i]) == expected[i]);
    }
    std::array<sack_block, most_sack_blocks> read;
    REQUIRE(read_sack(bytes_view(wire).subspan(4), read) == 2);
    REQUIRE(read[1].start == sequence(0xfffffff0));
    REQUIRE(read[1].end == sequence(0x10));
    REQUIRE(read_sack(bytes_view(wire).subspan(4, 15), read) == 1);  // a half block is none
    REQUIRE(write_sack(wire.data(), {}) == wire.data());
}

TEST_CASE("the most recent run comes first, four at most, neighbours are one") {
    sack_list list;
    for (std::uint32_t start : {100u, 300u, 500u, 700u, 900u}) {
        list.insert(sequence(start), sequence(start + 50));
    }
    REQUIRE(said_by(list, 50) == blocks{{900, 950}, {700, 750}, {500, 550}, {300, 350}});
    list.insert(sequence(550), sequence(700));
    REQUIRE(said_by(list, 50) == blocks{{500, 750}, {900, 950}, {300, 350}});
    list.forget_until(sequence(350));
    REQUIRE(said_by(list, 350) == blocks{{500, 750}, {900, 950}});
    // A run that only waits for credit is none.
    REQUIRE(said_by(list, 500) == blocks{{900, 950}});
}

TEST_CASE("a duplicate is told once, before all else, and above the ACK with what contains it") {
    sack_list list;
    list.insert(sequence(100), sequence(200));
    list.insert(sequence(300), sequence(400));
    list.duplicate(sequence(10), sequence(20));
    REQUIRE(said_by(list, 50) == blocks{{10, 20}, {300, 400}, {100, 200}});
    list.said();
    REQUIRE(said_by(list, 50) == blocks{{300, 400}, {100, 200}});
    list.duplicate(sequence(120), sequence(130));
    REQUIRE(said_by(list, 50) == blocks{{120, 130}, {100, 200}, {300, 400}});
}

TEST_CASE("SACK is agreed on when the host offers it, and only then") {
    for (bool offers : {false, true}) {
        stage s;
        s.host_sacks = offers;
        s.open();
        s.flow->accept(1000, s.now);
        REQUIRE(s.turn().at(0).head.options.sack_permitted == offers);
        REQUIRE(s.flow->uses_sack() == offers);
        s.from_host({});
        s.from_host({.seq = 10, .data = "later"});
        REQUIRE(s.turn().at(0).sack == (offers ? blocks{{10, 15}} : blocks{}));
    }
}

TEST_CASE("runs behind gaps are told until the gap is filled") {
    stage s;
    s.host_sacks = true;
    s.establish();
    s.from_host({.seq = 11, .data = "bbbbb"});
    s.from_host({.seq = 31, .data = "ddddd"});
    s.from_host({.seq = 16, .data = "ccccc"});
    auto out = s.turn();
    REQUIRE(out.size() == 3);
    REQUIRE(out.back().ack == 1);
    REQUIRE(out.back().sack == blocks{{11, 21}, {31, 36}});
    s.from_host({.data = "aaaaaaaaaa"});
    REQUIRE(s.delivered.size() == 20);
    out = s.turn();
    REQUIRE(out.back().ack == 21);
    REQUIRE(out.back().sack == blocks{{31, 36}});
    s.from_host({.seq = 21, .data = "0123456789"});
    out = s.turn();
    REQUIRE(out.back().ack == 36);
    REQUIRE(out.back().sack.empty());
}

TEST_CASE("what came twice is reported once") {
    stage s;
    s.host_sacks = true;
    s.establish();
    s.from_host({.data = "0123456789"});
    s.turn();
    s.from_host({.seq = 3, .data = "2345"});  // all known
    REQUIRE(s.turn().at(0).sack == blocks{{3, 7}});
    s.from_host({.seq = 6, .data = "56789abc"});  // a part of it
    REQUIRE(s.delivered == "0123456789abc");
    REQUIRE(s.turn().at(0).sack == blocks{{6, 11}});
    s.from_host({.seq = 20, .data = "xxxxx"});
    s.turn();
    s.from_host({.seq = 21, .data = "xxx"});
    REQUIRE(s.turn().at(0).sack == blocks{{21, 24}, {20, 25}});
    REQUIRE(s.turn().empty());
}

TEST_CASE("blocks leave on ACKs without payload, and never cost them") {
    stage s;
    s.host_sacks = true;
    s.establish();
    s.from_host({.seq = 11, .data = "ahead"});
    const std::string answer(2500, 'a');
    s.flow->send(still(answer), s.now);
    const auto out = s.turn();
    REQUIRE(out.size() == 2);
    REQUIRE(out[0].data == answer);
    REQUIRE(out[0].sack.empty());
    REQUIRE(out[0].head.gso_size == 1000);
    REQUIRE(out[1].data.empty());
    REQUIRE(out[1].sack == blocks{{11, 16}});
}
