// Key files as ssh-keygen and openssl write them, made here and now in a folder of this process.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "crypto/base64.hh"
#include "crypto/host_key.hh"
#include "crypto/public_key.hh"
#include "tests/catch.hh"
#include "tests/unit/crypto/bytes.hh"

using namespace burin;
using namespace burin::crypto;
using burin::test::hex;

namespace {

class folder {
  public:
    folder()
        : _path(std::filesystem::temp_directory_path() /
                ("burin-keys-" + std::to_string(getpid()))) {
        std::filesystem::remove_all(_path);
        std::filesystem::create_directory(_path);
    }
    ~folder() {
        std::error_code ignored;
        std::filesystem::remove_all(_path, ignored);
    }
    std::string operator/(std::string_view name) const { return (_path / name).string(); }

    // Runs a command in this folder.
    void run(const std::string& command) const {
        INFO(command);
        std::string line = "cd '" + _path.string() + "' && " + command + " >/dev/null 2>&1";
        REQUIRE(std::system(line.c_str()) == 0);
    }
    std::string content(std::string_view name) const {
        std::ifstream in(*this / name, std::ios::binary);
        std::ostringstream out;
        out << in.rdbuf();
        return out.str();
    }
    void write(std::string_view name, std::string_view text) const {
        std::ofstream(*this / name, std::ios::binary) << text;
    }
    // The blob in an OpenSSH public key line: "type base64 comment".
    byte_vector public_blob(std::string_view name) const {
        std::istringstream line(content(name));
        std::string type, encoded;
        line >> type >> encoded;
        auto blob = from_base64(encoded);
        REQUIRE(blob);
        return *blob;
    }

  private:
    std::filesystem::path _path;
};

}  // namespace

TEST_CASE("OpenSSH's private keys", "[host_key_file]") {
    folder here;
    struct row {
        const char *type, *algorithm;
    };
    for (row r : {row{"ed25519", "ssh-ed25519"}, row{"ecdsa -b 256", "ecdsa-sha2-nistp256"},
                  row{"ecdsa -b 384", "ecdsa-sha2-nistp384"},
                  row{"ecdsa -b 521", "ecdsa-sha2-nistp521"}, row{"rsa -b 2048", "ssh-rsa"}})
        // Scalars vary in length: a few keys meet sign octets in the mpint. RSA takes its time.
        for (int i = 0; i < (r.algorithm == std::string_view("ssh-rsa") ? 1 : 6); ++i) {
            here.run("rm -f key key.pub; ssh-keygen -q -N '' -C 'some comment' -f key -t " +
                     std::string(r.type));
            host_key_reading reading = load_host_key(here / "key");
            INFO(reading.error);
            REQUIRE(reading.key);
            CHECK(reading.key->algorithm() == r.algorithm);
            CHECK(hex(reading.key->blob()) == hex(here.public_blob("key.pub")));
            byte_vector signature = reading.key->sign(as_bytes("data"));
            CHECK(verify(here.public_blob("key.pub"), signature, as_bytes("data")));
        }
}

TEST_CASE("ssh-keygen prints the same fingerprints", "[host_key_file]") {
    folder here;
    here.run("ssh-keygen -q -N '' -f key -t ecdsa");
    here.run("ssh-keygen -l -E sha256 -f key.pub > ./sha256 2>/dev/null; cat ./sha256");
    byte_vector blob = here.public_blob("key.pub");
    std::string padded = fingerprint(blob);
    CHECK(padded.size() == 44);
    here.run("ssh-keygen -l -E sha256 -f key.pub | grep -F 'SHA256:" +
             padded.substr(0, padded.find('=')) + " '");
    here.run("ssh-keygen -l -E md5 -f key.pub | grep -F 'MD5:" + fingerprint_md5(blob) + " '");
}

TEST_CASE("OpenSSL's private keys: SEC1 and PKCS#8", "[host_key_file]") {
    folder here;
    here.run("openssl ecparam -name prime256v1 -genkey -noout -out sec1.pem");
    here.run("openssl ecparam -name prime256v1 -genkey -out with_params.pem");
    here.run("openssl pkcs8 -topk8 -nocrypt -in sec1.pem -out pkcs8.pem");
    here.run("openssl genpkey -algorithm ed25519 -out ed25519.pem");
    REQUIRE(here.content("sec1.pem").find("BEGIN EC PRIVATE KEY") != std::string::npos);
    REQUIRE(here.content("pkcs8.pem").find("BEGIN PRIVATE KEY") != std::string::npos);

    host_key_reading sec1 = load_host_key(here / "sec1.pem");
    host_key_reading pkcs8 = load_host_key(here / "pkcs8.pem");
    REQUIRE(sec1.key);
    REQUIRE(pkcs8.key);
    CHECK(hex(sec1.key->blob()) == hex(pkcs8.key->blob()));
    CHECK(load_host_key(here / "with_params.pem").key);
    here.run("openssl ec -in sec1.pem -pubout -outform DER -out sec1.pub");
    std::string der = here.content("sec1.pub");
    CHECK(hex(sec1.key->blob().last(65)) == hex(as_bytes(der).last(65)));
    // What openssl made is what `ck-` holds.
    here.run("openssl ec -in sec1.pem -outform DER -out sec1.der");
    std::string sec1_der = here.content("sec1.der");
    CHECK(sec1.key->to_ck() == "ck-" + base64(as_bytes(sec1_der), base64_padding::unpadded));
    here.write("ck", sec1.key->to_ck() + "\n");
    host_key_reading ck = load_host_key(here / "ck");
    REQUIRE(ck.key);
    CHECK(hex(ck.key->blob()) == hex(sec1.key->blob()));

    host_key_reading ed = load_host_key(here / "ed25519.pem");
    REQUIRE(ed.key);
    here.run("openssl pkey -in ed25519.pem -pubout -outform DER -out ed25519.pub");
    std::string ed_der = here.content("ed25519.pub");
    CHECK(hex(ed.key->blob().last(32)) == hex(as_bytes(ed_der).last(32)));
}

TEST_CASE("OpenSSL's private keys: the other curves and RSA", "[host_key_file]") {
    folder here;
    here.run("openssl ecparam -name secp384r1 -genkey -noout -out p384.pem");
    here.run("openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521 -out p521.pem");
    here.run("openssl genrsa -traditional -out pkcs1.pem 2048");
    here.run("openssl pkcs8 -topk8 -nocrypt -in pkcs1.pem -out pkcs8.pem");
    here.run("grep -q 'BEGIN RSA PRIVATE KEY' pkcs1.pem");
    here.run("grep -q 'BEGIN PRIVATE KEY' pkcs8.pem");
    for (const char* name : {"p384.pem", "p521.pem", "pkcs1.pem", "pkcs8.pem"}) {
        host_key_reading reading = load_host_key(here / name);
        INFO(name << ": " << reading.error);
        REQUIRE(reading.key);
        CHECK(verify(reading.key->blob(), reading.key->sign(as_bytes("data")), as_bytes("data")));
        // ssh-keygen reads the same files, and tells their public halves.
        here.run(std::string("chmod 600 ") + name + "; ssh-keygen -y -f " + name + " > ./" + name +
                 ".pub 2>/dev/null; cat " + name + ".pub");
    }
    CHECK(hex(load_host_key(here / "pkcs1.pem").key->blob()) ==
          hex(load_host_key(here / "pkcs8.pem").key->blob()));
}

TEST_CASE("keys that cannot serve say why", "[host_key_file]") {
    folder here;
    auto why = [&](std::string_view name) {
        host_key_reading reading = load_host_key(here / name);
        CHECK_FALSE(reading.key);
        // The file is named, so that the line stands alone in a log.
        CHECK(reading.error.find(here / name) != std::string::npos);
        return reading.error;
    };
    auto contains = [](const std::string& text, std::string_view part) {
        INFO(text);
        return text.find(part) != std::string::npos;
    };
    here.run("ssh-keygen -q -N 'a pass phrase' -f locked -t ed25519");
    CHECK(contains(why("locked"), "encrypted"));
    here.run("openssl genpkey -algorithm ed25519 -aes128 -pass pass:word -out locked.pem");
    CHECK(contains(why("locked.pem"), "encrypted"));
    here.run(
        "openssl ecparam -name prime256v1 -genkey -noout | openssl ec -aes128 -passout "
        "pass:word -out locked_sec1.pem");
    here.run("grep -q ENCRYPTED locked_sec1.pem");
    CHECK(contains(why("locked_sec1.pem"), "encrypted"));
    here.run("ssh-keygen -q -N '' -f rsa -t rsa -b 1024");
    CHECK(contains(why("rsa"), "2048 to 16384 bits"));
    here.run("openssl genrsa -out rsa_pem 1024");
    CHECK(contains(why("rsa_pem"), "2048 to 16384 bits"));
    here.run("openssl genpkey -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:1024 -out pss.pem");
    CHECK(contains(why("pss.pem"), "RSA"));
    here.run("openssl ecparam -name secp256k1 -genkey -noout -out k1.pem");
    CHECK(contains(why("k1.pem"), "secp256k1"));
    here.run("openssl ecparam -name secp384r1 -genkey -noout -out p384.pem");
    here.run("openssl ec -in p384.pem -pubout -out public.pem");
    CHECK(contains(why("public.pem"), "damaged"));
    CHECK(contains(why("missing"), "No such file"));
    here.run("mkdir directory");
    CHECK(contains(why("directory"), "cannot read"));
    here.write("empty", "");
    CHECK(contains(why("empty"), "neither"));
    here.write("text", "hello\n");
    CHECK(contains(why("text"), "neither"));
    here.write("huge", std::string(70000, 'x'));
    CHECK(contains(why("huge"), "too large"));
    CHECK(contains(parse_host_key("ck-!").error, "base64"));
    CHECK(contains(parse_host_key("ck-Zm9v").error, "EC private key"));
    CHECK(contains(parse_host_key("ck-").error, "EC private key"));
}

TEST_CASE("a damaged OpenSSH key is an error, never a crash", "[host_key_file]") {
    folder here;
    here.run("ssh-keygen -q -N '' -C 'a comment' -f key -t ecdsa");
    std::string text = here.content("key");
    for (std::size_t size = 0; size + 1 < text.size(); size += 3)
        CHECK_FALSE(parse_host_key(std::string_view(text).substr(0, size)).key);
    // Every octet of the container changed once. Nothing is left that may change without being
    // noticed but the comment.
    std::size_t begin = text.find('\n') + 1, end = text.find("\n-----END");
    auto container = from_base64(text.substr(begin, end - begin));
    REQUIRE(container);
    const std::string_view all = as_text(*container);
    const std::size_t comment = all.rfind("a comment");
    REQUIRE(comment != std::string_view::npos);
    for (std::size_t i = 0; i < container->size(); ++i) {
        byte_vector changed = *container;
        changed[i] ^= std::byte{0x81};
        host_key_reading reading =
            parse_host_key("-----BEGIN OPENSSH PRIVATE KEY-----\n" + base64(changed) +
                           "\n-----END OPENSSH PRIVATE KEY-----\n");
        CHECK(reading.key.has_value() == reading.error.empty());
        INFO("octet " << i << " of " << container->size());
        CHECK(reading.key.has_value() == (i >= comment && i < comment + 9));
    }
}
