// The WebSocket codec against a frame writer of its own: every split, random streams with printed
// seeds, Go's frame shapes, and every rule of docs/wire.md section 3.1 broken once.
#include "core/http/websocket.hh"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/catch.hh"

using namespace burin;
using namespace burin::http;
using status = websocket_status;

namespace {

struct frame {
    unsigned op = 2;
    bool final = true;
    byte_vector payload = {};
    bool masked = true;
    std::uint32_t key = 0;
    unsigned rsv = 0;
    bool wide = false;  // a 64-bit length whatever the size
};

// Written from RFC 6455 section 5.2, sharing nothing with the codec.
void put(byte_vector& out, const frame& f) {
    auto byte = [&out](std::size_t v) { out.push_back(static_cast<std::byte>(v & 0xff)); };
    byte((f.final ? 0x80u : 0u) | f.rsv << 4 | f.op);
    std::size_t n = f.payload.size(), mask = f.masked ? 0x80u : 0u;
    if (f.wide || n > 65535) {
        byte(mask | 127);
        for (int s = 56; s >= 0; s -= 8) byte(static_cast<std::uint64_t>(n) >> s);
    } else if (n > 125) {
        byte(mask | 126);
        byte(n >> 8);
        byte(n);
    } else {
        byte(mask | n);
    }
    std::uint8_t key[4];
    std::memcpy(key, &f.key, 4);
    if (f.masked)
        for (auto k : key) byte(k);
    for (std::size_t i = 0; i < n; ++i)
        byte(static_cast<unsigned>(f.payload[i]) ^ (f.masked ? key[i % 4] : 0u));
}

byte_vector counted(std::size_t n, std::uint32_t from = 0) {
    byte_vector out(n);
    for (std::size_t i = 0; i < n; ++i) {
        std::uint32_t x = (from + static_cast<std::uint32_t>(i)) * 2654435761u;
        out[i] = std::byte(x >> 24);
    }
    return out;
}
byte_vector text(std::string_view t) {
    auto b = as_bytes(t);
    return {b.begin(), b.end()};
}

// A caller like the session: feeds pieces behind the unread bytes, consumes `consume(run)` bytes
// whenever it is asked to, now and then carries everything to a new buffer.
struct caller {
    websocket_reader reader;
    byte_vector buffer = byte_vector(64);
    std::size_t run_begin = 0, run_end = 0, raw = 0, end = 0;
    byte_vector got;
    byte_vector replies;
    status last = status::need_more;

    explicit caller(websocket_role ours = websocket_role::server,
                    std::uint64_t limit = websocket_reader::default_message_limit)
        : reader(ours, limit) {}

    template <class Consume>
    status feed(bytes_view piece, Consume consume) {
        if (buffer.size() - end < piece.size()) carry(piece.size() + 64);
        std::copy(piece.begin(), piece.end(), buffer.begin() + static_cast<std::ptrdiff_t>(end));
        end += piece.size();
        for (;;) {
            websocket_reader::run run{buffer.data() + run_begin, buffer.data() + run_end};
            std::byte* at = buffer.data() + raw;
            last = reader.advance(run, at, buffer.data() + end);
            run_begin = static_cast<std::size_t>(run.begin - buffer.data());
            run_end = static_cast<std::size_t>(run.end - buffer.data());
            raw = static_cast<std::size_t>(at - buffer.data());
            REQUIRE(run_begin <= run_end);
            REQUIRE(run_end <= raw);
            REQUIRE(raw <= end);
            auto reply = reader.take_reply();
            replies.insert(replies.end(), reply.begin(), reply.end());
            std::size_t n =
                last == status::ready ? std::max<std::size_t>(1, consume(run)) : consume(run);
            got.insert(got.end(), run.begin, run.begin + n);
            run_begin += n;
            if (last != status::ready) break;
        }
        return last;
    }
    status feed(bytes_view piece) {
        return feed(piece, [](websocket_reader::run r) {
            return static_cast<std::size_t>(r.end - r.begin);
        });
    }
    // Run and unread bytes side by side at the start of a new buffer.
    void carry(std::size_t more) {
        byte_vector fresh(run_end - run_begin + (end - raw) + more);
        std::size_t run = run_end - run_begin, rest = end - raw;
        if (run > 0) std::memcpy(fresh.data(), buffer.data() + run_begin, run);
        if (rest > 0) std::memcpy(fresh.data() + run, buffer.data() + raw, rest);
        buffer = std::move(fresh);
        run_begin = 0;
        run_end = raw = run;
        end = run + rest;
    }
};

status feed_one(const frame& f, caller& c) {
    byte_vector wire;
    put(wire, f);
    return c.feed(wire);
}

}  // namespace

TEST_CASE("a stream of frames survives every split into two pieces") {
    byte_vector wire, sent;
    std::uint32_t from = 0;
    auto add = [&](unsigned op, bool final, std::size_t n, std::uint32_t key) {
        frame f{.op = op, .final = final, .payload = counted(n, from), .key = key};
        from += static_cast<std::uint32_t>(n);
        sent.insert(sent.end(), f.payload.begin(), f.payload.end());
        put(wire, f);
    };
    add(2, true, 5, 0x01020304);
    add(1, false, 126, 0xa1b2c3d4);
    put(wire, {.op = 9, .payload = text("hello"), .key = 0x99});
    add(0, true, 7, 0);
    add(2, true, 0, 1);
    add(2, true, 300, 0x77);
    for (std::size_t cut = 0; cut <= wire.size(); ++cut) {
        caller c;
        c.feed(bytes_view(wire).first(cut));
        REQUIRE(c.feed(bytes_view(wire).subspan(cut)) == status::need_more);
        REQUIRE(c.got == sent);
        REQUIRE(c.raw == c.end);
        REQUIRE(as_text(c.replies) == std::string_view("\x8a\x05hello"));
    }
    caller bytewise;
    for (std::byte b : wire) bytewise.feed({&b, 1});
    REQUIRE(bytewise.got == sent);
}

TEST_CASE("random frames, splits, consumers and buffers give back the payload") {
    std::uint64_t seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    auto below = [&random](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    for (int round = 0; round < 60; ++round) {
        bool server = below(2) == 0;
        byte_vector wire, sent;
        std::uint32_t from = 0;
        while (wire.size() < 200'000) {
            unsigned op = 1 + static_cast<unsigned>(below(2));
            std::size_t fragments = 1 + below(4);
            for (std::size_t i = 0; i < fragments; ++i) {
                static constexpr std::size_t sizes[] = {10, 130, 5000, 70'000};
                frame f{.op = i == 0 ? op : 0,
                        .final = i + 1 == fragments,
                        .payload = counted(below(sizes[below(4)]), from),
                        .masked = server,
                        .key = below(3) == 0 ? 0 : static_cast<std::uint32_t>(random()),
                        .wide = below(10) == 0};
                from += static_cast<std::uint32_t>(f.payload.size());
                sent.insert(sent.end(), f.payload.begin(), f.payload.end());
                put(wire, f);
                if (below(8) == 0)
                    put(wire, {.op = 9 + static_cast<unsigned>(below(2)),
                               .payload = counted(below(126)),
                               .masked = server,
                               .key = static_cast<std::uint32_t>(random())});
            }
        }
        caller c(server ? websocket_role::server : websocket_role::client);
        std::size_t largest = 1 + below(90'000), at = 0;
        while (at < wire.size()) {
            std::size_t n = std::min(wire.size() - at, below(largest) + 1);
            if (below(3) == 0) c.carry(n);
            auto result = c.feed(bytes_view(wire).subspan(at, n), [&](websocket_reader::run r) {
                auto there = static_cast<std::size_t>(r.end - r.begin);
                return there == 0 ? 0 : there - std::min(there, below(3) * below(40'000));
            });
            REQUIRE(result == status::need_more);
            at += n;
        }
        c.feed({});
        c.got.insert(c.got.end(), c.buffer.begin() + static_cast<std::ptrdiff_t>(c.run_begin),
                     c.buffer.begin() + static_cast<std::ptrdiff_t>(c.run_end));
        REQUIRE(c.got.size() == sent.size());
        REQUIRE(c.got == sent);
    }
}

TEST_CASE("Go's shapes: 28708 bytes in frames of 4096 become one run") {
    byte_vector wire, payload = counted(28708);
    put(wire, {.payload = counted(4096, 1), .key = 0x1});
    for (std::size_t at = 0; at < payload.size(); at += 4096) {
        std::size_t n = std::min<std::size_t>(4096, payload.size() - at);
        put(wire, {.op = at == 0 ? 2u : 0u,
                   .final = at + n == payload.size(),
                   .payload = {payload.begin() + static_cast<std::ptrdiff_t>(at),
                               payload.begin() + static_cast<std::ptrdiff_t>(at + n)},
                   .key = static_cast<std::uint32_t>(0x1234567u * (at + 1))});
    }
    websocket_reader reader(websocket_role::server);
    byte_vector buffer = wire;
    websocket_reader::run run{buffer.data(), buffer.data()};
    std::byte* raw = buffer.data();
    // One call: small frames are joined without asking for the run to be consumed.
    REQUIRE(reader.advance(run, raw, buffer.data() + buffer.size()) == status::need_more);
    REQUIRE(static_cast<std::size_t>(run.end - run.begin) == 4096 + payload.size());
    REQUIRE(std::equal(payload.begin(), payload.end(), run.begin + 4096));
}

TEST_CASE("payload joins without a copy where it can") {
    websocket_reader reader(websocket_role::client);
    byte_vector buffer;
    put(buffer, {.payload = counted(600'000), .masked = false});
    std::size_t first = buffer.size();
    put(buffer, {.payload = counted(500'000, 7), .masked = false});
    buffer.reserve(buffer.size());
    std::byte* raw = buffer.data();
    websocket_reader::run run{raw, raw};
    // Half of a large message: it stays where it is.
    REQUIRE(reader.advance(run, raw, buffer.data() + 300'000) == status::need_more);
    REQUIRE(run.begin == buffer.data() + 10);
    REQUIRE(run.end == buffer.data() + 300'000);
    // The next message would be moved: the run is to be consumed first.
    REQUIRE(reader.advance(run, raw, buffer.data() + buffer.size()) == status::ready);
    REQUIRE(run.begin == buffer.data() + 10);
    REQUIRE(run.end == buffer.data() + first);
    // The shorter side moves: the rest of 1000 bytes goes up to the 500000.
    run.begin = run.end - 1000;
    byte_vector rest(run.begin, run.end);
    REQUIRE(reader.advance(run, raw, buffer.data() + buffer.size()) == status::need_more);
    REQUIRE(run.end == buffer.data() + buffer.size());
    REQUIRE(run.begin == buffer.data() + first + 10 - 1000);
    REQUIRE(std::equal(rest.begin(), rest.end(), run.begin));
}

TEST_CASE("an emptied run restarts behind the header") {
    websocket_reader reader(websocket_role::client);
    byte_vector buffer;
    put(buffer, {.payload = counted(10), .masked = false});
    put(buffer, {.payload = counted(20), .masked = false});
    std::byte* raw = buffer.data();
    websocket_reader::run run{raw, raw};
    REQUIRE(reader.advance(run, raw, buffer.data() + 12) == status::need_more);
    run.begin = run.end;
    REQUIRE(reader.advance(run, raw, buffer.data() + buffer.size()) == status::need_more);
    REQUIRE(run.begin == buffer.data() + 14);
    REQUIRE(run.end == buffer.data() + 34);
}

TEST_CASE("broken rules end the connection with 1002 and their name, in both roles") {
    // `masked = false` stands for the wrong mask bit: clients must mask, servers must not.
    struct row {
        frame sent;
        std::string_view rule;
    };
    const row rows[] = {
        {{.payload = text("x"), .masked = false}, "bad MASK"},
        {{.op = 9, .masked = false}, "bad MASK"},
        {{.payload = text("x"), .rsv = 4}, "RSV bits set"},
        {{.payload = text("x"), .rsv = 2}, "RSV bits set"},
        {{.payload = text("x"), .rsv = 1}, "RSV bits set"},
        {{.op = 9, .rsv = 4}, "RSV bits set"},
        {{.op = 0, .payload = text("x")}, "continuation after FIN"},
        {{.op = 0, .final = false, .payload = text("x")}, "continuation after FIN"},
        {{.op = 3, .payload = text("x")}, "bad opcode"},
        {{.op = 7, .payload = text("x")}, "bad opcode"},
        {{.op = 11}, "bad opcode"},
        {{.op = 15}, "bad opcode"},
        {{.op = 8, .final = false}, "FIN not set on control"},
        {{.op = 9, .final = false}, "FIN not set on control"},
        {{.op = 10, .final = false}, "FIN not set on control"},
        {{.op = 8, .payload = counted(126)}, "len > 125 for control"},
        {{.op = 9, .payload = counted(126)}, "len > 125 for control"},
        {{.op = 10, .payload = counted(5), .wide = true}, "len > 125 for control"},
        {{.op = 8, .payload = text("\x03")}, "bad close frame"},
        {{.op = 8, .payload = {std::byte(3), std::byte(0xe7)}}, "bad close code"},     // 999
        {{.op = 8, .payload = {std::byte(3), std::byte(0xec)}}, "bad close code"},     // 1004
        {{.op = 8, .payload = {std::byte(3), std::byte(0xed)}}, "bad close code"},     // 1005
        {{.op = 8, .payload = {std::byte(3), std::byte(0xee)}}, "bad close code"},     // 1006
        {{.op = 8, .payload = {std::byte(3), std::byte(0xf7)}}, "bad close code"},     // 1015
        {{.op = 8, .payload = {std::byte(0x13), std::byte(0x88)}}, "bad close code"},  // 5000
        {{.op = 8, .payload = {std::byte(3), std::byte(0xe8), std::byte(0xff)}},
         "invalid utf8 payload in close frame"},
    };
    const auto role = GENERATE(websocket_role::server, websocket_role::client);
    const bool masked = role == websocket_role::server;
    CAPTURE(masked);
    for (const row& r : rows) {
        CAPTURE(r.rule, r.sent.op);
        // What came whole in front of it is SSH's, what comes behind it is nobody's.
        byte_vector wire;
        put(wire, {.payload = text("before"), .masked = masked});
        frame wrong = r.sent;
        wrong.masked = r.sent.masked == masked;
        put(wire, wrong);
        put(wire, {.payload = text("behind"), .masked = masked});
        for (const std::size_t piece : {wire.size(), std::size_t{1}}) {
            caller c(role);
            status last = status::need_more;
            for (std::size_t at = 0; at < wire.size(); at += piece)
                last = c.feed(bytes_view(wire).subspan(at, piece));
            CHECK(last == status::failed);
            CHECK(c.reader.error() == fmt::format("websocket: {}", r.rule));
            CHECK(as_text(c.got) == "before");
            // One Close with 1002 and the rule; a client's is masked, with a key of zero.
            const std::string_view close = as_text(c.replies);
            CHECK(static_cast<unsigned>(c.replies.at(0)) == 0x88);
            CHECK(close.substr(masked ? 2 : 6) == "\x03\xea" + std::string(r.rule));
        }
    }
    for (const unsigned op : {1u, 2u}) {
        CAPTURE(op);
        caller in_message(role);
        CHECK(feed_one({.final = false, .payload = text("a"), .masked = masked}, in_message) ==
              status::need_more);
        CHECK(feed_one({.op = 9, .payload = text("ping"), .masked = masked}, in_message) ==
              status::need_more);
        CHECK(feed_one({.op = op, .payload = text("b"), .masked = masked}, in_message) ==
              status::failed);
        CHECK(in_message.reader.error() == "websocket: data before FIN");
        CHECK(as_text(in_message.got) == "a");
    }

    // A wrong mask bit is seen in two bytes, not after the length.
    caller early(role);
    byte_vector two = {std::byte(0x82), std::byte(masked ? 0x7f : 0xff)};
    CHECK(early.feed(two) == status::failed);
    caller length(role);
    byte_vector giant = {std::byte(0x82), std::byte(masked ? 0xff : 0x7f), std::byte(0x80)};
    giant.resize(masked ? 14 : 10);
    CHECK(length.feed(giant) == status::failed);
    CHECK(length.reader.error() == "websocket: length above 2^63");
}

TEST_CASE("a message over the limit is refused with 1009 before it is read, in both roles") {
    const auto role = GENERATE(websocket_role::server, websocket_role::client);
    const bool masked = role == websocket_role::server;
    caller c(role, 1000);
    CHECK(feed_one({.final = false, .payload = counted(600), .masked = masked}, c) ==
          status::need_more);
    CHECK(feed_one({.op = 0, .payload = counted(400), .masked = masked}, c) == status::need_more);
    CHECK(feed_one({.final = false, .payload = counted(1000), .masked = masked}, c) ==
          status::need_more);
    byte_vector wire;
    put(wire, {.op = 0, .payload = counted(1), .masked = masked});
    wire.resize(masked ? 6 : 2);  // the header alone
    CHECK(c.feed(wire) == status::failed);
    CHECK(c.reader.error() == "websocket: read limit exceeded");
    CHECK(as_text(c.replies).substr(masked ? 2 : 6) == std::string_view("\x03\xf1", 2));
    CHECK(c.got.size() == 2000);

    caller open(role, 0);
    CHECK(feed_one({.payload = counted(2'000'000), .masked = masked}, open) == status::need_more);
    caller standard(role);
    CHECK(feed_one({.payload = counted(1 << 20), .masked = masked}, standard) == status::need_more);
    CHECK(feed_one({.payload = counted((1 << 20) + 1), .masked = masked}, standard) ==
          status::failed);
}

TEST_CASE("a flood of pings leaves one answer, and nothing else grows") {
    const auto role = GENERATE(websocket_role::server, websocket_role::client);
    const bool masked = role == websocket_role::server;
    byte_vector wire;
    for (int i = 0; i < 20'000; ++i)
        put(wire, {.op = 9, .payload = counted(125), .masked = masked, .key = 7});
    caller c(role);
    CHECK(c.feed(wire) == status::need_more);
    CHECK(c.replies.size() == 2 + 125 + (masked ? 0u : 4u));
    CHECK(c.got.empty());
    // Frames of nothing and unasked pongs are nothing.
    wire.clear();
    put(wire, {.final = false, .masked = masked});
    for (int i = 0; i < 20'000; ++i) {
        put(wire, {.op = 0, .final = false, .masked = masked});
        put(wire, {.op = 10, .payload = counted(125), .masked = masked});
    }
    c.replies.clear();
    CHECK(c.feed(wire) == status::need_more);
    CHECK(c.replies.empty());
    CHECK(c.got.empty());
}

TEST_CASE("pings are answered, the last of many, and a close is echoed") {
    caller c(websocket_role::client);
    byte_vector wire;
    for (int i = 0; i < 1000; ++i)
        put(wire, {.op = 9, .payload = text(fmt::format("p{}", i)), .masked = false});
    put(wire, {.op = 10, .payload = text("unasked"), .masked = false});
    byte_vector close = text("\x03\xe9 gone");
    put(wire, {.op = 8, .payload = close, .masked = false});
    CHECK(c.feed(wire) == status::closed);
    // Masked with a key of zero, the Pong of p999, then the Close with its code alone.
    CHECK(as_text(c.replies) ==
          std::string_view("\x8a\x84\0\0\0\0p999\x88\x82\0\0\0\0\x03\xe9", 18));
    caller empty;
    CHECK(feed_one({.op = 8}, empty) == status::closed);
    CHECK(as_text(empty.replies) == std::string_view("\x88\0", 2));
    caller biggest;
    CHECK(feed_one({.op = 9, .payload = counted(125), .key = 5}, biggest) == status::need_more);
    CHECK(biggest.replies.size() == 127);
    CHECK(std::equal(biggest.replies.begin() + 2, biggest.replies.end(), counted(125).begin()));
}

TEST_CASE("headers are written as RFC 6455 says, at every border of the length") {
    for (std::size_t n : {0u, 1u, 125u, 126u, 65535u, 65536u, 500'000u})
        for (bool masked : {false, true}) {
            CAPTURE(n, masked);
            std::byte header[max_frame_header];
            std::size_t size = write_frame_header(header, opcode::binary, n, masked, 0x11223344);
            REQUIRE(size == frame_header_bytes(n, masked));
            byte_vector wire;
            put(wire, {.payload = byte_vector(n), .masked = masked, .key = 0x11223344});
            REQUIRE(std::equal(header, header + size, wire.begin()));
        }
    std::byte header[max_frame_header];
    REQUIRE(write_frame_header(header, opcode::binary, 0x0102030405060708u, false) == 10);
    REQUIRE(as_text({header, 10}) == "\x82\x7f\x01\x02\x03\x04\x05\x06\x07\x08");
}

TEST_CASE("masking agrees with the plain definition at every length, phase and overlap") {
    std::uint64_t seed = std::random_device{}();
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    for (std::size_t n = 0; n < 100; ++n)
        for (std::uint64_t phase = 0; phase < 8; ++phase)
            for (std::size_t down : {0u, 1u, 8u, 14u, 40u}) {
                auto key = static_cast<std::uint32_t>(random());
                std::uint8_t k[4];
                std::memcpy(k, &key, 4);
                byte_vector buffer = counted(n + down, static_cast<std::uint32_t>(random()));
                byte_vector expected(n);
                for (std::size_t i = 0; i < n; ++i)
                    expected[i] = buffer[down + i] ^ std::byte(k[(phase + i) % 4]);
                apply_mask(buffer.data(), buffer.data() + down, n, key, phase);
                REQUIRE(std::equal(expected.begin(), expected.end(), buffer.begin()));
            }
}
