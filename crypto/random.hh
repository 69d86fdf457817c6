// Random octets for keys, cookies and nonces: wolfCrypt's DRBG, one a thread, seeded by the kernel.
#pragma once

#include <cstdint>

#include "crypto/wire.hh"

struct WC_RNG;

namespace burin::crypto {

// Fills all of `out`. Never fails: without entropy nothing here is safe, so the program aborts with
// a clear line on stderr.
void fill_random(bytes_span out) noexcept;
std::uint32_t random_u32() noexcept;

// This thread's generator, for wolfCrypt calls that want one.
WC_RNG* thread_rng() noexcept;

}  // namespace burin::crypto
