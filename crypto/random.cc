#include "crypto/random.hh"

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/random.h>

#include <algorithm>

#include "crypto/invariant.hh"

namespace burin::crypto {
namespace {

struct generator {
    WC_RNG rng;
    generator() { must_be(wc_InitRng(&rng), 0, "seeding the random generator"); }
    ~generator() {
        wc_FreeRng(&rng);
        // wolfCrypt keeps tables of points a thread, 1.6 MB once filled; every thread that signs or
        // verifies has drawn random octets before.
        wc_ecc_fp_free();
    }
    generator(const generator&) = delete;
    generator& operator=(const generator&) = delete;
};

}  // namespace

WC_RNG* thread_rng() noexcept {
    thread_local generator mine;
    return &mine.rng;
}

void fill_random(bytes_span out) noexcept {
    // One request of the DRBG gives at most 64 KiB (SP 800-90A).
    constexpr std::size_t most = 65536;
    WC_RNG* rng = thread_rng();
    while (!out.empty()) {
        std::size_t size = std::min(most, out.size());
        must_be(wc_RNG_GenerateBlock(rng, reinterpret_cast<::byte*>(out.data()),
                                     static_cast<word32>(size)),
                0, "random octets");
        out = out.subspan(size);
    }
}

std::uint32_t random_u32() noexcept {
    std::byte four[4];
    fill_random(four);
    return load_u32(four);
}

}  // namespace burin::crypto
