#include "crypto/digest.hh"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/md5.h>
#include <wolfssl/wolfcrypt/sha.h>
#include <wolfssl/wolfcrypt/sha256.h>
#include <wolfssl/wolfcrypt/sha512.h>

#include "crypto/invariant.hh"
#include "crypto/secret.hh"

namespace burin::crypto {
namespace {

const ::byte* raw(bytes_view bytes) {
    return reinterpret_cast<const ::byte*>(bytes.data());
}

// One shape for all: wolfCrypt has the same four functions for each digest.
template <class Digest, class State, class Init, class Update, class Final, class Free>
Digest digest_of(std::initializer_list<bytes_view> pieces, Init init, Update update, Final final,
                 Free release) noexcept {
    State state;
    Digest out;
    must_be(init(&state), 0, "digest");
    for (bytes_view piece : pieces)
        if (!piece.empty())
            must_be(update(&state, raw(piece), static_cast<word32>(piece.size())), 0, "digest");
    must_be(final(&state, reinterpret_cast<::byte*>(out.data())), 0, "digest");
    release(&state);
    wipe(&state, sizeof state);  // the last block may be a secret's
    return out;
}

}  // namespace

sha1_digest sha1(std::initializer_list<bytes_view> pieces) noexcept {
    return digest_of<sha1_digest, wc_Sha>(pieces, wc_InitSha, wc_ShaUpdate, wc_ShaFinal,
                                          wc_ShaFree);
}

sha256_digest sha256(std::initializer_list<bytes_view> pieces) noexcept {
    return digest_of<sha256_digest, wc_Sha256>(pieces, wc_InitSha256, wc_Sha256Update,
                                               wc_Sha256Final, wc_Sha256Free);
}

sha384_digest sha384(std::initializer_list<bytes_view> pieces) noexcept {
    return digest_of<sha384_digest, wc_Sha384>(pieces, wc_InitSha384, wc_Sha384Update,
                                               wc_Sha384Final, wc_Sha384Free);
}

sha512_digest sha512(std::initializer_list<bytes_view> pieces) noexcept {
    return digest_of<sha512_digest, wc_Sha512>(pieces, wc_InitSha512, wc_Sha512Update,
                                               wc_Sha512Final, wc_Sha512Free);
}

md5_digest md5(bytes_view bytes) noexcept {
    return digest_of<md5_digest, wc_Md5>({bytes}, wc_InitMd5, wc_Md5Update, wc_Md5Final,
                                         wc_Md5Free);
}

}  // namespace burin::crypto
