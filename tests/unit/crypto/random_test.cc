// Random octets where the process has no descriptor left: a crowd may have taken them all.
#include "crypto/random.hh"

#include <sys/resource.h>

#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/random.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <thread>

#include "tests/catch.hh"

namespace burin::crypto {
namespace {

// While it lives, nothing can be opened.
class no_descriptors {
  public:
    no_descriptors() {
        ::getrlimit(RLIMIT_NOFILE, &_before);
        const rlimit none{0, _before.rlim_max};
        ::setrlimit(RLIMIT_NOFILE, &none);
    }
    ~no_descriptors() { ::setrlimit(RLIMIT_NOFILE, &_before); }
    no_descriptors(const no_descriptors&) = delete;
    no_descriptors& operator=(const no_descriptors&) = delete;

  private:
    rlimit _before{};
};

TEST_CASE("a thread's first random octets need no descriptor", "[random]") {
    std::array<std::byte, 64> first{}, second{};
    std::thread([&] {
        no_descriptors none;
        fill_random(first);
        fill_random(second);
    }).join();
    CHECK(first != second);
    CHECK(std::ranges::any_of(first, [](std::byte b) { return b != std::byte{}; }));
}

// SP 800-90A bounds the requests that one seed may answer: a server that runs for months meets it.
TEST_CASE("later seeds need no descriptor", "[random]") {
    constexpr unsigned interval = WC_RESEED_INTERVAL;
    unsigned different = 0;
    std::thread([&] {
        std::uint32_t last = random_u32();
        no_descriptors none;
        for (unsigned i = 0; i < interval + 10; ++i) {
            std::uint32_t next = random_u32();
            different += next != last;
            last = next;
        }
    }).join();
    CHECK(different > interval);
}

}  // namespace
}  // namespace burin::crypto
