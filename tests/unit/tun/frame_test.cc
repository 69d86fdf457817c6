#include "tun/frame.hh"

#include <vector>

#include "tests/catch.hh"
#include "tun/checksum.hh"

using namespace burin;
using namespace burin::tun;

namespace {

// A SYN as Linux 6 sends it out of a LAN: 192.168.7.9:40000 -> 192.0.2.7:443, no virtio flags, and
// options MSS 1460, SACK permitted, timestamps, NOP, window scale 7. Checksums by RFC 1071.
std::vector<std::byte> captured_syn() {
    const unsigned char raw[] = {
        0,    0,    0,    0,    0,    0,    0,    0,    0,    0,           // virtio
        0x45, 0x00, 0x00, 0x3c, 0x1c, 0x46, 0x40, 0x00, 0x3f, 0x06,        // IPv4
        0x00, 0x00, 192,  168,  7,    9,    192,  0,    2,    7,           //
        0x9c, 0x40, 0x01, 0xbb, 0x12, 0x34, 0x56, 0x78, 0,    0,    0, 0,  // TCP
        0xa0, 0x02, 0xfa, 0xf0, 0x00, 0x00, 0x00, 0x00,                    //
        0x02, 0x04, 0x05, 0xb4, 0x04, 0x02, 0x08, 0x0a, 0x00, 0x01,        // options
        0x02, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01, 0x03, 0x03, 0x07,
    };
    const bytes_view bytes = std::as_bytes(std::span(raw));
    return {bytes.begin(), bytes.end()};
}

void repair_checksums(std::vector<std::byte>& frame) {
    std::byte* ip = frame.data() + 10;
    const std::size_t header = (static_cast<std::size_t>(ip[0]) & 15) * 4;
    store_u16(ip + 10, 0);
    store_u16(ip + 10, checksum_finish(checksum_add({ip, header})));
    const std::size_t length = frame.size() - 10 - header;
    store_u16(ip + header + 16, 0);
    const std::uint64_t pseudo = checksum_add({ip + 12, 8}) + 6 + length;
    store_u16(ip + header + 16, checksum_finish(checksum_add({ip + header, length}, pseudo)));
}

frame_kind kind_of(const std::vector<std::byte>& frame) {
    parsed_frame parsed;
    return parse_frame(frame, parsed);
}

}  // namespace

TEST_CASE("a SYN with Linux's options") {
    auto frame = captured_syn();
    repair_checksums(frame);
    parsed_frame parsed;
    REQUIRE(parse_frame(frame, parsed) == frame_kind::tcp);
    REQUIRE(to_text(parsed.key.source) == "192.168.7.9");
    REQUIRE(to_text(parsed.key.destination) == "192.0.2.7");
    REQUIRE(parsed.key.source_port == 40000);
    REQUIRE(parsed.key.destination_port == 443);
    REQUIRE(parsed.seq.value() == 0x12345678);
    REQUIRE(parsed.flags == tcp_syn);
    REQUIRE(parsed.window == 0xfaf0);
    REQUIRE(parsed.options.mss == 1460);
    REQUIRE(parsed.options.window_shift == 7);
    REQUIRE(parsed.options.sack_permitted);
    REQUIRE(parsed.options.has_timestamps);
    REQUIRE(parsed.options.timestamp == 0x00010203);
    REQUIRE(parsed.payload.empty());
    REQUIRE(parsed.length() == 1);
}

TEST_CASE("checksums: verified unless the virtio header vouches for TCP's") {
    auto frame = captured_syn();
    repair_checksums(frame);
    frame[10 + 20 + 14] ^= std::byte{1};  // the window
    REQUIRE(kind_of(frame) == frame_kind::bad_tcp_checksum);
    frame[0] = std::byte{virtio_needs_csum};
    REQUIRE(kind_of(frame) == frame_kind::tcp);
    frame[0] = std::byte{virtio_data_valid};
    REQUIRE(kind_of(frame) == frame_kind::tcp);
    frame[10 + 8] ^= std::byte{1};  // the TTL: IPv4's own sum is verified always
    REQUIRE(kind_of(frame) == frame_kind::bad_ip_checksum);
}

TEST_CASE("every kind of frame that is not TCP for a flow has its name") {
    auto good = captured_syn();
    repair_checksums(good);
    auto changed = [&](std::size_t at, unsigned value) {
        auto frame = good;
        frame[at] = static_cast<std::byte>(value);
        repair_checksums(frame);
        return kind_of(frame);
    };
    REQUIRE(changed(10 + 9, 47) == frame_kind::other_protocol);
    REQUIRE(changed(10 + 6, 0x20) == frame_kind::fragment);
    REQUIRE(changed(10 + 7, 0x01) == frame_kind::fragment);
    REQUIRE(changed(10 + 16, 224) == frame_kind::multicast);
    REQUIRE(changed(10 + 12, 240) == frame_kind::bad_address);
    REQUIRE(changed(10 + 12, 0) == frame_kind::bad_address);
    REQUIRE(changed(10 + 3, 0x3d) == frame_kind::truncated);
    REQUIRE(changed(10 + 3, 0x13) == frame_kind::bad_ip_header);
    REQUIRE(changed(10 + 20 + 12, 0x40) == frame_kind::bad_tcp_header);
    REQUIRE(changed(10 + 20 + 12, 0xb0) == frame_kind::bad_tcp_header);
    REQUIRE(changed(10 + 40 + 1, 0) == frame_kind::bad_tcp_header);   // MSS of length 0
    REQUIRE(changed(10 + 40 + 1, 60) == frame_kind::bad_tcp_header);  // past the header
    REQUIRE(changed(10, 0x35) == frame_kind::bad_ip_header);
    auto frame = good;
    frame[10] = std::byte{0x60};
    REQUIRE(kind_of(frame) == frame_kind::truncated);  // as IPv6
    frame = good;
    store_u16(frame.data() + 10 + 20, 0);
    repair_checksums(frame);
    REQUIRE(kind_of(frame) == frame_kind::bad_tcp_header);  // port 0
}

TEST_CASE("every kind has a text of its own") {
    for (std::size_t i = 0; i < static_cast<std::size_t>(frame_kind::kinds); ++i) {
        REQUIRE(to_text(static_cast<frame_kind>(i)) != "unknown");
    }
}

TEST_CASE("IP options are stepped over, trailing bytes are not payload, hdr_len is not believed") {
    auto frame = captured_syn();
    frame[10 + 20 + 13] = std::byte{tcp_ack};
    const std::byte nops[4] = {std::byte{1}, std::byte{1}, std::byte{1}, std::byte{0}};
    frame.insert(frame.begin() + 30, std::begin(nops), std::end(nops));
    frame.insert(frame.end(), 5, std::byte{'x'});
    frame[10] = std::byte{0x46};
    store_u16(frame.data() + 12, 64 + 5);
    repair_checksums(frame);
    frame.insert(frame.end(), 9, std::byte{'z'});
    frame[2] = std::byte{0xff};  // hdr_len
    parsed_frame parsed;
    REQUIRE(parse_frame(frame, parsed) == frame_kind::tcp);
    REQUIRE(parsed.key.source_port == 40000);
    REQUIRE(as_text(parsed.payload) == "xxxxx");
}

TEST_CASE("no cut or flipped frame is read beyond its end") {
    auto good = captured_syn();
    repair_checksums(good);
    for (std::size_t size = 0; size < good.size(); ++size) {
        // A heap block of exactly this size: a sanitizer sees the first byte too many.
        const std::vector<std::byte> cut(good.begin(),
                                         good.begin() + static_cast<std::ptrdiff_t>(size));
        if (kind_of(cut) == frame_kind::tcp) FAIL("size " << size);
    }
    std::uint32_t state = 4711;
    for (int round = 0; round < 20000; ++round) {
        auto frame = good;
        frame[0] = std::byte{virtio_needs_csum};
        for (int flips = 0; flips < 3; ++flips) {
            state = state * 1664525 + 1013904223;
            frame[(state >> 8) % frame.size()] = static_cast<std::byte>(state >> 24);
        }
        std::byte* ip = frame.data() + 10;
        const std::size_t header = (static_cast<std::size_t>(ip[0]) & 15) * 4;
        store_u16(ip + 10, 0);
        if (header <= frame.size() - 10) {
            store_u16(ip + 10, checksum_finish(checksum_add({ip, header})));
        }
        parsed_frame parsed;
        if (parse_frame(frame, parsed) == frame_kind::tcp) {
            const std::byte* end = parsed.payload.data() + parsed.payload.size();
            if (end > frame.data() + frame.size()) FAIL("round " << round);
        }
    }
}

TEST_CASE("a written SYN-ACK is the host's flow turned round") {
    auto syn = captured_syn();
    repair_checksums(syn);
    parsed_frame parsed;
    REQUIRE(parse_frame(syn, parsed) == frame_kind::tcp);
    tcp_fields fields;
    fields.seq = sequence(1000);
    fields.ack = parsed.seq + 1;
    fields.flags = tcp_syn | tcp_ack;
    fields.window = 60000;
    fields.mss = 1460;
    fields.window_shift = 8;
    fields.sack_permitted = true;
    header_buffer header;
    write_tcp_header(header, parsed.key, fields, 0, 0);
    REQUIRE(header.bytes().size() == 10 + 20 + 20 + 12);
    parsed_frame back;
    REQUIRE(parse_frame(header.bytes(), back) == frame_kind::tcp);
    REQUIRE(back.key.source == parsed.key.destination);
    REQUIRE(back.key.destination_port == parsed.key.source_port);
    REQUIRE(back.options.mss == 1460);
    REQUIRE(back.options.window_shift == 8);
    REQUIRE(back.options.sack_permitted);
    REQUIRE(back.virtio_flags == virtio_needs_csum);
    REQUIRE(back.gso_type == virtio_gso_none);
    // What the kernel does with NEEDS_CSUM leads to a right checksum.
    std::vector<std::byte> frame(header.bytes().begin(), header.bytes().end());
    std::byte* tcp = frame.data() + 30;
    store_u16(tcp + 16, checksum_finish(checksum_add({tcp, frame.size() - 30})));
    frame[0] = std::byte{0};
    REQUIRE(parse_frame(frame, back) == frame_kind::tcp);
}

TEST_CASE("more payload than a segment makes a superframe") {
    flow_key key;
    key.source = flow_address::v4(0x0a000001);
    key.destination = flow_address::v4(0x0a000002);
    key.source_port = 1;
    key.destination_port = 2;
    header_buffer header;
    write_tcp_header(header, key, {}, 1460, 1460);
    REQUIRE(header.bytes()[1] == std::byte{virtio_gso_none});
    write_tcp_header(header, key, {}, 65495, 1460);
    REQUIRE(header.bytes()[1] == std::byte{virtio_gso_tcp_v4});
    std::uint16_t hdr_len, gso_size;
    __builtin_memcpy(&hdr_len, header.bytes().data() + 2, 2);
    __builtin_memcpy(&gso_size, header.bytes().data() + 4, 2);
    REQUIRE(hdr_len == 40);
    REQUIRE(gso_size == 1460);
    REQUIRE(load_u16(header.bytes().data() + 12) == 65535);
}

TEST_CASE("a reset answers as RFC 9293 says") {
    auto syn = captured_syn();
    repair_checksums(syn);
    parsed_frame cause;
    REQUIRE(parse_frame(syn, cause) == frame_kind::tcp);
    header_buffer header;
    parsed_frame back;
    REQUIRE(write_reset(header, cause));
    REQUIRE(parse_frame(header.bytes(), back) == frame_kind::tcp);
    REQUIRE(back.flags == (tcp_rst | tcp_ack));
    REQUIRE(back.seq.value() == 0);
    REQUIRE(back.ack == cause.seq + 1);
    cause.flags = tcp_ack;
    cause.ack = sequence(77);
    REQUIRE(write_reset(header, cause));
    REQUIRE(parse_frame(header.bytes(), back) == frame_kind::tcp);
    REQUIRE(back.flags == tcp_rst);
    REQUIRE(back.seq.value() == 77);
    cause.flags = tcp_rst | tcp_ack;
    REQUIRE_FALSE(write_reset(header, cause));
}
