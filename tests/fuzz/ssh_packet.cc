// Packets, opened and sealed: without a cipher beside a reader of RFC 4253 section 6 of its own,
// and under every cipher of every library, where what is sealed opens and what was touched does
// not.
#include <memory>
#include <string>
#include <vector>

#include "crypto/packet_cipher.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin;
using namespace burin::crypto;
using fuzz::check;
using status = packet_opener::opened::status;

constexpr std::uint32_t limits[] = {35000, 262144, 100, 16};

struct reading {
    std::vector<byte_vector> payloads;
    bool broken = false;
    std::size_t taken = 0;
    friend bool operator==(const reading&, const reading&) = default;
};

reading open_all(bytes_view stream, std::uint32_t limit, fuzz::cutter cut) {
    const auto opener = make_opener(cipher::none, {});
    opener->limit(limit);
    reading out;
    std::size_t end = 0;
    std::uint32_t sequence = 0;
    while (end < stream.size()) {
        end += cut.next(stream.size() - end);
        for (;;) {
            byte_vector in = fuzz::exact(stream.subspan(out.taken, end - out.taken));
            const auto got = opener->open(sequence, in);
            if (got.state == status::broken) {
                check(got.rule != nullptr && got.wire_bytes == 0,
                      "who breaks a rule is told which");
                out.broken = true;
                return out;
            }
            if (got.state == status::need_more) {
                check(got.wire_bytes == 0 || got.wire_bytes > in.size(), "more is needed");
                check(got.wire_bytes <= std::size_t{limit} + 4,
                      "no more than the limit is awaited");
                break;
            }
            check(got.wire_bytes <= in.size(), "a packet lies in what there is");
            check(got.payload.data() == in.data() + 5 && !got.payload.empty(),
                  "so does its payload");
            out.payloads.emplace_back(got.payload.begin(), got.payload.end());
            out.taken += got.wire_bytes;
            ++sequence;
        }
    }
    return out;
}

// RFC 4253 section 6, read once more: uint32 packet_length, byte padding_length, payload, padding
// of at least 4, all of it a multiple of 8.
reading read_all(bytes_view in, std::uint32_t limit) {
    reading out;
    while (in.size() >= 4) {
        const std::uint32_t length = load_u32(in.data());
        if (length < 6 || length > limit || (length + 4) % 8 != 0) {
            out.broken = true;
            break;
        }
        if (in.size() < 4 + std::size_t{length}) break;
        const auto padding = static_cast<std::uint32_t>(in[4]);
        if (padding < 4 || padding + 1 >= length) {
            out.broken = true;
            break;
        }
        const bytes_view payload = in.subspan(5, length - 1 - padding);
        out.payloads.emplace_back(payload.begin(), payload.end());
        out.taken += 4 + length;
        in = in.subspan(4 + length);
    }
    return out;
}

cipher_keys keys_of(std::uint8_t seed) {
    cipher_keys keys;
    for (std::size_t i = 0; i < keys.key.size(); ++i) keys.key[i] = std::byte(seed + i);
    for (std::size_t i = 0; i < keys.iv.size(); ++i) keys.iv[i] = std::byte(seed ^ i);
    return keys;
}

// Those of the first four are what there was when the first inputs were kept.
constexpr protection protections[] = {cipher::none,
                                      cipher::aes128_gcm,
                                      cipher::aes256_gcm,
                                      cipher::chacha20_poly1305,
                                      {cipher::aes128_ctr, mac::hmac_sha2_256},
                                      {cipher::aes192_ctr, mac::hmac_sha2_512_etm},
                                      {cipher::aes256_ctr, mac::hmac_sha2_512},
                                      {cipher::aes128_ctr, mac::hmac_sha2_256_etm},
                                      {cipher::aes192_ctr, mac::hmac_sha2_256},
                                      {cipher::aes256_ctr, mac::hmac_sha2_256_etm},
                                      {cipher::aes128_ctr, mac::hmac_sha2_512},
                                      {cipher::aes256_ctr, mac::hmac_sha2_512_etm},
                                      cipher::aes128_gcm,
                                      cipher::chacha20_poly1305,
                                      {cipher::aes192_ctr, mac::hmac_sha2_512},
                                      cipher::none};

void seal_and_open(fuzz::script& in) {
    constexpr provider providers[] = {provider::automatic, provider::ipsec_mb, provider::openssl,
                                      provider::wolfcrypt};
    const unsigned which = in.byte();
    const protection how = protections[which / 64 * 4 + which % 4];
    const cipher kind = how.kind;
    check(cipher_named(name_of(kind)) == kind, "a known name is known");
    check(key_size(kind) <= sizeof cipher_keys::key && iv_size(kind) <= sizeof cipher_keys::iv,
          "keys fit");
    const provider by = providers[which >> 2 & 3], other = providers[which >> 4 & 3];
    check(available(chosen_provider()) && !name_of(by).empty(), "what is chosen is there");
    if (!available(by, kind) || !available(other, kind)) return;
    const std::uint8_t key = in.byte();
    const auto sealer = make_sealer(how, keys_of(key), by);
    const auto opener = make_opener(how, keys_of(key), other);
    check(sealer && opener, "keys are taken");
    const std::uint32_t touch = in.u16();
    const unsigned head = in.byte() % 16;
    byte_vector payload = fuzz::exact(in.take(in.pick(4) == 0 ? 5000 : 60));
    if (payload.empty()) payload.push_back(std::byte{1});
    const std::size_t split = std::min<std::size_t>(head, payload.size());
    for (std::uint32_t sequence = 0; sequence < 3; ++sequence) {
        byte_vector packet(sealer->sealed_size(payload.size()));
        check(packet.size() <= payload.size() + max_packet_overhead, "little is added");
        check(sealer->seal(sequence, bytes_view(payload).first(split),
                           bytes_view(payload).subspan(split), packet.data()) == packet.size(),
              "a packet has the size that was told");
        if (sequence == 2 && kind != cipher::none) {
            packet[touch % packet.size()] ^= std::byte(1 + touch / 256 % 255);
            check(opener->open(sequence, packet).state != status::complete,
                  "what was touched does not open");
            return;
        }
        for (std::size_t size = 0; size < packet.size(); size += 1 + size / 4) {
            byte_vector part = fuzz::exact(bytes_view(packet).first(size));
            check(opener->open(sequence, part).state == status::need_more,
                  "part of it is not enough");
        }
        const auto got = opener->open(sequence, packet);
        check(got.state == status::complete && got.wire_bytes == packet.size() &&
                  fuzz::equal(got.payload, payload),
              "what is sealed opens");
    }
}

// Bytes that nobody sealed.
void forge(fuzz::script& in) {
    const auto kind = in.pick(2) == 0 ? cipher::aes128_gcm : cipher::aes256_gcm;
    const auto opener = make_opener(kind, keys_of(in.byte()));
    opener->limit(limits[in.pick(4)]);
    byte_vector bytes = fuzz::exact(in.rest());
    const auto got = opener->open(0, bytes);
    check(got.state != status::complete, "nobody forges a packet");
    check(got.state != status::broken || got.rule != nullptr, "who breaks a rule is told which");
}

void run(bytes_view input) {
    fuzz::script in(input);
    const unsigned what = in.pick(4);
    if (what == 0) return seal_and_open(in);
    if (what == 1) return forge(in);
    const std::uint32_t limit = limits[in.pick(4)];
    const fuzz::cutter cut(in.byte());
    const bytes_view stream = in.rest();
    const reading whole = open_all(stream, limit, fuzz::cutter(0));
    check(whole == read_all(stream, limit), "packets are what RFC 4253 says");
    check(whole == open_all(stream, limit, cut), "in chunks of any size");
}

const fuzz::target registered(
    "ssh_packet", run, "crypto/packet_cipher.cc crypto/gcm_packet.hh crypto/stream_packet.hh");

}  // namespace
