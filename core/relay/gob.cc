#include "core/relay/gob.hh"

#include <algorithm>
#include <array>
#include <cstring>

namespace burin::relay {

namespace {

// Types that every decoder knows (docs/wire.md section 9.2), and the first that a program defines.
constexpr std::int64_t type_bool = 1, type_int = 2, type_uint = 3, type_float = 4, type_bytes = 5,
                       type_string = 6, type_complex = 7, first_type = 64, most_id = 0x7fffffff;
constexpr std::uint8_t defined_type = 64;
// Other programs' types beside the record's; a stranger's definitions are bounded.
constexpr std::size_t most_types = 16, most_fields = 32;
constexpr unsigned most_depth = 8;

constexpr std::array<std::uint8_t, 43> definition = {
    0x2a, 0x7f, 0x03, 0x01, 0x01, 0x09, 'u',  'd',  'p',  'P',  'a',  'c',  'k',  'e',  't',
    0x01, 0xff, 0x80, 0x00, 0x01, 0x02, 0x01, 0x03, 'S',  'r',  'c',  0x01, 0x0c, 0x00, 0x01,
    0x07, 'P',  'a',  'y',  'l',  'o',  'a',  'd',  0x01, 0x0a, 0x00, 0x00, 0x00};

std::size_t uint_bytes(std::size_t value) noexcept {
    if (value < 128) return 1;
    std::size_t bytes = 2;
    while (value >>= 8) ++bytes;
    return bytes;
}

// Writers of what ends at `end`; each returns where it begins.
std::byte* uint_before(std::byte* end, std::size_t value) noexcept {
    if (value < 128) {
        *--end = static_cast<std::byte>(value);
        return end;
    }
    unsigned count = 0;
    for (; value != 0; value >>= 8, ++count) *--end = static_cast<std::byte>(value & 0xff);
    *--end = static_cast<std::byte>(256 - count);
    return end;
}

std::size_t body_bytes(std::size_t source, std::size_t payload) noexcept {
    std::size_t bytes = 2 + gob_trailer_bytes;
    if (source > 0) bytes += 1 + uint_bytes(source) + source;
    if (payload > 0) bytes += 1 + uint_bytes(payload) + payload;
    return bytes;
}

}  // namespace

// ---- writer ----

bytes_view gob_definition() noexcept {
    return std::as_bytes(std::span(definition));
}

std::size_t gob_header_bytes(std::size_t source, std::size_t payload) noexcept {
    const std::size_t body = body_bytes(source, payload);
    return uint_bytes(body) + body - payload - gob_trailer_bytes;
}

std::byte* write_gob_around(std::byte* payload, std::size_t payload_bytes,
                            std::string_view source) noexcept {
    payload[payload_bytes] = std::byte{0};  // no more fields
    std::byte* at = payload;
    // Empty fields are left out: a field's number is its distance from the one before.
    if (payload_bytes > 0) {
        at = uint_before(at, payload_bytes);
        *--at = source.empty() ? std::byte{2} : std::byte{1};
    }
    if (!source.empty()) {
        at -= source.size();
        std::memcpy(at, source.data(), source.size());
        at = uint_before(at, source.size());
        *--at = std::byte{1};
    }
    *--at = static_cast<std::byte>(2 * defined_type & 0xff);
    *--at = std::byte{0xff};
    return uint_before(at, body_bytes(source.size(), payload_bytes));
}

gob_run_bytes::gob_run_bytes(std::size_t payload_bytes, std::size_t size,
                             std::size_t source_bytes) noexcept {
    const std::size_t whole = payload_bytes > size ? (payload_bytes - 1) / size : 0;
    const std::size_t last = payload_bytes - whole * size;
    in_front = gob_header_bytes(source_bytes, whole > 0 ? size : last);
    total = whole * gob_record_bytes(source_bytes, size) + gob_record_bytes(source_bytes, last);
}

// From the last to the first, so that none is written over before it has moved.
bytes_view write_gob_run(bytes_span payload, std::size_t size, std::string_view source) noexcept {
    const gob_run_bytes run(payload.size(), size, source.size());
    std::byte* const first = payload.data();
    std::byte* const begin = first - run.in_front;
    const std::size_t whole = payload.size() > size ? (payload.size() - 1) / size : 0;
    const std::size_t last = payload.size() - whole * size;
    const std::size_t step = gob_record_bytes(source.size(), size);
    std::byte* at = begin + run.total - gob_trailer_bytes - last;
    if (whole > 0) std::memmove(at, first + whole * size, last);
    write_gob_around(at, last, source);
    for (std::size_t i = whole; i-- > 0;) {
        at = first + i * step;
        if (i > 0) std::memmove(at, first + i * size, size);
        write_gob_around(at, size, source);
    }
    return {begin, run.total};
}

// ---- reader ----

// Reads a message's body; the first failure is sticky.
class gob_reader::cursor {
  public:
    explicit cursor(bytes_view bytes) noexcept : _left(bytes) {}

    std::uint64_t uint() noexcept {
        if (!need(1)) return 0;
        const auto first = static_cast<std::uint8_t>(_left[0]);
        _left = _left.subspan(1);
        if (first < 128) return first;
        const std::size_t count = 256u - first;
        if (count > 8 || !need(count)) {
            _good = false;
            return 0;
        }
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < count; ++i)
            value = value << 8 | static_cast<std::uint8_t>(_left[i]);
        _left = _left.subspan(count);
        return value;
    }
    std::int64_t integer() noexcept {
        const std::uint64_t u = uint();
        return static_cast<std::int64_t>((u & 1) != 0 ? ~(u >> 1) : u >> 1);
    }
    bytes_view bytes() noexcept {
        const std::uint64_t size = uint();
        if (!_good || size > _left.size()) {
            _good = false;
            return {};
        }
        const bytes_view value = _left.first(size);
        _left = _left.subspan(size);
        return value;
    }
    // The number of a structure's next field, counted from 0, after `last`; -1: no more.
    int next_field(int last) noexcept {
        const std::uint64_t delta = uint();
        if (!_good || delta == 0) return -1;
        if (delta > most_fields) {
            _good = false;
            return -1;
        }
        return last + static_cast<int>(delta);
    }
    void refuse() noexcept { _good = false; }
    bool good() const noexcept { return _good; }
    bool done() const noexcept { return _good && _left.empty(); }
    std::size_t left() const noexcept { return _left.size(); }

  private:
    bool need(std::size_t count) noexcept {
        if (_good && _left.size() >= count) return true;
        _good = false;
        return false;
    }
    bytes_view _left;
    bool _good = true;
};

gob_reader::outcome gob_reader::fail(const char* why) noexcept {
    if (_error == nullptr) _error = why;
    _partial = byte_vector();  // gives the memory back
    return outcome::failed;
}

const gob_reader::type* gob_reader::find(std::int64_t id) const noexcept {
    for (const type& t : _types)
        if (t.id == id) return &t;
    return nullptr;
}

gob_reader::outcome gob_reader::next(bytes_view& bytes, datagram& out) {
    if (_error != nullptr) return outcome::failed;
    if (_assembled) {  // the record that was given out last
        _assembled = false;
        _partial = byte_vector();
        _wanted = 0;
    }
    for (;;) {
        if (_partial.empty()) {
            if (bytes.empty()) return outcome::more;
            // The length of the message, when it is whole.
            const auto first = static_cast<std::uint8_t>(bytes[0]);
            const std::size_t length_bytes = first < 128 ? 1 : 257u - first;
            if (length_bytes > 9) return fail("a length that is none");
            if (bytes.size() >= length_bytes) {
                const std::uint64_t size = cursor(bytes.first(length_bytes)).uint();
                if (size > gob_most_message_bytes) return fail("a message that is too large");
                if (bytes.size() - length_bytes >= size) {
                    const bytes_view body = bytes.subspan(length_bytes, size);
                    bytes = bytes.subspan(length_bytes + size);
                    bool is_record = false;
                    if (!take_message(body, out, is_record)) return fail("malformed gob");
                    if (is_record) return outcome::record;
                    continue;
                }
                _wanted = length_bytes + size;
                _partial.reserve(_wanted);
            } else {
                _wanted = 0;
            }
            _partial.assign(bytes.begin(), bytes.end());
            bytes = {};
            return outcome::more;
        }
        if (_wanted == 0) {
            // Octet by octet until the length is there.
            const std::size_t length_bytes = 257u - static_cast<std::uint8_t>(_partial[0]);
            while (_partial.size() < length_bytes && !bytes.empty()) {
                _partial.push_back(bytes[0]);
                bytes = bytes.subspan(1);
            }
            if (_partial.size() < length_bytes) return outcome::more;
            const std::uint64_t size = cursor(_partial).uint();
            if (size > gob_most_message_bytes) return fail("a message that is too large");
            _wanted = length_bytes + size;
            _partial.reserve(_wanted);
        }
        const std::size_t part = std::min(_wanted - _partial.size(), bytes.size());
        const std::size_t before = _partial.size();
        _partial.resize(before + part);
        if (part > 0) std::memcpy(_partial.data() + before, bytes.data(), part);
        bytes = bytes.subspan(part);
        if (_partial.size() < _wanted) return outcome::more;
        const auto first = static_cast<std::uint8_t>(_partial[0]);
        const std::size_t length_bytes = first < 128 ? 1 : 257u - first;
        bool is_record = false;
        if (!take_message(bytes_view(_partial).subspan(length_bytes), out, is_record))
            return fail("malformed gob");
        if (is_record) {
            _assembled = true;
            return outcome::record;
        }
        _partial = byte_vector();
        _wanted = 0;
    }
}

bool gob_reader::take_message(bytes_view body, datagram& out, bool& is_record) {
    cursor c(body);
    const std::int64_t id = c.integer();
    if (!c.good() || id < -most_id) return false;
    if (id < 0) return take_definition(c, -id) && c.done();
    const type* t = find(id);
    if (t == nullptr || t->what != kind::structure) return false;
    is_record = true;
    return take_record(c, *t, out) && c.done();
}

bool gob_reader::take_record(cursor& c, const type& t, datagram& out) {
    bool any = false;
    for (const field& f : t.fields) any = any || f.what != field::role::other;
    if (!any) return false;  // some other value: Go's decoder refuses it as well
    out = {};
    for (int number = -1;;) {
        number = c.next_field(number);
        if (number < 0) break;
        if (static_cast<std::size_t>(number) >= t.fields.size()) return false;
        const field& f = t.fields[static_cast<std::size_t>(number)];
        switch (f.what) {
            case field::role::source: out.source = as_text(c.bytes()); break;
            case field::role::payload: out.payload = c.bytes(); break;
            case field::role::other:
                if (!skip(c, f.type, 0)) return false;
                break;
        }
    }
    return c.good() && out.source.size() <= gob_most_source_bytes &&
           out.payload.size() <= gob_most_payload_bytes;
}

// A wireType: one field says which kind, and is a structure itself.
bool gob_reader::take_definition(cursor& c, std::int64_t id) {
    if (id < first_type || find(id) != nullptr || _types.size() >= most_types) return false;
    type made;
    made.id = id;
    const int what = c.next_field(-1);
    if (what < 0 || what > 6) return false;
    constexpr std::array kinds = {kind::array,  kind::slice,  kind::structure, kind::map,
                                  kind::opaque, kind::opaque, kind::opaque};
    made.what = kinds[static_cast<std::size_t>(what)];
    for (int number = -1;;) {
        number = c.next_field(number);
        if (number < 0) break;
        if (number == 0) {  // CommonType: name and id, which the message has told already
            for (int part = -1; (part = c.next_field(part)) >= 0;) {
                if (part == 0)
                    c.bytes();
                else if (part != 1 || c.integer() != id)
                    c.refuse();
            }
        } else if (number == 1 && made.what == kind::structure) {
            if (!read_fields(c, made)) return false;
        } else if (number == 1 && made.what == kind::map) {
            made.key = c.integer();
        } else if (number == 1 || (number == 2 && made.what == kind::map)) {
            made.element = c.integer();
        } else if (number == 2 && made.what == kind::array) {
            c.integer();  // its length, which each value repeats
        } else {
            return false;
        }
        if (!c.good()) return false;
    }
    if (c.next_field(what) >= 0 || !c.good()) return false;
    _types.push_back(std::move(made));
    return true;
}

bool gob_reader::read_fields(cursor& c, type& into) {
    const std::uint64_t count = c.uint();
    if (count > most_fields) return false;
    for (std::uint64_t i = 0; i < count; ++i) {
        std::string_view name;
        field f{.type = 0, .what = field::role::other};
        for (int part = -1; (part = c.next_field(part)) >= 0;) {
            if (part == 0)
                name = as_text(c.bytes());
            else if (part == 1)
                f.type = c.integer();
            else
                c.refuse();
        }
        if (!c.good()) return false;
        if (name == "Src") {
            if (f.type != type_string) return false;
            f.what = field::role::source;
        } else if (name == "Payload") {
            if (f.type != type_bytes) return false;
            f.what = field::role::payload;
        }
        into.fields.push_back(f);
    }
    return true;
}

// Every value takes up at least one octet, so a count larger than what is left is none.
bool gob_reader::skip(cursor& c, std::int64_t id, unsigned depth) const {
    if (depth > most_depth) return false;
    switch (id) {
        case type_bool:
        case type_int:
        case type_uint:
        case type_float: c.uint(); return c.good();
        case type_complex: c.uint(), c.uint(); return c.good();
        case type_bytes:
        case type_string: c.bytes(); return c.good();
        default: break;
    }
    const type* t = find(id);
    if (t == nullptr) return false;
    if (t->what == kind::opaque) {
        c.bytes();
        return c.good();
    }
    if (t->what == kind::structure) {
        for (int number = -1;;) {
            number = c.next_field(number);
            if (number < 0) return c.good();
            if (static_cast<std::size_t>(number) >= t->fields.size()) return false;
            if (!skip(c, t->fields[static_cast<std::size_t>(number)].type, depth + 1)) return false;
        }
    }
    const std::uint64_t count = c.uint();
    if (!c.good() || count > c.left()) return false;
    for (std::uint64_t i = 0; i < count; ++i) {
        if (t->what == kind::map && !skip(c, t->key, depth + 1)) return false;
        if (!skip(c, t->element, depth + 1)) return false;
    }
    return true;
}

}  // namespace burin::relay
