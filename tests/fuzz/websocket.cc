// The WebSocket reader beside one that is written from RFC 6455 section 5 in the simplest way: it
// has the whole stream, the other gets it in chunks, is moved about, and consumes what it likes.
#include <string>
#include <vector>

#include "core/http/websocket.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin::http;
using burin::byte_vector;
using fuzz::check;
using status = websocket_status;

std::size_t number(std::byte b) {
    return static_cast<std::size_t>(b);
}

struct story {
    byte_vector payload;  // of data frames, unmasked
    byte_vector last_ping;
    bool any_ping = false;
    byte_vector close;  // of the peer
    std::string error;  // of the rule that was broken
    bool closed = false;
};

bool is_close_code(std::size_t code) {
    if (code >= 3000) return code <= 4999;
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1013);
}

// RFC 6455 sections 5.2, 5.4, 5.5: frames, one after another.
story tell(fuzz::bytes_view in, bool masked, std::size_t limit) {
    story out;
    bool fragmented = false;
    std::size_t message = 0;
    auto broken = [&out](const char* rule) {
        out.error = rule;
        return out;
    };
    while (in.size() >= 2) {
        const bool final = (number(in[0]) & 0x80) != 0;
        const std::size_t op = number(in[0]) & 15;
        std::size_t size = number(in[1]) & 127;
        if ((number(in[0]) & 0x70) != 0) return broken("RSV bits set");
        if (((number(in[1]) & 0x80) != 0) != masked) return broken("bad MASK");
        if (op >= 8) {
            if (op > 10) return broken("bad opcode");
            if (size > 125) return broken("len > 125 for control");
            if (!final) return broken("FIN not set on control");
        } else {
            if (op > 2) return broken("bad opcode");
            if (fragmented && op != 0) return broken("data before FIN");
            if (!fragmented && op == 0) return broken("continuation after FIN");
        }
        const std::size_t wide = size == 126 ? 2 : size == 127 ? 8 : 0;
        const std::size_t head = 2 + wide + (masked ? 4 : 0);
        if (in.size() < head) return out;
        if (wide > 0) size = 0;
        for (std::size_t i = 0; i < wide; ++i) size = size << 8 | number(in[2 + i]);
        byte_vector key(4);
        if (masked) std::copy_n(in.begin() + static_cast<std::ptrdiff_t>(head) - 4, 4, key.begin());
        if (op < 8) {
            if (op != 0) message = 0;
            if (size >> 63 != 0) return broken("length above 2^63");
            if (size > limit - message) return broken("read limit exceeded");
            message += size;
            fragmented = !final;
        } else if (in.size() < head + size) {
            return out;
        }
        in = in.subspan(head);
        byte_vector clear;
        for (std::size_t i = 0; i < std::min(size, in.size()); ++i)
            clear.push_back(in[i] ^ key[i & 3]);
        in = in.subspan(clear.size());
        if (op < 8) {
            out.payload.insert(out.payload.end(), clear.begin(), clear.end());
        } else if (op == 9) {
            out.last_ping = clear;
            out.any_ping = true;
        } else if (op == 8) {
            if (size == 1) return broken("bad close frame");
            if (size >= 2 && !is_close_code(number(clear[0]) << 8 | number(clear[1])))
                return broken("bad close code");
            out.close = clear;
            out.closed = true;
            return out;
        }
    }
    return out;
}

// Takes the replies of the reader apart again: the last Pong, and a Close.
struct replies {
    byte_vector pong, close;
    bool any_pong = false, any_close = false;

    void add(fuzz::bytes_view bytes, bool masked) {
        while (!bytes.empty()) {
            check(bytes.size() >= 2, "a reply is whole frames");
            const std::size_t op = number(bytes[0]), size = number(bytes[1]) & 127;
            check(op == 0x8a || op == 0x88, "only Pong and Close are sent");
            check(!any_close, "nothing follows a Close");
            check(((number(bytes[1]) & 0x80) != 0) == masked && size <= 125, "as a peer wants it");
            const std::size_t head = masked ? 6 : 2;
            check(bytes.size() >= head + size, "a reply is whole frames");
            const byte_vector body = fuzz::exact(bytes.subspan(head, size));
            (op == 0x8a ? any_pong : any_close) = true;
            (op == 0x8a ? pong : close) = body;
            bytes = bytes.subspan(head + size);
        }
    }
};

// The session's part: a buffer with the run in front and what is unread behind it.
void play(fuzz::bytes_view stream, bool server, std::size_t limit, std::uint32_t seed) {
    const story told = tell(stream, server, limit == 0 ? ~std::size_t{0} : limit);
    websocket_reader reader(server ? websocket_role::server : websocket_role::client, limit);
    fuzz::cutter cut(seed), appetite(seed >> 4);
    byte_vector buffer = fuzz::exact(stream), got;
    replies said;
    std::byte *raw = buffer.data(), *raw_end = raw;
    websocket_reader::run run{raw, raw};
    std::size_t arrived = 0;
    status last = status::need_more;
    auto consume = [&](std::size_t size) {
        got.insert(got.end(), run.begin, run.begin + size);
        run.begin += size;
    };
    while (last == status::need_more || last == status::ready) {
        if (last == status::need_more) {
            if (arrived == stream.size()) break;
            const std::size_t size = cut.next(stream.size() - arrived);
            raw_end += size;
            arrived += size;
        }
        last = reader.advance(run, raw, raw_end);
        said.add(reader.take_reply(), !server);
        check(run.begin <= run.end && run.end <= raw && raw <= raw_end, "run, then unread bytes");
        const auto waiting = static_cast<std::size_t>(run.end - run.begin);
        if (last == status::need_more)
            check(raw_end - raw <= 130, "what cannot be read yet is short");
        if (last == status::ready) {
            check(waiting > 0, "ready means that there is something");
            consume(waiting);
        } else if (waiting > 0) {
            consume(seed % 5 == 4 ? appetite.next(waiting + 1) - 1 : waiting);
        }
        if (seed % 7 == 3 && last == status::need_more) {
            // To another buffer, as when a block is full.
            byte_vector moved(run.begin, run.end);
            const std::size_t kept = moved.size();
            moved.insert(moved.end(), raw, raw_end);
            const std::size_t unread = moved.size() - kept;
            moved.insert(moved.end(), stream.begin() + static_cast<std::ptrdiff_t>(arrived),
                         stream.end());
            moved.shrink_to_fit();
            buffer.swap(moved);
            run = {buffer.data(), buffer.data() + kept};
            raw = run.end;
            raw_end = raw + unread;
        }
    }
    consume(static_cast<std::size_t>(run.end - run.begin));
    check(fuzz::equal(got, told.payload), "the payload is what the frames carry");
    check(said.any_pong == told.any_ping && fuzz::equal(said.pong, told.last_ping),
          "the last ping is answered");
    const std::string_view error = reader.error();
    if (told.closed && error != "websocket: invalid utf8 payload in close frame") {
        check(last == status::closed, "a Close is one");
        check(
            fuzz::equal(said.close, fuzz::bytes_view(told.close).first(told.close.empty() ? 0 : 2)),
            "a Close is answered with its code");
    } else if (!told.error.empty()) {
        check(last == status::failed && error == "websocket: " + told.error, "the rule is named");
        check(said.any_close, "and told to the peer");
    } else if (!told.closed) {
        check(last == status::need_more && error.empty() && !said.any_close, "nothing is wrong");
    }
    if (last == status::closed || last == status::failed)
        check(reader.advance(run, raw, raw_end) == status::failed, "an end is for good");
}

// What we write, we read.
void write_and_read(fuzz::script in) {
    const bool client = in.pick(2) == 0;
    const std::uint32_t key = in.u32();
    const byte_vector payload = fuzz::exact(in.rest());
    byte_vector frame(frame_header_bytes(payload.size(), client));
    check(write_frame_header(frame.data(), opcode::binary, payload.size(), client, key) ==
              frame.size(),
          "a header has the size that was told");
    frame.insert(frame.end(), payload.begin(), payload.end());
    if (client) apply_mask(fuzz::bytes_span(frame).subspan(frame.size() - payload.size()), key);
    const story told = tell(frame, client, 1 << 20);
    check(told.error.empty() && fuzz::equal(told.payload, payload), "what we write can be read");
    // The same mask in two steps, and to a place below.
    const std::size_t half = payload.size() / 2;
    byte_vector twice(payload.size() + 5);
    std::copy(payload.begin(), payload.end(), twice.begin() + 5);
    apply_mask(twice.data(), twice.data() + 5, half, key);
    apply_mask(twice.data() + half, twice.data() + 5 + half, payload.size() - half, key, half);
    apply_mask({twice.data(), payload.size()}, key);
    check(fuzz::equal(fuzz::bytes_view(twice).first(payload.size()), payload),
          "a mask undoes itself");
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    const unsigned what = in.pick(8);
    const std::uint32_t seed = in.byte();
    if (what == 7) return write_and_read(in);
    constexpr std::size_t limits[] = {1 << 20, 300, 0, 5000};
    play(in.rest(), (what & 1) == 0, limits[what >> 1 & 3], seed);
}

const fuzz::target registered("websocket", run, "core/http/websocket.cc");

}  // namespace
