// chacha20-poly1305 and aes-ctr with HMAC: both providers against the published vectors, against
// each other and against tampering.
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <iostream>
#include <vector>

#include "crypto/packet_cipher.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;
using burin::test::hex;
using burin::test::unhex;
using status = packet_opener::opened::status;

namespace {

// docs/wire.md section 4.6.
constexpr std::string_view letter_a = "c3056911a9b5dfbae538131dd0cf0aa7";
constexpr std::string_view letter_c =
    "3d5ec3e59423352ad71e485de513b2ea169ee3b3a2d45da47d04b94069d49f40"
    "2304f8ed1808f20502a0038d695f338d8bff01b3ccae20423d541ca787d2281c";
constexpr std::string_view letter_e =
    "650e15ede6468104508e2adc8b58c01bdd5a302efb7a1b5c675a391cee02dbef"
    "3d039e4e111bd020d734a828c83ae6a82372f50778c22ebbc1be3f1c3c5dd0f0";

constexpr provider both[] = {provider::openssl, provider::wolfcrypt};
constexpr mac all_macs[] = {mac::hmac_sha2_256, mac::hmac_sha2_512, mac::hmac_sha2_256_etm,
                            mac::hmac_sha2_512_etm};

std::vector<protection> all_protections() {
    std::vector<protection> out{cipher::chacha20_poly1305};
    for (cipher kind : {cipher::aes128_ctr, cipher::aes192_ctr, cipher::aes256_ctr})
        for (mac integrity : all_macs) out.emplace_back(kind, integrity);
    return out;
}

cipher_keys published_keys(protection how) {
    cipher_keys keys;
    const byte_vector iv = unhex(letter_a), key = unhex(letter_c), mac_key = unhex(letter_e);
    std::copy_n(iv.begin(), iv_size(how.kind), keys.iv.begin());
    std::copy_n(key.begin(), key_size(how.kind), keys.key.begin());
    std::copy_n(mac_key.begin(), mac_size(how.integrity), keys.mac_key.begin());
    return keys;
}

struct pair {
    std::unique_ptr<packet_sealer> sealer;
    std::unique_ptr<packet_opener> opener;
    pair(protection how, provider from = provider::automatic)
        : sealer(make_sealer(how, published_keys(how), from)),
          opener(make_opener(how, published_keys(how), from)) {
        REQUIRE(sealer);
        REQUIRE(opener);
    }
};

byte_vector seal(packet_sealer& sealer, std::uint32_t sequence, bytes_view head, bytes_view body) {
    const std::size_t size = sealer.sealed_size(head.size() + body.size());
    // A canary: nothing may be written behind the packet.
    byte_vector out(size + 64, std::byte{0xa5});
    REQUIRE(sealer.seal(sequence, head, body, out.data()) == size);
    for (std::size_t i = size; i < out.size(); ++i) REQUIRE(out[i] == std::byte{0xa5});
    out.resize(size);
    return out;
}

unsigned char* raw(byte_vector& bytes) {
    return reinterpret_cast<unsigned char*>(bytes.data());
}

// The first packet under aes128-ctr with hmac-sha2-256, etm or not, around any text, right or
// wrong, with a right MAC; by OpenSSL's other calls.
byte_vector ctr_packet(mac integrity, std::uint32_t length, byte_vector covered) {
    const bool etm = integrity == mac::hmac_sha2_256_etm;
    const cipher_keys keys = published_keys({cipher::aes128_ctr, integrity});
    byte_vector number(4), packet(4);
    store_u32(packet.data(), length);
    packet.insert(packet.end(), covered.begin(), covered.end());
    byte_vector sealed = packet;
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(context, EVP_aes_128_ctr(), nullptr,
                       reinterpret_cast<const unsigned char*>(keys.key.data()),
                       reinterpret_cast<const unsigned char*>(keys.iv.data()));
    int done = 0;
    const int skip = etm ? 4 : 0;
    EVP_EncryptUpdate(context, raw(sealed) + skip, &done, raw(packet) + skip,
                      static_cast<int>(packet.size()) - skip);
    EVP_CIPHER_CTX_free(context);
    byte_vector signed_octets = number;
    const byte_vector& what = etm ? sealed : packet;
    signed_octets.insert(signed_octets.end(), what.begin(), what.end());
    byte_vector code(32);
    REQUIRE(HMAC(EVP_sha256(), keys.mac_key.data(), 32, raw(signed_octets), signed_octets.size(),
                 raw(code), nullptr));
    sealed.insert(sealed.end(), code.begin(), code.end());
    return sealed;
}

}  // namespace

TEST_CASE("names and sizes of stream ciphers and MACs", "[packet]") {
    for (const protection& how : all_protections()) {
        CHECK(cipher_named(name_of(how.kind)) == how.kind);
        CHECK(iv_size(how.kind) == (how.kind == cipher::chacha20_poly1305 ? 0u : 16u));
    }
    for (mac integrity : all_macs) CHECK(mac_named(name_of(integrity)) == integrity);
    CHECK_FALSE(mac_named("none"));
    CHECK_FALSE(mac_named("hmac-sha1"));
    CHECK(key_size(cipher::chacha20_poly1305) == 64);
    CHECK(key_size(cipher::aes192_ctr) == 24);
    CHECK(mac_size(mac::hmac_sha2_512_etm) == 64);
    CHECK(rekey_bytes(cipher::chacha20_poly1305) == std::uint64_t{1} << 30);
    CHECK(rekey_bytes(cipher::aes256_ctr) == std::uint64_t{1} << 36);
    CHECK(describe({cipher::aes128_ctr, mac::hmac_sha2_256}) == "aes128-ctr+hmac-sha2-256");
    CHECK(describe(cipher::aes128_gcm) == "aes128-gcm@openssh.com");
}

TEST_CASE("a MAC belongs to ctr, and to nothing else", "[packet]") {
    const cipher_keys keys;
    CHECK_FALSE(make_sealer(cipher::aes128_ctr, keys));
    CHECK_FALSE(make_opener(cipher::aes256_ctr, keys));
    CHECK_FALSE(make_sealer({cipher::aes128_gcm, mac::hmac_sha2_256}, keys));
    CHECK_FALSE(make_opener({cipher::chacha20_poly1305, mac::hmac_sha2_256}, keys));
    CHECK_FALSE(make_sealer({cipher::none, mac::hmac_sha2_256}, keys));
    // libipsec-mb has none of them; who asks for it by name is refused.
    CHECK_FALSE(make_sealer(cipher::chacha20_poly1305, keys, provider::ipsec_mb));
    CHECK(chosen_provider(cipher::chacha20_poly1305) == provider::openssl);
}

TEST_CASE("stream packets of docs/wire.md section 4.6, both providers", "[packet]") {
    struct row {
        protection how;
        std::string_view third, fourth;
    };
    const byte_vector payload = unhex("5e000000070000000568656c6c6f");
    for (const row& r :
         {row{cipher::chacha20_poly1305,
              "7c34c0920401a681f061dae2c778d4864b9922d2299ad6c77705acd0e7d8772b5d3296fec327dadf"
              "1594dfba",
              "9717920eefca064635ad37ac2ee89aed05f7a94e5434f68ad45cf3b4c28eceb98287ae8f07d8e4af"
              "69809e85"},
          row{{cipher::aes128_ctr, mac::hmac_sha2_256_etm},
              "00000020bab0262afe090b4d6ad3cc3d7a567ba56afd726c97bb806e8a6bbae1f0c6c32072ee8947"
              "80161b777fb32e06ddb728fc42425293b96a75ad07dc3d716db4c177",
              "000000209195a30ca23e415ad12ae4258acc96dbbc391ba39997f0f10ece6d62e5975d217030a634"
              "9e961334cce00f763c5676f4ea56ff9262ac6b00a83e0dc736049327"},
          row{{cipher::aes256_ctr, mac::hmac_sha2_256},
              "41429dd453026fecd23a95af5e19f151b43bde907e9bea7fe851b026722b8a07ecb24f38eb64ca7e"
              "251701594c4934a972421a3fad9e92354cbee0f2e0d8003b",
              "dba004c81960a22e53b2564fbf5d20ebb6bcf4e621dcfb8edbef17ef4d73a605b6e9ab8230f6d9e6"
              "60e2007466bece38a56201b2b78a8a45bc1712e0cfe7daf6"}})
        for (provider from : both)
            for (std::size_t split : {0, 9, 14}) {
                INFO(describe(r.how) << " by " << name_of(from) << " split at " << split);
                pair ends(r.how, from);
                const bytes_view head = bytes_view(payload).first(split);
                const bytes_view body = bytes_view(payload).subspan(split);
                byte_vector third = seal(*ends.sealer, 3, head, body);
                byte_vector fourth = seal(*ends.sealer, 4, head, body);
                CHECK(hex(third) == r.third);
                CHECK(hex(fourth) == r.fourth);
                for (byte_vector* packet : {&third, &fourth}) {
                    const auto opened = ends.opener->open(packet == &third ? 3 : 4, *packet);
                    REQUIRE(opened.state == status::complete);
                    CHECK(opened.wire_bytes == packet->size());
                    CHECK(hex(opened.payload) == hex(payload));
                }
            }
}

TEST_CASE("stream packet sizes of docs/wire.md section 4.5", "[packet]") {
    struct row {
        protection how;
        std::size_t sizes[4];
    };
    constexpr std::size_t payloads[] = {9, 14, 1409, 32777};
    for (const row& r : {row{cipher::chacha20_poly1305, {36, 44, 1436, 32804}},
                         row{{cipher::aes128_ctr, mac::hmac_sha2_256_etm}, {52, 68, 1460, 32820}},
                         row{{cipher::aes128_ctr, mac::hmac_sha2_256}, {64, 64, 1456, 32832}}})
        for (std::size_t i = 0; i < 4; ++i) {
            INFO(describe(r.how) << " " << payloads[i]);
            CHECK(make_sealer(r.how, {})->sealed_size(payloads[i]) == r.sizes[i]);
        }
    for (const protection& how : all_protections()) {
        const auto sealer = make_sealer(how, {});
        for (std::size_t payload = 1; payload < 600; ++payload)
            REQUIRE(sealer->sealed_size(payload) <= payload + max_packet_overhead);
    }
}

TEST_CASE("both providers agree on random stream packets", "[packet]") {
    const std::uint64_t seed = test::fresh_seed();
    std::cout << "packet_stream_test: BURIN_TEST_SEED=" << seed << '\n';
    INFO("BURIN_TEST_SEED=" << seed);
    test::source random(seed);
    for (const protection& how : all_protections()) {
        INFO(describe(how));
        std::vector<pair> all;
        for (provider from : both) all.emplace_back(how, from);
        for (std::uint32_t packet = 0; packet < 150; ++packet) {
            // Every small size, the ones around the gather limit, then any.
            const std::size_t size = packet < 80    ? packet + 1
                                     : packet < 130 ? 2010 + packet - 80
                                                    : 1 + random.below(40000);
            const std::size_t head_size = std::min(size, packet % 7 == 0   ? random.below(size + 1)
                                                         : packet % 3 == 0 ? std::size_t{0}
                                                                           : std::size_t{9});
            // Numbers near their end, where they wrap.
            const std::uint32_t sequence = packet - 100;
            byte_vector room = random.octets(size + 3);
            const bytes_view payload = bytes_view(room).subspan(random.below(4), size);
            std::vector<byte_vector> sealed;
            for (pair& one : all)
                sealed.push_back(seal(*one.sealer, sequence, payload.first(head_size),
                                      payload.subspan(head_size)));
            REQUIRE(sealed[0] == sealed[1]);
            for (std::size_t i = 0; i < all.size(); ++i) {
                byte_vector in = sealed[i];
                in.resize(in.size() + random.below(50));
                // In two reads, the first of any size.
                const std::size_t early = random.below(sealed[i].size());
                REQUIRE(all[i].opener->open(sequence, bytes_span(in).first(early)).state ==
                        status::need_more);
                const auto opened = all[i].opener->open(sequence, in);
                REQUIRE(opened.state == status::complete);
                REQUIRE(opened.wire_bytes == sealed[i].size());
                REQUIRE(std::ranges::equal(opened.payload, payload));
            }
        }
    }
}

TEST_CASE("any changed octet breaks a stream packet", "[packet]") {
    for (const protection& how :
         {protection{cipher::chacha20_poly1305}, protection{cipher::aes128_ctr, mac::hmac_sha2_256},
          protection{cipher::aes256_ctr, mac::hmac_sha2_512_etm}})
        for (provider from : both) {
            const byte_vector payload = test::repeated(0x5e, 40);
            const std::size_t whole = make_sealer(how, {})->sealed_size(payload.size());
            for (std::size_t at = 0; at < whole; ++at) {
                INFO(describe(how) << " by " << name_of(from) << " octet " << at);
                pair ends(how, from);
                byte_vector packet = seal(*ends.sealer, 7, {}, payload);
                packet[at] ^= std::byte{0x10};
                auto opened = ends.opener->open(7, packet);
                if (at < 4 && opened.state == status::need_more) {
                    // A larger length that may still be right: it fails once all is there.
                    packet.resize(opened.wire_bytes);
                    opened = ends.opener->open(7, packet);
                }
                CHECK(opened.state == status::broken);
                CHECK(opened.rule != nullptr);
                CHECK(opened.payload.empty());
            }
        }
}

TEST_CASE("a stream packet with another number is broken", "[packet]") {
    for (const protection& how : all_protections())
        for (provider from : both) {
            pair ends(how, from);
            byte_vector packet = seal(*ends.sealer, 5, {}, as_bytes("once"));
            auto opened = ends.opener->open(6, packet);
            if (opened.state == status::need_more) {
                // chacha20's length comes out at random; what it asks for does not help.
                packet.resize(opened.wire_bytes);
                opened = ends.opener->open(6, packet);
            }
            CHECK(opened.state == status::broken);
        }
}

TEST_CASE("a stream packet in pieces says how much it needs", "[packet]") {
    for (const protection& how : all_protections())
        for (provider from : both) {
            INFO(describe(how) << " by " << name_of(from));
            pair ends(how, from);
            // With a hidden length ctr must have a block first.
            const bool hidden =
                how.integrity == mac::hmac_sha2_256 || how.integrity == mac::hmac_sha2_512;
            for (std::uint32_t number = 0; number < 3; ++number) {
                byte_vector packet = seal(*ends.sealer, number, {}, test::repeated(1, 100));
                for (std::size_t have = 0; have < packet.size(); ++have) {
                    const auto opened = ends.opener->open(number, bytes_span(packet).first(have));
                    REQUIRE(opened.state == status::need_more);
                    REQUIRE(opened.wire_bytes == (have < (hidden ? 16u : 4u) ? 0 : packet.size()));
                }
                const auto opened = ends.opener->open(number, packet);
                REQUIRE(opened.state == status::complete);
                CHECK(std::ranges::equal(opened.payload, test::repeated(1, 100)));
            }
        }
}

TEST_CASE("stream packets have bounds, checked before they are there", "[packet]") {
    // The first packet of ctr with the length that is asked for, and nothing behind its first
    // block.
    for (mac integrity : {mac::hmac_sha2_256, mac::hmac_sha2_256_etm}) {
        const std::uint32_t off = integrity == mac::hmac_sha2_256 ? 4 : 0;
        const auto try_length = [&](std::uint32_t length, std::uint32_t limit = 262144) {
            byte_vector front = ctr_packet(integrity, length, byte_vector(12));
            front.resize(16);
            const auto opener = make_opener({cipher::aes128_ctr, integrity},
                                            published_keys({cipher::aes128_ctr, integrity}));
            opener->limit(limit);
            const auto opened = opener->open(0, front);
            return opened.rule ? std::string(opened.rule) : std::to_string(opened.wire_bytes);
        };
        CHECK(try_length(0) == "packet_length is too small");
        CHECK(try_length(8) == "packet_length is too small");
        CHECK(try_length(16 - off) == std::to_string(4 + 16 - off + 32));
        CHECK(try_length(17 - off) == "packet_length is not a multiple of the block size");
        CHECK(try_length(20 + off) == "packet_length is not a multiple of the block size");
        CHECK(try_length(262144 - off) == std::to_string(4 + 262144 - off + 32));
        CHECK(try_length(262145) == "packet_length is above the limit");
        CHECK(try_length(0xfffffffc - off) == "packet_length is above the limit");
        CHECK(try_length(34992 - off, 35000) == std::to_string(4 + 34992 - off + 32));
        CHECK(try_length(35024 - off, 35000) == "packet_length is above the limit");
    }
    // The same for chacha20, whose length has a key of its own: block 0 of the stream.
    const cipher_keys keys = published_keys(cipher::chacha20_poly1305);
    byte_vector stream(4), nonce(16);
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(context, EVP_chacha20(), nullptr,
                       reinterpret_cast<const unsigned char*>(keys.key.data()) + 32, raw(nonce));
    int done = 0;
    EVP_EncryptUpdate(context, raw(stream), &done, raw(stream), 4);
    EVP_CIPHER_CTX_free(context);
    const auto try_length = [&](std::uint32_t length) {
        std::byte front[4];
        store_u32(front, length ^ load_u32(stream.data()));
        const auto opened = make_opener(cipher::chacha20_poly1305, keys)->open(0, front);
        return opened.rule ? std::string(opened.rule) : std::to_string(opened.wire_bytes);
    };
    CHECK(try_length(0) == "packet_length is too small");
    CHECK(try_length(7) == "packet_length is too small");
    CHECK(try_length(8) == "28");
    CHECK(try_length(12) == "packet_length is not a multiple of the block size");
    CHECK(try_length(262144) == "262164");
    CHECK(try_length(262152) == "packet_length is above the limit");
    CHECK(try_length(0xfffffff8) == "packet_length is above the limit");
}

TEST_CASE("padding and payload of stream packets have bounds", "[packet]") {
    for (mac integrity : {mac::hmac_sha2_256, mac::hmac_sha2_256_etm}) {
        const std::size_t size = integrity == mac::hmac_sha2_256 ? 28 : 32;
        const auto try_padding = [&](std::size_t padding) {
            byte_vector covered(size);
            covered[0] = static_cast<std::byte>(padding);
            byte_vector packet = ctr_packet(integrity, static_cast<std::uint32_t>(size), covered);
            const protection how{cipher::aes128_ctr, integrity};
            const auto opened = make_opener(how, published_keys(how))->open(0, packet);
            return opened.rule ? std::string(opened.rule) : std::to_string(opened.payload.size());
        };
        CHECK(try_padding(3) == "padding is shorter than 4");
        CHECK(try_padding(4) == std::to_string(size - 5));
        CHECK(try_padding(size - 2) == "1");
        CHECK(try_padding(size - 1) == "payload is empty");
        CHECK(try_padding(size) == "padding is longer than the packet");
        CHECK(try_padding(255) == "padding is longer than the packet");
    }
}
