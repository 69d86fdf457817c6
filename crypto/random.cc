#include "crypto/random.hh"

#include <sys/random.h>

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/random.h>
#include <wolfssl/wolfcrypt/wc_port.h>

#include <algorithm>
#include <cerrno>

#include "crypto/invariant.hh"

namespace burin::crypto {
namespace {

// Our name for the source of seeds in wolfCrypt's list of devices.
constexpr int kernel_seeds = 0x6275;

// wolfCrypt by itself opens /dev/urandom for a thread's first seed and for each later one. That
// wants a descriptor, and a crowd of strangers can have taken the last: getrandom(2) wants none.
int seed_from_kernel(int, wc_CryptoInfo* info, void*) {
    if (info->algo_type != WC_ALGO_TYPE_SEED) return CRYPTOCB_UNAVAILABLE;
    for (word32 have = 0; have < info->seed.sz;) {
        ssize_t got = ::getrandom(info->seed.seed + have, info->seed.sz - have, 0);
        if (got < 0 && errno != EINTR) return RNG_FAILURE_E;
        if (got > 0) have += static_cast<word32>(got);
    }
    return 0;
}

int seeding_device() {
    static const int device = [] {
        must_be(wolfCrypt_Init(), 0, "starting wolfCrypt");
        must_be(wc_CryptoCb_RegisterDevice(kernel_seeds, seed_from_kernel, nullptr), 0,
                "naming the kernel as the source of seeds");
        return kernel_seeds;
    }();
    return device;
}

struct generator {
    WC_RNG rng;
    generator() {
        must_be(wc_InitRng_ex(&rng, nullptr, seeding_device()), 0, "seeding the random generator");
    }
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
