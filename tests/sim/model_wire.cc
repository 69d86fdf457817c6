#include "tests/sim/model_wire.hh"

#include <cstdio>
#include <stdexcept>

namespace sim {
namespace {

constexpr std::size_t virtio = 10;

void put16(bytes& out, std::size_t at, unsigned value) {
    out[at] = static_cast<std::uint8_t>(value >> 8);
    out[at + 1] = static_cast<std::uint8_t>(value);
}
void put32(bytes& out, std::size_t at, std::uint32_t value) {
    put16(out, at, value >> 16);
    put16(out, at + 2, value & 0xffff);
}
unsigned get16(const bytes& in, std::size_t at) {
    return static_cast<unsigned>(in[at]) << 8 | in[at + 1];
}
std::uint32_t get32(const bytes& in, std::size_t at) {
    return static_cast<std::uint32_t>(get16(in, at)) << 16 | get16(in, at + 2);
}
// The virtio header is little-endian on every machine this runs on.
unsigned get16_le(const bytes& in, std::size_t at) {
    return static_cast<unsigned>(in[at + 1]) << 8 | in[at];
}
void put16_le(bytes& out, std::size_t at, unsigned value) {
    out[at] = static_cast<std::uint8_t>(value);
    out[at + 1] = static_cast<std::uint8_t>(value >> 8);
}

// RFC 1071 as it is written there, two bytes at a time.
std::uint32_t sum16(const bytes& in, std::size_t at, std::size_t length) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < length; ++i) {
        sum += i % 2 == 0 ? static_cast<std::uint32_t>(in[at + i]) << 8 : in[at + i];
        if (sum > 0xffff0000u) sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}
unsigned fold(std::uint32_t sum) {
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}
std::uint32_t pseudo_sum(const bytes& frame, std::size_t tcp_length) {
    return sum16(frame, virtio + 12, 8) + 6 + static_cast<std::uint32_t>(tcp_length);
}

void demand(bool holds, const char* what) {
    if (!holds) throw std::runtime_error(std::string("frame: ") + what);
}

void read_options(const bytes& frame, std::size_t at, std::size_t end, segment& out) {
    while (at < end) {
        if (frame[at] == 0) return;
        if (frame[at] == 1) {
            ++at;
            continue;
        }
        demand(at + 1 < end, "option without a length");
        const std::size_t length = frame[at + 1];
        demand(length >= 2 && at + length <= end, "option length");
        if (frame[at] == 2) {
            demand(length == 4 && out.syn, "MSS option");
            out.mss = static_cast<int>(get16(frame, at + 2));
        }
        if (frame[at] == 3) {
            demand(length == 3 && out.syn, "window scale option");
            out.shift = frame[at + 2];
        }
        if (frame[at] == 4) {
            demand(length == 2 && out.syn, "SACK-permitted option");
            out.sack_permitted = true;
        }
        if (frame[at] == 5) {
            demand(length >= 10 && length % 8 == 2 && !out.syn, "SACK option");
            for (std::size_t block = at + 2; block < at + length; block += 8) {
                out.sack.emplace_back(get32(frame, block), get32(frame, block + 4));
            }
        }
        at += length;
    }
}

}  // namespace

segment read_frame(const bytes& frame) {
    demand(frame.size() >= virtio + 40, "shorter than its headers");
    demand(frame[virtio] == 0x45, "IP version or header length");
    const std::size_t total = get16(frame, virtio + 2);
    demand(total == frame.size() - virtio, "IP total length");
    demand(fold(sum16(frame, virtio, 20)) == 0xffff, "IP checksum");
    demand(frame[virtio + 9] == 6, "protocol");
    demand((get16(frame, virtio + 6) & 0x3fff) == 0, "fragment");

    const std::size_t tcp = virtio + 20;
    const std::size_t header = static_cast<std::size_t>(frame[tcp + 12] >> 4) * 4;
    demand(header >= 20 && tcp + header <= frame.size(), "TCP data offset");
    const std::size_t tcp_length = frame.size() - tcp;
    if (frame[0] & 1) {
        demand(get16_le(frame, 6) == 20 && get16_le(frame, 8) == 16, "csum_start or csum_offset");
        demand(get16(frame, tcp + 16) == fold(pseudo_sum(frame, tcp_length)), "pseudo-header sum");
    } else {
        demand(fold(pseudo_sum(frame, tcp_length) + fold(sum16(frame, tcp, tcp_length))) == 0xffff,
               "TCP checksum");
    }

    segment out;
    out.from = {get32(frame, virtio + 12), static_cast<std::uint16_t>(get16(frame, tcp))};
    out.to = {get32(frame, virtio + 16), static_cast<std::uint16_t>(get16(frame, tcp + 2))};
    out.seq = get32(frame, tcp + 4);
    out.ack = get32(frame, tcp + 8);
    const unsigned flags = frame[tcp + 13];
    out.fin = flags & 1;
    out.syn = flags & 2;
    out.rst = flags & 4;
    out.psh = flags & 8;
    out.has_ack = flags & 16;
    out.ece = flags & 64;
    out.cwr = flags & 128;
    out.ecn = frame[virtio + 1] & 3;
    out.window = static_cast<std::uint16_t>(get16(frame, tcp + 14));
    read_options(frame, tcp + 20, tcp + header, out);
    out.data.assign(frame.begin() + static_cast<std::ptrdiff_t>(tcp + header), frame.end());
    if (frame[1] != 0) {
        demand(frame[1] == 1, "gso_type");
        demand(frame[0] & 1, "a superframe needs NEEDS_CSUM");
        out.gso_size = static_cast<std::uint16_t>(get16_le(frame, 4));
        demand(out.gso_size > 0 && out.data.size() > out.gso_size, "gso_size");
        demand(get16_le(frame, 2) == 20 + header, "hdr_len");
    }
    return out;
}

bytes write_frame(const segment& what, checksum mode) {
    bytes options;
    if (what.mss >= 0) {
        options.insert(options.end(), {2, 4, static_cast<std::uint8_t>(what.mss >> 8),
                                       static_cast<std::uint8_t>(what.mss)});
    }
    if (what.shift >= 0) {
        options.insert(options.end(), {3, 3, static_cast<std::uint8_t>(what.shift)});
    }
    if (what.sack_permitted) options.insert(options.end(), {1, 1, 4, 2});
    if (!what.sack.empty()) {
        options.insert(options.end(),
                       {1, 1, 5, static_cast<std::uint8_t>(2 + 8 * what.sack.size())});
        for (const auto& [start, end] : what.sack) {
            options.resize(options.size() + 8);
            put32(options, options.size() - 8, start);
            put32(options, options.size() - 4, end);
        }
    }
    while (options.size() % 4 != 0) options.push_back(what.syn ? 1 : 0);
    const std::size_t tcp = virtio + 20;
    const std::size_t header = 20 + options.size();
    bytes out(tcp + header + what.data.size());
    out[virtio] = 0x45;
    out[virtio + 1] = static_cast<std::uint8_t>(what.ecn);
    put16(out, virtio + 2, static_cast<unsigned>(out.size() - virtio));
    put16(out, virtio + 4, what.seq & 0xffff);
    out[virtio + 8] = 61;
    out[virtio + 9] = 6;
    put32(out, virtio + 12, what.from.address);
    put32(out, virtio + 16, what.to.address);
    put16(out, virtio + 10, ~fold(sum16(out, virtio, 20)) & 0xffff);
    put16(out, tcp, what.from.port);
    put16(out, tcp + 2, what.to.port);
    put32(out, tcp + 4, what.seq);
    put32(out, tcp + 8, what.has_ack ? what.ack : 0);
    out[tcp + 12] = static_cast<std::uint8_t>(header / 4 << 4);
    out[tcp + 13] = static_cast<std::uint8_t>(
        (what.fin ? 1 : 0) | (what.syn ? 2 : 0) | (what.rst ? 4 : 0) | (what.psh ? 8 : 0) |
        (what.has_ack ? 16 : 0) | (what.ece ? 64 : 0) | (what.cwr ? 128 : 0));
    put16(out, tcp + 14, what.window);
    std::copy(options.begin(), options.end(), out.begin() + static_cast<std::ptrdiff_t>(tcp + 20));
    std::copy(what.data.begin(), what.data.end(),
              out.begin() + static_cast<std::ptrdiff_t>(tcp + header));
    const std::size_t tcp_length = out.size() - tcp;
    const bool super = what.gso_size > 0 && what.data.size() > what.gso_size;
    if (mode == checksum::offloaded || super) {
        out[0] = 1;
        put16_le(out, 6, 20);
        put16_le(out, 8, 16);
        put16(out, tcp + 16, fold(pseudo_sum(out, tcp_length)));
    } else {
        put16(out, tcp + 16,
              ~fold(pseudo_sum(out, tcp_length) + fold(sum16(out, tcp, tcp_length))) & 0xffff);
    }
    if (super) {
        out[1] = 1;
        // Forwarded, merged traffic arrives with the whole first segment in hdr_len.
        put16_le(out, 2, static_cast<unsigned>(20 + header) + what.gso_size);
        put16_le(out, 4, what.gso_size);
    }
    return out;
}

std::vector<bytes> cut_superframe(const bytes& frame) {
    if (frame[1] == 0) return {frame};
    bytes readable = frame;  // hdr_len is not believed here either
    put16_le(readable, 2, 20u + static_cast<unsigned>(frame[virtio + 32] >> 4) * 4);
    const segment whole = read_frame(readable);
    std::vector<bytes> out;
    for (std::size_t at = 0; at < whole.data.size(); at += whole.gso_size) {
        segment part = whole;
        const std::size_t end = std::min<std::size_t>(at + whole.gso_size, whole.data.size());
        part.seq = whole.seq + static_cast<std::uint32_t>(at);
        part.data.assign(whole.data.begin() + static_cast<std::ptrdiff_t>(at),
                         whole.data.begin() + static_cast<std::ptrdiff_t>(end));
        part.fin = whole.fin && end == whole.data.size();
        part.psh = whole.psh && end == whole.data.size();
        part.gso_size = 0;
        part.cwr = whole.cwr && at == 0;
        out.push_back(write_frame(part, checksum::complete));
    }
    return out;
}

void mark_congestion(bytes& frame) {
    if ((frame[virtio + 1] & 3) != 2) return;
    frame[virtio + 1] |= 3;
    put16(frame, virtio + 10, 0);
    put16(frame, virtio + 10, ~fold(sum16(frame, virtio, 20)) & 0xffff);
}

std::string describe(const segment& what) {
    char line[160];
    std::snprintf(line, sizeof line, "%s%s%s%s%s seq %u ack %u win %u len %zu%s",
                  what.syn ? "S" : "", what.fin ? "F" : "", what.rst ? "R" : "",
                  what.psh ? "P" : "", what.has_ack ? "." : "", what.seq, what.ack,
                  static_cast<unsigned>(what.window), what.data.size(),
                  what.gso_size ? " super" : "");
    std::string text = line;
    for (const auto& [start, end] : what.sack) {
        std::snprintf(line, sizeof line, " sack %u-%u", start, end);
        text += line;
    }
    if (what.ece) text += " ece";
    if (what.cwr) text += " cwr";
    if (what.ecn == 3) text += " ce";
    return text;
}

}  // namespace sim
