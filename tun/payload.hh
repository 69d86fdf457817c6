// Bytes on their way to a TUN host, held by reference until that host has acknowledged them.
//
// Who owns what: the bytes belong to a payload_holder (a receive block, a copy). Each payload_slice
// is one reference to its holder; the last one to go calls holder->release, once. The counter is
// plain: holder and slices live on one worker. A slice pins its whole holder, however short it is;
// that is why the sender moves old slices out into copies of exact size (tcp_send_queue.hh).
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "crypto/wire.hh"

namespace burin::tun {

// Embedded in (or the base of) whatever owns the bytes. `release` is called when `references`
// falls to zero; it must not call back into the flow that dropped the slice.
struct payload_holder {
    std::uint32_t references = 0;
    void (*release)(payload_holder*) noexcept = nullptr;
};

// One owned reference. Move-only: copies are made visibly, with share().
class payload_slice {
  public:
    payload_slice() noexcept = default;
    // Takes a new reference to `holder` (null: bytes that outlive every flow, as in tests).
    payload_slice(bytes_view bytes, payload_holder* holder) noexcept
        : _data(bytes.data()), _holder(holder), _length(static_cast<std::uint32_t>(bytes.size())) {
        if (_holder != nullptr) ++_holder->references;
    }
    payload_slice(payload_slice&& other) noexcept
        : _data(std::exchange(other._data, nullptr)),
          _holder(std::exchange(other._holder, nullptr)),
          _length(std::exchange(other._length, 0)) {}
    payload_slice& operator=(payload_slice&& other) noexcept {
        if (this != &other) {
            drop();
            _data = std::exchange(other._data, nullptr);
            _holder = std::exchange(other._holder, nullptr);
            _length = std::exchange(other._length, 0);
        }
        return *this;
    }
    payload_slice(const payload_slice&) = delete;
    payload_slice& operator=(const payload_slice&) = delete;
    ~payload_slice() { drop(); }

    payload_slice share() const noexcept { return {bytes(), _holder}; }
    bytes_view bytes() const noexcept { return {_data, _length}; }
    const std::byte* data() const noexcept { return _data; }
    std::uint32_t size() const noexcept { return _length; }
    bool empty() const noexcept { return _length == 0; }
    payload_holder* holder() const noexcept { return _holder; }

  private:
    void drop() noexcept {
        if (_holder != nullptr && --_holder->references == 0) _holder->release(_holder);
        _holder = nullptr;
    }
    const std::byte* _data = nullptr;
    payload_holder* _holder = nullptr;
    std::uint32_t _length = 0;
};

// A borrowed part of a slice, valid only during the call that shows it. Whoever needs the bytes
// longer (a write in flight) keeps hold().
struct payload_piece {
    const std::byte* data = nullptr;
    std::uint32_t length = 0;
    payload_holder* holder = nullptr;

    payload_slice hold() const noexcept { return {bytes_view(data, length), holder}; }
};

// A copy of exact size that frees itself with its last slice. Empty slice when memory is refused.
payload_slice copy_payload(bytes_view bytes) noexcept;
// The same, uninitialised: `writable` is where the caller puts its `size` bytes.
payload_slice allocate_payload(std::uint32_t size, std::byte*& writable) noexcept;
// True when the slice owns such a copy, so that copying it again would gain nothing.
bool is_copied_payload(const payload_holder* holder) noexcept;
// Bytes of such copies alive on this thread: what the worker's memory budget charges.
std::uint64_t copied_payload_bytes() noexcept;

}  // namespace burin::tun
