// Steering: the kernel gives each frame of a TUN device to the queue of the worker that has the
// flow, instead of to one of its own choosing.
//
// Every flow falls into a bucket (steering_program.hh), and every bucket has a home: the worker
// whose flows these are while its session lives. A table says for each bucket whose queue its
// frames come in on now: the home's, or while that has no session, that of a worker that has one. A
// bucket with flows that such a worker began is pinned to it until they are over, though its home
// is back. The kernel's program and this process share the table's memory, so that a change takes
// effect with the next frame and is neither a system call nor a privilege.
//
// Loading needs CAP_BPF (or kernel.unprivileged_bpf_disabled = 0), once. Where it is refused, flows
// come in where the kernel puts them, which is correct as well (core/relay/tun_homes.hh).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "tun/descriptor.hh"
#include "tun/flow_key.hh"
#include "tun/outcome.hh"
#include "tun/steering_program.hh"

namespace burin::tun {

// The table's rules, over memory that somebody else may read at any time. One thread at a time.
class steering_table {
  public:
    // Everything at home. `queues`: 1 to 256.
    steering_table(std::span<std::uint8_t, steering_buckets> buckets, unsigned queues);

    unsigned home(unsigned bucket) const noexcept { return bucket % _queues; }
    // Any thread.
    unsigned queue(unsigned bucket) const noexcept;
    // The worker of this queue has a session: its buckets come back, but for pinned ones.
    void gained(unsigned queue) noexcept;
    // It has none any more: its buckets, and those it had taken in, go to workers that have one. A
    // bucket that is well placed stays. Without any session all are at home.
    void lost(unsigned queue) noexcept;
    // A flow of the bucket is carried by another worker than the home; it is over. In pairs.
    void pin(unsigned bucket) noexcept { ++_pins[bucket]; }
    void unpin(unsigned bucket) noexcept;

  private:
    void place_all() noexcept;
    void place(unsigned bucket) noexcept;
    bool lives(unsigned queue) const noexcept { return _live[queue] != 0; }

    std::span<std::uint8_t, steering_buckets> _buckets;
    unsigned _queues;
    unsigned _live_count = 0;
    unsigned _next = 0;  // whose turn it is to take in a bucket whose home has no session
    std::vector<std::uint8_t> _live;
    std::vector<std::uint32_t> _pins;  // by bucket
};

class steering {
  public:
    // Loads the program, with every bucket at home. Errors: EPERM (no capability, or a sandbox),
    // ENOSYS and the like; each is a kernel that does not do it.
    static outcome<std::unique_ptr<steering>> load(const steering_key&, unsigned queues);
    ~steering();
    steering(const steering&) = delete;
    steering& operator=(const steering&) = delete;

    // The device of this queue asks the program from now on.
    failure attach(int queue);

    // ---- any thread ----
    unsigned home(const flow_key& flow) const noexcept {
        return _table->home(bucket_of(_key, flow));
    }
    // Whose queue the flow's frames come in on now.
    unsigned queue(const flow_key& flow) const noexcept {
        return _table->queue(bucket_of(_key, flow));
    }
    // How many buckets come in on a queue now.
    unsigned buckets_of(unsigned queue) const noexcept;
    // As of the table.
    void gained(unsigned queue) noexcept;
    void lost(unsigned queue) noexcept;
    void pin(const flow_key& flow) noexcept;
    void unpin(const flow_key& flow) noexcept;

    // The program's descriptor, to be run on packets of a test's making; -1 once attached.
    int program() const noexcept { return _program.number(); }

  private:
    steering() = default;

    steering_key _key;
    descriptor _program;
    std::uint8_t* _memory = nullptr;  // of the map
    std::size_t _memory_bytes = 0;
    std::unique_ptr<steering_table> _table;
    std::mutex _changing;
};

}  // namespace burin::tun
