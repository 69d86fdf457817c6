#include "crypto/digest.hh"

#include <algorithm>
#include <thread>

#include "crypto/base64.hh"
#include "crypto/random.hh"
#include "crypto/secret.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;
using burin::test::hex;

TEST_CASE("digests of published vectors (FIPS 180, RFC 1321)", "[digest]") {
    bytes_view abc = as_bytes("abc");
    CHECK(hex(sha1(abc)) == "a9993e364706816aba3e25717850c26c9cd0d89d");
    CHECK(hex(sha256(abc)) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    CHECK(hex(sha384(abc)) ==
          "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
          "8086072ba1e7cc2358baeca134c825a7");
    CHECK(hex(sha512(abc)) ==
          "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
          "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f");
    CHECK(hex(md5(abc)) == "900150983cd24fb0d6963f7d28e17f72");
    CHECK(hex(sha256(bytes_view{})) ==
          "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_CASE("pieces digest like their concatenation", "[digest]") {
    CHECK(sha256({as_bytes("a"), bytes_view{}, as_bytes("bc")}) == sha256(as_bytes("abc")));
    CHECK(sha512({as_bytes("ab"), as_bytes("c")}) == sha512(as_bytes("abc")));
}

TEST_CASE("the WebSocket accept value of RFC 6455 section 1.3", "[digest][base64]") {
    auto digest = sha1(
        {as_bytes("dGhlIHNhbXBsZSBub25jZQ=="), as_bytes("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")});
    CHECK(base64(digest) == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

TEST_CASE("base64 of RFC 4648 section 10, both paddings, both ways", "[base64]") {
    struct row {
        std::string_view text, padded, unpadded;
    };
    for (row r : {row{"", "", ""}, row{"f", "Zg==", "Zg"}, row{"fo", "Zm8=", "Zm8"},
                  row{"foo", "Zm9v", "Zm9v"}, row{"foob", "Zm9vYg==", "Zm9vYg"},
                  row{"fooba", "Zm9vYmE=", "Zm9vYmE"}, row{"foobar", "Zm9vYmFy", "Zm9vYmFy"}}) {
        INFO(r.text);
        CHECK(base64(as_bytes(r.text)) == r.padded);
        CHECK(base64(as_bytes(r.text), base64_padding::unpadded) == r.unpadded);
        auto padded = from_base64(r.padded);
        REQUIRE(padded);
        CHECK(as_text(*padded) == r.text);
        auto unpadded = from_base64(r.unpadded, base64_padding::unpadded);
        REQUIRE(unpadded);
        CHECK(as_text(*unpadded) == r.text);
    }
    CHECK(from_base64("Zm9v\r\nYmFy\n"));
    for (std::string_view bad : {"Z", "Zg", "Zg=", "Zg===", "Z===", "=",
                                 "Zm8=Zg==", "Zm9v=", "Zm9 v", "ed:f2", "Zm9v====", "Zm-_"}) {
        INFO(bad);
        CHECK_FALSE(from_base64(bad));
    }
    for (std::string_view bad : {"Z", "Zg==", "Zm8=", "Zm9vY"}) {
        INFO(bad);
        CHECK_FALSE(from_base64(bad, base64_padding::unpadded));
    }
}

TEST_CASE("random octets differ by call and by thread, in any size", "[random]") {
    byte_vector a(200000), b(200000);
    fill_random(a);
    std::thread([&] { fill_random(b); }).join();
    CHECK(a != b);
    // 64 KiB is the most that the generator gives at once: the rest must be filled as well.
    for (const byte_vector& one : {a, b})
        CHECK(std::count(one.end() - 4096, one.end(), std::byte{0}) < 200);
    fill_random({});
    CHECK((random_u32() | random_u32() | random_u32()) != 0);
}

TEST_CASE("secrets compare, move and leave nothing behind", "[secret]") {
    CHECK(constant_time_equal(as_bytes("secret"), as_bytes("secret")));
    CHECK_FALSE(constant_time_equal(as_bytes("secret"), as_bytes("secres")));
    CHECK_FALSE(constant_time_equal(as_bytes("Aecret"), as_bytes("secret")));
    CHECK_FALSE(constant_time_equal(as_bytes("secret"), as_bytes("secre")));
    CHECK(constant_time_equal({}, {}));
    const byte_vector zeros(16);
    for (std::size_t bit = 0; bit < 8 * zeros.size(); ++bit) {
        byte_vector other = zeros;
        other[bit / 8] = static_cast<std::byte>(1u << bit % 8);
        CHECK_FALSE(constant_time_equal(zeros, other));
    }

    secret_string a("user:pass");
    CHECK(a.equals("user:pass"));
    CHECK_FALSE(a.equals("user:pasS"));
    CHECK_FALSE(a.equals("user:pass "));
    CHECK_FALSE(a.equals(""));
    CHECK(secret_string().equals(""));
    secret_string b = std::move(a);
    CHECK(b.view() == "user:pass");
    CHECK(b.copy().view() == "user:pass");

    // Short enough to live inside the string, and long enough not to.
    for (std::string_view text :
         {"short", "a text that no small string buffer of any library holds"}) {
        std::string given(text);
        given.reserve(100);
        const char* at = given.data();
        secret_string taken = secret_string::take(given);
        CHECK(taken.view() == text);
        CHECK(given.empty());
        CHECK(std::string_view(at, 5) == std::string_view("\0\0\0\0\0", 5));
    }

    byte_vector wiped = test::repeated(7, 100);
    wipe(wiped);
    CHECK(wiped == byte_vector(100));
}
