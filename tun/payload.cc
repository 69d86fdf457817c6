#include "tun/payload.hh"

#include <cstring>
#include <new>

namespace burin::tun {
namespace {

struct copied_payload : payload_holder {
    std::uint32_t size = 0;
};

thread_local std::uint64_t live_bytes = 0;

void release_copy(payload_holder* holder) noexcept {
    auto* copy = static_cast<copied_payload*>(holder);
    live_bytes -= copy->size;
    copy->~copied_payload();
    ::operator delete(copy);
}

}  // namespace

payload_slice allocate_payload(std::uint32_t size, std::byte*& writable) noexcept {
    void* memory = ::operator new(sizeof(copied_payload) + size, std::nothrow);
    if (memory == nullptr) return {};
    auto* copy = new (memory) copied_payload;
    copy->release = release_copy;
    copy->size = size;
    live_bytes += size;
    writable = static_cast<std::byte*>(memory) + sizeof(copied_payload);
    return {bytes_view(writable, size), copy};
}

payload_slice copy_payload(bytes_view bytes) noexcept {
    std::byte* writable = nullptr;
    payload_slice slice = allocate_payload(static_cast<std::uint32_t>(bytes.size()), writable);
    if (writable != nullptr && !bytes.empty()) {
        std::memcpy(writable, bytes.data(), bytes.size());
    }
    return slice;
}

bool is_copied_payload(const payload_holder* holder) noexcept {
    return holder != nullptr && holder->release == release_copy;
}

std::uint64_t copied_payload_bytes() noexcept {
    return live_bytes;
}

}  // namespace burin::tun
