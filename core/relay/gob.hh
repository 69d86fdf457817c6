// The gob stream of a UDP channel (docs/wire.md section 9.2): a type definition once, then one
// record {Src, Payload} a datagram. A machine without I/O, one reader and one writer.
//
// The writer puts a record's octets around payload that lies still: a header in front of it, one
// octet behind it. The reader takes the stream as it comes, cut anywhere. A record that lies whole
// in what it is given is read there; one that was cut is put together in memory of the reader's
// own, never more than gob_most_message_bytes, freed with the record. Nothing is allocated for a
// record that was not cut.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "crypto/wire.hh"

namespace burin::relay {

// One record. Src is opaque to whoever dials: it comes back byte for byte.
struct datagram {
    std::string_view source;
    bytes_view payload;
};

// Go writes "ip:port"; with a zone that stays below 70.
inline constexpr std::size_t gob_most_source_bytes = 255;
// What UDP over IPv4 carries. Go's peers send up to that, whatever they read at once.
inline constexpr std::size_t gob_most_payload_bytes = 65507;
// A record of that with fields that other programs may have added.
inline constexpr std::size_t gob_most_message_bytes = 72 * 1024;

// ---- writer ----

// The 43 octets with which every stream begins; they outlive everything.
bytes_view gob_definition() noexcept;
// In front of the payload: at most this.
inline constexpr std::size_t gob_most_header_bytes = 16 + gob_most_source_bytes;
inline constexpr std::size_t gob_trailer_bytes = 1;
// Octets in front of a payload of this size.
std::size_t gob_header_bytes(std::size_t source_bytes, std::size_t payload_bytes) noexcept;
inline std::size_t gob_record_bytes(std::size_t source_bytes, std::size_t payload_bytes) noexcept {
    return gob_header_bytes(source_bytes, payload_bytes) + payload_bytes + gob_trailer_bytes;
}
// Completes a record around a payload: writes the header so that it ends at `payload`, and the
// trailer behind it. Returns where the record begins. The caller has checked the room, and that
// `source` is no longer than gob_most_source_bytes.
std::byte* write_gob_around(std::byte* payload, std::size_t payload_bytes,
                            std::string_view source) noexcept;

// Datagrams that lie side by side, `size` bytes each but for a shorter last one: octets of their
// records together, and (of these) in front of the first payload.
struct gob_run_bytes {
    std::size_t total = 0, in_front = 0;
    gob_run_bytes(std::size_t payload_bytes, std::size_t size, std::size_t source_bytes) noexcept;
};
// Makes records of them, one behind the other; all but the first move back by what stands between
// them. The caller has checked that there is room in front, and behind for the rest of the total.
bytes_view write_gob_run(bytes_span payload, std::size_t size, std::string_view source) noexcept;

// ---- reader ----

class gob_reader {
  public:
    enum class outcome : std::uint8_t {
        record,  // `out` is one; ask again
        more,    // everything was taken
        failed,  // the stream is none: error() says why, and nothing more is read
    };
    // Takes octets off the front of `bytes`. `out` lies in them, or in the reader when
    // assembled(), and is valid until the next call.
    outcome next(bytes_view& bytes, datagram& out);
    // The last record lies in the reader's own memory.
    bool assembled() const noexcept { return _assembled; }
    const char* error() const noexcept { return _error; }
    // Memory that a cut record takes up now.
    std::size_t held_bytes() const noexcept { return _partial.capacity(); }

  private:
    // What a definition says of a type: enough to find the two fields, and to pass over others.
    struct field {
        std::int64_t type;
        enum class role : std::uint8_t { other, source, payload } what;
    };
    enum class kind : std::uint8_t { array, slice, structure, map, opaque };
    struct type {
        std::int64_t id = 0;
        kind what = kind::opaque;
        std::int64_t element = 0, key = 0;
        std::vector<field> fields;
    };
    class cursor;

    bool take_message(bytes_view body, datagram& out, bool& is_record);
    bool take_definition(cursor&, std::int64_t id);
    bool take_record(cursor&, const type&, datagram& out);
    bool read_fields(cursor&, type&);
    bool skip(cursor&, std::int64_t type_id, unsigned depth) const;
    const type* find(std::int64_t id) const noexcept;
    outcome fail(const char* why) noexcept;

    std::vector<type> _types;
    byte_vector _partial;
    std::size_t _wanted = 0;  // octets of the message in _partial; 0: its length is cut, too
    bool _assembled = false;
    const char* _error = nullptr;
};

}  // namespace burin::relay
