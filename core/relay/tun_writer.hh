// Frames on their way into the TUN: each a writev on the ring, of its headers and the slices of its
// payload. Several are under way at once; the kernel takes them in the order of the calls.
//
// A frame's headers are copied, its slices held until the write has completed. Whoever destroys a
// writer first waits until nothing is in_flight(). One thread.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "ring/ring.hh"
#include "tun/frame.hh"
#include "tun/payload.hh"
#include "tun/tcp_send_queue.hh"

namespace burin::relay {

struct tun_writer_counters {
    std::uint64_t frames = 0, bytes = 0;                  // headers included
    std::uint64_t payload_frames = 0, payload_bytes = 0;  // frames with payload, all of their bytes
    std::uint64_t no_room = 0;                            // write() said no
    std::uint64_t errors = 0;                             // the kernel did not take a frame
};

class tun_writer {
  public:
    // `descriptor` stays the caller's.
    tun_writer(ring::ring& r, int descriptor) noexcept : _ring(r), _descriptor(descriptor) {}
    tun_writer(const tun_writer&) = delete;
    tun_writer& operator=(const tun_writer&) = delete;

    // False when as many writes are in flight as there may be, or memory is refused. `payload` has
    // at most tcp_send_queue::max_pieces pieces.
    bool write(bytes_view header, std::span<const tun::payload_piece> payload) noexcept;

    bool has_room() const noexcept { return _free != nullptr || _made < most_writes; }
    std::uint32_t in_flight() const noexcept { return _in_flight; }
    // The last errno a write ended with; 0: none did.
    int last_error() const noexcept { return _last_error; }
    const tun_writer_counters& counters() const noexcept { return _counters; }

  private:
    // A turn's ACKs of a thousand flows, or 32 MiB of superframes: far more than a turn writes.
    static constexpr std::uint32_t most_writes = 512, chunk_writes = 32;

    struct pending : ring::op {
        pending* next = nullptr;
        std::uint32_t bytes = 0;
        std::uint32_t pieces = 0;
        std::array<std::byte, tun::header_buffer::capacity> header;
        std::array<iovec, 1 + tun::tcp_send_queue::max_pieces> parts;
        std::array<tun::payload_slice, tun::tcp_send_queue::max_pieces> held;
    };
    pending* take() noexcept;
    static void on_written(ring::op&, ring::completion) noexcept;

    ring::ring& _ring;
    int _descriptor;
    pending* _free = nullptr;
    std::uint32_t _made = 0;
    std::uint32_t _in_flight = 0;
    int _last_error = 0;
    tun_writer_counters _counters;
    std::vector<std::unique_ptr<pending[]>> _chunks;
};

}  // namespace burin::relay
