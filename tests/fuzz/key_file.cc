// Key files and `ck-` texts; fingerprints; public keys and signatures of strangers.
#include <string>

#include "crypto/base64.hh"
#include "crypto/digest.hh"
#include "crypto/host_key.hh"
#include "crypto/public_key.hh"
#include "tests/fuzz/target.hh"

namespace {

using namespace burin;
using fuzz::check;

void read_key(std::string_view text) {
    const crypto::host_key_reading got = crypto::parse_host_key(text);
    check(got.key.has_value() == got.error.empty(), "a key, or why not");
    if (!got.key) return;
    const crypto::host_key& key = *got.key;
    const byte_vector data = fuzz::exact(as_bytes("what is signed"));
    const byte_vector signature = key.sign(data);
    check(crypto::algorithm_of(key.blob()) == key.algorithm(), "a key knows its kind");
    check(crypto::verify(key.blob(), signature, data), "a key that was read signs");
    check(!crypto::verify(key.blob(), signature, as_bytes("another")), "what it says and no more");
    const std::string ck = key.to_ck();
    check(ck.empty() == (key.algorithm() != "ecdsa-sha2-nistp256"), "P-256 has a form of chisel's");
    if (ck.empty()) return;
    const crypto::host_key_reading again = crypto::parse_host_key(ck);
    check(again.key && fuzz::equal(again.key->blob(), key.blob()), "which is the same key");
}

// A host's blob and its signature, both of a stranger.
void verify(fuzz::script& in) {
    const byte_vector blob = fuzz::exact(in.take(in.byte()));
    const byte_vector signature = fuzz::exact(in.take(in.byte()));
    const byte_vector data = fuzz::exact(in.rest());
    const std::string_view name = crypto::algorithm_of(blob);
    const bool good = crypto::verify(blob, signature, data);
    check(!good || crypto::verifiable(name), "only known keys verify");
    if (!good) return;
    byte_vector other = data;
    other.push_back({});
    check(!crypto::verify(blob, signature, other), "only what was signed");
}

void check_print(fuzz::script& in) {
    const byte_vector blob = fuzz::exact(in.take(in.byte()));
    const std::string text(as_text(in.rest()));
    const std::string print = crypto::fingerprint(blob);
    check(print.size() == 44 && crypto::check_fingerprint(print, blob),
          "a key has its fingerprint");
    const auto decoded = crypto::from_base64(text);
    if (decoded)
        check(crypto::check_fingerprint(text, blob) == (text == print), "and no other");
    else
        crypto::check_fingerprint(text, blob);
}

void base64(bytes_view bytes) {
    const std::string text = crypto::base64(bytes);
    const auto back = crypto::from_base64(text);
    check(back && fuzz::equal(*back, bytes), "what is encoded is decoded");
    const auto any = crypto::from_base64(as_text(bytes));
    if (any) check(any->size() <= bytes.size(), "decoding makes less");
}

void run(bytes_view input) {
    fuzz::script in(input);
    switch (in.pick(4)) {
        case 0: verify(in); break;
        case 1: check_print(in); break;
        case 2: base64(in.rest()); break;
        default: read_key(as_text(in.rest())); break;
    }
}

const fuzz::target registered("key_file", run,
                              "crypto/host_key_file.cc crypto/public_key.cc crypto/base64.cc");

}  // namespace
