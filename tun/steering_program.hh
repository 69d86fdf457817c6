// Which of 16384 buckets a frame belongs to, computed twice with one result: here, from a flow's
// key, and in the kernel, by a BPF program that it runs for each frame it has for a TUN device of
// several queues. The program answers with what a table of its map says for the bucket: a queue's
// number.
//
// Bucket: a keyed sum of products over words of 32 bits (multiply-shift hashing), its upper bits.
// TCP and UDP count with addresses, ports and protocol; everything else (ICMP, fragments, what
// stands behind IPv6 extension headers) with its addresses alone, so that all fragments of a
// datagram meet. The hash is no secret to keep: who guesses it fills one worker, not one flow.
#pragma once

#include <linux/bpf.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tun/flow_key.hh"

namespace burin::tun {

// So many that a bucket which must stay where it is for one flow's sake holds few others; the table
// still fits a first-level cache.
inline constexpr unsigned steering_bucket_bits = 14;
inline constexpr std::size_t steering_buckets = std::size_t{1} << steering_bucket_bits;

// Random, drawn once a device.
struct steering_key {
    std::array<std::uint64_t, 8> addresses{};  // for each word of both addresses, source first
    std::uint64_t ports = 0;
    std::uint64_t protocol = 0;
};

// Of a TCP or UDP flow, or of two hosts where the protocol has no ports. Below steering_buckets.
unsigned bucket_of(const steering_key&, const flow_key&) noexcept;

// A program of type BPF_PROG_TYPE_SOCKET_FILTER that sees packets from their IP header on. `map` is
// the descriptor of an array map with one value of steering_buckets bytes, a queue's number each. A
// packet too short for what it claims to be goes to queue 0, where it is dropped.
std::vector<bpf_insn> assemble_steering(const steering_key&, int map);

}  // namespace burin::tun
