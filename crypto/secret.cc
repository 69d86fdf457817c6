#include "crypto/secret.hh"

#include <malloc.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "crypto/digest.hh"
#include "crypto/invariant.hh"

namespace burin::crypto {
namespace {

constexpr std::size_t secure_heap_bytes = 64 << 10, least_block = 32;

// OpenSSL frees buffers with decoded keys as they are, so its ordinary heap wipes what it is given
// back. It has no part in what moves in bulk.
void* plain_allocate(std::size_t size, const char*, int) {
    return std::malloc(size);
}
void wiping_free(void* at, const char*, int) {
    if (at == nullptr) return;
    wipe(at, malloc_usable_size(at));
    std::free(at);
}
void* wiping_reallocate(void* at, std::size_t size, const char* file, int line) {
    void* grown = size == 0 ? nullptr : std::malloc(size);
    if (grown == nullptr && size != 0) return nullptr;
    if (at != nullptr && size != 0) std::memcpy(grown, at, std::min(size, malloc_usable_size(at)));
    wiping_free(at, file, line);
    return grown;
}

// Before OpenSSL allocates anything; later it refuses the functions. Where memory cannot be mapped
// or locked it does with what there is.
bool prepare() {
    CRYPTO_set_mem_functions(plain_allocate, wiping_reallocate, wiping_free);
    return CRYPTO_secure_malloc_init(secure_heap_bytes, least_block) != 0;
}

std::byte* allocate(std::size_t size) {
    if (size == 0) return nullptr;
    static const bool secured = prepare();
    void* at = secured ? OPENSSL_secure_zalloc(size) : nullptr;
    if (at == nullptr) at = OPENSSL_zalloc(size);
    if (at == nullptr) library_failed("out of memory");
    return static_cast<std::byte*>(at);
}

void release(std::byte* at, std::size_t size) noexcept {
    OPENSSL_secure_clear_free(at, size);  // of either heap
}

}  // namespace

void wipe(void* at, std::size_t size) noexcept {
    if (size) explicit_bzero(at, size);
}

void wipe(bytes_span bytes) noexcept {
    wipe(bytes.data(), bytes.size());
}

[[gnu::noinline]] void wipe_stack() noexcept {
    std::byte below[16 << 10];
    explicit_bzero(below, sizeof below);
}

bool constant_time_equal(bytes_view a, bytes_view b) noexcept {
    if (a.size() != b.size()) return false;
    unsigned difference = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference |= std::to_integer<unsigned>(a[i] ^ b[i]);
        // Without this the compiler could leave the loop once all bits are set.
        asm volatile("" : "+r"(difference));
    }
    return difference == 0;
}

secret_bytes::secret_bytes(std::size_t size) : _bytes(allocate(size)), _size(size) {}

secret_bytes::secret_bytes(bytes_view copied) : secret_bytes(copied.size()) {
    if (_size) std::memcpy(_bytes, copied.data(), _size);
}

secret_bytes::secret_bytes(secret_bytes&& other) noexcept
    : _bytes(std::exchange(other._bytes, nullptr)), _size(std::exchange(other._size, 0)) {}

secret_bytes& secret_bytes::operator=(secret_bytes&& other) noexcept {
    if (this != &other) {
        release(_bytes, _size);
        _bytes = std::exchange(other._bytes, nullptr);
        _size = std::exchange(other._size, 0);
    }
    return *this;
}

secret_bytes::~secret_bytes() {
    release(_bytes, _size);
}

secret_string secret_string::take(std::string& text) {
    secret_string taken(text);
    text.resize(text.capacity());
    wipe(text.data(), text.size());
    text.clear();
    return taken;
}

bool secret_string::equals(std::string_view other) const {
    return constant_time_equal(sha256(_bytes.view()), sha256(as_bytes(other)));
}

}  // namespace burin::crypto
