// The gob stream of UDP channels: octets of docs/wire.md section 9.2, cuts, foreign definitions and
// garbage.
#include "core/relay/gob.hh"

#include <algorithm>
#include <random>
#include <string>

#include "tests/catch.hh"

using namespace burin;
using namespace burin::relay;

namespace {

byte_vector hex(std::string_view text) {
    byte_vector out;
    std::string digits;
    for (char c : text)
        if (c != ' ') digits += c;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        out.push_back(static_cast<std::byte>(std::stoi(digits.substr(i, 2), nullptr, 16)));
    return out;
}

// "Src" and the like in the vectors below are written as text between quotes.
byte_vector octets_of(std::string_view text) {
    byte_vector out;
    while (!text.empty()) {
        const std::size_t quote = text.find('"');
        const byte_vector part = hex(text.substr(0, quote));
        out.insert(out.end(), part.begin(), part.end());
        if (quote == text.npos) break;
        text.remove_prefix(quote + 1);
        const std::size_t end = text.find('"');
        for (char c : text.substr(0, end)) out.push_back(static_cast<std::byte>(c));
        text.remove_prefix(end + 1);
    }
    return out;
}

byte_vector record(std::string_view source, bytes_view payload) {
    byte_vector room(gob_most_header_bytes + payload.size() + gob_trailer_bytes);
    std::byte* at = room.data() + gob_most_header_bytes;
    std::copy(payload.begin(), payload.end(), at);
    const std::byte* begin = write_gob_around(at, payload.size(), source);
    byte_vector out(begin, static_cast<const std::byte*>(room.data() + room.size()));
    CHECK(out.size() == gob_record_bytes(source.size(), payload.size()));
    CHECK(out.size() - payload.size() - 1 == gob_header_bytes(source.size(), payload.size()));
    return out;
}

struct kept {
    std::string source;
    byte_vector payload;
    bool operator==(const kept&) const = default;
};

// Everything that a reader finds in pieces of the stream; false when it failed.
bool read(gob_reader& reader, bytes_view part, std::vector<kept>& into) {
    datagram d;
    for (;;) {
        const auto what = reader.next(part, d);
        if (what == gob_reader::outcome::failed) return false;
        if (what == gob_reader::outcome::more) {
            if (!part.empty()) FAIL("octets were left");
            return true;
        }
        into.push_back({std::string(d.source), byte_vector(d.payload.begin(), d.payload.end())});
    }
}

const char* const definition =
    "2A 7F 03 01 01 09 \"udpPacket\" 01 FF80 00 01 02 01 03 \"Src\" 01 0C 00 01 07 \"Payload\" 01 "
    "0A 00 00 00";

}  // namespace

TEST_CASE("gob: the octets that Go writes") {
    const byte_vector same = octets_of(definition);
    REQUIRE(same.size() == 43);
    CHECK(std::equal(same.begin(), same.end(), gob_definition().begin(), gob_definition().end()));

    CHECK(record("127.0.0.1:5000", as_bytes("hello")) ==
          octets_of("1A FF80 01 0E \"127.0.0.1:5000\" 01 05 \"hello\" 00"));
    CHECK(record("127.0.0.1:5000", {}) == octets_of("13 FF80 01 0E \"127.0.0.1:5000\" 00"));
    CHECK(record("", as_bytes("x")) == hex("06 FF80 02 01 78 00"));
    CHECK(record("", {}) == hex("03 FF80 00"));

    auto with = [](std::string_view head, std::string_view source, std::string_view middle,
                   std::size_t size) {
        byte_vector out = hex(head);
        for (char c : source) out.push_back(static_cast<std::byte>(c));
        const byte_vector between = hex(middle);
        out.insert(out.end(), between.begin(), between.end());
        out.insert(out.end(), size, std::byte{0xaa});
        out.push_back(std::byte{0});
        return out;
    };
    auto made = [](std::string_view source, std::size_t size) {
        return record(source, byte_vector(size, std::byte{0xaa}));
    };
    CHECK(made("[::1]:5000", 127) == with("FF90 FF80 01 0A", "[::1]:5000", "01 7F", 127));
    CHECK(made("[::1]:5000", 128) == with("FF92 FF80 01 0A", "[::1]:5000", "01 FF80", 128));
    CHECK(made("1.2.3.4:65535", 1400) ==
          with("FE058E FF80 01 0D", "1.2.3.4:65535", "01 FE0578", 1400));
    CHECK(made("1.2.3.4:65535", 1400).size() == 1425);
    CHECK(made("1.2.3.4:65535", 9012) ==
          with("FE234A FF80 01 0D", "1.2.3.4:65535", "01 FE2334", 9012));
    CHECK(made("1.2.3.4:65535", 9012).size() == 9037);
    CHECK(made(std::string(255, 's'), 65507).size() <=
          gob_most_header_bytes + 65507 + gob_trailer_bytes);
}

TEST_CASE("gob: datagrams side by side become records that lie one behind the other") {
    const std::string source = GENERATE(std::string("10.5.0.2:5000"), std::string());
    for (auto [bytes, size] : {std::pair<std::size_t, std::size_t>{0, 0},
                               {1, 1},
                               {1200, 1200},
                               {2400, 1200},
                               {40 * 1200 + 1, 1200},
                               {64 * 127, 127},
                               {5 * 128 + 127, 128},
                               {300, 1}}) {
        INFO(bytes << " by " << size);
        const gob_run_bytes run(bytes, size, source.size());
        byte_vector room(gob_most_header_bytes + 2 * bytes + run.total);
        byte_vector want;
        std::byte* payload = room.data() + gob_most_header_bytes;
        for (std::size_t i = 0; i < bytes; ++i) payload[i] = static_cast<std::byte>(i * 31 >> 2);
        for (std::size_t at = 0; at < std::max<std::size_t>(bytes, 1);) {
            const std::size_t part = std::min(size, bytes - at);
            const byte_vector one = record(source, {payload + at, part});
            want.insert(want.end(), one.begin(), one.end());
            at += std::max<std::size_t>(part, 1);
        }
        const bytes_view got = write_gob_run({payload, bytes}, size, source);
        CHECK(got.data() == payload - run.in_front);
        CHECK(got.size() == run.total);
        CHECK(byte_vector(got.begin(), got.end()) == want);
    }
}

TEST_CASE("gob: a stream cut anywhere gives the same records") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    std::vector<kept> all;
    byte_vector stream(gob_definition().begin(), gob_definition().end());
    const std::size_t sizes[] = {0, 1, 5, 127, 128, 255, 256, 1400, 9012, 30'000, 65'507};
    for (int i = 0; i < 60; ++i) {
        kept one;
        one.source = std::string(random() % 60, static_cast<char>('a' + i % 26));
        one.payload.resize(sizes[random() % std::size(sizes)]);
        for (std::byte& b : one.payload) b = static_cast<std::byte>(random());
        const byte_vector octets = record(one.source, one.payload);
        stream.insert(stream.end(), octets.begin(), octets.end());
        all.push_back(std::move(one));
    }
    SECTION("at random places") {
        for (int turn = 0; turn < 30; ++turn) {
            gob_reader reader;
            std::vector<kept> got;
            const std::size_t most = 1 + random() % (turn % 2 == 0 ? 20 : 40'000);
            for (std::size_t at = 0; at < stream.size();) {
                const std::size_t part = std::min(stream.size() - at, 1 + random() % most);
                if (!read(reader, bytes_view(stream).subspan(at, part), got))
                    FAIL("a whole stream is one");
                at += part;
            }
            REQUIRE(got == all);
        }
    }
    SECTION("octet by octet, and memory goes with the record") {
        gob_reader reader;
        std::vector<kept> got;
        std::size_t most_held = 0;
        for (std::byte b : stream) {
            if (!read(reader, {&b, 1}, got)) FAIL("a whole stream is one");
            most_held = std::max(most_held, reader.held_bytes());
        }
        CHECK(got == all);
        CHECK(reader.held_bytes() == 0);
        CHECK(most_held <= gob_most_message_bytes + 16);
    }
    SECTION("all at once it takes no memory") {
        gob_reader reader;
        bytes_view left = stream;
        datagram d;
        std::size_t count = 0;
        while (reader.next(left, d) == gob_reader::outcome::record) {
            CHECK_FALSE(reader.assembled());
            CHECK(reader.held_bytes() == 0);
            ++count;
        }
        CHECK(count == all.size());
    }
}

// Streams that encoding/gob (Go 1.19) wrote for other types than chisel's.
TEST_CASE("gob: definitions of other programs") {
    auto reads = [](std::string_view stream, const std::vector<kept>& want) {
        // In one piece, and octet by octet.
        const byte_vector all = hex(stream);
        for (std::size_t part : {all.size(), std::size_t{1}}) {
            gob_reader reader;
            std::vector<kept> got;
            for (std::size_t at = 0; at < all.size(); at += part)
                REQUIRE(read(reader, bytes_view(all).subspan(at, part), got));
            CHECK(got == want);
        }
    };
    auto one = [](std::string source, std::string_view payload) {
        const bytes_view bytes = as_bytes(payload);
        return kept{std::move(source), byte_vector(bytes.begin(), bytes.end())};
    };
    // struct { Payload []byte; Src string }
    reads(
        "27FF81030101057468696E6701FF8200010201075061796C6F6164010A000103537263010C0000000B"
        "FF8201027070010273730009FF8202046F6E6C790006FF820101780003FF8200",
        {one("ss", "pp"), one("only", ""), one("", "x"), one("", "")});
    // struct { A int; Src string; B float64; Payload []byte; C bool; D complex128; E uint8 }
    reads(
        "45FF8303010105657874726101FF840001070101410104000103537263010C0001014201080001075061"
        "796C6F6164010A00010143010200010144010E0001014501060000001CFF8401FE01010102737301FEF83F"
        "01027070010101FEF03F4001070006FF8404017800",
        {one("ss", "pp"), one("", "x")});
    // struct { L []string; M map[string][]byte; N inner; P *inner; Q [3]int; Src string;
    //          Payload []byte; Z []inner } with inner struct { X, Y int; S string }
    reads(
        "52FF85030101066E657374656401FF8600010801014C01FF880001014D01FF8A0001014E01FF8C000101"
        "5001FF8C0001015101FF8E000103537263010C0001075061796C6F6164010A0001015A01FF9000000016FF"
        "87020101085B5D737472696E6701FF8800010C000022FF89040101126D61705B737472696E675D5B5D7569"
        "6E743801FF8A00010C010A000025FF8B03010105696E6E657201FF8C000103010158010400010159010400"
        "010153010C00000016FF8D010101065B335D696E7401FF8E000104010600001BFF8F0201010C5B5D6D6169"
        "6E2E696E6E657201FF900001FF8C00003BFF86010201610262630101016B02767601010201040101730001"
        "010601080101740001030200040102737301027070010201020104010171000000",
        {one("ss", "pp")});
}

TEST_CASE("gob: what is none ends the stream") {
    auto fails = [](std::string_view what, byte_vector stream) {
        INFO(what);
        gob_reader reader;
        std::vector<kept> got;
        CHECK_FALSE(read(reader, stream, got));
        CHECK(reader.error() != nullptr);
        CHECK(reader.held_bytes() == 0);
        // And stays ended.
        CHECK_FALSE(read(reader, record("a", as_bytes("b")), got));
        CHECK(got.empty());
    };
    const byte_vector whole = octets_of(definition);
    auto after = [&](std::string_view value) {
        byte_vector out = whole;
        const byte_vector more = octets_of(value);
        out.insert(out.end(), more.begin(), more.end());
        return out;
    };
    fails("a value before its definition", record("a", as_bytes("b")));
    fails("the same definition twice", after(definition));
    byte_vector own_id = whole;
    own_id[1] = std::byte{0x7d};  // 63
    fails("an id of the decoder's own", own_id);
    fails("Src that is no string",
          hex("2BFF930301010977726F6E675479706501FF940001020103537263010A0001075061796C6F6164010A"
              "00000009FF9401016101016200"));
    fails("another structure",
          hex("18FF91030101046E6F6E6501FF92000101010158010400000005FF92010200"));
    fails("no structure", hex("040C000178"));
    fails("an unknown type", after("03 FF84 00"));
    fails("a field that there is not", after("06 FF80 03 01 78 00"));
    fails("a string longer than its message", after("08 FF80 01 05 \"abc\" 00"));
    fails("octets behind the value", after("08 FF80 02 01 78 00 00 00"));
    fails("no end of the value", after("05 FF80 02 01 78"));
    fails("a length of more than eight octets", hex("F0 00 00"));
    fails("a message that is too large", hex("FC 7F FF FF FF"));
    byte_vector large = whole;
    const byte_vector record_of = record("s", byte_vector(gob_most_payload_bytes + 1));
    large.insert(large.end(), record_of.begin(), record_of.end());
    {
        gob_reader reader;
        std::vector<kept> got;
        CHECK_FALSE(read(reader, large, got));
    }
}

TEST_CASE("gob: garbage neither crashes nor takes memory") {
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    byte_vector stream(gob_definition().begin(), gob_definition().end());
    for (int i = 0; i < 8; ++i) {
        const byte_vector octets = record("10.0.0.1:53", byte_vector(random() % 400));
        stream.insert(stream.end(), octets.begin(), octets.end());
    }
    std::size_t survived = 0;
    for (int turn = 0; turn < 20'000; ++turn) {
        byte_vector bad = stream;
        const unsigned changes = 1 + random() % 8;
        // Most changes in the definition, where the grammar is.
        for (unsigned i = 0; i < changes; ++i)
            bad[random() % (i % 2 == 0 ? 43 : bad.size())] = static_cast<std::byte>(random());
        gob_reader reader;
        std::vector<kept> got;
        bool good = true;
        for (std::size_t at = 0; good && at < bad.size();) {
            const std::size_t part = std::min<std::size_t>(bad.size() - at, 1 + random() % 700);
            good = read(reader, bytes_view(bad).subspan(at, part), got);
            at += part;
            if (reader.held_bytes() > gob_most_message_bytes + 16) FAIL("too much memory");
        }
        if (good) ++survived;
    }
    // Names may change harmlessly; most changes do harm.
    CHECK(survived < 20'000 / 2);
}
