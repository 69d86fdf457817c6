// Echo messages between our own ends: any stream, whole and in chunks; and what is written, read.
#include <vector>

#include "core/relay/echo_wire.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin::relay;
using burin::byte_vector;
using fuzz::check;
using kind = echo_message::kind;

struct message {
    kind what;
    std::uint32_t number;
    burin::tun::flow_address to;
    byte_vector data;
    friend bool operator==(const message&, const message&) = default;
};

// Until the first that is malformed: behind it the stream means nothing.
std::vector<message> read(fuzz::bytes_view stream, fuzz::cutter cut) {
    echo_reader reader;
    std::vector<message> out;
    while (!stream.empty()) {
        const byte_vector chunk = fuzz::exact(stream.first(cut.next(stream.size())));
        stream = stream.subspan(chunk.size());
        fuzz::bytes_view left = chunk;
        echo_message m;
        while (reader.next(left, m)) {
            if (m.what == kind::malformed) {
                out.push_back({kind::malformed, 0, {}, {}});
                return out;
            }
            check(m.data.size() <= most_echo_bytes || m.what == kind::unknown, "data has a bound");
            out.push_back({m.what, m.number, m.to, fuzz::exact(m.data)});
        }
        check(left.empty(), "what is no message yet is kept");
    }
    return out;
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    const fuzz::cutter cut(in.byte());
    const fuzz::bytes_view stream = in.rest();
    const std::vector<message> whole = read(stream, fuzz::cutter(0));
    check(read(stream, cut) == whole, "a stream says the same in chunks of any size");
    byte_vector again;
    std::vector<message> known;
    for (const message& m : whole) {
        if (m.what == kind::malformed || m.what == kind::unknown) continue;
        const echo_message one{m.what, m.number, m.to, m.data};
        byte_vector room(echo_message_bytes(one));
        check(room.size() <= most_echo_message_bytes, "a message has a bound");
        write_echo(room.data(), one);
        again.insert(again.end(), room.begin(), room.end());
        known.push_back(m);
    }
    check(read(again, cut) == known, "what is written is read");
}

const fuzz::target registered("echo_wire", run, "core/relay/echo_wire.cc");

}  // namespace
