#include "crypto/secret.hh"

#include <cstring>
#include <utility>

#include "crypto/digest.hh"

namespace burin::crypto {

void wipe(void* at, std::size_t size) noexcept {
    if (size) explicit_bzero(at, size);
}

void wipe(bytes_span bytes) noexcept {
    wipe(bytes.data(), bytes.size());
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

secret_bytes::secret_bytes(std::size_t size)
    : _bytes(size ? std::make_unique<std::byte[]>(size) : nullptr), _size(size) {}

secret_bytes::secret_bytes(bytes_view copied) : secret_bytes(copied.size()) {
    if (_size) std::memcpy(_bytes.get(), copied.data(), _size);
}

secret_bytes::secret_bytes(secret_bytes&& other) noexcept
    : _bytes(std::move(other._bytes)), _size(std::exchange(other._size, 0)) {}

secret_bytes& secret_bytes::operator=(secret_bytes&& other) noexcept {
    if (this != &other) {
        wipe(span());
        _bytes = std::move(other._bytes);
        _size = std::exchange(other._size, 0);
    }
    return *this;
}

secret_bytes::~secret_bytes() {
    wipe(span());
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
