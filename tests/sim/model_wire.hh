// The model's own view of frames on a TUN: written from the RFCs and the virtio layout alone, byte
// by byte, and sharing nothing with the code under test. Reading is strict: whatever a kernel would
// refuse or repair in a frame of ours is an error here.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace sim {

using bytes = std::vector<std::uint8_t>;

struct endpoint {
    std::uint32_t address = 0;
    std::uint16_t port = 0;
};

struct segment {
    endpoint from;
    endpoint to;
    std::uint32_t seq = 0;
    std::uint32_t ack = 0;
    bool fin = false, syn = false, rst = false, psh = false, has_ack = false;
    bool ece = false, cwr = false;
    unsigned ecn = 0;  // of the IP header: 0 not capable, 2 ECT(0), 3 CE
    std::uint16_t window = 0;
    int mss = -1;    // -1: option absent
    int shift = -1;  // -1: option absent
    bool sack_permitted = false;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> sack;
    std::uint16_t gso_size = 0;
    bytes data;
};

// Throws std::runtime_error that names what is wrong with the frame.
segment read_frame(const bytes& frame);

enum class checksum { offloaded, complete };
// With more data than gso_size (when not 0) it is a superframe.
bytes write_frame(const segment& what, checksum mode);

// What a device without offloads would have sent in its place: one frame a segment.
std::vector<bytes> cut_superframe(const bytes& frame);

// A router's congestion mark on a frame that is ECN-capable; others stay as they are.
void mark_congestion(bytes& frame);

std::string describe(const segment& what);

}  // namespace sim
