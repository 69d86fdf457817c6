// The gob stream of a UDP channel: any stream, whole and in chunks; and what is written, read.
#include <string>
#include <vector>

#include "core/relay/gob.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin::relay;
using burin::byte_vector;
using fuzz::check;
using outcome = gob_reader::outcome;

struct record {
    std::string source;
    byte_vector payload;
    friend bool operator==(const record&, const record&) = default;
};

struct reading {
    std::vector<record> records;
    std::string error;
    friend bool operator==(const reading&, const reading&) = default;
};

reading read(fuzz::bytes_view stream, fuzz::cutter cut) {
    gob_reader reader;
    reading out;
    while (!stream.empty() && out.error.empty()) {
        const byte_vector chunk = fuzz::exact(stream.first(cut.next(stream.size())));
        stream = stream.subspan(chunk.size());
        fuzz::bytes_view left = chunk;
        for (;;) {
            datagram d;
            const std::size_t before = left.size();
            const outcome what = reader.next(left, d);
            check(reader.held_bytes() <= gob_most_message_bytes + 16, "a cut record has a bound");
            if (what == outcome::more) {
                check(left.empty(), "everything is taken");
                break;
            }
            if (what == outcome::failed) {
                check(reader.error() != nullptr && reader.held_bytes() == 0, "a failure says why");
                out.error = reader.error();
                check(reader.next(left, d) == outcome::failed, "a failure is for good");
                break;
            }
            check(left.size() < before, "a record takes bytes");
            check(d.source.size() <= gob_most_source_bytes &&
                      d.payload.size() <= gob_most_payload_bytes,
                  "a record is of a datagram's size");
            out.records.push_back({std::string(d.source), fuzz::exact(d.payload)});
        }
    }
    return out;
}

// A record written around a payload that lies still.
void append(byte_vector& out, const record& r) {
    const std::size_t header = gob_header_bytes(r.source.size(), r.payload.size());
    check(header <= gob_most_header_bytes, "a header fits in front");
    byte_vector room(header + r.payload.size() + gob_trailer_bytes);
    std::copy(r.payload.begin(), r.payload.end(),
              room.begin() + static_cast<std::ptrdiff_t>(header));
    check(write_gob_around(room.data() + header, r.payload.size(), r.source) == room.data(),
          "a header has the size that was told");
    check(room.size() == gob_record_bytes(r.source.size(), r.payload.size()), "so has a record");
    out.insert(out.end(), room.begin(), room.end());
}

void write_run(fuzz::script in) {
    const std::string source(burin::as_text(in.take(in.byte())));
    const std::size_t size = 1 + in.u16() % 2000;
    const byte_vector payload = fuzz::exact(in.rest());
    if (payload.empty()) return;
    const gob_run_bytes bytes(payload.size(), size, source.size());
    byte_vector room(bytes.total);
    std::copy(payload.begin(), payload.end(),
              room.begin() + static_cast<std::ptrdiff_t>(bytes.in_front));
    const fuzz::bytes_view run =
        write_gob_run(fuzz::bytes_span(room).subspan(bytes.in_front, payload.size()), size, source);
    check(run.data() == room.data() && run.size() == room.size(), "a run has the size told");
    byte_vector stream = fuzz::exact(gob_definition());
    stream.insert(stream.end(), run.begin(), run.end());
    reading wanted;
    for (std::size_t at = 0; at < payload.size(); at += size)
        wanted.records.push_back({source, fuzz::exact(fuzz::bytes_view(payload).subspan(
                                              at, std::min(size, payload.size() - at)))});
    check(read(stream, fuzz::cutter(0)) == wanted, "a run is as many records");
}

void run(fuzz::bytes_view input) {
    fuzz::script in(input);
    const unsigned what = in.pick(4);
    const fuzz::cutter cut(in.byte());
    if (what == 3) return write_run(in);
    byte_vector stream;
    // Most streams begin as they should.
    if (what == 1) stream = fuzz::exact(gob_definition());
    const fuzz::bytes_view rest = in.rest();
    stream.insert(stream.end(), rest.begin(), rest.end());
    const reading whole = read(stream, fuzz::cutter(0));
    check(read(stream, cut) == whole, "a stream says the same in chunks of any size");
    byte_vector again = fuzz::exact(gob_definition());
    for (const record& r : whole.records) append(again, r);
    check(read(again, cut).records == whole.records, "what is written is read");
}

const fuzz::target registered("gob", run, "core/relay/gob.cc");

}  // namespace
