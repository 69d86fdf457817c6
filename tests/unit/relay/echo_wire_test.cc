// The octets of docs/wire.md section 13.2, and what is made of others.
#include "core/relay/echo_wire.hh"

#include <random>
#include <string>

#include "tests/catch.hh"
#include "tests/unit/tun/packets.hh"

using namespace burin;
using namespace burin::relay;
using namespace burin::hand;
using kind = echo_message::kind;

namespace {

octets written(const echo_message& m) {
    byte_vector out(echo_message_bytes(m));
    write_echo(out.data(), m);
    return to_octets(out);
}
byte_vector bytes(const octets& from) {
    const bytes_view view = std::as_bytes(std::span(from));
    return {view.begin(), view.end()};
}
tun::flow_address v6(const octets& from) {
    tun::flow_address a;
    std::copy(from.begin(), from.end(), a.bytes.begin());
    return a;
}
echo_message only(const octets& stream) {
    const byte_vector all = bytes(stream);
    bytes_view left = all;
    echo_reader reader;
    echo_message m;
    REQUIRE(reader.next(left, m));
    return m;
}

}  // namespace

TEST_CASE("echo wire: the octets of the specification") {
    const byte_vector data = bytes({0xaa, 0xbb, 0xcc});
    echo_message m{kind::request, 0x01020304, tun::flow_address::v4(0x0a4d0001), data};
    CHECK(written(m) == octets{0, 12, 4, 1, 2, 3, 4, 10, 77, 0, 1, 0xaa, 0xbb, 0xcc});
    m.to = v6(lan6.to);
    CHECK(written(m) == octets{0, 24, 6, 1, 2, 3, 4} + lan6.to + octets{0xaa, 0xbb, 0xcc});
    CHECK(written({kind::answered, 0x01020304, {}, data}) ==
          octets{0, 8, 128, 1, 2, 3, 4, 0xaa, 0xbb, 0xcc});
    CHECK(written({kind::unreachable, 7, {}, {}}) == octets{0, 5, 129, 0, 0, 0, 7});
    CHECK(written({kind::prohibited, 7, {}, {}}) == octets{0, 5, 130, 0, 0, 0, 7});
    CHECK(written({kind::hops_exceeded, 7, {}, {}}) == octets{0, 5, 131, 0, 0, 0, 7});
    CHECK(written({kind::answered, 7, {}, {}}) == octets{0, 5, 128, 0, 0, 0, 7});
}

TEST_CASE("echo wire: messages are found however the stream is cut") {
    const byte_vector longest = bytes(filler(most_echo_bytes));
    const byte_vector data = bytes(filler(56));
    const echo_message all[] = {
        {kind::request, 1, tun::flow_address::v4(0x0a4d0001), data},
        {kind::request, 2, v6(lan6.to), longest},
        {kind::answered, 3, {}, longest},
        {kind::unreachable, 4, {}, {}},
        {kind::answered, 5, {}, {}},
    };
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    octets stream;
    for (const echo_message& m : all) stream = stream + written(m);
    stream = stream + stream;
    const byte_vector whole = bytes(stream);
    for (int round = 0; round < 50; ++round) {
        const std::size_t most =
            round == 0 ? whole.size() : 1 + random() % (round % 2 ? 20 : 20'000);
        echo_reader reader;
        std::size_t at = 0, found = 0;
        while (at < whole.size()) {
            const std::size_t size = std::min(whole.size() - at, 1 + random() % most);
            // Memory of exactly this size: whoever reads beyond it is caught by a sanitizer.
            const byte_vector part(whole.begin() + static_cast<std::ptrdiff_t>(at),
                                   whole.begin() + static_cast<std::ptrdiff_t>(at + size));
            bytes_view left = part;
            echo_message m;
            while (reader.next(left, m)) {
                const echo_message& wanted = all[found++ % std::size(all)];
                REQUIRE(m.what == wanted.what);
                REQUIRE(m.number == wanted.number);
                REQUIRE(m.to == wanted.to);
                REQUIRE(to_octets(m.data) == to_octets(wanted.data));
                const bool inside =
                    m.data.data() >= part.data() && m.data.data() <= part.data() + part.size();
                REQUIRE((m.data.empty() || inside != reader.assembled()));
            }
            REQUIRE(left.empty());
            at += size;
        }
        REQUIRE(found == 2 * std::size(all));
    }
}

TEST_CASE("echo wire: what breaks the rules is malformed, what is new is unknown") {
    for (const octets& bad : {
             octets{0, 4, 128, 0, 0, 0},                  // no room for a number
             octets{0, 0},                                // nothing at all
             octets{0xff, 0xff},                          // longer than any
             octets{0, 8, 4, 0, 0, 0, 7, 10, 77, 0},      // an address cut off
             octets{0, 20, 6, 0, 0, 0, 7} + octets(15),   // the same
             octets{0, 21, 6, 0, 0, 0, 7} + octets(10) +  // IPv4 in IPv6's clothes
                 octets{0xff, 0xff, 10, 77, 0, 1},
         }) {
        CHECK(only(bad).what == kind::malformed);
    }
    // The longest data, and one octet more.
    const auto answered = [](std::size_t size) {
        return be16(static_cast<unsigned>(5 + size)) + octets{128, 0, 0, 0, 7} + octets(size);
    };
    CHECK(only(answered(most_echo_bytes)).what == kind::answered);
    CHECK(only(answered(most_echo_bytes + 1)).what == kind::malformed);
    CHECK(only({0, 6, 77, 0, 0, 0, 7, 1}).what == kind::unknown);
    // What follows an unknown one is found.
    const byte_vector two = bytes(octets{0, 6, 77, 0, 0, 0, 7, 1} + answered(1));
    bytes_view left = two;
    echo_reader reader;
    echo_message m;
    REQUIRE(reader.next(left, m));
    REQUIRE(reader.next(left, m));
    CHECK(m.what == kind::answered);
    CHECK(left.empty());
}

TEST_CASE("echo wire: any bytes are safe") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    for (int round = 0; round < 2000; ++round) {
        echo_reader reader;
        echo_message m;
        for (int part = 0; part < 4; ++part) {
            byte_vector raw(random() % 60);
            for (std::byte& b : raw) b = static_cast<std::byte>(random());
            if (!raw.empty() && random() % 2 == 0) raw[0] = {};
            bytes_view left = raw;
            while (reader.next(left, m))
                if (m.what == kind::malformed) break;
            if (m.what == kind::malformed) break;
        }
    }
}
