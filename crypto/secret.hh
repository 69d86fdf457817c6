// Secrets: octets that are wiped when they go, and comparisons whose time tells nothing about them.
// A secret owns its octets in memory apart, so that moving it leaves no copy behind.
//
// That memory is in no core dump, and is not swapped out where the limit of locked memory allows it
// (OpenSSL's secure heap, 64 KiB a process). What finds no place there lies on the heap.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "crypto/wire.hh"

namespace burin::crypto {

// Overwrites with zeros in a way the compiler keeps.
void wipe(bytes_span bytes) noexcept;
void wipe(void* at, std::size_t size) noexcept;
// What calls that have returned left on this thread's stack, some KiB of it: libraries keep words
// of what they hash or sign there.
void wipe_stack() noexcept;

// The time depends on the sizes only.
bool constant_time_equal(bytes_view a, bytes_view b) noexcept;

// Octets of a fixed size: a shared secret, derived key material. Move-only.
class secret_bytes {
  public:
    secret_bytes() = default;
    // `size` zeros.
    explicit secret_bytes(std::size_t size);
    explicit secret_bytes(bytes_view copied);
    secret_bytes(secret_bytes&& other) noexcept;
    secret_bytes& operator=(secret_bytes&& other) noexcept;
    ~secret_bytes();

    bytes_view view() const { return {_bytes, _size}; }
    bytes_span span() { return {_bytes, _size}; }
    std::size_t size() const { return _size; }
    bool empty() const { return _size == 0; }

  private:
    std::byte* _bytes = nullptr;
    std::size_t _size = 0;
};

// A password or other secret text. Move-only; copy() says so aloud.
class secret_string {
  public:
    secret_string() = default;
    explicit secret_string(std::string_view copied) : _bytes(as_bytes(copied)) {}
    // Copies `text`, then wipes it, its spare room included, and leaves it empty.
    static secret_string take(std::string& text);

    secret_string copy() const { return secret_string(view()); }
    std::string_view view() const { return as_text(_bytes.view()); }
    bool empty() const { return _bytes.empty(); }
    // Compares digests, so that not even the length of this text shows in the time.
    bool equals(std::string_view other) const;

  private:
    secret_bytes _bytes;
};

}  // namespace burin::crypto
