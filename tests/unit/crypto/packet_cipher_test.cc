// Packets of all providers against the published vectors, against each other and against tampering.
#include "crypto/packet_cipher.hh"

#include <openssl/evp.h>

#include <algorithm>
#include <cstring>
#include <iostream>
#include <vector>

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
    "3d5ec3e59423352ad71e485de513b2ea169ee3b3a2d45da47d04b94069d49f40";

std::vector<provider> providers() {
    std::vector<provider> out;
    for (provider one : {provider::ipsec_mb, provider::openssl, provider::wolfcrypt})
        if (available(one)) out.push_back(one);
    return out;
}

cipher_keys published_keys(cipher kind) {
    cipher_keys keys;
    byte_vector iv = unhex(letter_a), key = unhex(letter_c);
    std::copy_n(iv.begin(), iv_size(kind), keys.iv.begin());
    std::copy_n(key.begin(), key_size(kind), keys.key.begin());
    return keys;
}

byte_vector seal(packet_sealer& sealer, std::uint32_t sequence, bytes_view head, bytes_view body) {
    std::size_t size = sealer.sealed_size(head.size() + body.size());
    // A canary: nothing may be written behind the packet.
    byte_vector out(size + 64, std::byte{0xa5});
    REQUIRE(sealer.seal(sequence, head, body, out.data()) == size);
    for (std::size_t i = size; i < out.size(); ++i) REQUIRE(out[i] == std::byte{0xa5});
    out.resize(size);
    return out;
}

struct pair {
    std::unique_ptr<packet_sealer> sealer;
    std::unique_ptr<packet_opener> opener;
    pair(cipher kind, provider from = provider::automatic)
        : sealer(make_sealer(kind, published_keys(kind), from)),
          opener(make_opener(kind, published_keys(kind), from)) {
        REQUIRE(sealer);
        REQUIRE(opener);
    }
};

// A packet around any covered text, right or wrong: padding length, payload, padding.
byte_vector clear_packet(bytes_view covered) {
    byte_vector out;
    wire::writer(out).string(covered);
    return out;
}

// The same under the published AES-128-GCM key and a right tag.
byte_vector gcm_packet(bytes_view covered) {
    byte_vector out = clear_packet(covered);
    out.resize(out.size() + 16);
    cipher_keys keys = published_keys(cipher::aes128_gcm);
    auto raw = [](auto* at) { return reinterpret_cast<const unsigned char*>(at); };
    auto* text = reinterpret_cast<unsigned char*>(out.data()) + 4;
    int size = static_cast<int>(covered.size()), done;
    EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
    EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), nullptr, raw(keys.key.data()),
                       raw(keys.iv.data()));
    EVP_EncryptUpdate(context, nullptr, &done, text - 4, 4);
    EVP_EncryptUpdate(context, text, &done, text, size);
    EVP_EncryptFinal_ex(context, text + size, &done);
    EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, text + size);
    EVP_CIPHER_CTX_free(context);
    return out;
}

}  // namespace

TEST_CASE("names and sizes of ciphers", "[packet]") {
    for (cipher kind : {cipher::none, cipher::aes128_gcm, cipher::aes256_gcm})
        CHECK(cipher_named(name_of(kind)) == kind);
    CHECK(name_of(cipher::aes128_gcm) == "aes128-gcm@openssh.com");
    CHECK_FALSE(cipher_named("3des-cbc"));
    CHECK(key_size(cipher::aes256_gcm) == 32);
    CHECK(iv_size(cipher::aes128_gcm) == 12);
}

TEST_CASE("an automatic provider is available and named", "[packet]") {
    CHECK(available(chosen_provider()));
    CHECK(chosen_provider() != provider::automatic);
    CHECK_FALSE(name_of(chosen_provider()).empty());
    CHECK(available(provider::openssl));
    CHECK(available(provider::wolfcrypt));
    // A provider that is not there is refused, not replaced.
    if (!available(provider::ipsec_mb))
        CHECK_FALSE(make_sealer(cipher::aes128_gcm, {}, provider::ipsec_mb));
}

TEST_CASE("GCM packets of docs/wire.md section 4.6, every provider", "[packet]") {
    struct row {
        cipher kind;
        std::string_view third, fourth;
    };
    const byte_vector payload = unhex("5e000000070000000568656c6c6f");
    for (row r :
         {row{cipher::aes128_gcm,
              "00000020a392e5893f568b036f2bda13c5f6c245755e1645b20ce0f13f739471e831dfe9aec3e1b884"
              "cdb43e20a58a09cc877a95",
              "000000204f47a33df4d15f9da0fec4d6eda2b72994917b2c2d0bd0850e989ae23329699a9b5fd09641"
              "fcc85174b4733a6591bac0"},
          row{cipher::aes256_gcm,
              "000000206370282057dc3bafa64367c0ac7d75d633defc9391cf06f7b1f631778c4727510a41fa8148"
              "21c767bdb608db5d3f53cb",
              "00000020e35c7eef0399b894ecb0bf7adfef2cd7f66833ec625d1e54ccd6f7e21dbb342ce0af74a830"
              "eabde94862567582608692"}})
        for (provider from : providers())
            for (std::size_t split : {0, 9, 14}) {
                INFO(name_of(r.kind) << " by " << name_of(from) << " split at " << split);
                pair ends(r.kind, from);
                bytes_view head = bytes_view(payload).first(split);
                bytes_view body = bytes_view(payload).subspan(split);
                byte_vector third = seal(*ends.sealer, 3, head, body);
                byte_vector fourth = seal(*ends.sealer, 4, head, body);
                CHECK(hex(third) == r.third);
                CHECK(hex(fourth) == r.fourth);
                for (byte_vector* packet : {&third, &fourth}) {
                    auto opened = ends.opener->open(packet == &third ? 3 : 4, *packet);
                    REQUIRE(opened.state == status::complete);
                    CHECK(opened.wire_bytes == packet->size());
                    CHECK(hex(opened.payload) == hex(payload));
                }
            }
}

TEST_CASE("packet sizes of docs/wire.md section 4.5", "[packet]") {
    auto gcm = make_sealer(cipher::aes128_gcm, {});
    CHECK(gcm->sealed_size(9) == 36);
    CHECK(gcm->sealed_size(14) == 52);
    CHECK(gcm->sealed_size(1409) == 1444);
    CHECK(gcm->sealed_size(32777) == 32804);
    auto clear = make_sealer(cipher::none, {});
    for (std::size_t payload = 1; payload < 600; ++payload) {
        CHECK(clear->sealed_size(payload) % 16 == 0);
        CHECK(clear->sealed_size(payload) <= payload + max_packet_overhead);
        CHECK(gcm->sealed_size(payload) % 16 == 4);
        CHECK(gcm->sealed_size(payload) <= payload + max_packet_overhead);
    }
}

TEST_CASE("providers agree on random packets and open each other's", "[packet]") {
    std::uint64_t seed = test::fresh_seed();
    std::cout << "packet_cipher_test: BURIN_TEST_SEED=" << seed << '\n';
    INFO("BURIN_TEST_SEED=" << seed);
    test::source random(seed);
    for (cipher kind : {cipher::none, cipher::aes128_gcm, cipher::aes256_gcm}) {
        std::vector<pair> all;
        for (provider from : providers()) all.emplace_back(kind, from);
        for (std::uint32_t packet = 0; packet < 300; ++packet) {
            // Every small size, the ones around the gather limits, then any.
            std::size_t size = packet < 80    ? packet + 1
                               : packet < 120 ? 1000 + packet - 80
                               : packet < 160 ? 2020 + packet - 120
                                              : 1 + random.below(70000);
            std::size_t head_size = std::min(size, packet % 7 == 0   ? random.below(size + 1)
                                                   : packet % 3 == 0 ? std::size_t{0}
                                                                     : std::size_t{9});
            // At an odd address, as the data path has it.
            byte_vector room = random.octets(size + 3);
            bytes_view payload = bytes_view(room).subspan(random.below(4), size);
            std::vector<byte_vector> sealed;
            for (pair& one : all)
                sealed.push_back(seal(*one.sealer, packet, payload.first(head_size),
                                      payload.subspan(head_size)));
            for (std::size_t i = 0; i < all.size(); ++i) {
                REQUIRE(sealed[i] == sealed[0]);
                byte_vector& in = sealed[(i + 1) % all.size()];
                byte_vector with_more = in;
                with_more.resize(in.size() + random.below(50));
                auto opened = all[i].opener->open(packet, with_more);
                REQUIRE(opened.state == status::complete);
                REQUIRE(opened.wire_bytes == in.size());
                REQUIRE(opened.payload.size() == size);
                REQUIRE(std::equal(payload.begin(), payload.end(), opened.payload.begin()));
            }
        }
    }
}

TEST_CASE("the nonce counts over 32 bits without touching its fixed part", "[packet]") {
    cipher_keys keys = published_keys(cipher::aes128_gcm);
    std::fill(keys.iv.begin() + 4, keys.iv.begin() + 12, std::byte{0xff});
    cipher_keys wrapped = keys;
    std::fill(wrapped.iv.begin() + 4, wrapped.iv.begin() + 12, std::byte{0});
    for (provider from : providers()) {
        auto sealer = make_sealer(cipher::aes128_gcm, keys, from);
        auto zero = make_sealer(cipher::aes128_gcm, wrapped, from);
        seal(*sealer, 0, {}, as_bytes("first"));
        CHECK(seal(*sealer, 1, {}, as_bytes("second")) == seal(*zero, 0, {}, as_bytes("second")));
    }
}

TEST_CASE("any changed octet breaks a packet", "[packet]") {
    for (cipher kind : {cipher::aes128_gcm, cipher::aes256_gcm})
        for (provider from : providers())
            for (std::size_t size : {14, 3000}) {
                byte_vector payload = test::repeated(0x5e, size);
                std::size_t whole = make_sealer(kind, {})->sealed_size(size);
                // All octets of the small packet; of the large one both ends and some between.
                auto step = [&](std::size_t at) {
                    return whole > 100 && at > 40 && at + 140 < whole ? 97 : 1;
                };
                for (std::size_t at = 0; at < whole; at += step(at)) {
                    INFO(name_of(from) << " octet " << at << " of " << whole);
                    pair ends(kind, from);
                    byte_vector packet = seal(*ends.sealer, 0, {}, payload);
                    packet[at] ^= std::byte{0x10};
                    auto opened = ends.opener->open(0, packet);
                    if (at < 4 && opened.state == status::need_more) {
                        // A larger length that may still be right: it fails once all is there.
                        packet.resize(opened.wire_bytes);
                        opened = ends.opener->open(0, packet);
                    }
                    CHECK(opened.state == status::broken);
                    CHECK(opened.rule != nullptr);
                    CHECK(opened.payload.empty());
                }
            }
}

TEST_CASE("a replayed or reordered packet is broken", "[packet]") {
    for (provider from : providers()) {
        pair ends(cipher::aes256_gcm, from);
        byte_vector packet = seal(*ends.sealer, 0, {}, as_bytes("once"));
        byte_vector again = packet;
        CHECK(ends.opener->open(0, packet).state == status::complete);
        CHECK(ends.opener->open(1, again).state == status::broken);
    }
}

TEST_CASE("a packet in pieces says how much it needs", "[packet]") {
    for (cipher kind : {cipher::none, cipher::aes128_gcm}) {
        pair ends(kind);
        byte_vector packet = seal(*ends.sealer, 0, {}, test::repeated(1, 200));
        for (std::size_t have = 0; have < packet.size(); ++have) {
            auto opened = ends.opener->open(0, bytes_span(packet).first(have));
            REQUIRE(opened.state == status::need_more);
            REQUIRE(opened.wire_bytes == (have < 4 ? 0 : packet.size()));
        }
        CHECK(ends.opener->open(0, packet).state == status::complete);
    }
}

TEST_CASE("packet_length has bounds, checked before the packet is there", "[packet]") {
    for (cipher kind : {cipher::none, cipher::aes128_gcm}) {
        auto try_length = [&](std::uint32_t length, std::uint32_t limit) {
            auto opener = make_opener(kind, published_keys(kind));
            opener->limit(limit);
            std::byte front[4];
            store_u32(front, length);
            return opener->open(0, front);
        };
        // Both ciphers want another remainder of the length itself.
        std::uint32_t off = kind == cipher::none ? 4 : 0;
        CHECK(try_length(0, 262144).state == status::broken);
        CHECK(try_length(1, 262144).state == status::broken);
        CHECK(try_length(4, 262144).state == status::broken);
        CHECK(try_length(5, 262144).state == status::broken);
        CHECK(try_length(16 + off, 262144).state == status::need_more);
        CHECK(try_length(17 + off, 262144).state == status::broken);
        CHECK(try_length(20 + off, 262144).state == status::broken);  // no whole blocks
        CHECK(try_length(262144 - off, 262144).state == status::need_more);
        CHECK(try_length(262145, 262144).state == status::broken);
        CHECK(try_length(262160 + off, 262144).state == status::broken);
        CHECK(try_length(0xffffffff, 262144).state == status::broken);
        CHECK(try_length(0xfffffff0, 0xffffffff).state == status::broken);
        CHECK(try_length(35008 + off, 35000).state == status::broken);
        CHECK(try_length(524288 + off, 1 << 20).state == status::need_more);
        CHECK(std::string_view(try_length(262160 + off, 262144).rule) ==
              "packet_length is above the limit");
    }
    // The default is that of x/crypto and OpenSSH.
    auto opener = make_opener(cipher::aes128_gcm, {});
    std::byte front[4];
    store_u32(front, 262144);
    CHECK(opener->open(0, front).state == status::need_more);
    store_u32(front, 262160);
    CHECK(opener->open(0, front).state == status::broken);
}

TEST_CASE("padding and payload have bounds", "[packet]") {
    // 20 octets in clear and 32 under GCM: both whole blocks.
    struct form {
        std::string_view name;
        cipher kind;
        std::size_t covered;
        byte_vector (*make)(bytes_view);
    };
    for (form one : {form{"clear", cipher::none, 20, clear_packet},
                     form{"gcm", cipher::aes128_gcm, 32, gcm_packet}}) {
        auto try_padding = [&](std::size_t padding) {
            INFO(one.name << " padding " << padding);
            byte_vector covered(one.covered);
            covered[0] = static_cast<std::byte>(padding);
            byte_vector packet = one.make(covered);
            auto opener = make_opener(one.kind, published_keys(one.kind));
            auto opened = opener->open(0, packet);
            return opened.rule ? std::string(opened.rule) : std::to_string(opened.payload.size());
        };
        CHECK(try_padding(0) == "padding is shorter than 4");
        CHECK(try_padding(3) == "padding is shorter than 4");
        CHECK(try_padding(4) == std::to_string(one.covered - 5));
        CHECK(try_padding(one.covered - 2) == "1");
        CHECK(try_padding(one.covered - 1) == "payload is empty");
        CHECK(try_padding(one.covered) == "padding is longer than the packet");
        CHECK(try_padding(255) == "padding is longer than the packet");
    }
}

TEST_CASE("a clear packet padded to 8 only, as OpenSSH sends it", "[packet]") {
    byte_vector covered(20);
    covered[0] = std::byte{10};
    byte_vector packet = clear_packet(covered);
    auto opened = make_opener(cipher::none, {})->open(0, packet);
    REQUIRE(opened.state == status::complete);
    CHECK(opened.wire_bytes == 24);
    CHECK(opened.payload.size() == 9);
}
